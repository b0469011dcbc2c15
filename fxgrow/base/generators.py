"""The global random number generators: of Python, of NumPy, and of torch on the CPU and on the accelerator in use."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

from .torch_private import queued_seeds

_KEPT: ContextVar[bool] = ContextVar("_KEPT", default=False)  # whether a context further out restores them


@contextmanager
def same_randomness() -> Iterator[None]:
    """Seed all global generators with 0 inside, and restore them afterwards."""
    with rng_preserved():
        _seed()
        yield


@contextmanager
def rng_preserved() -> Iterator[None]:
    """Restore the state of all global generators afterwards.

    Only the outermost of such contexts does so: reading and setting all states takes .2 ms.
    """
    if _KEPT.get():
        yield
        return
    before = _state()
    token = _KEPT.set(True)
    try:
        yield
    finally:
        _KEPT.reset(token)
        _restore(before)


def _seed() -> None:
    """Seed all generators with 0.

    `torch.manual_seed` does more: where no accelerator is in use yet, it leaves its seed, and the stack of the call
    as text, to the one that may come. That seed is the user's, and the text takes .3 ms.
    """
    torch.default_generator.manual_seed(0)
    module, devices = _accelerators()
    if devices:
        module.manual_seed_all(0) if hasattr(module, "manual_seed_all") else module.manual_seed(0)
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)


def _state() -> tuple[Any, ...]:
    numpy = sys.modules.get("numpy")
    module, devices = _accelerators()
    return (
        random.getstate(),
        numpy.random.get_state() if numpy else None,
        torch.default_generator.get_state(),
        [(module, device, module.get_rng_state(device)) for device in devices],
        [(queue, dict(vars(queue))) for queue in queued_seeds()],
    )


def _restore(state: tuple[Any, ...]) -> None:
    python, numpy, cpu, accelerators, queues = state
    random.setstate(python)
    if numpy is not None:
        sys.modules["numpy"].random.set_state(numpy)
    torch.default_generator.set_state(cpu)
    for queue, entries in queues:
        vars(queue).update(entries)
    for module, device, of_device in accelerators:
        module.set_rng_state(of_device, device)


def _accelerators() -> tuple[Any, list[Any]]:
    """The module of the kind of accelerator that is in use, and its devices; no devices if none is."""
    kind = torch.accelerator.current_accelerator()
    if kind is None:
        return None, []
    module = torch.get_device_module(kind)
    if not (module.is_initialized() if hasattr(module, "is_initialized") else torch.accelerator.is_available()):
        return module, []
    return module, [torch.device(kind.type, i) for i in range(torch.accelerator.device_count())]
