"""Methods to fill the entries of new channels, one file each. Importing this package registers them.

In: a gathered tensor, its grown dimension (`Columns`) and a generator. Out: the student's tensor.
A method states whether it preserves the function and whether its new channels are replicas. It knows no model and no
plan. A method file imports `registry` (the base class and the table), `columns` and `arithmetic`.

Public is what `__all__` lists: `register`, which adds a method, and what a method is written with
(docs/extending.md).
"""

from . import (  # noqa: F401 - each file registers its method
    auto,
    even,
    mean_rows,
    noise,
    random_bias,
    random_init,
    random_pad,
    random_rows,
    split,
    zero_out,
    zero_rows,
)
from .arithmetic import divide, fill_new, normal, random_entries, silence
from .columns import Columns, Where, take
from .registry import Method, Part, method, names, register

DEFAULT = auto.Auto.name

__all__ = [
    "DEFAULT",
    "Columns",
    "Method",
    "Part",
    "Where",
    "divide",
    "fill_new",
    "method",
    "names",
    "normal",
    "random_entries",
    "register",
    "silence",
    "take",
]
