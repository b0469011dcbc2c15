"""Fresh channels where they are exact, else replicas: what fills the new channels where the user names no method.

New channels that compute something new, with outgoing zeros ("zero_out"), learn more than replicas do, or as much
(docs/methods.md). They are exact but where a mean, a norm or a maximum is taken over channels, or where a function of
them has no value for some numbers; there channels are replicated, with shares per weight ("split"). Which of the two it
is, a plan says for each width.
"""

from __future__ import annotations

from torch import Generator, Tensor

from ..errors import PlanError
from .registry import Columns, Method, register

FRESH, REPLICAS = "zero_out", "split"


@register
class Auto(Method):
    """The one of two methods that suits a width."""

    name = "auto"
    preserves_function = True
    replicas = True
    source = "measured: benchmarks/methods.py"

    def chosen(self, *, replicas: bool) -> str:
        return REPLICAS if replicas else FRESH

    def contract(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        raise PlanError(f"{self.name!r} fills nothing by itself: a plan names {FRESH!r} or {REPLICAS!r} for each width")
