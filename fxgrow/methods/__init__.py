"""Ways to fill new channels, a file each. Importing this package registers them.

In: the teacher's tensor, which entries are new, and a generator. Out: the student's tensor.
A method says whether it preserves the function and whether its new channels are replicas; it knows no model and no plan.
"""

from . import auto, even, mean_rows, noise, random_init, random_pad, random_rows, split, zero_out, zero_rows
from .auto import Auto
from .registry import Columns, Method, Where, method, names, offered, take

DEFAULT = Auto.name

__all__ = [
    "DEFAULT",
    "Columns",
    "Method",
    "Where",
    "auto",
    "even",
    "mean_rows",
    "method",
    "names",
    "noise",
    "offered",
    "random_init",
    "random_pad",
    "random_rows",
    "split",
    "take",
    "zero_out",
    "zero_rows",
]
