"""Errors that only a recorded run meets, which the model's code may catch and take for others."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
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
    methods = [(name, getattr(Tensor, name)) for name in names]
    watched = partial(_sharing, shared) if tape.real else partial(_noting, tape)
    with replaced((Tensor, name, watched(method)) for name, method in methods):
        yield shared


def _sharing(shared: Shared, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def numpy(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        with no_dispatch_modes():
            shared.append((tensor, digest(tensor), caller()))
        return method(tensor, *args, **kwargs)

    return numpy


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
