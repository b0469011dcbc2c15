"""Plan until the student's shapes are right: mend what a check finds, and plan again.

Widths that meet where a size goes wrong are first made to grow by one factor (`C // heads` stays what it is if
both double), and if that was in vain they are pinned. Each round tries something for the first time, so it
ends; what it returns has passed the check.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import nn

from .check import check
from .copies import clone, named_tensors
from .errors import PlanError
from .plan import DROP, Edit, Left, Plan, plan
from .rewrite import assemble, grown_tensors
from .spec import Spec
from .widths import WidthGraph

log = logging.getLogger("fxgrow")


@dataclass(slots=True)
class _Mends:
    """What the rounds so far found out."""

    pins: dict[str, str] = field(default_factory=dict)
    ties: dict[frozenset[str], str] = field(default_factory=dict)
    tried: set[frozenset[str]] = field(default_factory=set)

    def on(self, widths: WidthGraph) -> WidthGraph:
        """The widths with all of it."""
        widths = widths.tie(self.ties)
        for reason in dict.fromkeys(self.pins.values()):
            widths = widths.pin([name for name, why in self.pins.items() if why == reason], reason)
        return widths

    def add(self, names: Sequence[str], reason: str) -> None:
        """Widths that meet where a size goes wrong: they grow by one factor, or where that was in vain, stay."""
        together = frozenset(names)
        if len(together) > 1 and together not in self.tried:
            self.tried.add(together)
            self.ties[together] = reason
            return
        self.ties = {tied: why for tied, why in self.ties.items() if not tied & together}
        self.pins.update({name: reason for name in names if name not in self.pins})


def settle(widths: WidthGraph, spec: Spec, *, seed: int, method: str) -> Plan:
    """A plan whose student provably makes the teacher's calls, with the predicted shapes.

    Raises:
        PlanError: The specification cannot be met (also where a wish meets a width that had to be pinned).
    """
    mends = _Mends()
    while True:
        proposal = plan(mends.on(widths), spec, seed=seed, method=method)
        root: nn.Module = clone(widths.traced.root)
        grown = grown_tensors(proposal, named_tensors(root))
        student = assemble(root, widths.traced.graphs, grown, proposal, proposal.model)
        verdict = check(student, widths, proposal)
        if not verdict.mismatches:
            left = {entry.name: entry for entry in proposal.left}
            left.update({n: Left(n, reason) for n, reason in mends.pins.items() if n not in left})
            edits = (*proposal.edits, *(Edit(mode, node, (DROP,), 0) for mode, node in verdict.obsolete))
            return replace(proposal, left=tuple(left.values()), edits=edits)
        growing = {width.name for width in proposal.grown}
        for found in verdict.mismatches:
            if not found.groups:
                raise PlanError(f"the student would not compute what {proposal.model} does: {found}")
            reason = f"the model's code states a size that growth would have to change: {found}"
            log.info("%s: %s", ", ".join(found.groups), reason)
            mends.add(found.groups, reason)
            for theirs in widths.alike(found.module, found.groups):  # the same code, with the same outcome
                mends.add([name for name in theirs if name in growing], reason)
