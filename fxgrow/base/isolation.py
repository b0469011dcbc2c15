"""Isolation of global state: torch's settings, random number generators and the garbage collector."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch

from .generators import rng_preserved
from .kept_settings import settings_kept
from .replacing import until_done
from .torch_private import CallOfGraphModule, depths_of_modes, global_hooks, leave_modes

RARELY = 10**6  # collections of the middle generation before a full one
_turn = threading.RLock()  # held by the thread whose call is at work; a call inside another one has it already


_call: ContextVar[object] = ContextVar("the call of fxgrow at work", default=None)


def current_call() -> object:
    """What is another one in each call of fxgrow; None outside of calls."""
    return _call.get()


@contextmanager
def isolated() -> Iterator[None]:
    """Run outside inference mode, and restore afterwards whatever the user's code sets for the whole process.

    These are the settings of torch, its modes that see each call, all random number generators and the filters of
    warnings. Calls in several threads take turns: while a model runs, functions of torch are replaced for the whole
    process. Meanwhile the garbage collector looks through young objects only, and no GraphModule that fails prints why.
    """
    with (
        _turn,
        no_full_collection(),
        torch.inference_mode(False),
        warnings.catch_warnings(),
        rng_preserved(),
        _without_global_hooks(),
        _without_printed_errors(),
        _modes_left(),
        settings_kept(),
    ):
        token = _call.set(object())
        try:
            yield
        finally:
            _call.reset(token)


@contextmanager
def _modes_left() -> Iterator[None]:
    """Leave the modes of torch that are entered inside; settings are put back before, of which one moves a mode."""
    depths = depths_of_modes()
    try:
        yield
    finally:
        leave_modes(depths)


@contextmanager
def _without_global_hooks() -> Iterator[None]:
    """Suspend the hooks of all modules: they are the process's, and what they do is no model's."""
    before = [dict(table) for table in global_hooks]
    for table in global_hooks:
        table.clear()
    try:
        yield
    finally:
        for table, entries in zip(global_hooks, before, strict=True):
            added = dict(table)
            table.clear()
            table.update(entries | added)


@contextmanager
def _without_printed_errors() -> Iterator[None]:
    """Let no GraphModule print its error in a call of fxgrow, which tries what may fail; in other threads it does."""
    usual = CallOfGraphModule.__call__

    def call(wrapped: Any, module: Any, *args: Any, **kwargs: Any) -> Any:
        if current_call() is None:
            return usual(wrapped, module, *args, **kwargs)
        if wrapped.cls_call is not None:
            return wrapped.cls_call(module, *args, **kwargs)
        return super(wrapped.cls, module).__call__(*args, **kwargs)

    try:
        CallOfGraphModule.__call__ = call  # type: ignore[method-assign, assignment]
        yield
    finally:
        until_done(lambda: setattr(CallOfGraphModule, "__call__", usual))


@contextmanager
def silent() -> Iterator[None]:
    """Without warnings, where the user's code runs on what the user has not given."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


_users: ContextVar[torch.device | None] = ContextVar("the user's default device", default=None)


@contextmanager
def own_device() -> Iterator[None]:
    """Make tensors on the CPU, as generators and index maps are there, whatever `torch.set_default_device` says."""
    device = torch.get_default_device()
    if device.type == "cpu":
        yield
        return
    token = _users.set(device)
    try:
        with torch.device("cpu"):
            yield
    finally:
        _users.reset(token)


@contextmanager
def users_device() -> Iterator[None]:
    """Make tensors where the user's code expects them, inside of `own_device`."""
    with _users.get() or nullcontext():
        yield


@contextmanager
def flags_restored(tensors: Mapping[str, torch.Tensor]) -> Iterator[dict[str, bool]]:
    """A context after which tensors require gradients as before: other copies of a model share its parameters.

    Args:
        tensors: By name.

    Yields:
        At its end it holds the names of those that the context had switched, and whether they required gradients then.
    """
    before = [(name, tensor, tensor.requires_grad) for name, tensor in tensors.items()]
    switched: dict[str, bool] = {}
    try:
        yield switched
    finally:
        for name, tensor, flag in before:
            if tensor.requires_grad != flag:
                switched[name] = tensor.requires_grad
                tensor.requires_grad_(flag)


@contextmanager
def no_full_collection() -> Iterator[None]:
    """Let the garbage collector look through young objects only.

    An analysis makes many objects that stay, of which each full collection looks through all, with all of torch's.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(*thresholds[:2], RARELY)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


@contextmanager
def no_collection() -> Iterator[None]:
    """Disable the garbage collector: for work on meta tensors, whose many small objects are nearly all kept."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
