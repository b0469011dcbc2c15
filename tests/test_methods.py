"""Ways to fill new channels: each one that claims to be exact is, in every dtype, and says so if it is not."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow import methods
from fxgrow.base.rng import named_generator
from fxgrow.errors import PlanError
from fxgrow.methods import Columns, registry
from tests.check import assert_exact, randomise
from tests.nets import NETS

EXACT = [name for name in methods.names() if methods.method(name).preserves_function]
BASELINES = [name for name in methods.names() if not methods.method(name).preserves_function]
X = torch.randn(4, 3, 9, 7, dtype=torch.float64)


def _columns(copies: list[int], old: int) -> Columns:
    index = torch.tensor([*range(old), *copies])
    return Columns(1, index, torch.arange(len(index)) < old)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["split", "even"])
def test_parts_sum_to_the_weight_without_rounding(name: str, dtype: torch.dtype) -> None:
    weight = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    columns = _columns([2, 0, 2, 2, 1], 4)
    grown = methods.method(name).contract(weight.index_select(1, columns.index), columns, named_generator(0, "w"))
    sums = torch.zeros(6, 4, 3, dtype=torch.float64).index_add_(1, columns.index, grown.double())
    assert torch.equal(sums, weight.double())
    assert torch.equal(grown[:, 3], weight[:, 3])  # not replicated, so not touched


def test_shares_differ_per_weight() -> None:
    weight = torch.ones(50, 1, dtype=torch.float64)
    grown = methods.method("split").contract(weight.expand(50, 2).clone(), _columns([0], 1), named_generator(0, "w"))
    assert len(set(grown[:, 1].tolist())) == 50
    assert 0.05 < float(grown.min()) < float(grown.max()) < 0.95  # no replica is mute


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("net", ["res_net", "dense_net", "unet"])
def test_exact_methods_are_exact(net: str, name: str) -> None:
    teacher = randomise(NETS[net].make().double())
    inputs = tuple(t.double() for t in NETS[net].inputs())
    student = fxgrow.grow(teacher, 1.5, inputs, method=name)
    assert student.meta["fxgrow"].preserves_function
    assert_exact(teacher, student, inputs, 1e-10)


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_say_that_they_are_not_exact(name: str) -> None:
    teacher = randomise(NETS["res_net"].make().double())
    inputs = tuple(t.double() for t in NETS["res_net"].inputs())
    student = fxgrow.grow(teacher, 1.5, inputs, method=name)
    plan = student.meta["fxgrow"]
    assert not plan.preserves_function
    assert any("not function-preserving" in note for note in plan.notes)
    assert "NOT function-preserving" in str(plan)
    report = fxgrow.verify(teacher, student, inputs)
    assert not report.exact
    assert any("not function-preserving" in note for note in report.notes)
    with pytest.raises(fxgrow.EquivalenceError, match="the first to depart is"):
        report.raise_if_different()


def test_even_split_keeps_replicas_equal_and_the_default_parts_them() -> None:
    gap = {}
    for name in ("even", "split"):
        torch.manual_seed(0)
        teacher = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)).double()
        student = fxgrow.grow(teacher, 2.0, method=name)
        optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
        x, y = torch.randn(64, 5, dtype=torch.float64), torch.randn(64, 3, dtype=torch.float64)
        for _ in range(20):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(student(x), y).backward()
            optimizer.step()
        rows = student.get_parameter("0.weight").detach()
        gap[name] = float((rows[:6] - rows[6:]).abs().max())
    assert gap["even"] < 1e-12
    assert gap["split"] > 1e-2


def test_zero_out_is_refused_where_a_norm_hears_new_channels() -> None:
    teacher = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.LayerNorm(6), torch.nn.Linear(6, 3))
    with pytest.raises(fxgrow.PlanError, match="no replicas, which a layer norm"):
        fxgrow.grow(teacher, {"0": 12}, method="zero_out")
    with pytest.raises(
        fxgrow.PlanError, match=r"nothing of Sequential would grow: 0: .* no replicas, which a layer norm"
    ):
        fxgrow.grow(teacher, 2.0, method="zero_out")


class Encoder(nn.Module):
    """Heads and channels of one size each: the check finds that they grow by one factor."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
        self.last = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.encoder(self.first(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("spec", [1.25, 2.0, {"encoder.self_attn*": 2.0}, fxgrow.Budget(parameters=1.5)], ids=str)
def test_a_width_that_grows_with_another_needs_a_method_that_fits_both(spec: Any, output: Any) -> None:
    teacher, x = randomise(Encoder()).double(), torch.randn(2, 4, 6, dtype=torch.float64)
    try:
        student = fxgrow.grow(teacher, spec, x, method="zero_out", output=output)
    except fxgrow.PlanError as error:
        assert "no replicas, which a layer norm" in str(error)  # noqa: PT017 - either is right
    else:
        assert fxgrow.verify(teacher, student, x).exact
        assert student.get_parameter("encoder.norm1.weight").shape[0] == 8
        assert student.get_parameter("encoder.linear1.weight").shape[0] > 16


def test_zero_out_trains_its_new_channels() -> None:
    """Random rows in, zero columns out: the columns move at the first step, so the rows at the second."""
    torch.manual_seed(0)
    teacher = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)).double()
    student = fxgrow.grow(teacher, 2.0, method="zero_out")
    assert torch.equal(student.get_parameter("2.weight")[:, 6:], torch.zeros(3, 6, dtype=torch.float64))
    assert float(student.get_parameter("0.weight").detach()[6:].abs().min()) > 0
    student(torch.randn(8, 5, dtype=torch.float64)).square().sum().backward()
    gradient = student.get_parameter("2.weight").grad
    assert gradient is not None
    assert float(gradient[:, 6:].abs().min()) > 0


def test_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(fxgrow.PlanError, match="even, noise, random_init, random_pad, split, zero_out"):
        fxgrow.grow(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)), 2.0, method="magic")


def test_a_method_that_others_choose_is_refused_with_these() -> None:
    hidden = [name for name in registry._METHODS if name not in registry.names()]
    for name in hidden:
        how = registry.method(name)
        told = (
            "only for the new channels of Outputs" if isinstance(how, registry.NewRows) else "is what auto and zero_out"
        )
        with pytest.raises(PlanError, match=f"method '{name}' .*{told}"):
            registry.offered(name)
    assert "random_bias" in hidden


def test_a_second_method_of_one_name_is_refused() -> None:
    class Again(methods.Method):
        name, preserves_function, replicas, source = "split", True, True, "a test"

        def contract(self, weight: Tensor, columns: Columns, generator: torch.Generator) -> Tensor:
            return weight

    with pytest.raises(ValueError, match="already"):
        methods.register(Again)


def test_a_method_that_does_not_state_what_it_is_is_refused() -> None:
    class Silent(methods.Method):
        name = "silent"

    with pytest.raises(ValueError, match="Silent does not state its preserves_function, replicas, source"):
        methods.register(Silent)


def test_methods_can_differ_by_layer() -> None:
    teacher = NETS["res_net"].make()
    requests = [
        fxgrow.Widen("layer1.*.conv1", 2.0, method="even"),
        fxgrow.Widen("layer2.*.conv1", 2.0, method="zero_out"),
    ]
    student = fxgrow.grow(teacher, requests, NETS["res_net"].inputs())
    assert {w.method for w in student.meta["fxgrow"].grown_widths} == {"even", "zero_out"}
    assert fxgrow.verify(teacher, student, NETS["res_net"].inputs()).exact


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["split", "even"])
def test_the_largest_and_smallest_numbers_are_split_without_rounding(name: str, dtype: torch.dtype) -> None:
    limits = torch.finfo(dtype)
    some = [limits.max, -limits.max, 0.7 * limits.max, limits.tiny, limits.smallest_normal / 4, 0.0, 1.0, -1.0]
    weight = torch.tensor(some, dtype=torch.float64).to(dtype).reshape(4, 2)
    columns = _columns([0, 0, 1], 2)
    grown = methods.method(name).contract(weight.index_select(1, columns.index), columns, named_generator(0, "w"))
    sums = torch.zeros(4, 2, dtype=torch.float64)
    for column, source in enumerate(columns.index.tolist()):
        sums[:, source] += grown[:, column].double()
    assert torch.equal(sums, weight.double())
    assert bool((grown.double().abs() <= weight.double().abs()[:, columns.index]).all())


def test_a_large_tensor_is_made_by_parts_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the parts are cut changes which shares are drawn, and nothing else."""
    teacher = randomise(NETS["res_net"].make())
    found = fxgrow.plan(fxgrow.widths(teacher, NETS["res_net"].inputs()), 1.5)
    whole = fxgrow.apply(found, teacher)
    monkeypatch.setattr("fxgrow.rewrite.fill.PART", 64)
    parts = fxgrow.apply(found, teacher)
    fresh = fxgrow.apply(found, teacher)
    assert fxgrow.verify(teacher, parts, NETS["res_net"].inputs()).exact
    for name, tensor in whole.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], parts.state_dict()[name])
        assert parts.state_dict()[name].shape == tensor.shape


@pytest.mark.parametrize("factor", [1.5, 2.0, 2.5])
def test_dtype_and_memory_format_do_not_change_the_shares(factor: float) -> None:
    teacher = NETS["res_net"].make()
    plain = fxgrow.grow(teacher, factor, NETS["res_net"].inputs()).state_dict()
    others = {
        "memory format": teacher.to(memory_format=torch.channels_last),
        "dtype": NETS["res_net"].make().double(),
    }
    others["dtype"].load_state_dict(teacher.state_dict())
    for what, other in others.items():
        inputs = tuple(t.to(next(other.parameters()).dtype) for t in NETS["res_net"].inputs())
        grown = fxgrow.grow(other, factor, inputs).state_dict()
        for name, tensor in plain.items():
            torch.testing.assert_close(grown[name].to(tensor), tensor, rtol=1e-5, atol=1e-6, msg=f"{what}: {name}")


def test_on_meta_only_shapes_are_made() -> None:
    teacher = NETS["res_net"].make()
    found = fxgrow.plan(fxgrow.widths(teacher, NETS["res_net"].inputs()), 1.5)
    student, real = fxgrow.apply(found, teacher.to("meta")), fxgrow.apply(found, NETS["res_net"].make())
    for name, tensor in real.state_dict().items():
        assert student.state_dict()[name].is_meta
        assert student.state_dict()[name].shape == tensor.shape
        assert student.state_dict()[name].stride() == tensor.stride()


def test_noise_is_five_per_cent_of_equal_shares() -> None:
    columns = _columns([2, 0, 2, 2, 1], 4)
    weight = torch.randn(400, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    even, noisy = (
        methods.method(name).contract(weight.index_select(1, columns.index), columns, named_generator(0, "w"))
        for name in ("even", "noise")
    )
    assert torch.equal(noisy[:, :4], even[:, :4])  # old columns get none
    noise = (noisy - even)[:, 4:]
    assert abs(float(noise.std() / even[:, 4:].std()) - 0.05) < 5e-3
    assert abs(float(noise.mean() / noise.std())) < 0.1


def test_noise_on_one_entry_is_a_number() -> None:
    teacher = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Tanh(), torch.nn.Linear(1, 1))
    torch.nn.init.constant_(teacher[2].weight, 3.0)  # type: ignore[arg-type]
    noisy = fxgrow.grow(teacher, 2.0, torch.randn(2, 2), method="noise").get_parameter("2.weight").detach()
    assert noisy.isfinite().all()
    assert float(noisy.sum()) == pytest.approx(3.0)


def test_a_plan_that_grows_nothing_says_that_the_student_is_a_copy() -> None:
    found = fxgrow.widths(NETS["res_net"].make(), NETS["res_net"].inputs())
    said = [any("copy of the teacher" in note for note in fxgrow.plan(found, factor).notes) for factor in (1.0, 2.0)]
    assert said == [True, False]
