"""Requests and widths to a plan: new widths, edits that follow from them, and what stays. Reads no weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import nn

from .. import methods
from ..base.rng import named_generator
from ..base.roles import Role
from ..base.structures import ArgumentPath
from ..infer.findings import Norm
from ..infer.groups import Group
from ..infer.literals import Literal
from ..infer.spellings import PART
from ..infer.width_graph import TensorWidths, WidthGraph
from ..layouts.layout import Layout, atoms, measure, only_atom, prefix
from ..methods.registry import chosen, offered
from ..model.copies import named_tensors, stored
from ..model.example_data import call_to_data
from ..model.stated import stated_size
from ..model.tree import Mode, module_at
from ..plans.entries import Edit, IoDimPlan, MeanFill, PlanForm, Resize, Skipped, Stored, TensorPlan, Width
from ..plans.growth_plan import Plan
from ..spec.budget import Budget
from ..spec.parse import Widen, to_json
from ..spec.requests import Inputs, Request
from .io_growth import IoGrowth
from .io_widths import check_io_growths
from .solved import solved_widths
from .targets import Targets, check_fit, resolve


def plan_widths(
    widths: WidthGraph,
    requests: Sequence[Widen | Request],
    *,
    seed: int = 0,
    method: str = methods.DEFAULT,
    io_growths: Sequence[IoGrowth] = (),
) -> Plan:
    """Plan new widths.

    Args:
        widths: The width graph, in which the inputs and outputs of `io_growths` are widths.
        requests: Of every kind; those for widths are met here, and the plan holds all of them.
        seed: Of which channels are replicated, and of the shares.
        method: How new channels are filled where a request does not say.
        io_growths: The groups that grow because inputs and outputs do (`io_widths.free_io_dims`).

    Raises:
        PlanError: A request cannot be met; the text says which, why, and what to do.
    """
    wider = [request for request in requests if isinstance(request, Widen)]
    budgets = [request for request in requests if isinstance(request, Budget)]
    used = _used_methods(method, [*wider, *budgets])
    check_io_growths(widths, io_growths)
    targets = targets_of(widths, wider, method, io_growths, budgets)
    grown = {name: new for name, new in targets.new.items() if new > widths.width(name)}
    check_fit(widths, targets, method, grown.keys() - {growth.group for growth in io_growths})
    filled = _methods(widths, grown, targets, method)
    all_widths = {
        name: _width(group, grown.get(name, group.size), targets, seed, filled.get(name, ""))
        for name, group in widths.groups_by_name.items()
    }
    measured = _Sizes(widths, all_widths)
    tensors = _tensors(widths, measured, targets)
    named = {name for t in tensors for layout in t.layouts for name in atoms(layout)}
    return Plan(
        model=widths.traced.class_name,
        inputs=widths.traced.inputs_in_words,
        example=call_to_data(widths.traced.inputs),
        forms=tuple(PlanForm(call_to_data(form.inputs), form.fingerprint()) for form in widths.traced.forms),
        leaf_modules=tuple(sorted(widths.traced.asked)),
        output=widths.traced.output,
        code=widths.traced.fingerprint(),
        layers=widths.traced.layers(),
        spec=to_json(requests),
        seed=seed,
        method=method,
        groups=tuple(width for name, width in all_widths.items() if name in named or width.new > width.old),
        tensors=tensors,
        edits=(*_edits(widths, measured), *_eps_edits(all_widths, targets)),
        resizes=(*_resizes(widths, measured), *_eps_resizes(all_widths, targets)),
        skipped=tuple(Skipped(name, reason) for name, reason in targets.skipped.items()),
        notes=(
            *_notes(widths, grown, targets, used.values(), alone=len(wider) + len(budgets) == len(requests)),
            *_io_notes(io_growths),
            *_of_half(widths, filled),
        ),
        io_dims=_io_dims(io_growths),
        stored=tuple(Stored(*one) for one in stored(widths.traced.root)),
    )


def _used_methods(default: str, requests: Sequence[Widen | Budget]) -> dict[str, methods.Method]:
    """The methods that are asked for, by name."""
    used = [offered(name) for name in (default, *(request.method for request in requests if request.method))]
    return {how.name: how for how in used}


def targets_of(
    widths: WidthGraph,
    requests: Sequence[Widen],
    method: str,
    io_growths: Sequence[IoGrowth] = (),
    budgets: Sequence[Budget] = (),
) -> Targets:
    """The new width of each group that is asked for.

    Args:
        widths: As for `plan_widths`.
        requests: Those for widths.
        method: As for `plan_widths`.
        io_growths: As for `plan_widths`.
        budgets: Those that are solved.

    Raises:
        PlanError: A request cannot be met.
    """
    used = _used_methods(method, [*requests, *budgets])
    of_io = {e.group: Widen(str(e.request), widths.width(e.group) + e.more, method=e.method) for e in io_growths}
    ends = {name: (int(request.width), request) for name, request in of_io.items()}
    given = {**solved_widths(widths, budgets), **ends}
    return resolve(widths, requests, used, method, given)


def _tensors(widths: WidthGraph, sizes: _Sizes, targets: Targets) -> tuple[TensorPlan, ...]:
    """The parameters and buffers that get another shape."""
    return tuple(
        TensorPlan(
            t.name,
            t.layouts,
            t.roles,
            t.kind,
            _mean_fill(t, sizes.widths, targets),
            t.kept.over if t.kept is not None else (),
            t.kept.correction if t.kept is not None else 0.0,
            t.zeroed,
            t.zero,
        )
        for t in widths.tensors.values()
        if any(sizes.new(layout) != sizes.old(layout) for layout in t.layouts)
    )


def _io_dims(io_growths: Sequence[IoGrowth]) -> tuple[IoDimPlan, ...]:
    """Where the callers of the model see that inputs and outputs grow."""
    return tuple(
        IoDimPlan(dim.kind, dim.at, dim.number, dim.dim, growth.group, dim.size, dim.size + growth.more)
        for growth in io_growths
        for dim in growth.dims
    )


def _methods(widths: WidthGraph, grown: Mapping[str, int], targets: Targets, default: str) -> dict[str, str]:
    """How each width that grows is filled. The factors of one dimension are filled alike where no method was named."""
    hows = {name: methods.method(targets.request[name].method or default) for name in grown}
    bound = {
        n
        for n in grown
        if widths.groups_by_name[n].replicas or widths.groups_by_name[n].uniform or n in targets.mean_channels
    }
    silent = _without_gradients(widths) & grown.keys()
    bound |= {name for name in silent if not widths.groups_by_name[name].zero_columns}
    blocks = {block for tensor in widths.tensors.values() for layout in tensor.layouts for block in layout}
    together = [names for block in blocks if len(names := grown.keys() & set(atoms((block,)))) > 1]
    while more := {name for names in together if names & bound for name in names} - bound:
        bound |= more
    zero_rows = {name for name in grown if widths.groups_by_name[name].zero_rows}
    return {name: chosen(how, replicas=name in bound, zero_rows=name in zero_rows) for name, how in hows.items()}


def _without_gradients(widths: WidthGraph) -> set[str]:
    """The widths whose new channels would get no gradient from zeros: what sums over them is frozen, and they train."""
    tensors = named_tensors(widths.traced.root)
    trained = {name for name, tensor in tensors.items() if isinstance(tensor, nn.Parameter) and tensor.requires_grad}
    found: dict[tuple[Role, bool], set[str]] = {}
    for tensor in widths.tensors.values():
        for layout, role in zip(tensor.layouts, tensor.roles, strict=True):
            found.setdefault((role, tensor.name in trained), set()).update(atoms(layout))
    summed, frozen = (found.get(("contract", trains), set()) for trains in (True, False))
    return (frozen - summed) & found.get(("carry", True), set())


def _width(group: Group, new: int, targets: Targets, seed: int, method: str) -> Width:
    if new == group.size:
        return Width(group.name, group.size, group.size)
    full, rest = divmod(new, group.size)
    if rest and group.name in targets.mean_channels:
        nominal = (*(list(range(group.size)) * (full - 1)), *range(rest))
        return Width(group.name, group.size, new, nominal, method, rest)
    copies = list(range(group.size)) * (full - 1)  # replicas spread as evenly as they can be
    if rest:  # neighbours from a random one on: which channels they are does not matter, and runs are copied fast
        start = int(torch.randint(group.size, (), generator=named_generator(seed, group.former or group.name)))
        copies += [(start + i) % group.size for i in range(rest)]
    return Width(group.name, group.size, new, tuple(copies), method)


class _Sizes:
    """Old and new sizes of layouts."""

    def __init__(self, widths: WidthGraph, all_widths: Mapping[str, Width]) -> None:
        self.widths = all_widths
        self.graph = widths

    def old(self, layout: Layout) -> int:
        return measure(layout, self.graph.width)

    def new(self, layout: Layout) -> int:
        return measure(layout, lambda name: self.widths[name].new)


def _edits(widths: WidthGraph, sizes: _Sizes) -> tuple[Edit, ...]:
    edits: dict[tuple[str, str, ArgumentPath], Edit] = {}
    parts: dict[tuple[Mode, str], list[tuple[int, int]]] = {}
    for literal in widths.literals:
        before, after = _stated(literal, sizes.old, widths), _stated(literal, sizes.new, widths)
        if before is None or after is None:
            continue
        if literal.path[0] == PART:
            parts.setdefault((literal.mode, literal.node), []).append((before, after))
        elif before != after:
            edits[literal.mode, literal.node, literal.path] = Edit(literal.mode, literal.node, literal.path, after)
    for (mode, node), pairs in parts.items():
        new = tuple(after for _, after in pairs)
        if any(before != after for before, after in pairs) and not _equal_parts(new):
            edits = {key: edit for key, edit in edits.items() if key[:2] != (mode, node)}
            edits[mode, node, ()] = Edit(mode, node, (), new)
    return tuple(edits.values())


def _equal_parts(sizes: Sequence[int]) -> bool:
    """Whether split(size) and chunk(number) give these sizes: all equal, but the last may be smaller."""
    step, total = sizes[0], sum(sizes)
    alike = all(size == step for size in sizes[:-1]) and 0 < sizes[-1] <= step
    return alike and step == -(-total // len(sizes))


def _stated(literal: Literal, size: Callable[[Layout], int], widths: WidthGraph) -> int | None:
    """The value of a literal, by old or by new sizes; None where it cuts through what grows."""
    if literal.part is None:
        return size(literal.layout)
    start, stop = (prefix(literal.layout, at, widths.width) for at in literal.part)
    if start is None or stop is None:
        return None
    return literal.sign * (size(stop) - size(start))


def _resizes(widths: WidthGraph, sizes: _Sizes) -> tuple[Resize, ...]:
    resizes: dict[tuple[str, str], Resize] = {}
    for attribute in widths.attributes:
        before = tuple(sizes.old(layout) for layout in attribute.layouts)
        after = tuple(sizes.new(layout) for layout in attribute.layouts)
        if before == after:
            continue
        module = module_at(widths.traced.root, attribute.module)
        stated = stated_size(module, attribute.name)
        if stated in (before[0], before):
            one = isinstance(stated, int)
            resizes[attribute.module, attribute.name] = Resize(
                attribute.module, attribute.name, before[0] if one else before, after[0] if one else after
            )
    return tuple(resizes.values())


def _mean_fill(tensor: TensorWidths, all_widths: Mapping[str, Width], targets: Targets) -> tuple[MeanFill, ...]:
    names = [only_atom(layout) for layout in tensor.layouts]
    parts: tuple[MeanFill, ...] = tuple(
        targets.mean_channels[name].parts[tensor.name, dim]
        if isinstance(name, str) and all_widths[name].mean_channels
        else ""
        for dim, name in enumerate(names)
    )
    return parts if any(parts) else ()


def _norms(all_widths: Mapping[str, Width], targets: Targets) -> Iterator[tuple[Norm, float]]:
    """The layer norms over channels that carry means, and their new eps."""
    for name, mean in targets.mean_channels.items():
        width = all_widths[name]
        yield from ((norm, norm.eps * width.variance) for norm in mean.norms if width.mean_channels)


def _eps_edits(all_widths: Mapping[str, Width], targets: Targets) -> Iterator[Edit]:
    for norm, eps in _norms(all_widths, targets):
        if norm.literal is not None:
            mode, node, path = norm.literal
            yield Edit(mode, node, path, eps)


def _eps_resizes(all_widths: Mapping[str, Width], targets: Targets) -> Iterator[Resize]:
    for norm, eps in _norms(all_widths, targets):
        if norm.module is not None:
            yield Resize(norm.module, "eps", norm.eps, eps)


def _notes(
    widths: WidthGraph,
    grown: Mapping[str, int],
    targets: Targets,
    used: Iterable[methods.Method],
    *,
    alone: bool,
) -> tuple[str, ...]:
    notes = [*widths.traced.notes, *targets.notes]
    notes += [
        f"method {m.name!r} is not function-preserving: the student will not compute what the teacher does"
        for m in used
        if not m.preserves_function
    ]
    notes += [
        f"{name}: {new % widths.width(name)} of {new} channels carry the mean of the {widths.width(name)}; the layer "
        "norms over it have another gain and eps"
        for name, new in grown.items()
        if name in targets.mean_channels and new % widths.width(name)
    ]
    if not grown and alone:
        notes.append("no width grows: the student is a copy of the teacher")
    notes += [text for layout, text in widths.constraints.notes if any(name in grown for name in atoms(layout))]
    return tuple(dict.fromkeys(notes))


def _of_half(widths: WidthGraph, filled: Mapping[str, str]) -> Iterator[str]:
    """What to look at where random channels are made in a dtype whose largest number is not far away."""
    fresh = {name for name, how in filled.items() if not methods.method(how).replicas}
    tensors = named_tensors(widths.traced.root)
    if any(
        role == "carry" and tensors[tensor.name].dtype == torch.float16 and fresh & {*atoms(layout)}
        for tensor in widths.tensors.values()
        for layout, role in zip(tensor.layouts, tensor.roles, strict=True)
    ):
        yield (
            "float16 ends at 65,504: where the code multiplies or sums large numbers, new channels, which are random, "
            "may become infinite, and 0 times infinity is NaN; fxgrow.verify tells on inputs with numbers, and "
            "method='split' makes copies instead"
        )


def _io_notes(io_growths: Sequence[IoGrowth]) -> Iterator[str]:
    for growth in io_growths:
        if isinstance(growth.request, Inputs):
            yield (
                f"{growth.what}: {growth.more} more, the last ones, with zero weights, so that they have no effect "
                "until they are trained"
            )
        else:
            yield f"{growth.what}: {growth.more} more, the last ones ({growth.request.new}); the old ones stay"
