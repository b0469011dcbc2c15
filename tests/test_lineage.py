"""A student knows the plans that made it, from its first teacher on."""

import copy
from typing import Any, Literal

import pytest
import torch
from torch import fx, nn

import fxgrow
from fxgrow.rewrite.apply_plans import apply_plans
from fxgrow.rewrite.lineage import OWN_PLAN, check_lineage, plan_between, plan_left
from tests.check import randomise


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return randomise(nn.Sequential(*layers, nn.Linear(48, 5))).double()


X = torch.randn(2, 3, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("output", ["graph", "module"])
def test_the_plan_of_a_student_of_a_student_is_the_whole_chain(output: Literal["graph", "module"]) -> None:
    teacher = net()
    first = fxgrow.grow(teacher, {"0": 12}, X, output=output)
    second = fxgrow.grow(first, {"2": 30}, X, output=output)
    third = fxgrow.apply(fxgrow.plan(fxgrow.widths(second, X, output=output), 1.5, method="split"), second)
    chain = fxgrow.plan_of(third)
    assert chain is not None
    assert [plan.grown_widths[0].name for plan in chain.steps] == ["0", "2", "0"]
    again = fxgrow.apply(fxgrow.Plan.from_json(chain.to_json()), teacher)
    assert all(torch.equal(t, third.state_dict()[name]) for name, t in again.state_dict().items())
    assert again.state_dict().keys() == third.state_dict().keys()
    assert fxgrow.plan_of(again) == chain


def test_a_chain_goes_through_depth_and_kernels() -> None:
    student = net()
    for spec in ({"0": 12}, fxgrow.Kernel("0", 5), fxgrow.Deepen("2"), 1.5):
        student = fxgrow.grow(student, spec, X)
    chain = fxgrow.plan_of(student)
    assert chain is not None
    assert len(chain.steps) == 4
    assert torch.equal(fxgrow.apply(chain, net())(X), student(X))


def test_verify_compares_with_any_ancestor() -> None:
    teacher = net()
    first = fxgrow.grow(teacher, fxgrow.Inputs("input", 5), X)
    more = torch.cat([X, torch.randn(2, 2, 9, 9, dtype=torch.float64)], 1)
    second = fxgrow.grow(first, fxgrow.Outputs(7), more)
    assert fxgrow.verify(teacher, second, X).exact
    report = fxgrow.verify(first, second, more)
    assert report.exact
    assert report.nodes, "node by node, since one plan lies between"
    loaded = copy.deepcopy(first)
    loaded.meta.pop("fxgrow")
    assert fxgrow.verify(loaded, second, more).nodes, "told by its shapes"


def test_a_student_that_was_changed_by_hand_begins_a_new_chain() -> None:
    first = fxgrow.grow(net(), {"0": 12}, X, output="module")
    first[2] = nn.Conv2d(12, 20, 3).double()
    first[6] = nn.Linear(80, 5).double()
    second = fxgrow.grow(first, {"2": 30}, X, output="module")
    plan = fxgrow.plan_of(second)
    assert plan is not None
    assert len(plan.steps) == 1
    assert fxgrow.verify(first, second, X).exact


def test_a_copy_keeps_its_lineage() -> None:
    student = fxgrow.grow(fxgrow.grow(net(), {"0": 12}, X), {"2": 30}, X)
    assert fxgrow.plan_of(copy.deepcopy(student)) == fxgrow.plan_of(student)


SPECS = ({"0": 12}, fxgrow.Deepen("2"), {"2": 30}, fxgrow.Kernel("0", 5))


@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_model_goes_through_the_plans_that_it_lacks(output: Literal["graph", "module"]) -> None:
    stages = [net()]
    for spec in SPECS:
        stages.append(fxgrow.grow(stages[-1], spec, X, output=output))
    whole = fxgrow.plan_of(stages[-1])
    assert whole is not None
    whole = fxgrow.Plan.from_json(whole.to_json())
    for number, stage in enumerate(stages):
        unknown = copy.deepcopy(stage)  # its weights were loaded into a new model
        (unknown.meta if output == "graph" and number else vars(unknown)).pop(
            "fxgrow" if output == "graph" else OWN_PLAN, 0
        )
        for model in (stage, unknown):
            left = plan_left(whole, model)
            assert (() if left is None else left.steps) == whole.steps[number:]
            student = model if left is None else apply_plans(left, model)
            assert {n: t.shape for n, t in student.state_dict().items()} == {
                n: t.shape for n, t in stages[-1].state_dict().items()
            }
    first = whole.steps[0]
    with pytest.raises(fxgrow.GrowError, match="grown 4 times, of which the plans know the first 1"):
        plan_left(first, stages[-1])


def test_a_model_that_was_grown_before_the_chain_begins_lacks_all_of_it() -> None:
    before = fxgrow.grow(net(), {"0": 12}, X, output="module")
    before[0], before[2] = nn.Conv2d(3, 10, 3).double(), nn.Conv2d(10, 12, 3).double()  # a new chain begins
    student = fxgrow.grow(before, {"2": 30}, X, output="module")
    whole = fxgrow.plan_of(student)
    assert whole is not None
    assert plan_left(whole, before) == whole
    assert plan_left(whole, student) is None


def test_another_model_is_refused_by_the_plans() -> None:
    whole = fxgrow.plan_of(fxgrow.grow(net(), {"0": 12}, X))
    other = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)).double()
    assert whole is not None
    assert plan_left(whole, other) == whole


STEPS: dict[str, list[Any]] = {
    "layers, widths": [fxgrow.Deepen("0"), {"2": 30}],
    "kernel, widths": [fxgrow.Kernel("0", 5), {"2": 30}],
    "widths, kernel": [{"2": 30}, fxgrow.Kernel("0", 5)],
    "kernel, layers, widths": [fxgrow.Kernel("0", 5), fxgrow.Deepen("2"), {"0": 16}],
    "layers, kernel, layers": [fxgrow.Deepen("0"), fxgrow.Kernel("0", 5), fxgrow.Deepen("2")],
    "inputs, layers": [fxgrow.Outputs(7), fxgrow.Deepen("0")],
}


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("name", STEPS)
def test_the_plans_between_a_reloaded_teacher_and_a_student_are_those_that_follow_it(
    name: str, output: Literal["graph", "module"]
) -> None:
    models: list[nn.Module] = [net()]
    for spec in STEPS[name]:
        models.append(fxgrow.grow(models[-1], spec, X, output=output))
    for number, model in enumerate(models[:-1]):
        reloaded = copy.deepcopy(model)
        vars(reloaded).pop(OWN_PLAN, None)
        if isinstance(reloaded, fx.GraphModule):
            reloaded.meta.pop("fxgrow", None)
        assert fxgrow.plan_of(reloaded) is None
        between = plan_between(reloaded, models[-1])
        assert between is not None
        assert len(between.steps) == len(models) - 1 - number
        assert between == plan_between(model, models[-1])
        assert fxgrow.verify(reloaded, models[-1], X).exact


@pytest.mark.parametrize("spec", [fxgrow.Kernel("0", 5), fxgrow.Deepen("0"), {"0": 12}], ids=repr)
def test_a_student_whose_other_layers_were_changed_by_hand_begins_a_new_chain(spec: Any) -> None:
    first = fxgrow.grow(net(), spec, X, output="module")
    assert isinstance(first, nn.Sequential)
    first[-1] = nn.Linear(48, 9).double()
    second = fxgrow.grow(first, {"2": 30}, X, output="module")
    plan = fxgrow.plan_of(second)
    assert plan is not None
    assert len(plan.steps) == 1
    assert fxgrow.verify(first, second, X).exact


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.up, self.down = nn.Embedding(11, 8), nn.Linear(8, 10), nn.Linear(10, 8)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.norm(self.down(self.up(self.embed(words)).relu())))
        return out


@pytest.mark.parametrize("spec", [{"up": 12}, fxgrow.Deepen("up"), {"embed": 16}], ids=repr)
def test_a_student_with_tied_weights_goes_on_with_its_chain(spec: Any) -> None:
    words = torch.arange(6).reshape(2, 3)
    first = fxgrow.grow(randomise(Tied().double()), spec, words)
    second = fxgrow.grow(first, {"up": 20}, words)
    plan = fxgrow.plan_of(second)
    assert plan is not None
    assert len(plan.steps) == 2
    check_lineage(second)
