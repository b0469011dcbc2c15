"""The structural changes for requests for depth and kernels: which layers, at which nodes, exact in which modes."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, cast

from torch import fx

from ..errors import PlanError, Unfit
from ..infer.freeze import freeze
from ..infer.width_graph import WidthGraph
from ..layouts.layout import measure
from ..model.activations import Activation, activation_by_name
from ..model.copies import named_tensors
from ..model.layer_kinds import CONVOLUTIONS, LINEAR_MAPS, classes_of, is_layer_class, layer_class, spatial_rank
from ..model.stated import stated_int, stated_size
from ..model.tree import Mode, module_at
from ..model.walk import named_modules
from ..ops import Value
from ..plans.changes import CLONE, Enlarge, Insert, Kind, Layer, NodeRef, Repeat, StructuralChange
from ..plans.entries import Recount, Skipped
from ..plans.growth_plan import Plan
from ..spec.patterns import match, module_of
from ..spec.requests import Deepen, Kernel, Request
from . import module_blocks
from .anchors import Anchor, anchors
from .blocks import call_around, spread, stages
from .counts import counts
from .kernels import enlarge
from .owners import Owners, calls_entries
from .trial import node_values

RELU = Activation("ReLU")


@dataclass(slots=True)
class DepthPlan:
    """The result of planning depth.

    Attributes:
        changes: The structural changes.
        recounts: What counts the blocks that are cloned.
        skipped: Layers that a glob matched and that cannot be changed, with the reasons.
        notes: Notes for the plan, in order, without repetitions.
    """

    changes: list[StructuralChange] = field(default_factory=list)
    recounts: tuple[Recount, ...] = ()
    skipped: list[Skipped] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)


def plan_depth(widths: WidthGraph, requests: Iterable[Request], plan: Plan, owners: Callable[[], Owners]) -> DepthPlan:
    """Plan the structural changes for requests for depth and kernels; other requests are ignored.

    Args:
        widths: The width graph of the teacher.
        requests: The requests.
        plan: The plan so far, with the new widths.
        owners: Finds what calls the layers of the student that it makes, where that is of the user's own class.

    Raises:
        PlanError: A request cannot be met for a layer that it names, or for any layer that it matches, or it
            matches none.
    """
    drafted = DepthPlan()
    requests = list(requests)
    make_blocks = _block_maker(widths, drafted, requests)
    make_layer = _layer_maker(widths, plan, drafted, owners)
    for request in requests:
        if isinstance(request, Deepen) and request.blocks:
            _each(request, _modules(widths, request), drafted, partial(make_blocks, request))
        elif isinstance(request, Deepen):
            _each(request, _layers(widths, request), drafted, partial(make_layer, request))
        elif isinstance(request, Kernel):
            others = [other for other in requests if isinstance(other, Kernel) and other != request]
            _each(request, _not_of(others, _layers(widths, request)), drafted, partial(enlarge, widths, request))
    drafted.changes = _each_once(drafted.changes)
    found = counts(widths.traced.root, drafted.changes)
    drafted.recounts = found.recounts
    if found.stale:
        drafted.notes.setdefault(f"these may count blocks, and stay as they are: {', '.join(found.stale)}")
    return drafted


def _each(
    request: Deepen | Kernel, paths: list[str], drafted: DepthPlan, make: Callable[[str], list[StructuralChange]]
) -> None:
    """Add the changes of a request, layer by layer; a layer that is unfit is skipped.

    Raises:
        PlanError: An unfit layer was requested by name, or all layers are unfit.
    """
    unfit: list[Skipped] = []
    for path in paths:
        try:
            drafted.changes += make(path)
        except Unfit as why:
            unfit.append(Skipped(path, str(why)))
    if unfit and (len(unfit) == len(paths) or request.pattern in paths):
        most_detailed = max(unfit, key=lambda entry: entry.reason.count(":"))
        raise PlanError(f"{request!r}: {most_detailed.name}: {most_detailed.reason}")
    drafted.skipped += unfit


def _not_of(others: Iterable[Kernel], paths: list[str]) -> list[str]:
    """Those of some layers that no other request names, if there are any."""
    named = {other.pattern for other in others}
    return [path for path in paths if path not in named] or paths


def _each_once(changes: Sequence[StructuralChange]) -> list[StructuralChange]:
    """Without a larger kernel of which two requests ask for the same.

    Raises:
        PlanError: Two requests ask for other sizes of one kernel.
    """
    sizes: dict[str, tuple[int, ...]] = {}
    kept: list[StructuralChange] = []
    for change in changes:
        if not isinstance(change, Enlarge) or change.path not in sizes:
            kept.append(change)
        if isinstance(change, Enlarge) and (other := sizes.setdefault(change.path, change.new)) != change.new:
            raise PlanError(f"{change.path} is asked to have a kernel of {other} and of {change.new}")
    return kept


def _layers(widths: WidthGraph, request: Deepen | Kernel) -> list[str]:
    """The layers that a request matches, in the order of the model."""
    kinds = classes_of(*(LINEAR_MAPS if isinstance(request, Deepen) else CONVOLUTIONS))
    layers = [name for name, kind in widths.traced.classes.items() if name and issubclass(kind, kinds)]
    others = [name for name in widths.traced.classes if name and fnmatchcase(name, request.pattern)]
    if others and not any(name in layers or any(x.startswith(f"{name}.") for x in layers) for name in others):
        kind = widths.traced.classes[others[0]].__name__
        raise PlanError(f"{request!r}: {others[0]} is a {kind}; expected {', '.join(k.__name__ for k in kinds)}")
    excluded = {module_of(t) for pattern in request.exclude for t in match(pattern, [f"{n}.weight" for n in layers])}
    matched = dict.fromkeys(module_of(t) for t in match(request.pattern, [f"{n}.weight" for n in layers]))
    if excluded.issuperset(matched):
        raise PlanError(f"{request!r}: exclude leaves none of the layers that it means")
    return [path for path in matched if path not in excluded]


def _modules(widths: WidthGraph, request: Deepen) -> list[str]:
    """The outermost modules that a pattern matches."""
    paths = [path for path in widths.traced.classes if path]
    matched = [
        p for p in paths if fnmatchcase(p, request.pattern) and not any(fnmatchcase(p, x) for x in request.exclude)
    ]
    if request.pattern not in matched:  # a glob matches modules that can be or contain a block
        matched = [path for path in matched if not is_layer_class(widths.traced.classes[path])] or matched
    if not matched:
        close = difflib.get_close_matches(request.pattern, paths, 3, 0.5)
        raise PlanError(f"{request.pattern!r} matches no module; close: {', '.join(close) or 'none'}")
    return [path for path in matched if not any(path.startswith(f"{other}.") for other in matched)]


def _block_maker(
    widths: WidthGraph, drafted: DepthPlan, requests: Iterable[Request]
) -> Callable[[Deepen, str], list[StructuralChange]]:
    """What makes clones of a block, or of the blocks of each stage in a container, for a request and a path."""
    if not any(isinstance(request, Deepen) and request.blocks for request in requests):
        return lambda request, path: []
    if widths.traced.output == "module":
        programs = module_blocks.programs(widths.traced)
        find = partial(module_blocks.stages, widths, programs)
    else:
        find = partial(stages, widths, node_values(widths.traced))

    def make(request: Deepen, path: str) -> list[StructuralChange]:
        changes: list[StructuralChange] = []
        for stage in find(path):
            for block, count in zip(stage, spread(request.blocks, len(stage)), strict=True):
                paths: list[str] = []
                for _ in range(count):
                    paths.append(_free_name(widths, drafted.changes, block.block, paths))
                if paths:
                    changes.append(_shaped(replace(block, paths=tuple(paths)), request))
        return changes

    return make


def _shaped(block: Repeat, request: Deepen) -> Repeat:
    """Clones with the shapes that a request asks for.

    Raises:
        Unfit: They have the shapes of their block.
    """
    if not request.shapes:
        return block
    kept = block.kept_shape
    if kept is None or not kept.flag:
        raise Unfit("shapes is for clones of a stage's only block, which changes the width and has no skip connection")
    return replace(block, kept_shape=replace(kept, shapes=tuple(sorted(request.shapes.items()))))


def _layer_maker(
    widths: WidthGraph, plan: Plan, drafted: DepthPlan, owners: Callable[[], Owners]
) -> Callable[[Deepen, str], list[StructuralChange]]:
    """What makes a new layer behind one, for a request and a path."""
    if widths.traced.output == "graph":
        return lambda request, path: [_insert(widths, plan, drafted, _in_a_graph(request), path)]
    found = functools.cache(owners)
    inferred = functools.cache(lambda owner: freeze(found().trace(owner)))
    alone = replace(plan, groups=(), resizes=())  # the widths of an owner are those of the student

    def make(request: Deepen, path: str) -> list[StructuralChange]:
        owner = found().of_layer(path)
        new = _insert(inferred(owner), alone, DepthPlan(notes=drafted.notes), request, path.removeprefix(f"{owner}."))
        new = replace(new, path=_free_name(widths, drafted.changes, path), after=path)
        module = module_at(widths.traced.root, owner)
        if not calls_entries(module):
            _in_a_graph(request)
            return [replace(new, owner=owner)]
        if request.flat and (new.kind == "residual" or not module_blocks.is_numbered(widths.traced.root, owner)):
            raise Unfit("flat is for a new layer without a skip connection, in a Sequential that is numbered through")
        entry = f"{owner}.{_entry(inferred(owner), new)}".lstrip(".")
        return [replace(new, entry=entry, after_nodes=(), flat=request.flat)]

    return make


def _in_a_graph(request: Deepen) -> Deepen:
    """The same request, for a layer that code calls.

    Raises:
        Unfit: It asks for entries of a Sequential.
    """
    if request.flat:
        raise Unfit("flat is for a new layer in a Sequential of a student with output='module'")
    return request


def _entry(widths: WidthGraph, new: Insert) -> str:
    """The entry of a Sequential that a new layer stands behind.

    Raises:
        Unfit: It is in an entry, not behind one.
    """
    nodes = [node for ref in new.after_nodes for node in widths.traced.graphs[ref.mode].nodes if node.name == ref.node]
    entries = {str(node.target) for node in nodes}
    entry = entries.pop()
    if entries or "." in entry or any(node.op != "call_module" for node in nodes):
        raise Unfit(f"the norm or activation behind it is in {entry}, with other layers")
    return entry


def _insert(widths: WidthGraph, plan: Plan, drafted: DepthPlan, request: Deepen, path: str) -> Insert:
    """The plan entry for a new layer after the one at `path`, at all its calls."""
    layer: Any = widths.traced.root.get_submodule(path)
    calls = _anchors(widths, path)
    first = calls[0][1]
    if any((other.activation, other.normed) != (first.activation, first.normed) for _, other in calls):
        raise Unfit("different activations or norms follow its calls, and a new layer can suit only one of them")
    kind, activation, parametric, before = _kind(request, first, drafted, path)
    nodes = [(mode, anchor.before if before or anchor.act is None else anchor.act) for mode, anchor in calls]
    dims = spatial_rank(layer)
    shape = _value(widths, *nodes[0]).layouts
    channels = measure(shape[-1 - dims], _sizes(widths, plan))
    for mode, node in nodes:
        _check_norm(request, dims, len(_value(widths, mode, node).layouts), kind)
    if request.norm == "group" and kind == "identity":
        drafted.notes.setdefault(
            "a group norm after an identity layer preserves the function only approximately: its statistics are those "
            "of each example"
        )
    elif request.norm == "batch" and kind == "identity":
        drafted.notes.setdefault(
            "a batch norm after an identity layer preserves the function in eval mode; in train mode its statistics "
            "are those of the batch"
        )
    inexact = kind == "random" or (kind == "identity" and request.norm == "group")
    return Insert(
        path=_free_name(widths, drafted.changes, path),
        after=path,
        layer=cast(Layer, layer_class(dims).__name__),
        channels=channels,
        groups=_groups(plan, path, layer, channels),
        kernel=_kernel(request, layer, dims),
        kind=kind,
        norm=request.norm or "",
        calibrated=request.calibrated,
        activation=activation,
        parametric=parametric,
        after_nodes=tuple(NodeRef(mode, node.name) for mode, node in nodes),
        exact_modes=() if inexact else ("eval",) if kind == "identity" and request.norm else ("eval", "train"),
    )


def _kind(request: Deepen, anchor: Anchor, drafted: DepthPlan, path: str) -> tuple[Kind, Activation | None, bool, bool]:
    """The kind of a new layer, its activation, whether that is parametric, and whether it precedes the old one."""
    requested = request.activation
    old = anchor.activation
    idempotent = old is not None and old.keeps(old)
    kind: Kind = request.kind or ("identity" if idempotent or requested in ("none", "parametric") else "residual")
    known = {"same": old or RELU, "parametric": old or RELU, "none": None}
    activation = known[requested] if requested in known else activation_by_name(requested)
    if kind != "identity":
        return kind, activation, requested == "parametric", False
    if requested == "same" and not idempotent:
        drafted.notes.setdefault(
            f"after {path} and before its activation, an identity layer adds no nonlinearity"
            if old
            else f"no activation follows {path}, so an identity layer adds no nonlinearity there"
        )
        return kind, None, False, True
    if activation and requested not in ("same", "parametric") and not (old and activation.keeps(old)):
        source = old.name if old else "that layer"
        raise Unfit(f"{activation.name} changes values that {source} outputs; use kind='residual'")
    return kind, activation, requested == "parametric", False


def _check_norm(request: Deepen, dims: int, ndim: int, kind: str) -> None:
    if request.norm and not dims and ndim != 2:
        raise Unfit(
            f"its result has {ndim} dimensions with the features last; a {request.norm} norm expects them second"
        )
    if request.norm == "group" and kind == "identity" and not request.calibrated:
        raise Unfit(
            "the statistics of a group norm are those of each example, so no weights make it the identity; use "
            "kind='residual'; or norm='batch'; or calibrated=True for an approximate one"
        )


def _groups(plan: Plan, path: str, layer: Any, channels: int) -> int:
    """The number of groups of the grown layer before it, so that a depthwise convolution is followed by one."""
    grown: list[Any] = [change.new for change in plan.resizes if (change.module, change.name) == (path, "groups")]
    groups = grown[0] if grown else stated_int(layer, "groups", 1)
    return int(groups) if channels % groups == 0 else 1


def _kernel(request: Deepen, layer: Any, dims: int) -> tuple[int, ...]:
    """The kernel size of a new layer: the requested one, or that of the old layer with even sizes replaced by 3."""
    if not dims:
        if request.kernel is not None:
            raise Unfit("a linear layer has no kernel")
        return ()
    if isinstance(request.kernel, int):
        return (request.kernel,) * dims
    if request.kernel is not None:
        if len(request.kernel) != dims:
            raise Unfit(f"kernel {request.kernel} has {len(request.kernel)} dimensions; that of the layer has {dims}")
        return request.kernel
    own = stated_size(layer, "kernel_size")
    return tuple(k if k % 2 else 3 for k in own) if isinstance(own, tuple) else (3,) * dims


# -- look-ups --------------------------------------------------------------------------------------


def _free_name(widths: WidthGraph, changes: list[StructuralChange], path: str, also: Sequence[str] = ()) -> str:
    """A path for a new module after the one at `path`; no module, tensor or planned change has it."""
    parent, dot, own = re.sub(rf"{CLONE}\d+$", "", path).rpartition(".")
    path = parent + dot + re.sub("[^A-Za-z0-9_]", "_", own)  # it enters generated code
    taken = set(also) | set(widths.traced.classes) | {name for name, _ in named_modules(widths.traced.root)}
    taken |= set(named_tensors(widths.traced.root))
    taken |= {name for change in changes for name in getattr(change, "paths", (change.path,))}
    return next(name for number in range(1, len(taken) + 2) if (name := f"{path}{CLONE}{number}") not in taken)


def _anchors(widths: WidthGraph, path: str) -> list[tuple[Mode, Anchor]]:
    """The anchors after all calls of a layer, with the modes of their graphs.

    Raises:
        Unfit: No graph calls the layer.
    """
    traced = widths.traced
    calls = [(mode, anchor) for mode, graph in traced.graphs.items() for anchor in anchors(graph, traced.root, path)]
    if calls:
        return calls
    leaf = call_around(traced, path)
    if leaf:
        raise Unfit(f"it runs inside {leaf}, which is kept as a call, so no layer can follow it")
    raise Unfit("the graph does not call it: its parameters are used by other code, or not used")


def _value(widths: WidthGraph, mode: Mode, node: fx.Node) -> Value:
    value = widths.value(mode, node.name)
    assert isinstance(value, Value)
    return value


def _sizes(widths: WidthGraph, plan: Plan) -> Callable[[str], int]:
    new = {width.name: width.new for width in plan.groups}
    return lambda name: new.get(name) or widths.width(name)
