"""Requests to widths: which groups grow, to what, and what is left with which reason."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from ..errors import PlanError
from ..infer.groups import Group, can_grow
from ..infer.width_graph import WidthGraph
from ..layouts.layout import Layout, atoms, measure
from ..spec.match import match, module_of
from ..spec.parse import Widen
from .equal_parts import GroupGain, solve_equal_parts
from .mean_channels import MeanChannels, find_mean_channels


@dataclass(slots=True)
class Targets:
    """The outcome of resolving a specification."""

    new: dict[str, int] = field(default_factory=dict)
    request: dict[str, Widen] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    mean_channels: dict[str, MeanChannels] = field(
        default_factory=dict
    )  # of the groups that grow to no multiple of an odd width


def resolve(
    widths: WidthGraph,
    requests: Sequence[Widen],
    no_replicas: Mapping[str, bool],
    method: str,
    replicating: Collection[str] = (),
    ends: Mapping[str, Widen] = MappingProxyType({}),
) -> Targets:
    """The new width of each group that grows.

    Args:
        widths: The width graph.
        requests: What is asked for; those for "*" give way to others.
        no_replicas: Per method name, whether its new channels are no replicas and so must not pass
            operators that need them.
        method: The method of requests that name none.
        replicating: The methods whose new channels are replicas.
        ends: What inputs and outputs ask of their groups, which nothing else may ask for by name.

    Raises:
        PlanError: A request cannot be met, or two disagree.
    """
    targets = Targets({name: int(request.width) for name, request in ends.items()}, dict(ends))
    taken = {name: f"{request.pattern} says how wide it is to be" for name, request in ends.items()}
    for request in sorted(requests, key=lambda w: w.blanket):
        how = request.method or method
        if request.indivisible == "average" and how not in replicating:
            raise PlanError(
                f"{request.pattern!r}: indivisible='average' needs a method that makes replicas, which {how!r} is not; "
                f"use {' or '.join(map(repr, sorted(replicating))) or repr('split')}"
            )
        unfit = {**(_unfit(widths, how) if no_replicas[how] else {}), **taken}
        find = _everything if request.blanket else _named
        for name, width in find(widths, request, _excluded(widths, request), unfit, targets).items():
            _ask(widths, targets, request, name, width)
    _same_ratios(widths, targets)
    _equal_parts(
        widths, targets, set().union(*(_excluded(widths, request) for request in requests)), no_replicas, method
    )
    return targets


def _unfit(widths: WidthGraph, method: str) -> dict[str, str]:
    """The groups that need replicas, which the method does not make, and where."""
    return {
        name: f"{method} adds channels that are no replicas, which {group.replicas[0]} needs"
        for name, group in widths.groups_by_name.items()
        if group.replicas
    }


def _everything(
    widths: WidthGraph, request: Widen, excluded: set[str], unfit: Mapping[str, str], targets: Targets
) -> dict[str, int]:
    if isinstance(request.width, int):
        raise PlanError(
            f"one width of {request.width} channels for everything? For a factor write {float(request.width)!r}"
        )
    wanted = {}
    for group in widths.groups:
        if group.name in targets.new:
            continue
        if group.name in excluded or group.ratio & excluded:
            targets.skipped[group.name] = "the specification excludes it, or what has to grow by the same factor"
        elif group.pinned or group.name in unfit:
            targets.skipped[group.name] = "; ".join(group.pinned) or unfit[group.name]
        elif _takes_part(widths, group, request):
            layout = _home(widths, group)
            width = _by_factor(widths, request, layout, group.name, targets)
            if width is not None:
                wanted[group.name] = width
    return wanted


def _takes_part(widths: WidthGraph, group: Group, request: Widen) -> bool:
    """Whether this factor of a dimension is the one that grows: the group count where cardinality is asked for."""
    if group.pinned:
        return False
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
    """The whole dimension that a group is (a part of): the one that multiples are counted on."""
    carried = [(t, d) for t, d in group.members if widths.tensors[t].roles[d] == "carry"]
    whole = [la for t, d in carried if len(la := widths.tensors[t].layouts[d]) == 1]
    return min(whole, key=lambda la: measure(la, widths.width), default=((group.name,),))


def _named(
    widths: WidthGraph, request: Widen, excluded: set[str], unfit: Mapping[str, str], targets: Targets
) -> dict[str, int]:
    wanted: dict[str, int] = {}
    refused: list[str] = []
    for tensor in _producers(widths, match(request.pattern, widths.tensors, widths.traced.classes)):
        layout = widths.produced(tensor)
        names = dict.fromkeys(atoms(layout))
        outside = {n for n in names if n in excluded or widths.groups_by_name[n].ratio & excluded}
        free = [n for n in names if n not in outside and _takes_part(widths, widths.groups_by_name[n], request)]
        fit = [n for n in free if n not in unfit]
        if not fit:
            if not set(names) <= outside:
                refused.append(f"{tensor}: {unfit[free[0]] if free else _why_not(widths, list(names))}")
            continue
        free = fit
        if isinstance(request.width, float):
            found = {n: _by_factor(widths, request, layout, n, targets) for n in free}
        else:
            found = dict(_by_width(widths, request, tensor, layout, free, targets))
        wanted.update({n: w for n, w in found.items() if w is not None})
        for name in set(names) - set(free):
            if widths.groups_by_name[name].pinned:
                targets.skipped[name] = "; ".join(widths.groups_by_name[name].pinned)
    if refused and (not wanted or request.is_literal_name or isinstance(request.width, int)):
        raise PlanError(f"{request.pattern!r} cannot be widened: " + "; ".join(dict.fromkeys(refused)))
    for text in dict.fromkeys(refused):
        tensor, _, reason = text.partition(": ")
        targets.skipped[module_of(tensor) or tensor] = reason
    return wanted


def _why_not(widths: WidthGraph, names: Sequence[str]) -> str:
    reasons = [r for n in names for r in widths.groups_by_name[n].pinned]
    held = [
        f"{widths.groups_by_name[n].deferred_to} grows instead" for n in names if widths.groups_by_name[n].deferred_to
    ]
    return "; ".join(dict.fromkeys([*reasons, *held])) or "its size is fixed"


def _producers(widths: WidthGraph, tensors: Sequence[str]) -> list[str]:
    """Of the matched tensors those that make a width (convolution, linear); else those that carry one."""
    makers = [t for t in tensors if {"carry", "contract"} <= set(widths.tensors[t].roles)]
    carriers = [t for t in tensors if widths.tensors[t].layouts and "carry" in widths.tensors[t].roles]
    return makers or carriers


def _excluded(widths: WidthGraph, request: Widen) -> set[str]:
    names: set[str] = set()
    for pattern in request.exclude:
        for tensor in _producers(widths, match(pattern, widths.tensors, widths.traced.classes)):
            names |= set(atoms(widths.produced(tensor)))
    return names


def _by_factor(widths: WidthGraph, request: Widen, layout: Layout, name: str, targets: Targets) -> int | None:
    old = widths.width(name)
    exact = old * float(request.width)
    return _admissible(widths, request, layout, name, max(old, math.floor(exact + 0.5)), targets)


def _admissible(
    widths: WidthGraph, request: Widen, layout: Layout, name: str, width: int, targets: Targets
) -> int | None:
    """The next width from `width` on that the group's constraints and `multiple_of` allow."""
    group = widths.groups_by_name[name]
    step = group.size if group.uniform else 1
    if width % step:
        why = f"only whole multiples of {group.size} are exact: {group.uniform[0]}"
        found = find_mean_channels(widths, name) if request.indivisible == "average" else ""
        if isinstance(found, MeanChannels):
            targets.mean_channels[name] = found
            step = 1
        elif request.indivisible == "round_up":
            rounded = -(-width // step) * step
            targets.notes.append(f"{name}: {width} rounded up to {rounded}, because {why}")
            width = rounded
        else:
            why += f"; and new channels cannot carry the mean of the others, because {found}" if found else ""
            if found and request.is_literal_name:
                raise PlanError(f"{request.pattern!r} cannot be widened to {width}: {why}")
            targets.skipped[name] = why
            return None
    if width > group.size or request.multiple_of > 1:
        for candidate in range(width, width + step * request.multiple_of, step):
            size = measure(layout, {**{n: widths.width(n) for n in atoms(layout)}, name: candidate}.__getitem__)
            if size % request.multiple_of == 0:
                return candidate
        targets.notes.append(
            f"{name}: no width near {width} makes a multiple of {request.multiple_of}; left as {width}"
        )
    return width


def _by_width(
    widths: WidthGraph, request: Widen, tensor: str, layout: Layout, free: Sequence[str], targets: Targets
) -> dict[str, int]:
    """The widths of the free parts of a dimension that make it as wide as asked."""
    goal = int(request.width)
    old = measure(layout, widths.width)
    label = module_of(tensor) or tensor
    if goal < old:
        raise PlanError(
            f"{request.pattern!r}: {label} has {old} channels already, more than {goal}; fxgrow only grows, and an int "
            f"is the new width: for a factor, write {goal}.0"
        )
    new = {n: widths.width(n) for n in atoms(layout)}
    steps = {n: measure(layout, {**new, n: new[n] + 1}.__getitem__) - old for n in free}
    uniform = [n for n in free if widths.groups_by_name[n].uniform]
    if uniform:
        ratio = goal / old
        return {
            n: w
            for n in free
            if (w := _admissible(widths, request, layout, n, round(new[n] * ratio), targets)) is not None
        }
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
    return {n: new[n] for n in free}


def _ask(widths: WidthGraph, targets: Targets, request: Widen, name: str, width: int) -> None:
    other = targets.request.get(name)
    if other is not None and targets.new[name] != width:
        mine, theirs = (_first_layer(widths, w, name) for w in (request, other))
        raise PlanError(
            f"{other.pattern!r} and {request.pattern!r} meet in one width, {name}, but ask for {targets.new[name]} and "
            f"{width}. Give both one width.\n{widths.why(theirs, mine)}"
        )
    if width > widths.width(name):
        targets.skipped.pop(name, None)
    targets.new[name] = width
    targets.request[name] = request


def _first_layer(widths: WidthGraph, request: Widen, name: str) -> str:
    for tensor in _producers(widths, match(request.pattern, widths.tensors, widths.traced.classes)):
        if name in atoms(widths.produced(tensor)):
            return tensor
    return name


def _same_ratios(widths: WidthGraph, targets: Targets) -> None:
    """Groups that are averaged together grow by one factor; two that are asked for by name must agree on it.

    Raises:
        PlanError: They do not.
    """
    for name in list(targets.new):
        group = widths.groups_by_name[name]
        if name in targets.mean_channels:  # alone in its class
            continue
        asked = {n: targets.new[n] // widths.width(n) for n in sorted(group.ratio) if n in targets.new}
        by_name = {n: ratio for n, ratio in asked.items() if not targets.request[n].blanket}
        if len(set(by_name.values())) > 1:
            a, b = (next(n for n in by_name if by_name[n] == r) for r in (min(by_name.values()), max(by_name.values())))
            raise PlanError(
                f"{targets.request[a].pattern!r} and {targets.request[b].pattern!r} ask for {a} x{by_name[a]} and "
                f"{b} x{by_name[b]}, but they must grow by one factor: {group.uniform[0]}"
            )
        ratio = max((by_name or asked).values(), default=1)
        for other in sorted(group.ratio):
            width = widths.width(other) * ratio
            if targets.new.get(other, widths.width(other)) != width:
                targets.notes.append(f"{other} grows to {width} with {name}: {group.uniform[0]}")
            targets.new[other] = width
            targets.request.setdefault(other, targets.request[name])
            targets.skipped.pop(other, None)


def _equal_parts(
    widths: WidthGraph, targets: Targets, excluded: set[str], no_replicas: Mapping[str, bool], method: str
) -> None:
    """What the code cuts into equal parts gets widths with which they are; what cannot grow so stays."""
    names = dict.fromkeys(name for equality in widths.equal for name in sorted(equality.names))
    gains: dict[frozenset[str], GroupGain] = {}
    for name in names:
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
    reasons = {name: equality.reason for equality in widths.equal for name in equality.names}
    some = next((targets.request[n] for n in names if n in targets.request), None)
    for name, width in solve_equal_parts(widths.equal, widths.groups_by_name, list(gains.values())).items():
        before = targets.new.get(name, widths.width(name))
        if some is None or width == before:
            continue
        request = targets.request.setdefault(name, some)
        if width == widths.width(name):
            targets.skipped[name] = f"{reasons.get(name, '')}, and other parts of it must stay"
        elif widths.groups_by_name[name].replicas and no_replicas[request.method or method]:
            continue
        else:
            targets.notes.append(f"{name} grows to {width} rather than {before}: {reasons.get(name, '')}")
        targets.new[name] = width
