"""Arguments that make no sense are refused with a reason, wherever they are given."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import fxgrow

X = torch.randn(3, 4)
NO_NAMES: list[Any] = [None, 5, b"0", [], {}, object()]


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


FOUND = fxgrow.widths(_net(), X)
PLAN = fxgrow.plan(FOUND, 2.0)
ASKED: dict[str, Callable[[Any], object]] = {
    "why": FOUND.why,
    "why two": lambda name: FOUND.why("0", name if name is not None else 5),
    "width of a graph": FOUND.width,
    "width of a plan": PLAN.width,
    "renumbered": lambda name: PLAN.renumbered([name]),
    "spec": lambda name: fxgrow.plan(FOUND, {name: 2.0} if isinstance(name, bytes | int | None) else [name]),
    "widen": lambda name: fxgrow.Widen(name, 2.0),
    "exclude": lambda name: fxgrow.Widen("*", 2.0, exclude=[name]),
    "leaf_modules": lambda name: fxgrow.trace(_net(), X, leaf_modules=[name]),
}


@pytest.mark.parametrize("name", NO_NAMES, ids=lambda name: type(name).__name__)
@pytest.mark.parametrize("asked", ASKED)
def test_what_is_no_name_is_refused(asked: str, name: Any) -> None:
    with pytest.raises(fxgrow.GrowError):
        ASKED[asked](name)


@pytest.mark.parametrize("asked", [name for name in ASKED if name != "renumbered"])
def test_a_name_of_any_length_is_refused_at_once(asked: str) -> None:
    start = time.monotonic()
    with pytest.raises(fxgrow.GrowError) as refused:
        ASKED[asked]("[" * 100_000)
    assert len(str(refused.value)) < 1000
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("tolerance", ["1e-3", -1.0, float("nan"), [], True, 1j], ids=repr)
def test_a_tolerance_is_a_number_that_is_not_negative(tolerance: Any) -> None:
    with pytest.raises(fxgrow.GrowError, match="tolerance is a number"):
        fxgrow.verify(_net(), _net(), X, tolerance=tolerance)


def test_names_that_are_there_are_answered() -> None:
    assert FOUND.width("0") == 8
    assert PLAN.width("0").new == 16
    assert PLAN.renumbered(["0.weight"]) == {"0.weight": "0.weight"}
    assert "can grow" in FOUND.why("0")
    assert fxgrow.verify(_net(), _net(), X, tolerance=0).exact
