"""Budgets: the widths that meet a number of parameters, FLOPs or seconds within 1 %, and reasons where none do."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import fxgrow
from benchmarks.torchvision_shim import import_torchvision
from fxgrow import Budget, Deepen, Inputs, Kernel, Outputs, Widen
from fxgrow.plans.costs import Amount
from fxgrow.spec.parse import parse, to_json
from tests.check import randomise
from tests.thinned import thinned

IMAGES = torch.randn(2, 3, 64, 64)
X = torch.randn(3, 12)
WITHIN = 0.01
with_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed"
)

BUDGETS: dict[str, Budget] = {
    "resnet18": Budget(parameters=2.0),
    "mobilenet_v3_small": Budget(flops=2.0, multiple_of=8),
    "swin_t": Budget(parameters=1.5),
    "densenet121": Budget(flops=1.5),
    "convnext_tiny": Budget(parameters=3.0),
    "efficientnet_b0": Budget(parameters=1.7, multiple_of=8),
    "regnet_y_400mf": Budget(flops=1.3),
    "vgg11": Budget(parameters=200_000_000),
    "squeezenet1_1": Budget(flops=1.2, exclude=("features.0",)),
    "shufflenet_v2_x1_0": Budget(parameters=1.4),
    "googlenet": Budget(flops=1.5, pattern="inception*"),
    "mnasnet1_0": Budget(parameters=5e6, multiple_of=4),
}


def small(width: int = 20) -> nn.Module:
    torch.manual_seed(0)
    parts = nn.Linear(12, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 30), nn.ReLU(), nn.Linear(30, 5)
    return randomise(nn.Sequential(*parts).double())


def found_in(model: nn.Module, output: Any = "graph") -> fxgrow.WidthGraph:
    return fxgrow.widths(model, X.double(), output=output)


def asked(plan: fxgrow.Plan, budget: Budget) -> Amount:
    amount = plan.parameters if budget.parameters is not None else plan.flops
    assert amount is not None
    return amount


def assert_met(plan: fxgrow.Plan, budget: Budget) -> None:
    """Within 1 % of what was asked, which is worked out here from the budget's own numbers."""
    number = budget.parameters if budget.parameters is not None else budget.flops
    assert number is not None
    amount = asked(plan, budget)
    goal = number * amount.before if isinstance(number, float) and number < 1000 else number
    assert abs(amount.after - goal) <= WITHIN * goal + 1
    assert plan.grown_widths
    assert repr(budget) in plan.notes[-1]


# -- it is met ---------------------------------------------------------------------------------------------


@with_torchvision
@thinned("budgets")
@pytest.mark.parametrize("name", BUDGETS)
def test_models_of_torchvision_meet_budgets(name: str) -> None:
    options = {"init_weights": False} if name == "googlenet" else {}
    model = getattr(import_torchvision().models, name)(weights=None, **options)
    found = fxgrow.widths(model, torch.randn(2, 3, 224, 224))
    budget = BUDGETS[name]
    plan = fxgrow.plan(found, budget)
    assert_met(plan, budget)
    if budget.multiple_of > 1:
        for width in plan.grown_widths:
            sizes = [tuple(map(plan.new_size, t.layouts)) for t in plan.tensors if (width.name,) in sum(t.layouts, ())]
            assert sizes
            assert any(size % budget.multiple_of == 0 for shape in sizes for size in shape), width.name
    if budget.pattern != "*":
        assert all(width.name.startswith("inception") for width in plan.grown_widths)


@with_torchvision
def test_an_image_transformer_meets_budgets_between_whole_multiples_of_its_embedding() -> None:
    import_torchvision()  # timm imports it, and that fails beside a CPU build of torch
    model = pytest.importorskip("timm").create_model("vit_tiny_patch16_224")
    found = fxgrow.widths(model, torch.randn(2, 3, 224, 224))
    for budget in (Budget(parameters=1.5), Budget(parameters=5.0), Budget(flops=2.5)):
        assert_met(fxgrow.plan(found, budget), budget)


@with_torchvision
def test_a_language_model_meets_budgets() -> None:
    import_torchvision()  # transformers imports it, too
    transformers = pytest.importorskip("transformers")
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    config = transformers.GPT2Config(vocab_size=61, n_positions=16, n_embd=24, n_layer=3, n_head=4, **ends)
    found = fxgrow.widths(transformers.GPT2Model(config), torch.randint(61, (2, 7)), output="module")
    for budget in (Budget(parameters=1.6), Budget(flops=1.6)):
        assert_met(fxgrow.plan(found, budget), budget)


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("budget", [Budget(parameters=2.0), Budget(flops=1.7), Budget(parameters=3000)], ids=repr)
def test_a_student_that_meets_a_budget_computes_the_same(budget: Budget, output: Any) -> None:
    teacher, x = small(), X.double()
    student = fxgrow.grow(teacher, budget, x, output=output)
    plan = fxgrow.plan_of(student)
    assert plan is not None
    assert_met(plan, budget)
    report = fxgrow.verify(teacher, student, x)
    assert report.exact
    assert report.parameters[1] == plan.parameters.after == sum(p.numel() for p in student.parameters())
    assert plan.flops is not None
    assert report.flops[1] == plan.flops.after


@pytest.mark.parametrize(
    "others",
    [
        [Deepen("3", kind="residual")],
        [Outputs(9)],
        [Inputs("input", 15)],
        [Widen("0", 120)],
        [Deepen("3", kind="residual"), Outputs(9), Inputs("input", 15), {"0": 120}],
        [Widen("3", 1.5, method="even")],
    ],
    ids=repr,
)
@pytest.mark.parametrize("budget", [Budget(parameters=8.0), Budget(flops=8.0)], ids=repr)
def test_what_else_is_asked_for_counts(budget: Budget, others: list[Any]) -> None:
    teacher, x = small(width=80), X.double()
    found = found_in(teacher)
    for spec in ([budget, *others], [*others, budget]):
        plan = fxgrow.plan(found, spec)
        assert_met(plan, budget)
        student = fxgrow.apply(plan, teacher, x)
        assert fxgrow.verify(teacher, student, x).exact
        assert sum(p.numel() for p in student.parameters()) == plan.parameters.after
        if {"0": 120} in others or Widen("0", 120) in others:
            assert plan.width("0").new == 120


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(12, 24, 1), nn.Conv2d(24, 12, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.b(torch.relu(self.a(x)))


def test_blocks_and_kernels_count() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, 12, 3, padding=1), nn.Linear(12, 4)
            self.blocks = nn.ModuleList(Block() for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.stem(x))
            for block in self.blocks:
                x = block(x)
            return self.head(x.mean((2, 3)))

    teacher, x = Net().double(), torch.randn(2, 3, 8, 8).double()
    for output in ("graph", "module"):
        found = fxgrow.widths(teacher, x, output=output)  # type: ignore[arg-type]
        budget = Budget(parameters=6.0)
        plan = fxgrow.plan(found, [budget, Deepen("blocks.1", blocks=2), Kernel("stem", 5)])
        assert_met(plan, budget)
        assert fxgrow.verify(teacher, fxgrow.apply(plan, teacher, x), x).exact


def test_widths_grow_by_about_one_factor() -> None:
    plan = fxgrow.plan(fxgrow.widths(nn.Sequential(*itertools.chain(*chain())), X), Budget(parameters=3.0))
    factors = [width.new / width.old for width in plan.grown_widths]
    assert len(factors) == 6
    assert max(factors) / min(factors) < 1.04


def chain() -> list[tuple[nn.Module, nn.Module]]:
    sizes = (12, 40, 50, 60, 70, 80, 90, 5)
    return [(nn.Linear(a, b), nn.ReLU()) for a, b in itertools.pairwise(sizes)]


def test_all_widths_of_a_pattern_grow_and_no_others() -> None:
    found = fxgrow.widths(nn.Sequential(*itertools.chain(*chain())), X)
    for pattern, names in (("[024]", {"0", "2", "4"}), ("6", {"6"})):
        plan = fxgrow.plan(found, Budget(parameters=1.3, pattern=pattern))
        assert {width.name for width in plan.grown_widths} == names
    plan = fxgrow.plan(found, Budget(parameters=1.5, exclude=("0", "8")))
    assert {width.name for width in plan.grown_widths} == {"2", "4", "6", "10"}


# -- the nearest -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("goal", [300, 341, 380, 470, 555, 731])
@pytest.mark.parametrize("multiple_of", [1, 3])
def test_what_is_refused_is_out_of_reach_and_what_is_named_instead_is_not(goal: int, multiple_of: int) -> None:
    """All widths that there are, counted by hand."""
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 11))
    found = fxgrow.widths(model, torch.randn(2, 8))

    def count(a: int, b: int) -> int:
        return 8 * a + a + a * b + b + b * 11 + 11

    first, second = ([w for w in range(old, 80) if w == old or w % multiple_of == 0] for old in (6, 9))
    possible = sorted({count(a, b) for a in first for b in second})
    below, above = max(n for n in possible if n <= goal), min(n for n in possible if n > goal)
    assert count(6, 9) == sum(p.numel() for p in model.parameters())
    budget = Budget(parameters=goal, multiple_of=multiple_of)
    if min(abs(n - goal) for n in possible) <= WITHIN * goal:
        assert_met(fxgrow.plan(found, budget), budget)
        return
    with pytest.raises(fxgrow.PlanError, match=rf"next below is {below:,} parameters.* next above {above:,}") as caught:
        fxgrow.plan(found, budget)
    assert "within 1 %" in str(caught.value)
    for named in (below, above):
        assert fxgrow.plan(found, Budget(parameters=named, multiple_of=multiple_of)).parameters.after == named


def test_a_budget_that_is_met_already_grows_nothing() -> None:
    teacher = small()
    plan = fxgrow.plan(found_in(teacher), Budget(parameters=1.0))
    assert not plan.grown_widths
    assert plan.parameters.before == plan.parameters.after
    assert fxgrow.plan(found_in(teacher), Budget(parameters=plan.parameters.before)).parameters == plan.parameters


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (Budget(parameters=2), r"has 1,\d\d\d parameters already; fxgrow only grows; for a factor, write 2\.0"),
        (Budget(flops=1001.0), r"FLOPs already; fxgrow only grows$"),
        (Budget(parameters=1e15), r"the student takes .*[TP]B on cpu"),
        (Budget(parameters=1e18), r"cannot be met within 1 %: the nearest that was found is"),
        ([Budget(parameters=1.2), {"0": 400}], r"the other requests alone take"),
        ([Budget(parameters=1.02), Deepen("0", kind="residual")], r"the other requests alone take"),
        ([Budget(parameters=2.0), Budget(flops=2.0)], "one budget at a time"),
        ([Budget(parameters=8.0), 1.5], r"the other requests say how wide"),
        (Budget(parameters=2.0, pattern="5"), r"cannot be widened|no width is left"),
        (Budget(parameters=2.0, pattern="none"), r"none"),
        (Budget(parameters=2.0, method="none"), r"none"),
        (Budget(parameters=2.0, scores={"5 x": 1.0}), r"no width group '5 x'"),
        (Budget(parameters=2.0, scores={"0": 0.0}), r"no width with a score above 0 can grow"),
        (Budget(parameters=2.0, scores={"5": 1.0}), r"no width with a score above 0 can grow"),
    ],
    ids=repr,
)
def test_what_cannot_be_met_is_refused_with_a_reason(spec: Any, why: str) -> None:
    teacher = small()
    with pytest.raises(fxgrow.GrowError, match=why):
        fxgrow.grow(teacher, spec, X.double())


def test_a_model_with_no_free_width_is_refused() -> None:
    with pytest.raises(fxgrow.PlanError, match=r"no width is left that can grow: .*output of the model"):
        fxgrow.grow(nn.Sequential(nn.Linear(12, 3)), Budget(parameters=2.0), X)


def test_flops_that_depend_on_no_free_width_are_refused() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.weight = nn.Parameter(torch.rand(6)), nn.Parameter(torch.rand(6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * (self.scale * self.weight).sum()

    with pytest.raises(fxgrow.PlanError, match="Budget"):
        fxgrow.grow(Scaled(), Budget(flops=2.0), X)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"parameters": 2.0, "flops": 2.0},
        {"parameters": 0.5},
        {"parameters": 0},
        {"flops": -3},
        {"flops": math.nan},
        {"flops": math.inf},
        {"parameters": "2.0"},
        {"parameters": True},
        {"parameters": 2.0, "multiple_of": 0},
        {"parameters": 2.0, "multiple_of": 1.5},
        {"parameters": 2.0, "pattern": ""},
        {"parameters": 2.0, "exclude": 3},
        {"parameters": 2.0, "scores": {"0": -1.0}},
        {"parameters": 2.0, "scores": {"0": math.nan}},
        {"parameters": 2.0, "scores": [1.0]},
        {"parameters": 2.0, "widths": {"0": 1.5}},
        {"parameters": 2.0, "measure": len},
        {"latency": 0.1},
        {"latency": 0.1, "measure": 3},
        {"latency": 0.0, "measure": len},
    ],
    ids=repr,
)
def test_a_budget_that_means_nothing_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(fxgrow.PlanError, match=r"Budget|pattern"):
        Budget(**options)


# -- as data -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "budget",
    [
        Budget(parameters=2.0),
        Budget(flops=500e6, multiple_of=8, pattern="layer3.*", exclude=("a", "b"), method="even"),
        Budget(parameters=7, scores={"a": 1.0}, widths={"a": 3}),
    ],
    ids=repr,
)
def test_a_budget_is_json_both_ways(budget: Budget) -> None:
    text = json.dumps(to_json([budget]))
    assert parse(text) == (budget,)
    assert parse(text)[0].data() == budget.data()  # type: ignore[union-attr]


def test_a_message_counts_many_scores() -> None:
    scores = {f"{at}": 1.0 for at in range(4)}
    assert repr(Budget(parameters=2.0, scores=scores)) == "Budget(parameters=2.0, scores=<4 widths>)"
    del scores["3"]
    assert repr(Budget(parameters=2.0, scores=scores)) == f"Budget(parameters=2.0, scores={scores})"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"parameters": 2.0, "colour": 1}, "colour"),
        ({"parameters": 2.0, "measure": 1}, "measure"),
        ({"parameters": 2.0, "multiple_of": "8"}, "multiple_of"),
        ({"parameters": 2.0, "pattern": 8}, "pattern"),
        ({"parameters": 2.0, "widths": [1]}, "widths"),
        ({"parameters": None}, "one of"),
    ],
    ids=str,
)
def test_a_budget_of_a_stranger_is_refused_with_a_reason(data: dict[str, Any], why: str) -> None:
    with pytest.raises(fxgrow.PlanError, match=why):
        fxgrow.plan(found_in(small()), json.dumps({"budget": data}))


def test_a_layer_that_is_called_budget_can_be_widened() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.budget, self.parameters_ = nn.Linear(12, 6), nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.parameters_(torch.relu(self.budget(x)))

    for spec in ({"budget": 9}, {"budget": {"width": 9}}, {"budget": 1.5}):
        assert fxgrow.plan(fxgrow.widths(Net(), X), spec).width("budget").new == 9


def test_a_plan_holds_the_widths_and_nothing_is_solved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, x = small(), X.double()
    found = found_in(teacher)
    plan = fxgrow.plan(found, [Budget(parameters=2.0), Outputs(9)])

    def solve(*_: Any, **__: Any) -> None:
        raise AssertionError("solved again")

    monkeypatch.setattr("fxgrow.validate.rounds.solve", solve)
    read = fxgrow.Plan.from_json(plan.to_json())
    assert read.spec == plan.spec
    assert fxgrow.verify(teacher, fxgrow.apply(read, teacher, x), x).exact
    again = fxgrow.plan(found, plan.spec)
    assert again.groups == plan.groups
    assert again.tensors == plan.tensors


def test_the_widths_of_another_model_are_refused() -> None:
    spec = fxgrow.plan(found_in(small()), Budget(parameters=2.0)).spec
    with pytest.raises(fxgrow.PlanError, match="another model"):
        fxgrow.plan(found_in(small(width=90)), spec)
    for widths in ({"7": 40}, {"0": 10**12}, {"0": 2}):
        with pytest.raises(fxgrow.PlanError, match="another model"):
            fxgrow.plan(found_in(small()), Budget(parameters=2.0, widths=widths))


def test_a_schedule_grows_to_budgets() -> None:
    teacher = small()
    schedule = fxgrow.GrowthSchedule({fxgrow.Step(1): Budget(parameters=2.0)}, example_inputs=X.double())
    optimizer = torch.optim.SGD(teacher.parameters(), 0.1)
    student = schedule.step(teacher, optimizer)
    number = sum(p.numel() for p in student.parameters())
    assert abs(number / sum(p.numel() for p in teacher.parameters()) - 2) < 0.02


# -- by scores ---------------------------------------------------------------------------------------------


def test_scores_decide_which_widths_grow() -> None:
    found = fxgrow.widths(nn.Sequential(*itertools.chain(*chain())), X)
    for names in (("0",), ("4", "8")):
        budget = Budget(parameters=1.5, scores=dict.fromkeys(names, 1.0))
        plan = fxgrow.plan(found, budget)
        assert_met(plan, budget)
        assert {width.name for width in plan.grown_widths} == set(names)


def test_a_higher_score_is_a_larger_factor_and_the_sum_of_worth_is_the_largest() -> None:
    model = nn.Sequential(*itertools.chain(*chain()))
    found = fxgrow.widths(model, X)
    scores = {"2": 1.0, "6": 4.0}
    plan = fxgrow.plan(found, Budget(parameters=1.5, scores=scores))
    factors = {width.name: width.new / width.old for width in plan.grown_widths}
    assert factors["6"] > factors["2"] >= 1

    def worth(two: int, six: int) -> float:
        return math.log(two / 50) + 4 * math.log(six / 70)

    def count(two: int, six: int) -> int:
        sizes = (12, 40, two, 60, six, 80, 90, 5)
        return sum(a * b + b for a, b in itertools.pairwise(sizes))

    goal = 1.5 * count(50, 70)
    best = max(worth(a, b) for a in range(50, 300) for b in range(70, 300) if count(a, b) <= goal)
    assert worth(plan.width("2").new, plan.width("6").new) > 0.97 * best


# -- by latency --------------------------------------------------------------------------------------------


def by_flops(student: nn.Module) -> float:
    """Seconds of a machine that takes 100 nanoseconds for a FLOP, after a millisecond."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        student(X.double())
    return 1e-3 + counter.get_total_flops() * 1e-7


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("others", [[], [Deepen("3", kind="residual")]], ids=repr)
def test_a_student_takes_the_time_that_is_asked_for(others: list[Any], output: Any) -> None:
    teacher, x = small(width=80).eval(), X.double()
    goal = 1e-3 + 6 * (by_flops(teacher) - 1e-3)
    seen: list[nn.Module] = []

    def measure(student: nn.Module) -> float:
        seen.append(student)
        assert not student.training
        assert all(p.device.type == "cpu" and p.dtype == torch.float64 for p in student.parameters())
        assert bool(torch.isfinite(student(x)).all())
        return by_flops(student)

    budget = Budget(latency=goal, measure=measure)
    plan = fxgrow.plan(found_in(teacher, output), [budget, *others])
    student = fxgrow.apply(plan, teacher, x)
    assert fxgrow.verify(teacher, student, x).exact
    assert by_flops(student) == pytest.approx(goal, rel=WITHIN)
    assert 2 <= len(seen) <= 11
    assert fxgrow.Plan.from_json(plan.to_json()).groups == plan.groups
    assert "measured" in plan.notes[-1]
    assert "0x" not in plan.notes[-1]


@pytest.mark.parametrize("factor", [1.0, 3.0], ids=["the first student", "a later one"])
def test_a_plan_to_a_latency_keeps_all_other_notes(factor: float) -> None:
    teacher = small(width=80).eval()
    found, others = found_in(teacher), [Widen("0", 100, method="random_pad")]
    alone = fxgrow.plan(found, others)
    goal = factor * by_flops(fxgrow.apply(alone, teacher, X.double()))
    assert any("not function-preserving" in note for note in alone.notes)
    plan = fxgrow.plan(found, [*others, Budget(latency=goal, measure=by_flops, pattern="3")])
    *notes, last = plan.notes
    assert set(alone.notes) <= set(notes)
    assert "measured" in last
    assert not any("Budget" in note for note in notes)


@pytest.mark.parametrize(
    ("measure", "why"),
    [
        (lambda _: 1 / 0, "measure fails: ZeroDivisionError"),
        (lambda _: "fast", "positive number of seconds, and returned 'fast'"),
        (lambda _: math.nan, "positive number"),
        (lambda _: -1.0, "positive number"),
        (lambda _: None, "positive number"),
        (lambda _: 2.0, "takes 2 already"),
        (lambda _: 0.5, "none takes that within 1 %; the nearest takes 0.5"),
    ],
)
def test_times_that_lead_nowhere_are_refused(measure: Callable[[nn.Module], Any], why: str) -> None:
    with pytest.raises(fxgrow.PlanError, match=why):
        fxgrow.grow(small(), Budget(latency=1.0, measure=measure), X.double())
