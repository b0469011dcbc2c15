"""What the user's code does to gradients beside every operator.

A run records no gradients, so that `no_grad` makes no difference in it. In a student's it may: code may enter it where
a size is large. So a run follows which calls the user's code asks to be without gradients. What autograd saves for the
backward may be changed by hooks, which a run never calls; those of the user's own are refused.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks

from ..base.replacing import Target, replaced
from ..errors import TraceError
from ..model.provenance import PACKAGES, caller
from .tape import Tape

_CONTEXTS = (torch.no_grad, torch.enable_grad, torch.set_grad_enabled, torch.inference_mode)


@contextmanager
def gradients_followed(tape: Tape) -> Iterator[None]:
    """A context in which a tape knows whether the user's code wants gradients."""
    followed = _Followed(tape)
    targets: list[Target] = []
    for kind in _CONTEXTS:
        targets.append((kind, "__enter__", followed.entering(kind)))
        targets.append((kind, "__exit__", followed.leaving(kind)))
    targets.append((torch.set_grad_enabled, "__init__", followed.setting()))
    targets.append((torch.set_grad_enabled, "__call__", followed.decorating()))
    targets.append((saved_tensors_hooks, "__enter__", _refusing(tape, saved_tensors_hooks.__enter__)))
    with replaced(targets):
        yield


class _Followed:
    """The mode that the user's code has set, on a tape, and what it was before each context that is entered."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._before: dict[int, list[bool]] = {}

    def entering(self, kind: Any) -> Callable[..., Any]:
        base = kind.__enter__

        @functools.wraps(base)
        def enter(context: Any) -> Any:
            if kind is not torch.set_grad_enabled:  # which was entered when it was made
                self._before.setdefault(id(context), []).append(self._tape.gradients)
            result = base(context)
            self._tape.gradients = _wanted(kind, context, self._tape.gradients)
            return result

        return enter

    def leaving(self, kind: Any) -> Callable[..., Any]:
        base = kind.__exit__

        @functools.wraps(base)
        def leave(context: Any, *error: Any) -> Any:
            result = base(context, *error)
            self._restore(context)
            return result

        return leave

    def setting(self) -> Callable[..., Any]:
        base: Any = torch.set_grad_enabled.__init__

        @functools.wraps(base)
        def init(context: Any, mode: bool) -> None:
            self._before[id(context)] = [self._tape.gradients]
            base(context, mode)
            self._tape.gradients = bool(mode)

        return init

    def decorating(self) -> Callable[..., Any]:
        base: Any = torch.set_grad_enabled.__call__

        @functools.wraps(base)
        def call(context: Any, function: Any) -> Any:
            decorated = base(context, function)
            self._restore(context)
            return decorated

        return call

    def _restore(self, context: Any) -> None:
        before = self._before.get(id(context))
        if before:
            self._tape.gradients = before.pop()


def _wanted(kind: Any, context: Any, before: bool) -> bool:
    if kind is torch.no_grad:
        return False
    if kind is torch.enable_grad:
        return True
    if kind is torch.set_grad_enabled:
        return bool(context.mode)
    return before and not context.mode


def _refusing(tape: Tape, base: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(base)
    def enter(hooks: Any) -> Any:
        if not all(map(_is_torchs, (hooks.pack_hook, hooks.unpack_hook))):
            error = TraceError(
                f"forward changes what autograd saves for the backward (saved_tensors_hooks at {caller()}), so that "
                "the gradients may be other ones at other widths"
            )
            tape.failure = tape.failure or error
            raise error
        return base(hooks)

    return enter


def _is_torchs(function: Any) -> bool:
    """Whether a function is code of torch: those of `checkpoint` and `save_on_cpu` give back what was saved."""
    code = getattr(function, "__code__", None)
    return code is not None and code.co_filename.startswith(PACKAGES)
