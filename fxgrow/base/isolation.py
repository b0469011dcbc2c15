"""Isolation of global state: random number generators and the garbage collector."""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


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


@contextmanager
def same_randomness() -> Iterator[None]:
    """Seed all global generators with 0 inside, and restore them afterwards."""
    with rng_preserved():
        torch.manual_seed(0)
        random.seed(0)
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed(0)
        yield


@contextmanager
def rng_preserved() -> Iterator[None]:
    """Restore the state of all global generators afterwards: Python, NumPy, torch on CPU and CUDA."""
    numpy = sys.modules.get("numpy")
    python_state, numpy_state = random.getstate(), numpy.random.get_state() if numpy else None
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(python_state)
            if numpy is not None:
                numpy.random.set_state(numpy_state)
