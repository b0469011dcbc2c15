"""What the parts of a plan have to mean, beyond their types.

A plan is data that may come from a stranger. It is applied only after every name, size and index was checked: names
that enter generated code are plain words, sizes are bounded, and what refers to a width refers to one of the plan's.
Each function raises `PlanError` with the field and the reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import nn

from .. import methods
from ..base.structures import ArgumentPath
from ..errors import PlanError
from ..layouts.layout import Layout, atoms, measure, only_atom
from ..model.example_data import MOST_DIMS
from ..model.fixed_sizes import NUMBER_OF_DIMENSIONS, FixedSize
from ..model.tree import Output
from ..spec.parse import MOST_CHANNELS
from .changes import CLONE, Enlarge, Insert, KeptShape, Repeat, StructuralChange
from .costs import LayerCost
from .entries import DROP, PARTS, Edit, IoDimPlan, Recount, Resize, StatedSize, Stored, TensorPlan, Width

MOST_ENTRIES = 1 << 44  # of one tensor
MOST_OF_A_NEW_LAYER = 1 << 34  # entries
MOST_ENTRIES_OF_A_CONTAINER = 10**6
MOST_DIMS_OF_A_WEIGHT = 8
MOST_CHARACTERS = 1000  # of the label of an input
MOST_PLANS = 64  # one after the other
MOST_COST = 1 << 100  # of a module: parameters, bytes or FLOPs


_NO_SIZES = frozenset(vars(nn.Module())) | frozenset(dir(nn.Module))  # attributes that every module has


def check_widths(groups: Sequence[Width]) -> None:
    """Sizes are bounded, copies fit them, and the methods exist."""
    _check_distinct("groups", [width.name for width in groups])
    for w in groups:
        if not (w.name and 0 < w.old <= w.new <= MOST_CHANNELS):
            raise PlanError(f"the plan's {w.name!r} grows from {w.old} to {w.new}; sizes are 1 to {MOST_CHANNELS:,}")
        if len(w.copies) != w.new - w.old or not all(0 <= c < w.old for c in w.copies):
            raise PlanError(f"the plan's {w.name!r} grows from {w.old} to {w.new} with copies that do not fit")
        if not 0 <= w.mean_channels <= min(len(w.copies), w.old - 1):
            raise PlanError(
                f"the plan's {w.name!r} has {w.mean_channels} channels that carry means, of {len(w.copies)} new"
            )
        if w.new > w.old:
            methods.method(w.method)


def check_tensors(tensors: Sequence[TensorPlan], widths: Mapping[str, Width]) -> None:
    """Layouts are made of the plan's widths, and each dimension has a role."""
    _check_distinct("tensors", [tensor.name for tensor in tensors])
    for t in tensors:
        if len(t.layouts) > MOST_DIMS or not all(map(_is_bounded, t.layouts)):
            raise PlanError(f"the plan's {t.name!r} has sizes that no tensor has")
        known = all(name in widths for layout in t.layouts for name in atoms(layout))
        if not known or len(t.roles) != len(t.layouts):
            raise PlanError(f"the plan's {t.name!r} has unknown widths or roles")
        if math.prod(measure(layout, lambda name: widths[name].new) for layout in t.layouts) > MOST_ENTRIES:
            raise PlanError(f"the plan's {t.name!r} would have more than {MOST_ENTRIES:,} entries")
        _check_mean_fill(t, widths)
        _check_rows(t, widths)
        _check_zeroed(t)


def check_costs(costs: Sequence[LayerCost]) -> None:
    """Numbers are not negative and bounded, and each module stands once."""
    _check_distinct("costs", [one.name for one in costs])
    for one in costs:
        if not all(
            0 <= number <= MOST_COST for pair in (one.parameters, one.bytes, one.flops or ()) for number in pair
        ):
            raise PlanError(f"the plan says that {one.name!r} costs what no module costs")


def check_order(order: Sequence[str]) -> None:
    """Each parameter stands once."""
    _check_distinct("parameters in order", order)


def _check_mean_fill(t: TensorPlan, widths: Mapping[str, Width]) -> None:
    carrying = [any(widths[name].mean_channels for name in atoms(layout)) for layout in t.layouts]
    fills = t.mean_fill or ("",) * len(t.layouts)
    fitting = len(fills) == len(t.layouts) and all(
        carried == (part in PARTS) and not (carried and only_atom(layout) is None)
        for carried, part, layout in zip(carrying, fills, t.layouts, strict=True)
    )
    if not fitting:
        raise PlanError(f"the plan's {t.name!r} does not say what its channels are that carry means")


def _check_rows(t: TensorPlan, widths: Mapping[str, Width]) -> None:
    """Rows are dimensions, of which those that are summed over may grow, and have entries for a variance."""
    dims = sorted(set(t.rows))
    fitting = list(t.rows) == dims and all(0 <= d < len(t.layouts) for d in dims)
    if fitting:
        old = [measure(t.layouts[d], lambda name: widths[name].old) for d in dims]
        new = [measure(t.layouts[d], lambda name: widths[name].new) for d in dims]
        fitting = 0 <= t.correction < math.prod(old) and all(
            t.roles[d] == "contract" or before == after for d, before, after in zip(dims, old, new, strict=True)
        )
    if not fitting:
        raise PlanError(f"the plan's {t.name!r} does not say what its rows are that keep their mean and variance")


def _check_zeroed(t: TensorPlan) -> None:
    """Dimensions whose new entries are zero are there, each once, and carried."""
    carried = {d for d in t.zeroed if 0 <= d < len(t.layouts) and t.roles[d] == "carry"}
    if list(t.zeroed) != sorted(carried):
        raise PlanError(f"the plan's {t.name!r} has no such dimensions whose new entries are zero")


def _is_bounded(layout: Layout) -> bool:
    """Whether all fixed factors are sizes; a dimension without entries has a 0."""
    return bool(layout) and all(
        _is_bounded(factor) if isinstance(factor, tuple) else not isinstance(factor, int) or 0 <= factor <= MOST_ENTRIES
        for block in layout
        for factor in block
    )


def check_io_dims(io_dims: Sequence[IoDimPlan], widths: Mapping[str, Width]) -> None:
    """Each follows a width that grows by as much."""
    for end in io_dims:
        width = widths.get(end.group)
        fitting = width is not None and end.new - end.old == width.new - width.old and 0 < end.old < end.new
        named = end.at in ("eval", "train") if end.kind == "output" else bool(end.at)
        if not (fitting and named and 0 <= end.dim < MOST_DIMS and 0 <= end.number < MOST_CHANNELS):
            raise PlanError(f"the plan's {end.kind} {end.at} does not fit its widths")


def check_sizes(sizes: Iterable[FixedSize]) -> None:
    """Each is a size that a tensor can have."""
    for one in sizes:
        named = 0 < len(one.input) <= MOST_CHARACTERS and one.input.isprintable()
        if not (named and NUMBER_OF_DIMENSIONS <= one.dim < MOST_DIMS and 0 <= one.size <= MOST_ENTRIES):
            raise PlanError(f"the plan fixes the size of {one.input!r:.60} in dimension {one.dim} to {one.size}")


def check_stored(stored: Sequence[Stored], tensors: Sequence[TensorPlan], widths: Mapping[str, Width]) -> None:
    """Shapes are bounded and those of the plan's tensors, and what is tied is tied to an entry before it."""
    _check_distinct("stored tensors", [one.name for one in stored])
    planned = {t.name: tuple(measure(layout, lambda name: widths[name].old) for layout in t.layouts) for t in tensors}
    first: dict[str, Stored] = {}
    for one in stored:
        original = first.get(one.same_as, one)
        shape = planned.get(original.name, original.shape)
        if (one.same_as and one.same_as not in first) or original.shape != one.shape or shape != one.shape:
            raise PlanError(f"the plan's stored tensor {one.name!r:.80} is none of its model")
        if one.dtype and not isinstance(getattr(torch, one.dtype, None), torch.dtype):
            raise PlanError(f"the plan's stored tensor {one.name!r:.80} has the dtype {one.dtype!r:.40}")
        if len(one.shape) > MOST_DIMS or not all(0 <= size <= MOST_ENTRIES for size in one.shape):
            raise PlanError(f"the plan's stored tensor {one.name!r:.80} has sizes that no tensor has")
        if not one.same_as:
            first[one.name] = one


def check_edits(edits: Iterable[Edit], resizes: Iterable[Resize]) -> None:
    """Names of nodes, arguments and attributes are identifiers, and sizes are bounded."""
    for edit in edits:
        if not edit.node.isidentifier() or not _is_argument_path(edit.path):
            raise PlanError(f"the plan's edit of {edit.node!r} is at {edit.path!r}, which is no argument of a call")
        if not _is_size(edit.value, signed=True):
            raise PlanError(f"the plan's edit of {edit.node!r} states {edit.value!r}; sizes go to {MOST_CHANNELS:,}")
    for resize in resizes:
        if not resize.name.isidentifier() or resize.name.startswith("__") or resize.name in _NO_SIZES:
            raise PlanError(f"the plan sets an attribute {resize.name!r} of {resize.module!r}, which states no size")
        old, new = resize.old, resize.new
        alike = isinstance(old, tuple) == isinstance(new, tuple) and (
            not isinstance(old, tuple) or not isinstance(new, tuple) or len(old) == len(new)
        )
        if not alike or not _is_size(old) or not _is_size(new):
            raise PlanError(f"the plan sets {resize.module}.{resize.name} from {old!r} to {new!r}")


def _is_argument_path(path: ArgumentPath) -> bool:
    if path in ((), (DROP,)):
        return True
    kind, *steps = path
    named = [step for step in steps if isinstance(step, str)]
    if kind not in ("args", "kwargs") or not steps or not all(map(str.isidentifier, named)):
        return False
    numbered = all(0 <= step < MOST_CHANNELS for step in steps if isinstance(step, int))
    return numbered and isinstance(steps[0], int if kind == "args" else str)


def _is_size(value: float | tuple[int, ...], *, signed: bool = False) -> bool:
    values = value if isinstance(value, tuple) else (value,)
    return all(abs(v) <= MOST_ENTRIES if signed else 0 <= v <= MOST_ENTRIES for v in values)


# -- changes besides widths ----------------------------------------------------------------------------


def is_module_path(path: str) -> bool:
    """Whether a new module may have this path: generated code holds it between double quotes.

    The last name is made by fxgrow and is a plain word. Those before it are names of the model, which may hold signs.
    """
    *parents, own = path.split(".")
    return re.fullmatch("[A-Za-z_0-9]+", own) is not None and all(map(_is_quotable, parents))


def _is_quotable(name: str) -> bool:
    return bool(name) and name.isprintable() and not set(name) & {'"', "'", "\\"}


def check_changes(changes: Iterable[StructuralChange], output: Output) -> None:
    """New layers, clones and kernels have paths, sizes and places that can be."""
    for change in changes:
        new = {
            Insert: partial(_why_no_insert, output),
            Repeat: partial(_why_no_repeat, output),
            Enlarge: _why_no_enlarge,
        }
        reason: str = new[type(change)](change)  # type: ignore[operator]
        if reason:
            raise PlanError(f"the plan's {change.TYPE} of a layer or block: {reason}")


def _why_no_insert(output: Output, new: Insert) -> str:
    if (output == "graph" and (new.owner or new.entry)) or (output == "module" and bool(new.owner) is bool(new.entry)):
        return "a new layer stands in a graph of the model, in that of a module, or behind an entry of a Sequential"
    if new.entry and new.entry.rpartition(".")[0] != new.path.rpartition(".")[0]:
        return "a new entry is in another container than the one that it stands behind"
    if new.flat and not (new.entry and new.kind != "residual" and not new.calibrated and _is_place(new.entry)):
        return "its parts are entries of no Sequential that is numbered through"
    if new.owner and not new.path.startswith(f"{new.owner}."):
        return "a new layer is outside of the module whose code calls it"
    if not is_module_path(new.path) or not new.after:
        return f"the path {new.path!r:.80} of a new layer is not made of words and dots"
    axes = 0 if new.layer == "Linear" else int(new.layer[4])
    if len(new.kernel) != axes or not all(0 < size <= MOST_CHANNELS for size in new.kernel):
        return f"{new.layer} has no kernel {new.kernel}"
    if not 0 < new.channels <= MOST_CHANNELS or not 0 < new.groups <= new.channels or new.channels % new.groups:
        return f"no layer has {new.channels} channels in {new.groups} groups"
    if new.channels * (new.channels // new.groups) * math.prod(new.kernel) > MOST_OF_A_NEW_LAYER:
        return f"its weight would have more than {MOST_OF_A_NEW_LAYER:,} entries"
    if bool(new.after_nodes) is bool(new.entry) or not all(place.node.isidentifier() for place in new.after_nodes):
        return "it names no nodes of a graph"
    return new.activation.why_invalid() if new.activation is not None else ""


def _why_no_repeat(output: Output, repeat: Repeat) -> str:
    if not repeat.block or not repeat.paths or not all(map(is_module_path, repeat.paths)):
        return f"the paths {repeat.paths!r:.80} of clones are not made of words and dots"
    if len(set(repeat.paths)) < len(repeat.paths):
        return "two clones have one path"
    if repeat.kept_shape is not None and (output == "graph" or (reason := _why_no_kept_shape(repeat.kept_shape))):
        return "its clones keep the shape in a way that only a module has" if output == "graph" else reason
    if output == "module":
        return _why_no_entries(repeat)
    if repeat.numbered:
        return "in a graph no container is numbered through"
    named = [name for region in repeat.regions for name in (region.entry, region.exit, *region.nodes)]
    if not repeat.regions or not all(map(str.isidentifier, named)):
        return "it names no nodes of a graph"
    return "" if all(region.exit in region.nodes for region in repeat.regions) else "its block does not hold its exit"


def _why_no_kept_shape(kept: KeptShape) -> str:
    """Why a clone of a down-sampling block cannot be made."""
    named = (*filter(None, kept.strides), *kept.inputs, kept.shortcut or kept.flag, kept.like, *kept.others)
    if not all(name and all(map(_is_quotable, name.split("."))) for name in named):
        return "it names no layers of its block"
    if kept.flag or kept.others:
        return _why_no_flag(kept)
    if "." in kept.shortcut:
        return "the shortcut is no child of its block"
    if not f"{kept.like}.".startswith(f"{kept.shortcut}."):
        return "the layer that says how many results its block has is not in the shortcut"
    kept_layers = (*kept.strides, *kept.inputs)
    if any(f"{name}.".startswith(f"{kept.shortcut}.") for name in kept_layers):
        return "it changes a layer of the shortcut, which its clones do not have"
    return "" if len(set(kept.inputs)) == len(kept.inputs) else "it names a layer twice"


def _why_no_flag(kept: KeptShape) -> str:
    """Why a clone of a block without a shortcut cannot get one."""
    if kept.shortcut or kept.inputs:
        return "it has both a shortcut and none"
    if not kept.dims:
        return "it does not say what reads the input of its block"
    if not kept.flag.isidentifier() or kept.flag.startswith("_") or kept.flag in _NO_SIZES or kept.flag == "training":
        return f"{kept.flag!r:.80} is no attribute that says whether there is a skip connection"
    if len(dict(kept.dims)) < len(kept.dims) or len(dict(kept.shapes)) < len(kept.shapes):
        return "it names a tensor twice"
    for _, shape in kept.shapes:
        if not 0 < len(shape) <= MOST_DIMS_OF_A_WEIGHT or not all(0 < size <= MOST_CHANNELS for size in shape):
            return "it names a shape that no tensor has"
        if math.prod(shape) > MOST_OF_A_NEW_LAYER:
            return f"a tensor would have more than {MOST_OF_A_NEW_LAYER:,} entries"
    fitting = all(dims and all(0 <= dim < MOST_DIMS_OF_A_WEIGHT for dim in dims) for _, dims in kept.dims)
    return "" if fitting else "it names dimensions that no tensor has"


def _why_no_entries(repeat: Repeat) -> str:
    """Why clones cannot be entries of the container of their block."""
    if repeat.regions:
        return "its clones are entries of a container, and it names nodes of a graph"
    parent = repeat.block.rpartition(".")[0]
    if any(path.rpartition(".")[0] != parent for path in repeat.paths):
        return "its clones are in another container than the block"
    if not repeat.numbered:
        return ""
    numbers = [path.rpartition(CLONE)[2] for path in repeat.paths]
    fitting = _is_place(repeat.block) and all(map(_PLACE.fullmatch, numbers))
    return "" if fitting else "its clones are not numbered after the block"


_PLACE = re.compile("[1-9][0-9]{0,8}")  # of a clone among those of its block


def _is_place(path: str) -> bool:
    """Whether the name of an entry ends in a number of a bounded length."""
    match = re.fullmatch(r"\D*(?:\d+\D+)*?([0-9]{1,9})", path.rpartition(".")[2], re.ASCII)
    return match is not None


def _why_no_enlarge(change: Enlarge) -> str:
    if not change.path or len(change.old) != len(change.new) or not change.new:
        return "the old and the new kernel have other axes"
    fitting = all(
        0 < old <= new <= MOST_CHANNELS and (new - old) % 2 == 0
        for old, new in zip(change.old, change.new, strict=True)
    )
    return "" if fitting else f"a kernel {change.old} cannot become {change.new}"


def check_recounts(recounts: Iterable[Recount]) -> None:
    """What counts blocks is an attribute with a plain name, of a bounded number."""
    for recount in recounts:
        steps = recount.name.split(".")
        if not all(step.isidentifier() and not step.startswith("_") and step not in _NO_SIZES for step in steps):
            raise PlanError(f"the plan sets {recount.name!r:.80} of {recount.module!r:.80}, which counts nothing")
        fitting = not recount.copied or (
            len(recount.copied) == recount.new and all(0 <= at < recount.old for at in recount.copied)
        )
        if not 0 <= recount.old <= MOST_ENTRIES_OF_A_CONTAINER or not fitting:
            raise PlanError(
                f"the plan sets {recount.name} of {recount.module!r:.80} from {recount.old} to {recount.new}"
            )
        if not 0 <= recount.new <= MOST_ENTRIES_OF_A_CONTAINER:
            raise PlanError(f"the plan has {recount.new} blocks in {recount.name} of {recount.module!r:.80}")


def check_stated(stated: Iterable[StatedSize]) -> None:
    """A size that is stated is an attribute with a plain name, or an entry of a list, of a bounded size."""
    for size in stated:
        first, *steps = size.name.split(".")
        plain = (
            first.isidentifier() and first not in _NO_SIZES and all(s.isidentifier() or s.isdecimal() for s in steps)
        )
        if not plain or any(step.startswith("_") for step in (first, *steps)):
            raise PlanError(f"the plan sets {size.name!r:.80} of {size.module!r:.80}, which states no size")
        if not (0 < size.old <= MOST_CHANNELS and 0 < size.new <= MOST_CHANNELS):
            raise PlanError(f"the plan sets {size.name} of {size.module!r:.80} from {size.old} to {size.new}")


def _check_distinct(what: str, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise PlanError(f"the plan's {what} name {twice!r} twice")
