"""What verification found, for people and for programs."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..base.tables import table
from ..errors import EquivalenceError

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 8e-2}


@dataclass(frozen=True, slots=True)
class NodeError:
    """How far a node of the student is from the teacher's, whose channels are mapped to the student's.

    Attributes:
        node: The node's name.
        site: Where it stands.
        mode: "eval" or "train".
        shape: The shape of the student's result.
        error: max |student - teacher| / max |teacher|, inf where one of them is not finite.
    """

    node: str
    site: str
    mode: str
    shape: tuple[int, ...]
    error: float


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """Teacher against student on given inputs, dropout off.

    Attributes:
        errors: Per mode the largest relative error of any output, max |student - teacher| / max |teacher|.
        tolerance: What the dtype allows.
        rounding: Where an error is above that: how far the teacher is from itself in float64 on the same inputs.
            A small batch through many batch norms in train mode can lose more than the tolerance by rounding.
        nodes: The same for every node of the graphs; empty where the student has no plan.
        parameters: (teacher's, student's) number of parameters.
        flops: (teacher's, student's) floating-point operations of one forward pass on the inputs.
        skipped: What was not grown, and why.
        notes: What a user should know.
    """

    errors: Mapping[str, float]
    tolerance: float
    rounding: Mapping[str, float]
    nodes: tuple[NodeError, ...]
    parameters: tuple[int, int]
    flops: tuple[int, int]
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether every output is within the tolerance, or within four times the teacher's own rounding."""
        return all(e <= max(self.tolerance, 4 * self.rounding.get(mode, 0.0)) for mode, e in self.errors.items())

    def raise_if_different(self) -> Report:
        """This report, if the student computes what the teacher computes.

        Raises:
            EquivalenceError: It does not; the first node that departs is named.
        """
        if self.exact:
            return self
        first = next((n for n in self.nodes if n.error > self.tolerance), None)
        where = f"; the first to depart is {first.site} in {first.mode} mode, by {first.error:.1e}" if first else ""
        found = ", ".join(f"{error:.1e} in {mode} mode" for mode, error in self.errors.items())
        raise EquivalenceError(f"the student is off by {found}, more than {self.tolerance:.0e}{where}")

    def __str__(self) -> str:
        verdict = "the same function" if self.exact else "NOT the same function"
        rows = [
            *((f"error in {mode} mode", f"{error:.2e}") for mode, error in self.errors.items()),
            ("tolerance", f"{self.tolerance:.0e}"),
            *((f"teacher's own rounding in {mode} mode", f"{error:.2e}") for mode, error in self.rounding.items()),
            ("parameters", _change(self.parameters)),
            ("FLOPs", _change(self.flops)),
            ("nodes compared", str(len(self.nodes))),
        ]
        parts = [f"Report: {verdict}", table(("what", "figure"), rows)]
        worst = sorted(self.nodes, key=lambda n: -n.error)[:5]
        if worst and not self.exact:
            shown = [(n.site, n.mode, "x".join(map(str, n.shape)), f"{n.error:.1e}") for n in worst]
            parts.append(table(("largest at", "mode", "shape", "error"), shown))
        if self.skipped:
            parts.append(table(("left as it is", "why"), self.skipped, limit=140))
        return "\n\n".join([*parts, *(f"note: {note}" for note in self.notes)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def _change(figures: tuple[int, int]) -> str:
    before, after = figures
    return f"{before:,} -> {after:,} ({after / before:.2f}x)" if before else f"{before:,} -> {after:,}"
