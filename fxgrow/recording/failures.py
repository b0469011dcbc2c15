"""Errors that only a recorded run meets, which the model's code may catch and take for others."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from ..base.content import digest
from ..base.replacing import replaced
from ..base.torch_private import no_dispatch_modes
from ..model.provenance import caller
from .tape import Tape

_OUTSIDE = ("numpy", "tolist")  # what no dispatch sees: it fails on meta tensors alone


Shared = list[tuple[Tensor, str, str]]


@contextmanager
def failures_noted(tape: Tape) -> Iterator[Shared]:
    """A context in which a tape notes what fails because a tensor is on the meta device.

    Yields:
        For a run on real numbers: tensors whose memory numpy got, what it held then, and the line.
    """
    shared: Shared = []
    names = ("numpy",) if tape.real else _OUTSIDE
    watched = _sharing if tape.real else _noting
    _running.append((tape, shared))
    try:
        with replaced([(Tensor, name, watched(getattr(Tensor, name))) for name in names]):
            yield shared
    finally:
        _running.pop()


_running: list[tuple[Tape, Shared]] = []  # of the runs that go on, the innermost last


@functools.cache
def _sharing(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def numpy(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        for _, shared in _running[-1:]:
            with no_dispatch_modes():
                shared.append((tensor, digest(tensor), caller()))
        return method(tensor, *args, **kwargs)

    return numpy


@functools.cache
def _noting(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(tensor, *args, **kwargs)
        except Exception as error:
            if tensor.is_meta and _running:
                tape, _ = _running[-1]
                tape.failure = tape.failure or error
            raise

    return call
