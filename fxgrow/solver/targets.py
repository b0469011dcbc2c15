"""Requests to new widths: which groups grow, to which size, and why the others stay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from .. import methods
from ..errors import PlanError
from ..infer.groups import Group, can_grow
from ..infer.width_graph import WidthGraph
from ..layouts.layout import atoms
from ..methods import Method
from ..methods.registry import chosen
from ..spec.parse import Widen
from .asked_widths import Decision, ask_by_name, ask_everything, excluded_by
from .equal_parts import GroupGain, solve_equal_parts
from .mean_channels import MeanChannels
from .meant_widths import meant


@dataclass(frozen=True, slots=True)
class Targets:
    """The outcome of resolving a specification; each step gives a new one.

    Attributes:
        new: The new width of each group that is asked for.
        request: The request that decides it.
        skipped: Why others, by group or layer, stay.
        notes: What a user should know.
        mean_channels: Of the groups that grow to no multiple of an odd width.
    """

    new: Mapping[str, int] = field(default_factory=dict)
    request: Mapping[str, Widen] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    mean_channels: Mapping[str, MeanChannels] = field(default_factory=dict)

    def taking(self, widths: WidthGraph, request: Widen, decision: Decision) -> Targets:
        """These targets and what a request decides.

        Raises:
            PlanError: Another request asks for another width of a group.
        """
        for name, width in decision.new.items():
            other = self.request.get(name)
            if other is not None and self.new[name] != width:
                mine, theirs = (_first_layer(widths, w, name) for w in (request, other))
                raise PlanError(
                    f"{other.pattern!r} and {request.pattern!r} meet in one width, {name}, but ask for "
                    f"{self.new[name]} and {width}. Give both one width.\n{widths.explanation(theirs, mine)}"
                )
        grown = {name for name, width in decision.new.items() if width > widths.width(name)}
        return Targets(
            {**self.new, **decision.new},
            {**self.request, **dict.fromkeys(decision.new, request)},
            {name: reason for name, reason in {**self.skipped, **decision.skipped}.items() if name not in grown},
            (*self.notes, *decision.notes),
            {**self.mean_channels, **decision.mean_channels},
        )

    def changed(
        self,
        new: Mapping[str, int],
        request: Widen,
        *,
        skipped: Mapping[str, str] = MappingProxyType({}),
        notes: Sequence[str] = (),
    ) -> Targets:
        """These targets with other widths for some groups.

        Args:
            new: Their widths.
            request: The request that decides them where there was none.
            skipped: Why some of them stay; the others are not skipped.
            notes: What a user should know of it.
        """
        return replace(
            self,
            new={**self.new, **new},
            request={**self.request, **{name: self.request.get(name, request) for name in new}},
            skipped={**{name: why for name, why in self.skipped.items() if name not in new}, **skipped},
            notes=(*self.notes, *notes),
        )


def resolve(
    widths: WidthGraph,
    requests: Sequence[Widen],
    used: Mapping[str, Method],
    method: str,
    given: Mapping[str, tuple[int, Widen]] = MappingProxyType({}),
) -> Targets:
    """The new width of each group that grows.

    Args:
        widths: The width graph.
        requests: What is asked for; those for "*" give way to others.
        used: The methods that are asked for, by name.
        method: That of requests that name none.
        given: The width of groups that inputs, outputs and budgets decide, which nothing else may ask for by name.

    Raises:
        PlanError: A request cannot be met, or two disagree.
    """
    deciding = {name: request for name, (_, request) in given.items()}
    targets = Targets({name: width for name, (width, _) in given.items()}, deciding)
    taken = {name: f"{request.pattern} says how wide it is to be" for name, request in deciding.items()}
    for request in sorted(requests, key=lambda w: w.blanket):
        how = request.method or method
        if request.indivisible == "average" and not used[how].replicas:
            replicating = sorted(name for name, one in used.items() if one.replicas)
            raise PlanError(
                f"{request.pattern!r}: indivisible='average' needs a method that makes replicas, which {how!r} is not; "
                f"use {' or '.join(map(repr, replicating)) or repr('split')}"
            )
        unfit = {**_unfit_groups(widths, used[how]), **taken}
        excluded = excluded_by(widths, request)
        decision = (
            ask_everything(widths, request, excluded, unfit, targets.new)
            if request.blanket
            else ask_by_name(widths, request, excluded, unfit)
        )
        earlier = [other for other in dict.fromkeys(targets.request.values()) if other.blanket and other != request]
        if request.blanket and earlier and not decision.new:
            raise PlanError(
                f"{earlier[0].width} and {request.width} are both asked for everything, so that the second does "
                "nothing; give one of them, or names"
            )
        targets = targets.taking(widths, request, decision)
    excluded = set().union(
        *(excluded_by(widths, request) for request in dict.fromkeys((*requests, *deciding.values())))
    )
    return _with_equal_parts(widths, _with_same_ratios(widths, targets), excluded, method)


def _unfit_groups(widths: WidthGraph, method: Method) -> dict[str, str]:
    """The groups that need what the method does not make, and where; with those that grow by one factor with them."""
    own = {name: _unfit(group, method) for name, group in widths.groups_by_name.items()}
    reasons = dict(own)
    for name, group in widths.groups_by_name.items():
        other = next((other for other in sorted(group.ratio) if own[other]), None)
        if not own[name] and other is not None:
            reasons[name] = f"it grows by one factor with {other}, and {own[other]}"
    return {name: reason for name, reason in reasons.items() if reason}


def check_fit(widths: WidthGraph, targets: Targets, method: str, names: Iterable[str]) -> None:
    """Check that the method of each of these widths makes what it needs, however it came to grow.

    Raises:
        PlanError: Some width needs something else.
    """
    for name in names:
        how = targets.request[name].method or method
        if reason := _unfit(widths.groups_by_name[name], methods.method(how)):
            raise PlanError(f"{name} has to grow, and {reason}; use another method than {how!r} for it")


def _unfit(group: Group, named: Method) -> str:
    """Why a method cannot fill a width exactly; "" if it can, or is not meant to be exact."""
    if not named.preserves_function or not (group.replicas or group.zero_columns or group.zero_rows):
        return ""
    how = methods.method(chosen(named, replicas=bool(group.replicas), zero_rows=bool(group.zero_rows)))
    if group.replicas and not how.replicas:
        return f"{named.name} adds channels that are no replicas, which {group.replicas[0]} needs"
    if group.zero_columns and not how.zero_columns:
        return f"{named.name} makes columns that are not zero, as {group.zero_columns[0]} needs them"
    if group.zero_rows and not how.zero_rows:
        return f"{named.name} makes rows that are not zero, as {group.zero_rows[0]} needs them"
    return ""


def _first_layer(widths: WidthGraph, request: Widen, name: str) -> str:
    return next((one.name for one in meant(widths, request.pattern) if name in atoms(one.layout)), name)


def _with_same_ratios(widths: WidthGraph, targets: Targets) -> Targets:
    """Targets where groups that are averaged together grow by one factor; two asked for by name must agree on it.

    Raises:
        PlanError: They do not.
    """
    for name in targets.new:
        if name not in targets.mean_channels and widths.groups_by_name[name].ratio:  # else it is alone in its class
            targets = _with_one_ratio(widths, targets, name)
    return targets


def _with_one_ratio(widths: WidthGraph, targets: Targets, name: str) -> Targets:
    group = widths.groups_by_name[name]
    asked = {n: targets.new[n] // widths.width(n) for n in sorted(group.ratio) if n in targets.new}
    by_name = {n: ratio for n, ratio in asked.items() if not targets.request[n].blanket}
    if len(set(by_name.values())) > 1:
        a, b = (next(n for n in by_name if by_name[n] == r) for r in (min(by_name.values()), max(by_name.values())))
        raise PlanError(
            f"{targets.request[a].pattern!r} and {targets.request[b].pattern!r} ask for {a} x{by_name[a]} and "
            f"{b} x{by_name[b]}, but they must grow by one factor: {group.uniform[0]}"
        )
    ratio = max((by_name or asked).values(), default=1)
    new = {other: widths.width(other) * ratio for other in sorted(group.ratio)}
    notes = [
        f"{other} grows to {width} with {name}: {_in_common(group, widths.groups_by_name[other])}"
        for other, width in new.items()
        if targets.new.get(other, widths.width(other)) != width
    ]
    return targets.changed(new, targets.request[name], notes=notes)


def _in_common(group: Group, other: Group) -> str:
    """Why two widths grow by one factor."""
    return next((reason for reason in other.uniform if reason in group.uniform), other.uniform[0])


def _with_equal_parts(widths: WidthGraph, targets: Targets, excluded: set[str], method: str) -> Targets:
    """Targets where parts which the code makes equal stay equal; a width with no such size stays."""
    reasons = {name: equality.reason for equality in widths.equal for name in equality.names}
    some = next((targets.request[n] for n in _cut_names(widths) if n in targets.request), None)
    if some is None:
        return targets
    solved = solve_equal_parts(widths.equal, widths.groups_by_name, _gains(widths, targets, excluded))
    for name, width in solved.items():
        before, reason = targets.new.get(name, widths.width(name)), _reason_of_parts(widths, reasons, name)
        how = targets.request.get(name, some).method or method
        if width == before:
            continue
        if width == widths.width(name):
            why = f"{reason}, and other parts of it must stay"
            targets = targets.changed({name: width}, some, skipped={name: why})
        elif not _unfit(widths.groups_by_name[name], methods.method(how)):
            note = f"{name} grows to {width} rather than {before}: {reason}"
            targets = targets.changed({name: width}, some, notes=[note])
    return targets


def _reason_of_parts(widths: WidthGraph, reasons: Mapping[str, str], name: str) -> str:
    """Why a width depends on equal parts: it is in one, or it grows by one factor with a width that is."""
    if name in reasons:
        return reasons[name]
    group = widths.groups_by_name[name]
    other = min(group.ratio & reasons.keys())
    return f"{_in_common(group, widths.groups_by_name[other])}; it grows by one factor with {other}: {reasons[other]}"


def _cut_names(widths: WidthGraph) -> list[str]:
    """The groups that the code cuts into equal parts, or that are a part of one."""
    return list(dict.fromkeys(name for equality in widths.equal for name in sorted(equality.names)))


def _gains(widths: WidthGraph, targets: Targets, excluded: set[str]) -> list[GroupGain]:
    """What such groups can gain, and what is asked of them."""
    gains: dict[frozenset[str], GroupGain] = {}
    for name in _cut_names(widths):
        group = widths.groups_by_name[name]
        alone = not group.uniform or name in targets.mean_channels
        together = frozenset([name]) if alone else group.ratio
        steps = dict.fromkeys(sorted(together), 1) if alone else {n: widths.width(n) for n in sorted(together)}
        requested = targets.new.get(name, group.size) > group.size
        may = can_grow(group) and not together & excluded and not together & targets.skipped.keys()
        if requested or may:
            wanted = (targets.new.get(name, group.size) - group.size) // steps[name]
            given = any(isinstance(targets.request[n].width, int) for n in together if n in targets.request)
            gains[together] = GroupGain(steps, wanted, given)
    return list(gains.values())
