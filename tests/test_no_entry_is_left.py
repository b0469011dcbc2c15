"""Every entry of a student is written: what memory held before has no effect, and no method reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow import Deepen, Inputs, Kernel, Outputs, methods
from tests.check import randomise


class Net(nn.Module):
    """Weights whose inputs come first (transposed), second (convolution, linear), or are looked up; and norms."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.up = nn.ConvTranspose2d(6, 8, 2, 2)
        self.mix = nn.Conv2d(8, 8, 3, padding=1)
        self.words = nn.Embedding(5, 8)
        self.hidden, self.head = nn.Linear(8, 10), nn.Linear(10, 4)

    def forward(self, x: Tensor, word: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.mix(torch.relu(self.up(x))))
        return self.head(torch.relu(self.hidden(x.mean((2, 3)) + self.words(word))))  # type: ignore[no-any-return]


X = (torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 4]))
MADE = {"empty": torch.empty, "empty_like": torch.empty_like}


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Whatever memory is taken holds a value that shows in every result that it enters."""

    def poison(value: float) -> None:
        def maker(made: Callable[..., Tensor]) -> Callable[..., Tensor]:
            def make(*args: Any, **kwargs: Any) -> Tensor:
                tensor = made(*args, **kwargs)
                return tensor.fill_(value) if tensor.is_floating_point() and not tensor.is_meta else tensor

            return make

        for name, made in MADE.items():
            monkeypatch.setattr(torch, name, maker(made))

    return poison


def _state(spec: Any, method: str, poison: Callable[[float], None], value: float) -> dict[str, Tensor]:
    torch.manual_seed(0)
    net = randomise(Net())
    plan = fxgrow.plan(fxgrow.widths(net, X), spec, method=method)
    poison(value)
    return fxgrow.apply(plan, net, X).state_dict()


ROWS: list[Any] = [Outputs(7, "zero"), Outputs(7, "mean"), Outputs(7, "random")]
SPECS: list[Any] = [1.5, 2.0, {"up": 13, "stem": 7}, [Kernel("mix", 5), Deepen("hidden"), Inputs("x", 5), 1.5]]
MIXED: list[Any] = [
    [fxgrow.Widen("stem", 1.5, method=a), fxgrow.Widen("up", 1.5, method=b), fxgrow.Widen("hidden", 1.5, method=c)]
    for a, b, c in [("noise", "zero_out", "noise"), ("zero_out", "noise", "random_pad"), ("split", "zero_out", "noise")]
]
CASES = [
    *((spec, method) for spec in SPECS for method in methods.names()),
    *(([rows, *more], method) for rows in ROWS for more in ([], [1.5]) for method in ("auto", "split", "noise")),
    *((spec, "auto") for spec in MIXED),
]


@pytest.mark.parametrize(("spec", "method"), CASES, ids=lambda value: f"{value}"[:60])
def test_what_memory_held_before_has_no_effect(spec: Any, method: str, poisoned: Callable[[float], None]) -> None:
    states = [_state(spec, method, poisoned, value) for value in (float("nan"), 1e30)]
    for name, tensor in states[0].items():
        assert bool(torch.isfinite(tensor.double()).all()), name
        assert torch.equal(tensor, states[1][name]), name


@pytest.mark.parametrize("factor", [1.0, 1.5, 2.0])
def test_new_outputs_have_the_moments_of_the_old_ones_though_the_layer_gets_more_inputs(factor: float) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 50))
    student = fxgrow.grow(net, [Outputs(2000, "random"), *[{"0": factor}] * (factor > 1)], torch.randn(2, 20))
    old, new = net[2].weight.detach(), student.get_parameter("2.weight").detach()[50:, :40]  # type: ignore[union-attr]
    assert abs(float(new.mean() - old.mean())) < 0.01 * float(old.std())
    assert abs(float(new.std() / old.std()) - 1) < 0.02
