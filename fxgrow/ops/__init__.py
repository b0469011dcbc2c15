"""The rules: what each ATen operator says about widths, one file per family of operators.

In: the arguments of a call, with layouts in the place of tensors. Out: the layouts of its results, and what has to hold
of the widths that meet in it. Importing this package registers all rules. To add an operator, add one decorated
function (or one line of a family) to the file of its family; nothing else changes.
"""

from . import (
    attention,
    contraction,
    factory,
    fourier,
    indexing,
    normalization,
    pointwise,
    pooling,
    random,
    reduction,
    view,
)
from .registry import KERNEL, PARTIAL, Env, Exactness, Linear, Rule, Sample, Value, rule_for, rules

__all__ = [
    "KERNEL",
    "PARTIAL",
    "Env",
    "Exactness",
    "Linear",
    "Rule",
    "Sample",
    "Value",
    "attention",
    "contraction",
    "factory",
    "fourier",
    "indexing",
    "normalization",
    "pointwise",
    "pooling",
    "random",
    "reduction",
    "rule_for",
    "rules",
    "view",
]
