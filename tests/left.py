"""Growth where a model may have nothing that can grow."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

import fxgrow

T = TypeVar("T")


def or_left(make: Callable[[Any], T], spec: Any) -> T:
    """What is made for a request; where nothing would grow by it, which is refused, for the factor 1."""
    try:
        return make(spec)
    except fxgrow.PlanError as error:
        if "would grow" not in str(error):
            raise
        return make(1.0)


def grown_or_left(teacher: nn.Module, spec: Any, inputs: Any, **how: Any) -> nn.Module:
    """The student of a request; where nothing would grow by it, that of the factor 1."""
    return or_left(lambda asked: fxgrow.grow(teacher, asked, inputs, **how), spec)
