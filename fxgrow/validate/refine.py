"""Plan until the student's shapes are right: mend what a check finds, and plan again.

Widths that meet where a size goes wrong are first made to come out equal, where the code cuts a dimension into equal
parts; then to grow by one factor (`C // heads` stays what it is if both double); if that was in vain they are pinned.
Each round tries something for the first time, so it ends; what it returns has passed the check.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

from ..base.isolation import no_collection
from ..depth.plan_depth import plan_depth
from ..errors import PlanError
from ..infer.width_graph import WidthGraph
from ..layouts.layout import Equality, Layout
from ..model.copies import clone_shared, named_tensors
from ..plans.entries import DROP, Edit, Skipped
from ..plans.growth_plan import Plan
from ..rewrite.student import rebuild
from ..rewrite.tensors import grown_tensors
from ..solver.io_widths import free_io_dims
from ..solver.plan_widths import plan_widths
from ..spec.parse import Spec, parse
from ..spec.requests import Deepen, Kernel
from .changes import Student, check_changes
from .conformance import Mismatch, check_conformance

FEW = 4  # widths that are tried to be grown by one factor, where a size goes wrong; those that do already are one

log = logging.getLogger("fxgrow")


@dataclass(slots=True)
class _Repairs:
    """What the rounds so far found out."""

    pins: dict[str, str] = field(default_factory=dict)
    ties: dict[frozenset[str], str] = field(default_factory=dict)
    tried: set[frozenset[str]] = field(default_factory=set)
    equal: dict[tuple[Layout, Layout], Equality] = field(default_factory=dict)
    halved: set[tuple[Layout, Layout]] = field(default_factory=set)  # tried
    repaired: set[str] = field(default_factory=set)  # in this round

    def on(self, widths: WidthGraph) -> WidthGraph:
        """The widths with all of it."""
        widths = replace(widths.tie(self.ties), equal=tuple(self.equal.values()))
        for reason in dict.fromkeys(self.pins.values()):
            widths = widths.pin([name for name, why in self.pins.items() if why == reason], reason)
        return widths

    def add(self, widths: WidthGraph, names: Sequence[str], around: Sequence[str], reason: str) -> None:
        """Widths that meet where a size goes wrong.

        They grow by one factor; or with the others in that code (`heads` and `C` in `C // heads`); or, where all
        that was in vain, stay.
        """
        together = frozenset(names)
        if together | set(around) <= self.repaired:  # by what an earlier place of this round tells
            return
        for candidate in (together, together | frozenset(around)):
            if (
                1 < len({widths.groups_by_name[name].ratio or name for name in candidate}) <= FEW
                and candidate not in self.tried
            ):
                self.tried.add(candidate)
                self.ties[candidate] = reason
                self.repaired |= candidate
                return
        if together <= self.repaired:
            return
        self.repaired |= together
        self.ties = {tied: why for tied, why in self.ties.items() if not tied & together}
        self.equal = {pair: found for pair, found in self.equal.items() if not found.names & together}
        self.pins.update({name: reason for name in names if name not in self.pins})

    def level(self, found: Mismatch) -> bool:
        """Parts that the code makes equal are to be; whether that is tried for the first time."""
        new = [pair for pair in found.equal if pair not in self.halved]
        self.halved.update(new)
        for pair in new:
            self.equal[pair] = Equality(*pair, f"the code makes equal parts at {found.site}")
        return bool(new)


def plan_until_valid(widths: WidthGraph, spec: Spec, *, seed: int, method: str) -> Plan:
    """A plan whose student provably makes the teacher's calls, with the predicted shapes.

    Raises:
        PlanError: The specification cannot be met (also where a request meets a width that had to be pinned).
    """
    with nullcontext() if widths.traced.inputs.real else no_collection():
        return _plan_until_valid(widths, spec, seed=seed, method=method)


def _plan_until_valid(widths: WidthGraph, spec: Spec, *, seed: int, method: str) -> Plan:
    repairs = _Repairs()
    widths, io_growths = free_io_dims(widths, parse(spec))
    ends = {io_growth.group for io_growth in io_growths}
    while True:
        repaired = repairs.on(widths)
        proposal = plan_widths(repaired, spec, seed=seed, method=method, io_growths=io_growths)
        verdict = check_conformance(*_on_meta(widths, proposal), widths, proposal)
        if not verdict.mismatches:
            left = {entry.name: entry for entry in proposal.skipped}
            left.update({n: Skipped(n, reason) for n, reason in repairs.pins.items() if n not in left})
            edits = (*proposal.edits, *(Edit(mode, node, (DROP,), 0) for mode, node in verdict.obsolete))
            return _with_depth(replace(proposal, skipped=tuple(left.values()), edits=edits), widths, spec)
        repairs.repaired.clear()
        growing = {width.name for width in proposal.grown_widths}
        for found in verdict.mismatches:
            if not found.groups:
                raise PlanError(f"the student would not compute what {proposal.model} does: {found}")
            reason = f"the model's code states a size that growth would have to change: {found}"
            log.info("%s: %s", ", ".join(found.groups), reason)
            constants = [name for name in found.groups if widths.groups_by_name[name].constant]
            if constants:  # a literal says how many
                repairs.pins.update(dict.fromkeys(constants, reason))
                continue
            if repairs.level(found):
                continue
            pinned = [name for name in widths.inside(found.module) if name in repairs.pins]
            others = [name for name in found.groups if name not in ends]  # what was asked for by number stays last
            near = [name for name in found.around if others and name not in ends]
            repairs.add(repaired, others or found.groups, near, reason)
            # The same code, where the run did not get to: elsewhere it has shown by itself what is wrong.
            for theirs, around, stay in widths.alike(found.module, verdict.reached, found.groups, found.around, pinned):
                if growing.issuperset(theirs) and repairs.pins.keys() >= set(stay):
                    repairs.add(repaired, theirs, [name for name in around if name in growing], reason)


def _with_depth(proposal: Plan, widths: WidthGraph, spec: Spec) -> Plan:
    """The plan with what is asked for besides widths, which has run on meta tensors.

    Raises:
        PlanError: A request cannot be met.
    """
    requests = [request for request in parse(spec) if isinstance(request, Deepen | Kernel)]
    if not requests:
        return proposal
    found = plan_depth(widths, requests, proposal)
    complete = replace(
        proposal,
        changes=tuple(found.changes),
        skipped=(*proposal.skipped, *found.skipped),
        notes=(*proposal.notes, *found.notes),
    )
    check_changes(_on_meta(widths, proposal), _on_meta(widths, complete), widths, complete)
    return complete


def _on_meta(widths: WidthGraph, plan: Plan) -> Student:
    """The student that a plan makes of the teacher as it was traced."""
    root = clone_shared(widths.traced.root)
    return root, rebuild(root, widths.traced.graphs, grown_tensors(plan, named_tensors(root)), plan)
