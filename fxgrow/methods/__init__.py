"""Ways to fill new channels, a file each. Importing this package registers them."""

from . import even, mean_rows, noise, random_init, random_pad, random_rows, split, zero_out, zero_rows
from .registry import Columns, Method, Where, method, names, offered, take

__all__ = [
    "Columns",
    "Method",
    "Where",
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
