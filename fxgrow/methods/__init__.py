"""Ways to fill new channels, a file each. Importing this package registers them."""

from . import even, noise, random_init, random_pad, split, zero_out
from .registry import Columns, Method, Where, method, names, take

__all__ = [
    "Columns",
    "Method",
    "Where",
    "even",
    "method",
    "names",
    "noise",
    "random_init",
    "random_pad",
    "split",
    "take",
    "zero_out",
]
