"""What a plan says of parameters, FLOPs and bytes is what its student has; what no device has room for is refused."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fxgrow
from benchmarks.torchvision_shim import import_torchvision
from fxgrow import Deepen, Inputs, Kernel, Outputs
from fxgrow.base import memory
from fxgrow.base.tables import short, times
from fxgrow.plans.costs import Amount, Cost
from fxgrow.report.figures import Figures, figures_after, figures_of
from tests.analysed import EACH, analysed, planned
from tests.nets import Net
from tests.thinned import thinned

IMAGES = torch.randn(2, 3, 64, 64)
with_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed"
)

# Each model with all that can change in it: widths, layers, blocks, kernels, inputs, outputs.
MODELS: dict[str, tuple[str, list[Any], str]] = {
    "resnet18": ("resnet18", [1.5, Deepen("layer2", blocks=1), Inputs("x", 4), Outputs(1005)], "graph"),
    "resnet18 as a module": ("resnet18", [1.5, Deepen("layer2", blocks=2), Deepen("layer1"), Inputs("x", 4)], "module"),
    "a stage of one block": ("resnet18", [{"layer1": 1.5}, Deepen("layer2.0", blocks=1)], "module"),
    "mobilenet_v3_small": ("mobilenet_v3_small", [1.4, Kernel("features.0.0", 5)], "graph"),
    "swin_t": ("swin_t", [2.0], "graph"),
    "densenet121": ("densenet121", [1.3, Outputs(1001, "mean")], "graph"),
    "convnext_tiny": ("convnext_tiny", [1.5, Deepen("features.1", blocks=1)], "graph"),
    "efficientnet_b0": ("efficientnet_b0", [1.25, Outputs(1001, "mean")], "module"),
    "regnet_y_400mf": ("regnet_y_400mf", [1.5], "graph"),
    "squeezenet1_1": ("squeezenet1_1", [1.5, Deepen("features.3"), Kernel("features.0", 5)], "graph"),
    "shufflenet_v2_x0_5": ("shufflenet_v2_x0_5", [1.5], "graph"),
    "mnasnet0_5": ("mnasnet0_5", [1.5, Deepen("layers.8", blocks=1)], "graph"),
}


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


X = torch.randn(3, 4)


def plan_of(spec: Any = 1.5, model: nn.Module | None = None) -> fxgrow.Plan:
    return fxgrow.plan(fxgrow.widths(small() if model is None else model, X), spec)


def assert_costs(plan: fxgrow.Plan, before: Figures, after: Figures) -> None:
    """A plan's figures against those of a student that is built from it, in all and module by module."""
    cost = plan.cost()
    assert cost.flops is not None
    assert (plan.parameters, plan.flops) == (cost.parameters, cost.flops)
    assert (cost.parameters.before, cost.flops.before) == before.totals()
    assert (cost.parameters.after, cost.flops.after) == after.totals()
    for row in cost.layers:
        assert row.flops is not None
        assert (row.parameters[1], row.flops[1]) == (after.parameters_of(row.name) or 0, after.flops_of(row.name) or 0)


# -- the same figures as those of the student --------------------------------------------------------------


@with_torchvision
@thinned("figures")
@pytest.mark.parametrize("case", MODELS)
def test_a_plan_states_the_figures_of_its_student(case: str) -> None:
    name, spec, output = MODELS[case]
    model = getattr(import_torchvision().models, name)(weights=None)
    found = fxgrow.widths(model, IMAGES, output=output)
    plan = fxgrow.plan(found, spec)
    assert plan.grown_widths
    assert_costs(plan, figures_of(found.traced), figures_after(plan, found.traced))


@thinned("costs")
@pytest.mark.parametrize("net", EACH)
def test_a_plan_of_each_network_states_the_figures_of_its_student(net: Net) -> None:
    found, plan = analysed(net.name), planned(net.name, "graph", 2.0)
    assert_costs(plan, figures_of(found.traced), figures_after(plan, found.traced))


@pytest.mark.parametrize("spec", [1.5, [{"0": 12}, Deepen("2")], [Inputs("input", 6), Outputs(5)]], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_figures_are_those_that_verify_counts(spec: Any, dtype: torch.dtype) -> None:
    teacher, x = small().to(dtype), X.to(dtype)
    plan = plan_of(spec, teacher)
    student = fxgrow.apply(plan, teacher, x)
    report = fxgrow.verify(teacher, student, x)
    cost = plan.cost()
    assert report.exact
    assert (cost.parameters.before, cost.parameters.after) == report.parameters
    assert cost.flops is not None
    assert (cost.flops.before, cost.flops.after) == report.flops
    for model, number in ((teacher, cost.bytes.before), (student, cost.bytes.after)):
        tensors = [*model.parameters(), *model.buffers()]
        assert number == sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    assert cost.peak > cost.bytes.after


def test_a_tied_weight_counts_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(8, 2)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.relu(self.a(x) + self.b(x.abs())))

    teacher = Tied()
    plan = plan_of(2.0, teacher)
    student = fxgrow.apply(plan, teacher, X)
    assert plan.parameters == Amount(*(sum(p.numel() for p in m.parameters()) for m in (teacher, student)))
    assert plan.parameters.after > plan.parameters.before


def test_a_chain_of_plans_states_the_first_teacher_and_the_last_student() -> None:
    teacher = small()
    first = plan_of([1.5, Deepen("2")], teacher)
    student = fxgrow.apply(first, teacher, X)
    second = fxgrow.plan(fxgrow.widths(student, X), {"0": 20})
    chain = first.then(second)
    assert chain.parameters == Amount(first.parameters.before, second.parameters.after)
    assert first.flops is not None
    assert second.flops is not None
    assert chain.flops == Amount(first.flops.before, second.flops.after)
    assert chain.cost().bytes.before == first.cost().bytes.before
    assert fxgrow.Plan.from_json(chain.to_json()).cost() == chain.cost()


# -- how it reads ------------------------------------------------------------------------------------------


def test_amounts_say_both_numbers_and_the_factor() -> None:
    assert str(Amount(11_689_512, 46_300_000)) == "11.7 M -> 46.3 M (3.96x)"
    assert str(Amount(40, 40)) == "40"
    assert str(Amount(0, 2320)) == "0 -> 2.32 k", "what is new has no factor"
    assert Amount(0, 5).ratio == float("inf")
    assert Amount(0, 0).ratio == 1.0


def test_a_cost_lists_the_modules_with_the_most_new_parameters_first() -> None:
    cost = plan_of({"0": 80}).cost()
    gains = [row.parameters[1] - row.parameters[0] for row in cost.layers]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > 0
    lines = str(cost).splitlines()
    assert lines[0] == f"parameters: {cost.parameters}"
    assert lines[-len(cost.layers)].split()[0] == cost.layers[0].name


def test_a_long_list_of_modules_is_cut_and_the_rest_is_summed() -> None:
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(60)])
    cost = plan_of(1.5, model).cost()
    text = str(cost)
    assert len(text.splitlines()) < 50
    assert "20 more" in text


# -- plans of others ---------------------------------------------------------------------------------------


def test_a_plan_from_before_costs_were_stated_says_so() -> None:
    data = json.loads(plan_of().to_json())
    del data["costs"]
    old = fxgrow.Plan.from_json(json.dumps({**data, "version": "1.4"}))
    for ask in (old.cost, lambda: old.parameters, lambda: old.flops):
        with pytest.raises(fxgrow.PlanError, match=r"before version 1\.5: plan again"):
            ask()


@pytest.mark.parametrize(
    "wrong",
    [
        {"parameters": [-1, 5]},
        {"bytes": [1, 1 << 200]},
        {"flops": [1, -2]},
        {"parameters": [1]},
        {"flops": 3},
        {"name": 3},
    ],
    ids=str,
)
def test_costs_that_no_module_has_are_refused(wrong: dict[str, Any]) -> None:
    data = json.loads(plan_of().to_json())
    data["costs"][0] |= wrong
    with pytest.raises(fxgrow.PlanError, match="cost"):
        fxgrow.Plan.from_json(json.dumps(data))


def test_flops_that_a_formula_cannot_tell_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> int:
        raise ValueError("no such shape")

    monkeypatch.setattr("fxgrow.validate.costs.work", broken)
    plan = plan_of()
    assert plan.flops is None
    assert plan.parameters.after > plan.parameters.before
    assert "FLOPs: not known" in str(plan.cost())
    assert fxgrow.Plan.from_json(plan.to_json()).flops is None


# -- memory ------------------------------------------------------------------------------------------------


def assert_refused(grow: Callable[[], object]) -> str:
    with pytest.raises(fxgrow.PlanError, match=r"the student takes .*B on cpu.*are free") as caught:
        grow()
    return str(caught.value)


def test_a_width_of_ten_million_is_refused_with_what_it_would_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fxgrow.rewrite.memory.free_memory", lambda _: 23_000_000_000)
    teacher = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 784))
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    x = torch.randn(2, 784)
    said = assert_refused(lambda: fxgrow.grow(teacher, {"0": 10_000_000}, x))
    assert "62.8 GB" in said
    assert "23.0 GB" in said
    assert "64 -> 10,000,000" in said
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert fxgrow.plan(fxgrow.widths(teacher, x), {"0": 10_000_000}).cost().bytes.after > 60e9, "a plan takes no memory"


def test_a_width_of_ten_million_is_refused_on_this_machine() -> None:
    free = memory.free_memory(torch.device("cpu"))
    if free is None or free > 600e9:
        pytest.skip("nothing is known of the memory, or it is large enough")
    teacher = nn.Sequential(nn.Linear(4096, 16), nn.ReLU(), nn.Linear(16, 4096)).double()
    assert_refused(lambda: fxgrow.grow(teacher, {"0": 10_000_000}, torch.randn(1, 4096).double()))


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize(
    "spec", [2.0, [{"0": 9}, Deepen("2", kind="residual")], Outputs(300), {"2": 100}], ids=["all", "deep", "out", "one"]
)
def test_apply_and_grow_refuse_what_is_a_byte_too_much(spec: Any, output: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = small()
    plan = fxgrow.plan(fxgrow.widths(teacher, X, output=output), spec)
    needed = plan.cost().peak
    monkeypatch.setattr("fxgrow.rewrite.memory.free_memory", lambda _: needed - 1)
    assert_refused(lambda: fxgrow.apply(plan, teacher, X))
    assert_refused(lambda: fxgrow.grow(teacher, spec, X, output=output))
    monkeypatch.setattr("fxgrow.rewrite.memory.free_memory", lambda _: needed)
    assert fxgrow.verify(teacher, fxgrow.apply(plan, teacher, X), X).exact


def test_the_meta_device_has_room_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = small().to("meta")
    student = fxgrow.grow(teacher, {"0": 10_000_000}, X.to("meta"))
    assert student.get_parameter("0.weight").shape == (10_000_000, 4)


def test_no_known_bound_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fxgrow.rewrite.memory.free_memory", lambda _: None)
    teacher = small()
    assert fxgrow.verify(teacher, fxgrow.grow(teacher, 2.0, X), X).exact


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"meminfo": "MemTotal: 9 kB\nMemAvailable: 4 kB\nSwapFree: 1 kB\n"}, 5 * 1024),
        ({"meminfo": "MemTotal: 9 kB\nMemFree: 4 kB\n"}, None),
        ({}, None),
        ({"meminfo": "MemAvailable: 9 kB\n", "memory.max": "max\n", "memory.current": "5"}, 9 * 1024),
        (
            {"meminfo": "MemAvailable: 9 kB\n", "memory.max": "4096", "memory.current": "2048", "memory.stat": "a b\n"},
            2048,
        ),
        ({"memory.max": "4096", "memory.current": "4096", "memory.stat": "inactive_file 100\nanon 7\n"}, 100),
        ({"memory.max": "4096", "memory.current": "5000"}, 0),
        ({"memory/memory.limit_in_bytes": "4096", "memory/memory.usage_in_bytes": "96"}, 4000),
        ({"memory/memory.limit_in_bytes": str((1 << 63) - 4096), "memory/memory.usage_in_bytes": "96"}, None),
    ],
)
def test_free_memory_is_what_the_machine_and_its_container_leave(
    files: dict[str, str], free: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    assert memory.free_memory(torch.device("cpu")) == free


def test_costs_are_plain_values() -> None:
    cost = plan_of().cost()
    assert isinstance(cost, Cost)
    with pytest.raises(dataclasses.FrozenInstanceError):
        cost.peak = 0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (7, "7"),
        (999, "999"),
        (999_499, "999 k"),
        (999_500, "1.00 M"),
        (999_600_000, "1.00 G"),
        (594_231_296, "594 M"),
        (4 * 10**17, "400 P"),
    ],
)
def test_figures_have_three_digits_and_a_letter(figure: int, text: str) -> None:
    assert short(figure) == text


def test_ratios_have_no_powers_of_ten() -> None:
    assert [times(ratio) for ratio in (1.5, 2, 999.6, 2000.4)] == ["1.5x", "2x", "1,000x", "2,000x"]
    assert [times(ratio, digits=3) for ratio in (1.5, 99.96)] == ["1.50x", "100x"]
