"""The table of other tools: what passes, what fails on the student alone, and what the teacher fails at, too."""

import pytest
import torch
from torch import Tensor, fx, nn

import fxgrow
from benchmarks import interop

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's own tools

FAST = ["torch.export", "torch.jit.trace", "deepcopy, pickle", "channels_last", "AveragedModel"]


@pytest.mark.parametrize("net", ["chain", "two modes", "LSTM"])
def test_quick_checks_pass(net: str) -> None:
    for row in interop.table(FAST, [net]).rows:
        assert row[1] == "yes", row


def test_a_failure_is_told_and_whose_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses_graphs(model: nn.Module, x: Tensor) -> None:
        assert not isinstance(model, fx.GraphModule), "a graph"

    def refuses_all(model: nn.Module, x: Tensor) -> None:
        raise TypeError("never")

    monkeypatch.setitem(interop.CHECKS, "graphs", (refuses_graphs, ()))
    monkeypatch.setitem(interop.CHECKS, "all", (refuses_all, ()))
    monkeypatch.setitem(interop.CHECKS, "absent", (refuses_all, ("no_such_package",)))
    made = interop.table(["graphs", "all", "absent"], ["chain"])
    assert [row[1] for row in made.rows] == [
        "no (1)",
        "teacher fails, too (TypeError)",
        "no_such_package is not installed",
    ]
    assert made.remarks == ["(1) AssertionError: a graph"]


def test_a_parameter_that_does_not_train_is_seen() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.a(x)
            return result

    model = Half()
    interop.trained(model, model, torch.randn(2, 3))
    model.b.requires_grad_(False)
    with pytest.raises(AssertionError, match="no gradient"):
        interop.trained(model, lambda x: (x * model.b.weight).requires_grad_(), torch.randn(3, 3))


def test_scripting_a_graph_says_what_to_use() -> None:
    teacher = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.randn(3, 4)
    student = fxgrow.grow(teacher, 1.5, x)
    for model in (student, nn.Sequential(student)):
        with pytest.raises(fxgrow.GrowError, match=r"use torch\.jit\.trace or torch\.export"):
            torch.jit.script(model)
    scripted = torch.jit.script(fxgrow.grow(teacher, 1.5, x, output="module"))
    assert torch.allclose(scripted(x), teacher(x), atol=1e-6)


@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_model_that_was_compiled_in_place_grows(output: str) -> None:
    teacher = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).double()
    teacher.compile(backend="eager")
    x = torch.randn(3, 4).double()
    expected = teacher(x).detach()
    student = fxgrow.grow(teacher, 1.5, x, output=output)  # type: ignore[call-overload]
    assert (student._compiled_call_impl is not None) == (output == "module")
    assert torch.allclose(student(x), expected, atol=1e-12)
    with torch.no_grad():
        student.get_parameter("2.bias").add_(1)
        teacher.get_parameter("0.bias").add_(1)
    assert torch.allclose(student(x), expected + 1, atol=1e-12), "it runs its own weights"
    with pytest.raises(fxgrow.TraceError, match="grow the module that was compiled"):
        fxgrow.grow(torch.compile(teacher, backend="eager"), 1.5, x)  # type: ignore[call-overload]
