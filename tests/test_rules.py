"""Every rule of the registry, exercised by the samples that stand beside it."""

import runpy
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.infer.groups import can_grow
from fxgrow.layouts.layout import atoms
from fxgrow.ops import Exactness, Rule, Sample, rule, rule_for, rules
from fxgrow.rewrite.student import student_of
from tests.check import assert_exact, randomise
from tests.nets.registry import Call
from tests.thinned import pairs

pytestmark = pytest.mark.xdist_group("rules")  # in one process: each sample is analysed once


def _samples() -> Iterator[tuple[str, Sample]]:
    seen: set[int] = set()
    for found in rules().values():
        if id(found.function) not in seen:
            seen.add(id(found.function))
            for number, sample in enumerate(found.samples):
                yield f"{found.function.__name__}-{number}", sample


class Sandwich(nn.Module):
    """linear -> what is to be tested -> linear, so that the width between the two can grow."""

    def __init__(self, sample: Sample) -> None:
        super().__init__()
        self.dim = sample.dim
        self.make = nn.Linear(3, sample.shape[sample.dim - 1])
        middle = sample.build()
        self.middle = middle if isinstance(middle, nn.Module) else Call(middle)
        width = self.middle(torch.zeros(2, *sample.shape)).flatten(1).shape[1]
        self.use = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.make(x).movedim(-1, self.dim)  # (N, *rest, 3) -> (N, *shape)
        return self.use(self.middle(x).flatten(1))


SAMPLES = {f"{name} ({number})": sample for number, (name, sample) in enumerate(_samples())}
ANY = Exactness(any="every dimension")
FUNCTIONS = list({id(r.function): r for r in rules().values()}.values())


@cache
def _made(sample: Sample) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    teacher = randomise(Sandwich(sample).double())
    rest = [n for d, n in enumerate(sample.shape) if d != sample.dim - 1]
    return teacher, torch.randn(2, *rest, 3, dtype=torch.float64)


@cache
def _analysed(sample: Sample) -> tuple[fxgrow.WidthGraph, frozenset[object]]:
    """The widths, and the overloads whose rules are asked for, those that make constants included."""
    asked: set[object] = set()

    def noted(op: object) -> Rule | None:
        asked.add(op)
        return rule_for(op)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fxgrow.infer.inference.rule_for", noted)
        return fxgrow.widths(*_made(sample)), frozenset(asked)


def _widths(sample: Sample) -> fxgrow.WidthGraph:
    return _analysed(sample)[0]


@pytest.mark.parametrize(("sample", "factor"), pairs(SAMPLES, [1.5, 2.0]))
def test_sample_grows_exactly_or_stays(sample: Sample, factor: float) -> None:
    teacher, inputs = _made(sample)
    found = _widths(sample)
    try:
        plan = fxgrow.plan(found, factor)
    except fxgrow.PlanError as error:
        if sample.grows or "nothing of Sandwich would grow" not in str(error):
            raise
        return
    student = student_of(found.traced, plan, teacher)
    assert_exact(teacher, student, inputs, 1e-10, changed=False)
    grew = student.get_parameter("make.weight").shape[0] > teacher.make.out_features
    assert grew is sample.grows, plan


def _verdict(sample: Sample) -> str:
    """For which mappings the rules let the sample's width grow: the name of a field of `Exactness`."""
    found = _widths(sample)
    groups = [found.groups_by_name[name] for name in atoms(found.tensors["make.weight"].layouts[0])]
    free = [g for g in groups if can_grow(g)]
    if not free:
        return "pinned"
    if any(g.zero_columns or g.zero_rows for g in free):
        return "zero"
    return "equal" if any(g.uniform for g in free) else "replicas" if any(g.replicas for g in free) else "any"


@pytest.mark.parametrize("found", FUNCTIONS, ids=lambda r: r.function.__name__)
def test_what_a_rule_claims_is_what_its_samples_show(found: Rule) -> None:
    """Each kind of growth that a sample shows is claimed, and each kind of growth that is claimed is shown."""
    claimed = {kind for kind in ("any", "replicas", "equal", "zero", "pinned") if getattr(found.exact, kind)}
    shown = {_verdict(sample) for sample in found.samples}
    assert shown <= claimed
    assert claimed - shown <= {"pinned"}, "no sample shows it"


@pytest.mark.parametrize("found", FUNCTIONS, ids=lambda r: r.function.__name__)
def test_a_sample_reaches_its_rule(found: Rule) -> None:
    """A rule for operators that PyTorch always takes apart before would never be tested."""
    calls = {call.op for sample in found.samples for calls in _widths(sample).calls.values() for call in calls}
    assert any(rule_for(op) is not None and rule_for(op).function is found.function for op in calls)


ON_A_GPU = "a kernel of CUDA alone"
NAMED = "named tensors, which PyTorch takes apart since 2.13"
UNREACHED = {
    "aten._scaled_dot_product_flash_attention.default": ON_A_GPU,
    "aten._scaled_dot_product_efficient_attention.default": ON_A_GPU,
    "aten._scaled_dot_product_cudnn_attention.default": ON_A_GPU,
    "aten._scaled_dot_product_fused_attention_overrideable.default": "a kernel of devices outside PyTorch",
    "aten.cudnn_batch_norm.default": ON_A_GPU,
    "aten.full.names": NAMED,
    "aten.ones.names": NAMED,
    "aten.zeros.names": NAMED,
}


def test_every_overload_that_a_rule_is_registered_for_is_reached_by_a_sample() -> None:
    reached = {op for _, sample in _samples() for op in _analysed(sample)[1]}
    unreached = {str(op) for op in rules() if op not in reached and op.namespace == "aten"}
    assert unreached == set(UNREACHED) & {str(op) for op in rules()}, "give the rule a sample, or a reason here"


def test_a_packet_stands_for_the_overloads_that_a_run_can_record() -> None:
    registered = {str(op) for op in rules()}
    assert {"aten.all.dim", "aten.zeros_like.default", "aten.upsample_nearest2d.default"} <= registered
    taken_apart, written_into, of_numbers = "aten.upsample_nearest2d.vec", "aten.amax.out", "aten.all.bool"
    assert registered.isdisjoint({taken_apart, written_into, of_numbers})


def test_every_rule_has_a_sample_and_a_docstring() -> None:
    for op, found in rules().items():
        assert isinstance(found, Rule)
        assert found.samples, op
        assert found.function.__doc__, op


def test_a_second_rule_for_an_operator_is_refused() -> None:
    before = dict(rules())
    with pytest.raises(ValueError, match="already has a rule"):
        rule(torch.ops.aten.relu.default, torch.ops.aten.cat.default, samples=[Sample(nn.ReLU)], exact=ANY)(
            lambda env, x: x
        )
    assert dict(rules()) == before


def test_a_rule_without_a_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="has no sample"):
        rule(torch.ops.aten.erfc.default, samples=[], exact=ANY)(lambda env, x: x)


def test_a_rule_that_does_not_say_when_it_is_exact_is_refused() -> None:
    with pytest.raises(ValueError, match="does not state when it is exact"):
        rule(torch.ops.aten.erfc.default, samples=[Sample(nn.ReLU)], exact=Exactness())(lambda env, x: x)


def test_what_is_no_operator_is_refused() -> None:
    with pytest.raises(ValueError, match="is no operator: give an overload"):
        rule(torch.relu, samples=[Sample(nn.ReLU)], exact=ANY)(lambda env, x: x)


def test_an_operator_without_a_rule_pins_and_says_so() -> None:
    class Unknown(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.linalg.matrix_exp(self.a(x)))

    teacher = Unknown()
    found = fxgrow.widths(teacher, torch.randn(2, 8, 3))
    assert "linalg_matrix_exp" in found.why("a")
    with pytest.raises(fxgrow.PlanError, match="linalg_matrix_exp"):
        fxgrow.plan(found, {"a": 2.0})


def test_the_table_of_operators_is_up_to_date() -> None:
    docs = Path(__file__).parents[1] / "docs"
    page = runpy.run_path(str(docs / "operators.py"))["page"]()
    assert (docs / "operators.md").read_text() == page, "run python docs/operators.py"
