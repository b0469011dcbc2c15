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


class _Followed:
    """The mode that the user's code has set, on a tape, and what it was before each context that is entered."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.before: dict[int, list[bool]] = {}

    def restore(self, context: Any) -> None:
        """A context has ended."""
        before = self.before.get(id(context))
        if before:
            self.tape.gradients = before.pop()


_running: list[_Followed] = []  # of the runs that go on, the innermost last


@contextmanager
def gradients_followed(tape: Tape) -> Iterator[None]:
    """A context in which a tape knows whether the user's code wants gradients."""
    targets: list[Target] = []
    for kind in _CONTEXTS:
        targets.append((kind, "__enter__", _entering(kind, kind.__enter__)))
        targets.append((kind, "__exit__", _leaving(kind.__exit__)))
    targets.append((torch.set_grad_enabled, "__init__", _setting(torch.set_grad_enabled.__init__)))
    targets.append((torch.set_grad_enabled, "__call__", _decorating(torch.set_grad_enabled.__call__)))
    targets.append((saved_tensors_hooks, "__enter__", _refusing(saved_tensors_hooks.__enter__)))
    _running.append(_Followed(tape))
    try:
        with replaced(targets):
            yield
    finally:
        _running.pop()


# What stands for a method of torch is made once, and speaks to the tape of the run that goes on. Code may keep it (an
# ExitStack does): after the run it is the method itself.


@functools.cache
def _entering(kind: Any, base: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(base)
    def enter(context: Any) -> Any:
        if not _running:
            return base(context)
        followed = _running[-1]
        if kind is not torch.set_grad_enabled:  # which was entered when it was made
            followed.before.setdefault(id(context), []).append(followed.tape.gradients)
        result = base(context)
        followed.tape.gradients = _wanted(kind, context, followed.tape.gradients)
        return result

    return enter


@functools.cache
def _leaving(base: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(base)
    def leave(context: Any, *error: Any) -> Any:
        result = base(context, *error)
        for followed in _running[-1:]:
            followed.restore(context)
        return result

    return leave


@functools.cache
def _setting(base: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(base)
    def init(context: Any, mode: bool) -> None:
        for followed in _running[-1:]:
            followed.before[id(context)] = [followed.tape.gradients]
        base(context, mode)
        for followed in _running[-1:]:
            followed.tape.gradients = bool(mode)

    return init


@functools.cache
def _decorating(base: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(base)
    def call(context: Any, function: Any) -> Any:
        decorated = base(context, function)
        for followed in _running[-1:]:
            followed.restore(context)
        return decorated

    return call


def _wanted(kind: Any, context: Any, before: bool) -> bool:
    if kind is torch.no_grad:
        return False
    if kind is torch.enable_grad:
        return True
    if kind is torch.set_grad_enabled:
        return bool(context.mode)
    return before and not context.mode


@functools.cache
def _refusing(base: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(base)
    def enter(hooks: Any) -> Any:
        if _running and not all(map(_is_torchs, (hooks.pack_hook, hooks.unpack_hook))):
            error = TraceError(
                f"forward changes what autograd saves for the backward (saved_tensors_hooks at {caller()}), so that "
                "the gradients may be other ones at other widths"
            )
            tape = _running[-1].tape
            tape.failure = tape.failure or error
            raise error
        return base(hooks)

    return enter


def _is_torchs(function: Any) -> bool:
    """Whether a function is code of torch: those of `checkpoint` and `save_on_cpu` give back what was saved."""
    code = getattr(function, "__code__", None)
    return code is not None and code.co_filename.startswith(PACKAGES)
