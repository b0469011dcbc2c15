"""A fixed-point loop: plan, build the student on meta, compare it with the plan, add constraints, repeat.

Where a size goes wrong there are three repairs for the widths that meet there, in this order. If the code cuts a
dimension into equal parts, the parts get equal sizes. Else the widths grow by one factor (`C // heads` keeps its value
if both double). Else those are pinned that stand in the dimensions of a wrong size, or all where none of these grows.
Each round tries a repair for the first time, so the loop ends. What it returns has passed the check.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

from ..base.isolation import no_collection, silent
from ..base.progress import step
from ..base.wording import first_of
from ..depth.owners import Owners
from ..depth.plan_depth import plan_depth
from ..errors import PlanError
from ..infer.findings import STATES
from ..infer.width_graph import WidthGraph
from ..model.copies import clone_shared, named_parameters
from ..model.tree import module_at
from ..plans.entries import DROP, Edit, Skipped, StatedSize
from ..plans.growth_plan import Plan
from ..rewrite.student import rebuild
from ..rewrite.student_inputs import padded
from ..rewrite.tensors import replacements
from ..solver.factors import with_asked_factors
from ..solver.hints import as_graph_hint
from ..solver.io_growth import IoGrowth
from ..solver.io_widths import free_io_dims
from ..solver.plan_widths import plan_widths
from ..spec.parse import Widen
from ..spec.requests import Request
from .changes import Student, check_changes
from .clones import check_clones
from .conformance import check_conformance
from .costs import with_costs
from .fixed_dims import fixed_sizes, note_of
from .narrowing import narrowed
from .repairs import Repairs
from .stated_sizes import stated_sizes, with_stated_sizes
from .verdict import Verdict

SHOWN = 4  # reasons in a message
UNDONE = 2  # ties that are undone one after the other, where each only keeps widths from growing

log = logging.getLogger("fxgrow")

Sized = Callable[[WidthGraph, Sequence[IoGrowth]], Sequence[Widen | Request]]


def plan_until_valid(
    widths: WidthGraph, requests: Sequence[Widen | Request], *, seed: int, method: str, sized: Sized | None = None
) -> Plan:
    """A plan whose student provably makes the teacher's calls, with the predicted shapes.

    Args:
        widths: Of the teacher, with fixed inputs and outputs.
        requests: Of every kind.
        seed: As for `plan_widths`.
        method: As for `plan_widths`.
        sized: Gives requests in which budgets are solved, for the constraints of each round; None: there are none.

    Raises:
        PlanError: A request cannot be met (also where it meets a width that had to be pinned).
    """
    with step("planning"), nullcontext() if widths.traced.inputs.real else no_collection():
        widths, io_growths = free_io_dims(with_asked_factors(widths, requests), requests)
        repairs = Repairs(keeps_place=frozenset(growth.group for growth in io_growths))

        def proposed(repairs: Repairs) -> Plan:
            repaired = repairs.on(widths)
            asked = requests if sized is None else sized(repaired, io_growths)
            return plan_widths(repaired, asked, seed=seed, method=method, io_growths=io_growths)

        def settled(repairs: Repairs) -> tuple[Plan, Repairs, Verdict]:
            while (verdict := _verdict(widths, proposal := proposed(repairs))).mismatches:
                _repair(repairs, widths, proposal, verdict)
            return proposal, repairs, verdict

        accepted, repairs, verdict = _without_needless_ties(settled, *settled(repairs))
        return _complete(_accepted(widths, accepted, repairs, verdict), widths, requests)


_Settled = tuple[Plan, Repairs, Verdict]


def _without_needless_ties(
    settled: Callable[[Repairs], _Settled], accepted: Plan, repairs: Repairs, verdict: Verdict, depth: int = UNDONE
) -> _Settled:
    """A plan without ties that only keep widths from growing, where there is one that passes the check, too.

    A tie is a guess. Where one of its widths has to stay, all of them stay. Widths of one name but for numbers are
    tried together, since the code of blocks is the same.
    """
    grown = {width.name for width in accepted.grown_widths}
    idle = {name for tied in repairs.ties if not tied & grown for name in tied}
    alike: dict[str, set[str]] = {}
    for name in sorted(idle - repairs.pins.keys()):
        alike.setdefault(re.sub(r"\d+", "", name), set()).add(name)
    for freed in (other for names in alike.values() if depth for other in repairs.freeing(names, grown)):
        try:
            other, freed, its_verdict = _without_needless_ties(settled, *settled(freed), depth - 1)
        except PlanError:
            continue
        if grown < (others := {width.name for width in other.grown_widths}):
            accepted, repairs, verdict, grown = other, freed, its_verdict, others
    return accepted, repairs, verdict


def _complete(accepted: Plan, widths: WidthGraph, requests: Sequence[Widen | Request]) -> Plan:
    """The plan of widths that passed the check, with all else that is asked for, and what it costs."""
    deeper = _with_depth(accepted, widths, requests)
    _refuse_nothing(deeper, requests)
    stated = _with_order(_with_stated_sizes(deeper, widths), widths)
    return with_costs(stated, widths, lambda: _on_meta(widths, stated))


def _with_order(plan: Plan, widths: WidthGraph) -> Plan:
    """The plan with the order of the student's parameters, where new modules stand among them."""
    if not any(change.new_paths for change in plan.changes):
        return plan
    return replace(plan, order=tuple(named_parameters(module_at(_on_meta(widths, plan)[0], ""))))


def _accepted(widths: WidthGraph, proposal: Plan, repairs: Repairs, verdict: Verdict) -> Plan:
    """The plan that passed the check, with what the rounds before it found out."""
    skipped = {entry.name: entry for entry in proposal.skipped}
    skipped.update({n: Skipped(n, reason) for n, reason in repairs.pins.items() if n not in skipped})
    edits = (*proposal.edits, *(Edit(mode, node, (DROP,), 0) for mode, node in verdict.obsolete))

    def departs(other: WidthGraph, moved: Plan) -> bool:
        with silent():
            return bool(check_conformance(*_on_meta(other, proposal), other, moved).mismatches)

    sizes = fixed_sizes(widths, proposal, departs)
    notes = (*proposal.notes, *([note_of(sizes)] if sizes else ()))
    return replace(proposal, skipped=tuple(skipped.values()), edits=edits, sizes=sizes, notes=notes)


def _refuse_nothing(complete: Plan, requests: Sequence[Widen | Request]) -> None:
    """Refuse a plan that leaves the model as it is, where a request asks for a factor above 1.

    Raises:
        PlanError: With the reasons of the first widths that stay.
    """
    factors = [r.width for r in requests if isinstance(r, Widen) and isinstance(r.width, float) and r.width > 1]
    if not factors or complete.grown_widths or complete.changes:
        return
    reasons = [f"{entry.name}: {entry.reason}" for entry in complete.skipped]
    reasons = reasons or [f"no width of it becomes larger by a factor of {max(factors):g}"]
    advice = as_graph_hint(complete.output, reasons)
    raise PlanError(f"nothing of {complete.model} would grow: {first_of(reasons, SHOWN, '; ')}{advice}")


def _repair(repairs: Repairs, widths: WidthGraph, proposal: Plan, verdict: Verdict) -> None:
    """Add a constraint for each place where the student departs from its plan.

    Raises:
        PlanError: No width meets there, so that no constraint helps.
    """
    repaired = repairs.on(widths)
    repairs.repaired.clear()
    for mismatch in verdict.mismatches:
        if not mismatch.groups:
            raise PlanError(f"the student would not compute what {proposal.model} does: {mismatch}")
        reason = f"{STATES}: {mismatch}"
        log.info("%s: %s", ", ".join(mismatch.groups), reason)
        constants = [name for name in mismatch.groups if repaired.groups_by_name[name].constant]
        if constants:  # a literal says how many
            repairs.pins.update(dict.fromkeys(constants, reason))
        elif not repairs.equalise(mismatch):
            if mismatch.guessed and repairs.would_pin(repaired, mismatch):
                untied = repairs.without_ties_of(mismatch.groups).on(widths)
                narrower = narrowed(mismatch, proposal, untied, partial(_verdict, widths))
                if narrower is None and repairs.repaired:
                    continue
                mismatch = narrower or mismatch
            repairs.add(repaired, mismatch, reason, proposal, verdict)


def _with_depth(proposal: Plan, widths: WidthGraph, requests: Sequence[Widen | Request]) -> Plan:
    """The plan with what is asked for besides widths, which has run on meta tensors.

    Raises:
        PlanError: A request cannot be met.
    """
    deeper = [request for request in requests if isinstance(request, Request) and request.structural]
    if not deeper:
        return proposal

    def owners() -> Owners:
        return Owners(widths.traced, _on_meta(widths, proposal)[0], padded(proposal, widths.traced.arguments))

    depth = plan_depth(widths, deeper, proposal, owners)
    complete = replace(
        proposal,
        changes=tuple(depth.changes),
        recounts=tuple(depth.recounts),
        skipped=(*proposal.skipped, *depth.skipped),
        notes=(*proposal.notes, *depth.notes),
    )
    if proposal.output == "graph":
        check_changes(_on_meta(widths, proposal), _on_meta(widths, complete), widths, complete)
        return complete
    kernels = replace(proposal, changes=tuple([change for change in complete.changes if not change.new_paths]))
    for form in widths.each_form():
        check_changes(_on_meta(form, proposal), _on_meta(form, kernels), form, kernels)
    if kernels.changes == complete.changes:
        return complete
    outputs, *_ = [
        check_clones(_on_meta(form, kernels), _on_meta(form, complete), form, complete) for form in widths.each_form()
    ]
    return replace(complete, clone_outputs=outputs)


def _with_stated_sizes(plan: Plan, widths: WidthGraph) -> Plan:
    """The plan with the sizes that follow although the forward does not read them, where the student is a module."""
    if plan.output == "graph" or not plan.grown_widths:
        return plan
    wider = replace(plan, changes=(), recounts=(), clone_outputs=())
    stated, stale = stated_sizes(widths, wider, lambda: module_at(_on_meta(widths, wider)[0], ""))

    def departs(chosen: tuple[StatedSize, ...]) -> bool:
        proposal = replace(wider, stated=chosen)
        return bool(_verdict(widths, proposal).mismatches)

    if stated and departs(stated):  # the forward reads one of them after all
        kept = tuple([size for size in stated if not departs((size,))])
        kept = () if departs(kept) else kept
        stale += tuple([f"{s.module}.{s.name} ({s.old})".lstrip(".") for s in stated if s not in kept])
        stated = kept
    return with_stated_sizes(plan, stated, stale)


def _verdict(widths: WidthGraph, plan: Plan) -> Verdict:
    """The check of the plan's student on every form of inputs."""
    verdicts = [check_conformance(*_on_meta(form, plan), form, plan) for form in widths.each_form()]
    return Verdict(
        tuple(dict.fromkeys(mismatch for one in verdicts for mismatch in one.mismatches)),
        tuple(dict.fromkeys(guard for one in verdicts for guard in one.obsolete)),
        frozenset().union(*[one.reached for one in verdicts]),
    )


def _on_meta(widths: WidthGraph, plan: Plan) -> Student:
    """The student that a plan makes of the teacher as it was traced."""
    root = clone_shared(widths.traced.root, replacements(plan, widths.traced.root))
    return root, rebuild(root, widths.traced, plan)
