"""What one request asks of the width groups: which it means, and to which width each can grow."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..errors import PlanError
from ..infer.groups import Group
from ..infer.width_graph import WidthGraph
from ..layouts.layout import Layout, atoms, measure
from ..spec.parse import Widen
from .handed_on import handed_on
from .hints import hint, listed
from .mean_channels import MeanChannels, find_mean_channels
from .meant_widths import Meant, meant, names_of


@dataclass(frozen=True, slots=True)
class Decision:
    """What a request decides.

    Attributes:
        new: The new width of each group that can grow as asked.
        skipped: Why others, by group or layer, stay.
        notes: What a user should know.
        mean_channels: Of the groups that grow to no multiple of an odd width.
    """

    new: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    mean_channels: Mapping[str, MeanChannels] = field(default_factory=dict)


def _joined(decisions: Iterable[Decision]) -> Decision:
    """Several decisions as one; of two about a group, the later counts."""
    each = list(decisions)
    return Decision(
        {name: width for d in each for name, width in d.new.items()},
        {name: reason for d in each for name, reason in d.skipped.items()},
        tuple(note for d in each for note in d.notes),
        {name: mean for d in each for name, mean in d.mean_channels.items()},
    )


def ask_everything(
    widths: WidthGraph, request: Widen, excluded: set[str], unfit: Mapping[str, str], taken: Container[str]
) -> Decision:
    """What a request for all widths decides.

    Args:
        widths: The width graph.
        request: It asks for a factor.
        excluded: The groups that it excludes.
        unfit: The groups that its method cannot grow, and why.
        taken: The groups that other requests ask for.

    Raises:
        PlanError: It asks for a number of channels.
    """
    if isinstance(request.width, int):
        raise PlanError(
            f"one width of {request.width} channels for everything? For a factor write {float(request.width)!r}"
        )
    decisions = []
    instead = {other.deferred_to: other.name for other in widths.groups if other.deferred_to and other.name in taken}
    for group in widths.groups:
        if group.name in taken:
            continue
        if group.name in instead:
            why = f"{instead[group.name]} grows instead, which is asked for by its name"
            decisions.append(Decision(skipped={group.name: why}))
        elif group.name in excluded or group.ratio & excluded:
            reason = "the specification excludes it, or what has to grow by the same factor"
            decisions.append(Decision(skipped={group.name: reason}))
        elif group.pinned or group.name in unfit:
            decisions.append(Decision(skipped={group.name: "; ".join(group.pinned) or unfit[group.name]}))
        elif _takes_part(widths, None, group, request):
            decisions.append(_by_factor(widths, request, _home(widths, group), group.name))
    return _joined(decisions)


def ask_by_name(widths: WidthGraph, request: Widen, excluded: set[str], unfit: Mapping[str, str]) -> Decision:
    """What a request for some layers decides.

    Args:
        widths: The width graph.
        request: The request.
        excluded: The groups that it excludes.
        unfit: The groups that its method cannot grow, and why.

    Raises:
        PlanError: No layer that it means can grow, or one that it names cannot.
    """
    decisions: list[Decision] = []
    refused: dict[str, str] = {}
    labels: dict[str, str] = {}
    found = meant(widths, request.pattern, channels=isinstance(request.width, int))
    only_handed_on = handed_on(widths, request.pattern, found)
    for one in found:
        names = [name for name in names_of(one) if name not in only_handed_on]
        if not names and names_of(one):
            continue
        outside = {n for n in names if n in excluded or widths.groups_by_name[n].ratio & excluded}
        free = [n for n in names if n not in outside and _takes_part(widths, one, widths.groups_by_name[n], request)]
        fit = [n for n in free if n not in unfit]
        if fit:
            decisions.append(_of_dimension(widths, request, one, fit))
            pinned = {n: widths.groups_by_name[n].pinned for n in names if n not in fit}
            decisions.append(Decision(skipped={n: "; ".join(reasons) for n, reasons in pinned.items() if reasons}))
        elif not set(names) <= outside:
            labels[one.name] = one.label
            refused[one.name] = unfit[free[0]] if free else _why_not(widths, names)
    wanted = any(decision.new for decision in decisions)
    if refused and (not wanted or request.is_literal_name or isinstance(request.width, int)):
        raise PlanError(f"{request.pattern!r} cannot be widened: {listed(refused)}{hint(widths, request, found)}")
    skipped = {labels[name]: reason for name, reason in refused.items()}
    return _joined([*decisions, Decision(skipped={**only_handed_on, **skipped})])


def _of_dimension(widths: WidthGraph, request: Widen, one: Meant, names: Sequence[str]) -> Decision:
    """The new widths of the groups that are free in a dimension."""
    if isinstance(request.width, float):
        return _joined(_by_factor(widths, request, one.layout, name) for name in names)
    return _by_width(widths, request, one.label, one.layout, names)


def _takes_part(widths: WidthGraph, one: Meant | None, group: Group, request: Widen) -> bool:
    """Whether this factor of a dimension is the one that grows.

    That is the group count where cardinality is asked for, or the width that is asked for by its own name, also where
    another factor grows by default: the channels in each group of a group norm, where more groups would.
    """
    if group.pinned:
        return False
    if one is not None and one.is_width:
        return True
    if request.cardinality:
        siblings = {n for layout in _layouts_with(widths, group.name) for b in layout if group.name in b for n in b}
        counts = [
            n
            for n in siblings
            if isinstance(n, str) and widths.groups_by_name[n].count and not widths.groups_by_name[n].pinned
        ]
        if counts:
            return group.name in counts
    return not group.deferred_to


def _layouts_with(widths: WidthGraph, name: str) -> list[Layout]:
    return [widths.tensors[t].layouts[d] for t, d in widths.groups_by_name[name].members]


def _home(widths: WidthGraph, group: Group) -> Layout:
    """The dimension that a group is, or is a factor of; `multiple_of` counts in it."""
    carried = [(t, d) for t, d in group.members if widths.tensors[t].roles[d] == "carry"]
    alone = [la for t, d in carried if len(la := widths.tensors[t].layouts[d]) == 1]
    return min(alone, key=lambda la: measure(la, widths.width), default=((group.name,),))


def _why_not(widths: WidthGraph, names: Sequence[str]) -> str:
    reasons = [r for n in names for r in widths.groups_by_name[n].pinned]
    held = [
        f"{widths.groups_by_name[n].deferred_to} grows instead" for n in names if widths.groups_by_name[n].deferred_to
    ]
    return "; ".join(dict.fromkeys([*reasons, *held])) or "its size is fixed"


def excluded_by(widths: WidthGraph, request: Widen) -> set[str]:
    """The groups that a request excludes."""
    names: set[str] = set()
    for pattern in request.exclude:
        for one in meant(widths, pattern):
            names |= set(names_of(one))
    return names


def _by_factor(widths: WidthGraph, request: Widen, layout: Layout, name: str) -> Decision:
    old = widths.width(name)
    exact = old * float(request.width)
    return _admissible(widths, request, layout, name, max(old, math.floor(exact + 0.5)))


def _admissible(widths: WidthGraph, request: Widen, layout: Layout, name: str, width: int) -> Decision:
    """The next width from `width` on that the group's constraints and `multiple_of` allow."""
    group = widths.groups_by_name[name]
    if not group.uniform or width % group.size == 0:
        return _multiple(widths, request, layout, name, width, group.size if group.uniform else 1)
    why = f"only whole multiples of {group.size} are exact: {group.uniform[0]}"
    mean = find_mean_channels(widths, name) if request.indivisible == "average" else ""
    if isinstance(mean, MeanChannels):
        carrying = Decision(mean_channels={name: mean})
        return _joined([carrying, _multiple(widths, request, layout, name, width, 1)])
    if request.indivisible == "round_up":
        rounded = -(-width // group.size) * group.size
        note = f"{name}: {width} rounded up to {rounded}, because {why}"
        return _joined([Decision(notes=(note,)), _multiple(widths, request, layout, name, rounded, group.size)])
    why += f"; and new channels cannot carry the mean of the others, because {mean}" if mean else ""
    if mean and request.is_literal_name:
        raise PlanError(f"{request.pattern!r} cannot be widened to {width}: {why}")
    return Decision(skipped={name: why})


def next_width(widths: WidthGraph, request: Widen, name: str, width: int) -> int | None:
    """The smallest width of a group, from `width` on, that its constraints and `multiple_of` allow; None for none."""
    layout = _home(widths, widths.groups_by_name[name])
    new = _admissible(widths, replace(request, indivisible="round_up"), layout, name, width).new[name]
    size = measure(layout, {**{n: widths.width(n) for n in atoms(layout)}, name: new}.__getitem__)
    return new if size % request.multiple_of == 0 else None


def _multiple(widths: WidthGraph, request: Widen, layout: Layout, name: str, width: int, step: int) -> Decision:
    """The next width from `width` on, in such steps, that makes the dimension the multiple that is asked for."""
    for candidate in range(width, width + step * request.multiple_of, step):
        size = measure(layout, {**{n: widths.width(n) for n in atoms(layout)}, name: candidate}.__getitem__)
        if size % request.multiple_of == 0:
            return Decision({name: candidate})
    note = f"{name}: no width near {width} makes a multiple of {request.multiple_of}; left as {width}"
    return Decision({name: width}, notes=(note,))


def _by_width(widths: WidthGraph, request: Widen, label: str, layout: Layout, free: Sequence[str]) -> Decision:
    """The widths of the free parts of a dimension that make it as wide as asked."""
    goal = int(request.width)
    old = measure(layout, widths.width)
    if goal < old:
        raise PlanError(
            f"{request.pattern!r}: {label} has {old} channels already, more than {goal}; fxgrow only grows, and an int "
            f"is the new width: for a factor, write {goal}.0"
        )
    new = {n: widths.width(n) for n in atoms(layout)}
    steps = {n: measure(layout, {**new, n: new[n] + 1}.__getitem__) - old for n in free}
    if any(widths.groups_by_name[n].uniform for n in free):
        ratio = goal / old
        return _joined(_admissible(widths, request, layout, n, round(new[n] * ratio)) for n in free)
    missing = goal - old
    share = missing / sum(steps[n] * new[n] for n in free)
    for name in free:
        new[name] += math.floor(share * widths.width(name))
    rest = goal - measure(layout, new.__getitem__)
    for name in sorted(free, key=lambda n: -steps[n]):
        new[name] += rest // steps[name]
        rest -= rest // steps[name] * steps[name]
    if rest:
        near = sorted({goal - rest, goal - rest + min(steps.values())})
        raise PlanError(
            f"{request.pattern!r}: {label} cannot have {goal} channels, because it is made of parts of "
            f"{min(steps.values())}; possible: {' or '.join(map(str, near))}"
        )
    if request.multiple_of > 1 and goal % request.multiple_of:
        raise PlanError(f"{request.pattern!r}: {goal} is no multiple of {request.multiple_of}")
    return Decision({n: new[n] for n in free})
