"""Plan until the student's shapes are right: pin what a check finds, and plan again.

Each round pins something, so it ends; what it returns has passed the check.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from torch import nn

from .check import check
from .copies import clone, named_tensors
from .errors import PlanError
from .plan import DROP, Edit, Left, Plan, plan
from .rewrite import assemble, grown_tensors
from .spec import Spec
from .widths import WidthGraph

log = logging.getLogger("fxgrow")


def settle(widths: WidthGraph, spec: Spec, *, seed: int, method: str) -> Plan:
    """A plan whose student provably makes the teacher's calls, with the predicted shapes.

    Raises:
        PlanError: The specification cannot be met (also where a wish meets a width that had to be pinned).
    """
    pinned: dict[str, str] = {}
    while True:
        proposal = plan(widths, spec, seed=seed, method=method)
        root: nn.Module = clone(widths.traced.root)
        grown = grown_tensors(proposal, named_tensors(root))
        student = assemble(root, widths.traced.graphs, grown, proposal, proposal.model)
        verdict = check(student, widths, proposal)
        if not verdict.mismatches:
            left = {entry.name: entry for entry in proposal.left}
            left.update({n: Left(n, reason) for n, reason in pinned.items() if n not in left})
            edits = (*proposal.edits, *(Edit(mode, node, (DROP,), 0) for mode, node in verdict.obsolete))
            return replace(proposal, left=tuple(left.values()), edits=edits)
        reasons: dict[str, list[str]] = {}
        for found in verdict.mismatches:
            if not found.groups:
                raise PlanError(f"the student would not compute what {proposal.model} does: {found}")
            reason = f"the model's code states a size that growth would have to change: {found}"
            reasons.setdefault(reason, []).extend(found.groups)
        for reason, names in reasons.items():
            log.info("pinned %s: %s", ", ".join(names), reason)
            pinned.update({name: reason for name in names if name not in pinned})
            widths = widths.pin(names, reason)
