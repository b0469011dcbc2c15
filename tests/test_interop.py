"""The table of other tools: what passes, what fails on the student alone, and what the teacher fails at, too."""

import pytest
import torch
from torch import Tensor, fx, nn

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
