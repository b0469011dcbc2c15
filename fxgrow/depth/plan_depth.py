"""Requests for depth and kernels to structural changes: which layers, where in the graphs, exact in which modes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, cast

from torch import fx

from ..errors import PlanError, Unfit
from ..infer.width_graph import WidthGraph
from ..layouts.layout import measure
from ..model.activations import Activation, activation_by_name
from ..model.copies import named_tensors
from ..model.layer_kinds import CONVOLUTIONS, LINEAR_MAPS, classes_of, is_layer_class, layer_class, spatial_rank
from ..model.tree import Mode, module_at
from ..ops import Value
from ..plans.changes import CLONE, Enlarge, Insert, Kind, Layer, NodeRef, StructuralChange
from ..plans.entries import Skipped
from ..plans.growth_plan import Plan
from ..spec.match import match, module_of
from ..spec.requests import Deepen, Kernel, Request
from .anchors import Anchor, spots
from .blocks import NodeValues, call_around, last_blocks, repeat
from .trial import node_values

RELU = Activation("ReLU")
CONVOLUTION = "aten::convolution"


@dataclass(slots=True)
class DepthPlan:
    """What requests come to."""

    changes: list[StructuralChange] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)


def plan_depth(widths: WidthGraph, requests: Iterable[Request], plan: Plan) -> DepthPlan:
    """The changes that requests for depth and kernels come to.

    Args:
        widths: Of the teacher.
        requests: What is asked for.
        plan: The new widths.

    Raises:
        PlanError: A layer that is asked for by name cannot be had, or nothing matches.
    """
    drafted = DepthPlan()
    requests = list(requests)
    blocks = any(isinstance(request, Deepen) and request.blocks for request in requests)
    known = node_values(widths.traced) if blocks else {}
    for request in requests:
        if isinstance(request, Deepen) and request.blocks:
            _each(request, _modules(widths, request), drafted, partial(_repeat, widths, known, drafted, request))
        elif isinstance(request, Deepen):
            _each(request, _layers(widths, request), drafted, partial(_insert, widths, plan, drafted, request))
        elif isinstance(request, Kernel):
            _each(request, _layers(widths, request), drafted, partial(_enlarge, widths, request))
    return drafted


def _each(
    request: Deepen | Kernel, paths: list[str], drafted: DepthPlan, make: Callable[[str], list[StructuralChange]]
) -> None:
    """One change per layer; what cannot be had is left, and refused where it was asked for by name, or all there is."""
    unfit: list[Skipped] = []
    for path in paths:
        try:
            drafted.changes += make(path)
        except Unfit as why:
            unfit.append(Skipped(path, str(why)))
    if unfit and (len(unfit) == len(paths) or request.pattern in paths):
        told = max(unfit, key=lambda entry: entry.reason.count(":"))  # the most telling
        raise PlanError(f"{request!r}: {told.name}: {told.reason}")
    drafted.skipped += unfit


def _layers(widths: WidthGraph, request: Deepen | Kernel) -> list[str]:
    """The layers that a request means, in the order of the model."""
    kinds = classes_of(*(LINEAR_MAPS if isinstance(request, Deepen) else CONVOLUTIONS))
    layers = [name for name, kind in widths.traced.classes.items() if name and issubclass(kind, kinds)]
    others = [name for name in widths.traced.classes if name and fnmatchcase(name, request.pattern)]
    if others and not any(name in layers or any(x.startswith(f"{name}.") for x in layers) for name in others):
        kind = widths.traced.classes[others[0]].__name__
        raise PlanError(f"{request!r}: {others[0]} is a {kind}; expected {', '.join(k.__name__ for k in kinds)}")
    out = {module_of(t) for pattern in request.exclude for t in match(pattern, [f"{n}.weight" for n in layers])}
    meant = dict.fromkeys(module_of(t) for t in match(request.pattern, [f"{n}.weight" for n in layers]))
    return [path for path in meant if path not in out]


def _modules(widths: WidthGraph, request: Deepen) -> list[str]:
    """The modules that a pattern names, but for those inside another of them."""
    paths = [path for path in widths.traced.classes if path]
    named = [
        p for p in paths if fnmatchcase(p, request.pattern) and not any(fnmatchcase(p, x) for x in request.exclude)
    ]
    if request.pattern not in named:  # a glob means what may be or hold a block
        named = [path for path in named if not is_layer_class(widths.traced.classes[path])] or named
    if not named:
        close = difflib.get_close_matches(request.pattern, paths, 3, 0.5)
        raise PlanError(f"{request.pattern!r} matches no module; close: {', '.join(close) or 'none'}")
    return [path for path in named if not any(path.startswith(f"{other}.") for other in named)]


def _repeat(
    widths: WidthGraph, known: NodeValues, drafted: DepthPlan, request: Deepen, path: str
) -> list[StructuralChange]:
    """Clones of a block, or of the last block of each stage in a container."""
    made: list[StructuralChange] = []
    for block in last_blocks(widths, known, path):
        paths: list[str] = []
        for _ in range(request.blocks):
            paths.append(_free_name(widths, drafted.changes, block, paths))
        made.append(repeat(widths, known, block, tuple(paths)))
    return made


def _insert(widths: WidthGraph, plan: Plan, drafted: DepthPlan, request: Deepen, path: str) -> list[StructuralChange]:
    layer: Any = widths.traced.root.get_submodule(path)
    calls = _spots(widths, path)
    spot = calls[0][1]
    if any((other.activation, other.normed) != (spot.activation, spot.normed) for _, other in calls):
        raise Unfit("its calls are followed by different activations, so that one new layer does not suit them all")
    kind, activation, parametric, before = _kind(request, spot, drafted, path)
    anchors = [(mode, s.before if before or s.act is None else s.act) for mode, s in calls]
    dims = spatial_rank(layer)
    shape = _value(widths, *anchors[0]).layouts
    channels = measure(shape[-1 - dims], _sizes(widths, plan))
    for anchor in anchors:
        _check_norm(request, dims, len(_value(widths, *anchor).layouts), kind)
    if request.norm == "group" and kind == "identity":
        drafted.notes.setdefault(
            "a group norm after an identity layer keeps the function only roughly: it takes its statistics from each "
            "image"
        )
    elif request.norm == "batch" and kind == "identity":
        drafted.notes.setdefault(
            "a batch norm after an identity layer keeps the function in eval mode; in train mode it takes its "
            "statistics from the batch"
        )
    inexact = kind == "random" or (kind == "identity" and request.norm == "group")
    new = Insert(
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
        after_nodes=tuple(NodeRef(mode, node.name) for mode, node in anchors),
        exact_modes=() if inexact else ("eval",) if kind == "identity" and request.norm else ("eval", "train"),
    )
    return [new]


def _kind(request: Deepen, spot: Anchor, drafted: DepthPlan, path: str) -> tuple[Kind, Activation | None, bool, bool]:
    """The kind of a new layer, its activation, whether that is parametric, and whether it stands before the old one."""
    said = request.activation
    theirs = spot.activation
    again = theirs is not None and theirs.keeps(theirs)
    kind: Kind = request.kind or ("identity" if again or said in ("none", "parametric") else "residual")
    wanted = {"same": theirs or RELU, "parametric": theirs or RELU, "none": None}
    activation = wanted[said] if said in wanted else activation_by_name(said)
    if kind != "identity":
        return kind, activation, said == "parametric", False
    if said == "same" and not again:
        drafted.notes.setdefault(
            f"after {path} and before its activation, an identity layer adds no nonlinearity"
            if theirs
            else f"no activation follows {path}, so an identity layer adds no nonlinearity there"
        )
        return kind, None, False, True
    if activation and said not in ("same", "parametric") and not (theirs and activation.keeps(theirs)):
        source = theirs.name if theirs else "that layer"
        raise Unfit(f"{activation.name} changes values that {source} gives; use kind='residual'")
    return kind, activation, said == "parametric", False


def _check_norm(request: Deepen, dims: int, ndim: int, kind: str) -> None:
    if request.norm and not dims and ndim != 2:
        raise Unfit(
            f"its result has {ndim} dimensions, with the features last, where a {request.norm} norm has them second"
        )
    if request.norm == "group" and kind == "identity" and not request.calibrated:
        raise Unfit(
            "a group norm takes its statistics from each image, so no weights make it an identity; use "
            "kind='residual'; or norm='batch'; or calibrated=True for a rough one"
        )


def _groups(plan: Plan, path: str, layer: Any, channels: int) -> int:
    """As many as the layer before it will have: after a depthwise convolution comes a depthwise one."""
    grown: list[Any] = [change.new for change in plan.resizes if (change.module, change.name) == (path, "groups")]
    groups = grown[0] if grown else getattr(layer, "groups", 1)
    return int(groups) if channels % groups == 0 else 1


def _kernel(request: Deepen, layer: Any, dims: int) -> tuple[int, ...]:
    if not dims:
        if request.kernel is not None:
            raise Unfit("a linear layer has no kernel")
        return ()
    if isinstance(request.kernel, int):
        return (request.kernel,) * dims
    if request.kernel is not None:
        if len(request.kernel) != dims:
            raise Unfit(f"kernel {request.kernel} has {len(request.kernel)} axes where the layer has {dims}")
        return request.kernel
    own: tuple[int, ...] = layer.kernel_size
    return tuple(k if k % 2 else 3 for k in own)


def _enlarge(widths: WidthGraph, request: Kernel, path: str) -> list[StructuralChange]:
    conv: Any = module_at(widths.traced.root, path)
    if not hasattr(conv, "kernel_size"):
        raise Unfit("its class has code of its own, which is part of the graph and states the padding")
    _check_use(widths, path, conv)
    old: tuple[int, ...] = conv.kernel_size
    new = (request.size,) * len(old) if isinstance(request.size, int) else request.size
    if len(new) != len(old):
        raise Unfit(f"size {new} has {len(new)} axes where the layer has {len(old)}")
    for before, after in zip(old, new, strict=True):
        if after < before:
            raise Unfit(f"its kernel {before} is larger than {after} already")
        if (after - before) % 2:
            raise Unfit(
                f"zeros go around the kernel evenly: {before} can become {before + 2}, {before + 4}, ..., not {after}"
            )
    if conv.padding_mode != "zeros" and new != old:
        raise Unfit(f"its padding_mode is {conv.padding_mode!r}; only zeros can be padded further with the same result")
    if new == old:
        raise Unfit(f"its kernel is {old} already")
    return [Enlarge(path, old, new)]


# -- looking things up -----------------------------------------------------------------------------


def _free_name(widths: WidthGraph, changes: list[StructuralChange], path: str, also: Sequence[str] = ()) -> str:
    """A name for a new module after another, which nothing has."""
    parent, dot, own = re.sub(rf"{CLONE}\d+$", "", path).rpartition(".")
    path = parent + dot + re.sub("[^A-Za-z0-9_]", "_", own)  # it enters generated code
    taken = set(also) | set(widths.traced.classes) | {name for name, _ in widths.traced.root.named_modules()}
    taken |= set(named_tensors(widths.traced.root))
    taken |= {name for change in changes for name in getattr(change, "paths", (change.path,))}
    return next(name for number in range(1, len(taken) + 2) if (name := f"{path}{CLONE}{number}") not in taken)


def _spots(widths: WidthGraph, path: str) -> list[tuple[Mode, Anchor]]:
    traced = widths.traced
    anchors = [(mode, s) for mode, graph in traced.graphs.items() for s in spots(graph, traced.root, path)]
    if anchors:
        return anchors
    leaf = call_around(traced, path)
    if traced.output == "module":
        raise Unfit("the model's own class has no place for new layers; use output='graph'")
    if leaf:
        raise Unfit(f"it runs inside {leaf}, which is kept as a call, so no layer can follow it")
    raise Unfit("no call of it is in the graph: its parameters are used in another way, or not at all")


def _check_use(widths: WidthGraph, path: str, conv: Any) -> None:
    """Whether a convolution's weight is used by its own calls alone, which follow what its attributes say."""
    name = next((name for name, tensor in named_tensors(widths.traced.root).items() if tensor is conv.weight), "")
    if not name:
        raise Unfit("its weight is computed from other parameters (a parametrization)")
    users = [call for run in widths.traced.tapes.values() for call in run.calls if name in call.inputs]
    if not users:
        raise Unfit("nothing uses its weight in the run on the example inputs")
    other = next((call for call in users if call.module != path or call.op._schema.name != CONVOLUTION), None)
    if other is not None:
        raise Unfit(f"its weight is used at {other.site or other.op} too, which would not know of the larger kernel")


def _value(widths: WidthGraph, mode: Mode, node: fx.Node) -> Value:
    value = widths.value(mode, node.name)
    assert isinstance(value, Value)
    return value


def _sizes(widths: WidthGraph, plan: Plan) -> Callable[[str], int]:
    new = {width.name: width.new for width in plan.groups}
    return lambda name: new.get(name) or widths.width(name)
