"""Processor times of things that take turns, which is what can be compared on a machine that others use."""

import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any


class Clock:
    """Processor times of several things that take turns."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}

    def __call__(self, name: str, action: Callable[[], Any], *, cold: bool = False) -> Any:
        """Time an action; `cold`: after the allocator gave back what it held, so that all memory is new."""
        gc.collect()
        if cold:
            give_back()
        start = time.process_time()
        result = action()
        self.times.setdefault(name, []).append(time.process_time() - start)
        return result

    def median(self, *names: str) -> float:
        """The sum of the medians."""
        return sum(statistics.median(self.times[name]) for name in names)


def give_back() -> None:
    """Let the allocator of the C library give all free memory back to the system, where it can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
