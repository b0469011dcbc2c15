"""What is long, in a model or in what it holds: no recursion by its length, and no time that grows by its square."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.model import copies
from tests.check import assert_exact


class Parts(nn.Module):
    """A tensor in many parts, which are summed."""

    def __init__(self, number: int, how: str) -> None:
        super().__init__()
        self.number, self.how = number, how
        self.a, self.b, self.c = nn.Linear(4, 2 * number), nn.Linear(2, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Any:
        y = self.a(x)
        if self.how == "split":
            parts = y.split(2, 1)
        elif self.how == "chunk":
            parts = y.chunk(self.number, 1)
        elif self.how == "cut":
            parts = tuple(y[:, 2 * i : 2 * i + 2] for i in range(self.number))
        else:
            parts = y.view(len(x), self.number, 2).unbind(1)
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return self.c(torch.relu(self.b(total)))


@pytest.mark.parametrize("how", ["split", "chunk", "cut", "unbind"])
def test_a_tensor_in_many_parts_grows(how: str) -> None:
    model, x = Parts(250, how).double(), torch.randn(2, 4, dtype=torch.float64)
    student = fxgrow.grow(model, {"b": 9}, x)
    assert student.b.out_features == 9
    assert_exact(model, student, x, 1e-12)


def unused(number: int) -> fxgrow.WidthGraph:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    model.rest = nn.ModuleList([nn.Linear(3, 3) for _ in range(number)])
    model.forward = lambda x: model[2](model[1](model[0](x)))  # type: ignore[method-assign]
    return fxgrow.widths(model, torch.randn(2, 4))


def seconds_of_reasons(number: int) -> float:
    widths = unused(number)
    taken = []
    for _ in range(3):
        begun = time.process_time()
        text = widths.why("*")
        taken.append(time.process_time() - begun)
    assert f"rest.{number - 1}" in text
    return min(taken)


def test_reasons_of_all_layers_take_time_by_their_number() -> None:
    few, many = seconds_of_reasons(100), seconds_of_reasons(1000)
    assert many < 30 * few  # ten times as many; by the square it would be a hundred


class Speaks(nn.Module):
    """A vocabulary, and names of its layers by their `id`, more than a few of each."""

    def __init__(self, words: int, layers: int = 40) -> None:
        super().__init__()
        self.vocabulary = {f"word {i}": i for i in range(words)}
        self.numbers = list(range(words))
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(layers)])
        self.places = {id(layer): i for i, layer in enumerate(self.layers)}
        self.order = [id(layer) for layer in self.layers]

    def forward(self, x: Tensor) -> Any:
        for layer in self.layers:
            x = torch.relu(layer(x)) + self.places[id(layer)] + self.order.index(id(layer))
        return x


def test_a_long_vocabulary_is_not_copied_word_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    plain = copies._copied

    def counted(value: Any, memo: dict[int, Any]) -> Any:
        nonlocal calls
        calls += 1
        return plain(value, memo)

    monkeypatch.setattr(copies, "_copied", counted)
    model = Speaks(20_000, 2)
    copied: Any = copies.clone_shared(model)
    assert calls < 1000
    assert copied.vocabulary == model.vocabulary
    assert copied.vocabulary is not model.vocabulary
    assert copied.numbers == model.numbers
    assert copied.numbers is not model.numbers


def test_ids_in_long_containers_are_those_of_the_copy() -> None:
    model = Speaks(100)
    copied: Any = copies.clone_shared(model)
    assert list(copied.places) == copied.order == [id(layer) for layer in copied.layers]
    assert not set(copied.order) & set(model.order)
    x = torch.randn(2, 4, dtype=torch.float64)
    teacher = model.double()
    assert_exact(teacher, fxgrow.grow(teacher, {"layers.3": 1.5}, x, output="module"), x, 1e-12)
