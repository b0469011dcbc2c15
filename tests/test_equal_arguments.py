"""Plain arguments of `forward` that are equal to the example's and not the same."""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.model.call_args import is_same_data
from tests.check import randomise, relative_error


class Number(enum.IntEnum):
    ONE = 1


class Text(str, enum.Enum):
    A = "a"


class Pair(NamedTuple):
    first: float
    second: float


EQUAL_AND_OTHER: dict[str, tuple[Any, Any, Callable[[Any], float]]] = {
    "True for 1": (1, True, lambda k: 2.0 if k is True else 3.0),
    "1 for True": (True, 1, lambda k: 2.0 if isinstance(k, bool) else 3.0),
    "a float for an int": (2, 2.0, lambda k: len(str(k))),
    "False for 0": (0, False, lambda k: 2.0 if k is False else 3.0),
    "the other zero": (0.0, -0.0, lambda k: 2.0 if str(k) == "0.0" else 3.0),
    "a complex number": (1.0, 1 + 0j, lambda k: 2.0 if isinstance(k, complex) else 3.0),
    "a member of an enum for a number": (1, Number.ONE, lambda k: 2.0 if isinstance(k, enum.Enum) else 3.0),
    "a member of an enum for a text": ("a", Text.A, lambda k: len(repr(k))),
    "another order of keys": ({"a": 1.0, "b": 2.0}, {"b": 2.0, "a": 1.0}, lambda k: next(iter(k.values()))),
    "another order inside": ([{"a": 1.0, "b": 2.0}], [{"b": 2.0, "a": 1.0}], lambda k: next(iter(k[0].values()))),
    "True for 1 inside": ([1], [True], lambda k: 2.0 if k[0] is True else 3.0),
    "a mapping of another class": ({"a": 1.0}, OrderedDict(a=1.0), lambda k: 2.0 if type(k) is dict else 3.0),
    "a tuple with names": ((1.0, 2.0), Pair(1.0, 2.0), lambda k: 2.0 if hasattr(k, "first") else 3.0),
    "a tensor for a number": (2.0, torch.tensor(2.0), lambda k: 2.0 if isinstance(k, Tensor) else 3.0),
}
SAME: dict[str, tuple[Any, Any]] = {
    "an integer of numpy": (2, np.int64(2)),
    "a float of numpy": (2.0, np.float64(2)),
    "a truth value of numpy": (True, np.bool_(True)),
    "nan": (float("nan"), float("nan")),
    "a list": ([1, 2.0, "a", None], [1, 2.0, "a", None]),
    "a mapping": ({"a": (1, 2)}, {"a": (1, 2)}),
    "None": (None, None),
}


class Net(nn.Module):
    def __init__(self, function: Callable[[Any], float]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)
        self.function = function

    def forward(self, x: Tensor, k: Any) -> Tensor:
        return self.b(self.a(x).relu()) * self.function(k)


@pytest.mark.parametrize("name", EQUAL_AND_OTHER)
def test_a_graph_refuses_what_is_equal_and_may_take_another_path(name: str) -> None:
    example, other, function = EQUAL_AND_OTHER[name]
    torch.manual_seed(0)
    teacher = randomise(Net(function).double()).eval()
    x = torch.randn(2, 6, dtype=torch.float64)
    assert relative_error(teacher(x, other), teacher(x, example)) > 0.1
    student = fxgrow.grow(teacher, 2.0, (x, example), output="graph")
    assert relative_error(student(x, example), teacher(x, example)) < 1e-10
    with pytest.raises(fxgrow.GrowError, match=r"k was .* and is "):
        student(x, other)


@pytest.mark.parametrize("name", SAME)
def test_a_graph_takes_what_is_the_same(name: str) -> None:
    example, same = SAME[name]
    assert is_same_data(same, example)
    torch.manual_seed(0)
    teacher = randomise(Net(lambda k: 2.0).double()).eval()
    x = torch.randn(2, 6, dtype=torch.float64)
    student = fxgrow.grow(teacher, 2.0, (x, example), output="graph")
    assert relative_error(student(x, same), teacher(x, same)) < 1e-10
