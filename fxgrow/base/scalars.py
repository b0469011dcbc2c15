"""Numbers that users give: an `int` is a width in channels or a count, a `float` is a factor.

numpy's numbers count as Python's of the same kind. A bool is no number.
"""

from __future__ import annotations

import numbers
from typing import Any


def as_int(value: object) -> int | None:
    """An integer of Python or numpy as an `int`; None for everything else."""
    return int(value) if isinstance(value, numbers.Integral) and not isinstance(value, bool) else None


def as_number(value: object) -> int | float | None:
    """A number of Python or numpy as an `int` or a `float`, whichever it is; None for everything else."""
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        return float(value)
    return as_int(value)


def of_numpy(value: Any) -> Any:
    """A number, a bool or text of numpy as Python's of the same kind; every other value as it is."""
    if type(value).__module__ != "numpy" or getattr(value, "ndim", None) != 0 or not hasattr(value, "item"):
        return value
    own = value.item()
    return own if type(own) in (bool, int, float, str) and type(value).__name__ != "ndarray" else value


def plain(value: Any) -> Any:
    """A number or text as generated code can hold it: of Python's own class, where it is one of numpy or of an enum."""
    own = type(value)  # and not `isinstance`, to which a proxy pretends to be its value
    kind = next((kind for kind in _PLAIN if issubclass(own, kind)), None)
    if kind is None or own in _PLAIN or own.__module__.startswith("fxgrow."):
        return value
    return kind.__str__(value) if kind is str else kind(value)


_PLAIN = (bool, int, float, complex, str)
