"""Ways to fill new channels, a file each. Importing this package registers them."""

from . import even, noise, random_init, random_pad, split, zero_out
from .registry import Columns, Method, method, names

__all__ = [
    "Columns",
    "Method",
    "even",
    "method",
    "names",
    "noise",
    "random_init",
    "random_pad",
    "split",
    "zero_out",
]
