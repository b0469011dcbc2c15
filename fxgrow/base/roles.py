"""What growth has to know of a parameter or buffer: a role for each dimension, and a kind for the whole."""

from __future__ import annotations

from typing import Literal

Role = Literal["carry", "contract"]
"""Of a dimension: it is made or carried along, or it is summed over against an activation."""

TensorKind = Literal["weight", "bias", "gain", "shift", "running_mean", "running_var", "other"]
"""Of a tensor, by the argument of an operator that it is.

- "weight": of a convolution or a matrix product.
- "bias": is added to the result of one that sums over channels.
- "gain", "shift": the factor and the addend of a normalisation; "shift" also what is added elsewhere.
- "running_mean", "running_var": the statistics of a batch norm.
- "other": none of these, or several.
"""

PASSED_ON: Literal["passed on"] = "passed on"
SHIFTS: tuple[TensorKind, ...] = ("bias", "shift", "running_mean")
"""Those that are added or subtracted."""

Use = TensorKind | Literal["passed on"]
"""What a rule says of an argument: its kind, or that the result is the same tensor, whose use decides."""
