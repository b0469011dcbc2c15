"""Clones of residual blocks in the user's own class: entries of containers, found by their calls without a graph."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from ..capture.traced import Traced
from ..errors import Unfit
from ..infer.width_graph import WidthGraph
from ..layouts.layout import only_atom
from ..model.copies import clone_shared
from ..model.layer_kinds import CONTAINERS, NUMBERED, is_layer_class
from ..model.tree import Mode, module_at
from ..model.walk import submodule
from ..plans.changes import CLONE, KeptShape, Repeat
from ..plans.numbering import PLACE, Numbering
from ..recording.program import Program, ProgramTape, Visit, program_of
from ..recording.run import TapedRun
from .insert import make
from .kept_shape import Dims, ways_to_keep_shape
from .owners import calls_entries
from .recorded_skip import Carried, carried, joined
from .replay import check_identity

Programs = Mapping[Mode, Program]


def programs(traced: Traced) -> dict[Mode, Program]:
    """What the model does in each mode, call by call, with the calls of all modules that may be blocks."""
    paths = [path for path, kind in traced.classes.items() if path and _may_be_block(kind)]
    return {mode: _program(traced, mode, traced.root, paths) for mode in traced.tapes}


def _program(traced: Traced, mode: Mode, root: nn.Module, paths: list[str]) -> Program:
    run = TapedRun(traced.to_run(root), traced.arguments, ProgramTape, mode=mode, real=traced.inputs.real)
    return program_of(run, lambda run: run.graph(traced.graph(mode)), paths)


def _may_be_block(kind: type) -> bool:
    return not is_layer_class(kind) and not issubclass(kind, CONTAINERS)


def stages(widths: WidthGraph, known: Programs, path: str) -> list[list[Repeat]]:
    """The residual blocks of each stage in a module, without clones; a stage is a run of blocks of one shape.

    Of a stage's only block that is a down-sampling one, clones keep the shape.

    Raises:
        Unfit: The module has no block that can be cloned; the message says why.
    """
    reasons: dict[str, str] = {}
    found = list(_blocks(widths, known, path, reasons))
    alike = [list(stage) for _, stage in itertools.groupby(found, partial(_shapes, known))]
    clonable = [stage for stage in (_that_can_be_cloned(widths, stage, reasons) for stage in alike) if stage]
    if not clonable:
        details = "; ".join(f"{name}: {reason}" for name, reason in list(reasons.items())[:4])
        raise Unfit(
            "no block in it can be cloned without changing the function: "
            f"{details or 'all its modules are layers of torch.nn'}"
        )
    return clonable


def _that_can_be_cloned(widths: WidthGraph, stage: list[Repeat], reasons: dict[str, str]) -> list[Repeat]:
    """The blocks of a stage that a clone can stand behind: those with values to fill it with, or else the last one."""
    filled = [block for block in stage if block.fills]
    last = None if filled else _completed(widths, stage[-1], reasons)
    return filled or ([last] if last else [])


def _blocks(widths: WidthGraph, known: Programs, path: str, reasons: dict[str, str]) -> Iterator[Repeat]:
    """The blocks in a module, in order; the module itself, if it is a block and no chain of blocks.

    One that may be a down-sampling block has no values to fill its clones with: `_completed` finds these.
    """
    traced = widths.traced
    own: list[Repeat] = []
    if _may_be_block(traced.classes[path]):
        try:
            own = [_block(traced, known, path)]
        except Unfit as reason:
            reasons[path] = str(reason)
    children = [name for name in traced.classes if name and name.rpartition(".")[0] == path]
    within = [block for child in children for block in _blocks(widths, known, child, reasons)]
    if not own and not within and path in reasons and _may_down_sample(widths, known, path):
        own = [Repeat(path, (), (), (), numbered=has_places(traced.root, path.rpartition(".")[0]))]
    yield from own if own and len(within) < 2 else within


# -- down-sampling blocks ----------------------------------------------------------------------------


def _may_down_sample(widths: WidthGraph, known: Programs, path: str) -> bool:
    """Whether a module that is no block itself may be one that projects its input to another shape."""
    try:
        check_place(widths.traced.root, path)
    except Unfit:
        return False
    counts = {len(program.visits_of(path)) for program in known.values()}
    return counts == {1} and next(_ways(widths, path), None) is not None


def _ways(widths: WidthGraph, path: str) -> Iterator[KeptShape]:
    """The ways in which clones of a block may keep the shape of their input."""

    def dims_like(tensor: str, dim: int) -> Dims:
        layouts = widths.tensors[f"{path}.{tensor}"].layouts if f"{path}.{tensor}" in widths.tensors else ()
        name = only_atom(layouts[dim]) if dim < len(layouts) else None
        inside = [t for t in widths.tensors.values() if t.name.startswith(f"{path}.")] if name is not None else []
        found = [(t.name, tuple(d for d, layout in enumerate(t.layouts) if only_atom(layout) == name)) for t in inside]
        return tuple((own.removeprefix(f"{path}."), dims) for own, dims in found if dims)

    return ways_to_keep_shape(submodule(widths.traced.root, path), dims_like)


def _completed(widths: WidthGraph, block: Repeat, reasons: dict[str, str]) -> Repeat | None:
    """The plan entry of a down-sampling block with what its clones keep the shape by, if there is that."""
    reason = reasons[block.block]
    for kept in _ways(widths, block.block):
        try:
            return _tried(widths.traced, replace(block, paths=(f"{block.block}{CLONE}1",), kept_shape=kept))
        except Unfit as why:
            reason = str(why)
    reasons[block.block] += f"; and with stride 1 and without its projection: {reason}"
    return None


def _tried(traced: Traced, draft: Repeat) -> Repeat:
    """The plan entry of a down-sampling block, from the calls of a model that has a clone without its down-sampling.

    Raises:
        Unfit: The clone does not run, or is no block.
    """
    root = clone_shared(traced.root)
    path = Numbering.of([draft])(draft.path)
    fills: dict[str, int] = {}
    for mode in traced.tapes:
        try:
            if mode == next(iter(traced.tapes)):
                make(root, {}, [draft], 0)
            program = _program(traced, mode, root, [path])
        except Exception as error:  # noqa: BLE001 - the user's code may raise anything without its projection
            raise Unfit(f"it does not run: {type(error).__name__}: {error}") from None
        visits = program.visits_of(path)
        if len(visits) != 1:
            raise Unfit(f"it is called {len(visits)} times in {mode} mode")
        fills = joined(fills, _checked(program, visits[0], mode).fills)
    return replace(draft, paths=(), zeros=_of_value(fills, 0), minus_ones=_of_value(fills, -1))


def _of_value(fills: Mapping[str, int], value: int) -> tuple[str, ...]:
    return tuple(name for name, filled in fills.items() if filled == value)


def _block(traced: Traced, known: Programs, path: str) -> Repeat:
    """The plan entry for a block, without clones.

    Raises:
        Unfit: The module is no residual block, or no clone can stand behind it; the message says why.
    """
    check_place(traced.root, path)
    fills: dict[str, int] = {}
    ran = False
    for mode, program in known.items():
        visits = program.visits_of(path)
        if len(visits) > 1:
            raise Unfit(f"it is called {len(visits)} times in {mode} mode, and a clone would be as often")
        for visit in visits:
            found = _checked(program, visit, mode)
            fills = joined(fills, found.fills)
            ran = True
    if not ran:
        raise Unfit("nothing calls it")
    numbered = has_places(traced.root, path.rpartition(".")[0])
    return Repeat(path, (), _of_value(fills, 0), (), _of_value(fills, -1), numbered)


def _checked(program: Program, visit: Visit, mode: Mode) -> Carried:
    """The skip connection of a block, which is the identity with zeros in its branches.

    Raises:
        Unfit: It is not.
    """
    found = carried(program.tape, visit)
    ends = [(visit.given[entry].tensor, visit.result[number].tensor) for entry, number in found.ends]
    if any(entry.shape != exit_.shape or entry.dtype != exit_.dtype for entry, exit_ in ends):
        raise Unfit("its output has another shape than its input")
    fills = {f"{visit.path}.{name}": value for name, value in found.fills.items()}
    try:
        check_identity(program.tape, program.steps[visit.first : visit.end], ends, fills)
    except Unfit as reason:
        raise Unfit(f"{reason} ({mode} mode)") from None
    return found


def _shapes(known: Programs, block: Repeat) -> tuple[Any, ...]:
    """The shapes that a block returns, without what other code adds to them, such as a cache."""
    visit = next(visit for program in known.values() for visit in program.visits_of(block.block))
    return tuple([tuple(passed.tensor.shape) for passed in visit.result])


# -- containers ------------------------------------------------------------------------------------


def check_place(root: nn.Module, path: str) -> None:
    """Whether another module can stand behind one without a change to code.

    Raises:
        Unfit: It is no entry of a container.
    """
    parent_path = path.rpartition(".")[0]
    parent = module_at(root, parent_path)
    if not isinstance(parent, CONTAINERS):
        raise Unfit(
            f"it is no entry of a Sequential, ModuleList or ModuleDict, so code of {type(parent).__name__} would have "
            "to call its clones; use output='graph'"
        )


def is_numbered(root: nn.Module, path: str) -> bool:
    """Whether the entries of a container are named by their places."""
    parent = module_at(root, path)
    return isinstance(parent, NUMBERED) and list(parent._modules) == [
        str(number) for number in range(len(parent._modules))
    ]


def has_places(root: nn.Module, path: str) -> bool:
    """Whether they are, or those of a Sequential by one stem and their places, which nothing but their order counts."""
    parent = module_at(root, path)
    if is_numbered(root, path) or not calls_entries(parent):
        return is_numbered(root, path)
    places = [PLACE.fullmatch(name) for name in parent._modules]
    named = [(match[1], int(match[2])) for match in places if match is not None]
    stem, first = named[0] if named else ("", 0)
    return list(parent._modules) == [f"{stem}{first + at}" for at in range(len(places))]
