"""The default: per width, "zero_out" where new channels may hold any values, else "split".

New channels with random weights and outgoing zeros ("zero_out") learn at least as much as replicas (docs/methods.md).
They do not preserve the function where a mean, a norm or a maximum is taken over the channels, or where a function of
them is not finite for some inputs. There channels are replicated, with shares per weight ("split"). The plan records
for each width which of the two it uses.
"""

from __future__ import annotations

from torch import Generator, Tensor

from ..errors import PlanError
from .columns import Columns
from .registry import Method, method, register

FRESH, REPLICAS = "zero_out", "split"


@register
class Auto(Method):
    """Chooses a method per width; fills nothing itself."""

    name = "auto"
    preserves_function = True
    replicas = True
    source = "measured: benchmarks/methods.py"

    def chosen(self, *, replicas: bool, zero_rows: bool = False) -> str:
        return method(REPLICAS if replicas else FRESH).chosen(replicas=replicas, zero_rows=zero_rows)

    def contract(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        raise PlanError(f"method {self.name!r} fills no tensor; a plan names {FRESH!r} or {REPLICAS!r} for each width")
