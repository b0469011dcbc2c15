"""Caches outside the model, which its code fills: what fxgrow leaves in them has to serve the model afterwards."""

import functools

import pytest
import torch
from torch import Tensor, nn

import fxgrow

TABLE: dict[object, Tensor] = {}


@functools.lru_cache
def _ramp(tokens: int) -> Tensor:
    return torch.arange(tokens, dtype=torch.float64)[None, :, None] * 0.1


@functools.lru_cache
def _grid(tokens: int, scale: float) -> Tensor:
    return torch.linspace(0, scale, tokens, dtype=torch.float64)[None, :, None]


def _table(tokens: int) -> Tensor:
    if tokens not in TABLE:
        mask = torch.ones(tokens, dtype=torch.float64)
        mask[1:] = mask[1:].mul_(0.5)
        TABLE[tokens] = mask[None, :, None]
    return TABLE[tokens]


class Cached(nn.Module):
    """Adds a constant that is made once for each number of tokens."""

    def __init__(self, constant: object) -> None:
        super().__init__()
        self.a, self.b, self.constant = nn.Linear(4, 8), nn.Linear(8, 2), constant

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.a(x) + self.constant(x.shape[1])))


CONSTANTS = {"lru_cache": _ramp, "lru_cache of two": lambda n: _grid(n, 0.5), "dict": _table}


def _empty() -> None:
    _ramp.cache_clear()
    _grid.cache_clear()
    TABLE.clear()


@pytest.fixture(autouse=True)
def _emptied() -> None:
    _empty()


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("name", CONSTANTS)
def test_what_stays_in_a_cache_is_no_meta_tensor(name: str, output: str) -> None:
    torch.manual_seed(0)
    teacher, x = Cached(CONSTANTS[name]).double(), torch.randn(2, 5, 4, dtype=torch.float64)
    student = fxgrow.grow(teacher, 1.5, x, output=output)
    assert fxgrow.plan_of(student).grown_widths
    found = teacher(x)  # with what is in the cache
    torch.testing.assert_close(student(x), found, rtol=1e-10, atol=1e-12)
    _empty()
    torch.testing.assert_close(teacher(x), found, rtol=0, atol=0)


def test_a_cache_is_right_after_a_refusal_too() -> None:
    teacher = nn.Sequential(Cached(_table).double(), nn.Linear(3, 3).double())
    with pytest.raises(fxgrow.TraceError):
        fxgrow.widths(teacher, torch.randn(2, 5, 4, dtype=torch.float64))
    assert TABLE[5].device.type == "cpu"


class Recurrent(nn.Module):
    """Gives its own first state, which PyTorch wants on the device of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.lstm, self.b = nn.Linear(4, 8), nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        zeros = torch.zeros(1, x.shape[0], 6, device=x.device)
        return self.b(self.lstm(torch.tanh(self.a(x)), (zeros, zeros))[0])


def test_first_states_stay_on_the_device_of_the_input() -> None:
    torch.manual_seed(0)
    teacher, x = Recurrent(), torch.randn(2, 5, 4)
    traced = fxgrow.trace(teacher, x)
    assert not any("run for real" in note for note in traced.notes)
    assert fxgrow.verify(teacher, fxgrow.grow(teacher, 2.0, x), x).exact
