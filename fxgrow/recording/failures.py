"""Errors that only a recorded run meets, which the model's code may catch and take for others."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from .tape import Tape

_OUTSIDE = ("numpy", "tolist")  # what no dispatch sees: it fails on meta tensors alone


@contextmanager
def failures_noted(tape: Tape) -> Iterator[None]:
    """A context in which a tape notes what fails because a tensor is on the meta device."""
    if tape.real:
        yield
        return
    own = {name: vars(Tensor)[name] for name in _OUTSIDE if name in vars(Tensor)}  # others are of its base class
    for name in _OUTSIDE:
        setattr(Tensor, name, _noting(tape, getattr(Tensor, name)))
    try:
        yield
    finally:
        for name in _OUTSIDE:
            delattr(Tensor, name)
        for name, method in own.items():
            setattr(Tensor, name, method)


def _noting(tape: Tape, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(tensor, *args, **kwargs)
        except Exception as error:
            if tensor.is_meta:
                tape.failure = tape.failure or error
            raise

    return call
