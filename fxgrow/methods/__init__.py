"""Ways to fill new channels, a file each. Importing this package registers them.

In: the teacher's tensor, which entries are new, and a generator. Out: the student's tensor. A method says whether it
preserves the function and whether its new channels are replicas; it knows no model and no plan.

Public is what `__all__` lists: `register`, which adds a method, and what a method is written with
(docs/extending.md).
"""

from . import (  # noqa: F401 - each file registers its method
    auto,
    even,
    mean_rows,
    noise,
    random_init,
    random_pad,
    random_rows,
    split,
    zero_out,
    zero_rows,
)
from .registry import (
    Columns,
    Method,
    Where,
    divide,
    fill_new,
    method,
    names,
    normal,
    random_entries,
    register,
    silence,
    take,
)

DEFAULT = auto.Auto.name

__all__ = [
    "DEFAULT",
    "Columns",
    "Method",
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
