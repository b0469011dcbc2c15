"""Code that does other things in train mode than in eval mode, however it asks for the mode it is in."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.capture import tracer

X = torch.randn(4, 6, dtype=torch.float64)


class Net(nn.Module):
    """Two layers, and a question about the mode between them."""

    def __init__(self, ask: Callable[["Net"], bool]) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)
        self.ask = ask
        self.noisy = True

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.a(x))
        return self.b(x.relu() if self.ask(self) else x.tanh())


class Switched(Net):
    """An attribute of its own follows the mode."""

    def train(self, mode: bool = True) -> "Switched":
        self.noisy = mode
        return super().train(mode)


MODELS = {
    "of the model": lambda: Net(lambda net: net.training),
    "of a layer": lambda: Net(lambda net: net.norm.training),
    "by its name": lambda: Net(lambda net: getattr(net.a, "training")),  # noqa: B009 - that is the question
    "past the attribute": lambda: Net(lambda net: vars(net)["training"]),
    "of an attribute that train() sets": lambda: Switched(lambda net: net.noisy),
    "not at all": lambda: Net(lambda net: net.noisy),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_student_does_in_each_mode_what_its_teacher_does(name: str) -> None:
    torch.manual_seed(0)
    teacher = MODELS[name]().double()
    student = fxgrow.grow(teacher, 2.0, X)
    assert fxgrow.verify(teacher, student, X).exact
    assert student.get_parameter("a.weight").shape == (16, 6)
    assert len(student.graphs) == (1 if name == "not at all" else 2)


def test_where_the_code_does_not_ask_for_its_mode_one_trace_serves_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    traces = []
    attempt = tracer.Tracer.trace

    def counted(self: tracer.Tracer, root: nn.Module) -> object:
        traces.append(vars(root)["training"])  # not asking, which would count
        return attempt(self, root)

    monkeypatch.setattr(tracer.Tracer, "trace", counted)
    for name, modes in (("not at all", [False]), ("of a layer", [False, True])):
        traces.clear()
        fxgrow.trace(MODELS[name]().double(), X)
        assert traces == modes
    assert not hasattr(nn.Module, "training")
