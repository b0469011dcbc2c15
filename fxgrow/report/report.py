"""The result of `fxgrow.verify`: errors of outputs and nodes, as data, text and HTML."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..base.fitted import fitted_text, paragraph
from ..base.tables import table
from ..errors import EquivalenceError

MOST_ROUNDING = 1e-2  # of a teacher whose results still show whether a student computes the same
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 8e-2}

NOTHING_SHOWN = "the teacher's own rounding is as large, so compare both in float64"


@dataclass(frozen=True, slots=True)
class NodeError:
    """The error of one node of the student, against the teacher's value with its channels mapped by g.

    Attributes:
        node: The name of the node.
        site: Its location in the model.
        mode: "eval" or "train".
        shape: The shape of the student's result.
        error: max |student - teacher| / max |teacher|, of entries that are finite in both; inf if only one of them is
            finite. Equal infinities, and NaN in both, are equal.
    """

    node: str
    site: str
    mode: str
    shape: tuple[int, ...]
    error: float


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """A comparison of teacher and student on given inputs, with dropout off.

    Attributes:
        errors: Per mode the largest relative error of any output, max |student - teacher| / max |teacher|.
        tolerance: The largest error that counts as equal.
        rounding: For modes with a larger error: the error of the teacher against itself in float64 on the same inputs.
            With a small batch and many batch norms, rounding in train mode can exceed the tolerance.
        nodes: The errors of all nodes of the graphs; empty if the student has no plan.
        parameters: The numbers of parameters of teacher and student.
        flops: The FLOPs of teacher and student for one forward pass on the inputs.
        skipped: (name, reason) of what was requested and not grown.
        notes: Notes of the plan.
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
        """Whether all errors are within the tolerance, or within four times the rounding error of the teacher.

        A rounding error above .01 (and above the tolerance) excuses nothing: nearly any function is as near as that.
        """
        return all(self._is_equal(mode, most=max(MOST_ROUNDING, self.tolerance)) for mode in self.errors)

    @property
    def _is_open(self) -> bool:
        """Whether the teacher's own rounding is so large that its results show nothing."""
        return not self.exact and all(self._is_equal(mode, most=math.inf) for mode in self.errors)

    def _is_equal(self, mode: str, *, most: float) -> bool:
        rounding = self.rounding.get(mode, 0.0)
        excused = 4 * rounding if rounding <= most and math.isfinite(rounding) else 0.0
        return self.errors[mode] <= max(self.tolerance, excused)

    def raise_if_different(self) -> Report:
        """Return this report if the student computes the same function as the teacher.

        Raises:
            EquivalenceError: It does not; the message names the first node with an error above the tolerance.
        """
        if self.exact:
            return self
        first = next((n for n in self.nodes if n.error > self.tolerance), None)
        where = f"; the first to depart is {first.site} in {first.mode} mode, by {first.error:.1e}" if first else ""
        errors = ", ".join(f"{error:.1e} in {mode} mode" for mode, error in self.errors.items())
        why = f"; {NOTHING_SHOWN}" if self._is_open else where
        raise EquivalenceError(f"the student is off by {errors}, more than {self.tolerance:.0e}{why}")

    def __str__(self) -> str:
        verdict = "the same function" if self.exact else "NOT the same function"
        if self._is_open:
            verdict = f"nothing is shown; {NOTHING_SHOWN}"
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
            parts.append(fitted_text((("largest at", "mode", "shape", "error"), shown)))
        if self.skipped:
            parts.append(fitted_text((("left as it is", "why"), self.skipped)))
        return "\n\n".join([*parts, *(paragraph(f"note: {note}") for note in self.notes)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def _change(figures: tuple[int, int]) -> str:
    before, after = figures
    return f"{before:,} -> {after:,} ({after / before:.2f}x)" if before else f"{before:,} -> {after:,}"
