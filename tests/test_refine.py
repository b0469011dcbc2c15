"""How a plan is settled: in few rounds, and with reasons that say where in the user's code."""

import inspect
import re
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.validate import refine
from fxgrow.validate.repairs import Repairs
from tests.nets.architectures import shuffle_net_v1
from tests.nets.registry import IMAGE
from tests.nets.vision_transformers import QkvReshaped, QkvSeparate, Swin, TorchAttention, ViT

Output = Literal["graph", "module"]
OUTPUTS: tuple[Output, ...] = ("graph", "module")
ROUNDS = 4
MODELS: dict[str, Callable[[], nn.Module]] = {
    "swin": lambda: Swin(pairs=3),
    "vit": lambda: ViT(QkvReshaped, depth=6),
    "vit of separate layers": lambda: ViT(QkvSeparate, depth=6),
    "vit of torch's layers": lambda: ViT(TorchAttention, depth=6),
    "shufflenet v1 of 2 groups": lambda: shuffle_net_v1(units=12),
    "shufflenet v1 of 4 groups": lambda: shuffle_net_v1(units=12, groups=4),
}


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", MODELS)
def test_refining_takes_few_rounds(name: str, output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = []
    solve = refine.plan_widths  # once a round; the check also runs for other sizes of the inputs

    def counted(*args: Any, **kwargs: Any) -> Any:
        rounds.append(solve(*args, **kwargs))
        return rounds[-1]

    monkeypatch.setattr(refine, "plan_widths", counted)
    found = fxgrow.widths(MODELS[name](), torch.randn(IMAGE), output=output)
    fxgrow.plan(found, 2.0)
    assert 1 <= len(rounds) <= ROUNDS


class Stating(nn.Module):
    """States a width as a number that nothing can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x / x.shape[-1])


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Linear(5, 6), Stating()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(torch.tanh(self.stem(x)))


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_reason_of_a_pin_names_the_module_and_the_line(output: Output) -> None:
    student = fxgrow.grow(Outer(), 2.0, torch.randn(4, 5), output=output)
    plan = fxgrow.plan_of(student)
    assert plan is not None
    assert "inner.a" not in {width.name for width in plan.grown_widths}
    reason = {entry.name: entry.reason for entry in plan.skipped}["inner.a"]
    source, first = inspect.getsourcelines(Stating.forward)
    line = first + next(i for i, text in enumerate(source) if "x.shape[-1]" in text)
    assert "inner" in reason
    assert re.search(rf"test_refine\.py:{line}\b", reason), reason


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_same_where_the_code_breaks(output: Output) -> None:
    """A number in a view that is no literal of the graph: the code raises, and that line is named."""

    class Reshaping(Stating):
        def forward(self, x: Tensor) -> Tensor:
            sizes = [2, 4]
            return self.b(self.a(x).view(-1, *[2 * s // 2 for s in sizes]).flatten(1))

    model = Outer()
    model.inner = Reshaping()
    plan = fxgrow.plan_of(fxgrow.grow(model, {"stem": 2.0}, torch.randn(4, 5), output=output))
    assert plan is not None
    with pytest.raises(fxgrow.PlanError, match=r"inner.*|test_refine\.py:\d+"):
        fxgrow.grow(model, {"inner.a": 9}, torch.randn(4, 5), output=output)


class Quotient(nn.Module):
    """Scales by how often the inputs go into the width."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.a(x))) * (self.a.weight.shape[0] // x.shape[-1])


def test_where_inputs_that_are_asked_for_meet_a_hidden_width_that_one_stays() -> None:
    found = fxgrow.widths(Quotient(), torch.randn(2, 3))
    plan = fxgrow.plan(found, [fxgrow.Inputs("x", 4), fxgrow.Widen("*", 2.0)])
    assert {width.name: width.new for width in plan.grown_widths} == {"input of a": 4}
    assert "the model's code states a size" in {entry.name: entry.reason for entry in plan.skipped}["a"]


def test_several_widths_but_not_many_are_tried_to_be_grown_by_one_factor() -> None:
    found = fxgrow.widths(nn.Sequential(*[nn.Linear(8, 8) for _ in range(7)]), torch.randn(2, 8))
    names = ["0", "1", "2", "3", "4"]
    repairs = Repairs(frozenset())
    assert [repairs._is_a_few(found, frozenset(names[:n])) for n in range(6)] == [False, False, True, True, True, False]
    together = found.tie({frozenset(names[:3]): "a test"})
    assert not repairs._is_a_few(together, frozenset(names[:3])), "they do grow by one factor"
    assert repairs._is_a_few(together, frozenset(names))
