"""The rules: for each ATen operator, the constraints that it puts on widths. One file per family of operators.

In: the arguments of a call, with each tensor replaced by its layouts. Out: the layouts of its results, and constraints
on the widths of its operands. Importing this package registers all rules. To add an operator, add one decorated
function (or one line of a family) to the file of its family; nothing else changes.

Public is what `__all__` lists: `rule`, which adds a rule from outside the package as well, and what a rule is written
with (docs/extending.md).
"""

from ..layouts.layout import ONE, Layout, concat, fixed, product
from ..layouts.unify import Inexpressible
from . import (  # noqa: F401 - each file registers its rules
    along,
    attention,
    contraction,
    factory,
    fourier,
    indexing,
    infinities,
    normalization,
    pointwise,
    pooling,
    random,
    reduction,
    slicing,
    view,
)
from .env import GIVEN, KERNEL, LARGE, PARTIAL, POSITIONS, Env, Outcome, Value, broadcast, tensors
from .registry import Exactness, Linear, Rule, Sample, rule, rule_for, rules

__all__ = [
    "GIVEN",
    "KERNEL",
    "LARGE",
    "ONE",
    "PARTIAL",
    "POSITIONS",
    "Env",
    "Exactness",
    "Inexpressible",
    "Layout",
    "Linear",
    "Outcome",
    "Rule",
    "Sample",
    "Value",
    "broadcast",
    "concat",
    "fixed",
    "product",
    "rule",
    "rule_for",
    "rules",
    "tensors",
]
