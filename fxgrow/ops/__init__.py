"""The rules: what each ATen operator says about widths, one file per family of operators.

Importing this package registers them all. To add an operator, add one decorated function (or one line
of a family) to the file of its family; nothing else changes.
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
from .registry import KERNEL, PARTIAL, Env, Exact, Linear, Rule, Sample, Value, rule_for, rules

__all__ = [
    "KERNEL",
    "PARTIAL",
    "Env",
    "Exact",
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
