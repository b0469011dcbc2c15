"""A tensor of the teacher to a tensor of the student: gathered by the plan, then filled by the method.

A large tensor is made by blocks of rows, which stay in the processor's cache meanwhile, and little is held beside the
student. Where it is cut depends on its shape alone, and each block has its own random numbers: any block can be made
without the others, on any device.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from .. import methods
from ..base.exact_sum import Reduce, alone, exact_mean_and_std
from ..base.magnitude import has_arithmetic
from ..base.progress import advance
from ..base.rng import block_generator
from ..base.roles import SHIFTS
from ..base.wording import dtype_name
from ..errors import PlanError
from ..layouts.layout import Layout, atoms, only_atom
from ..methods import Columns
from ..plans.entries import TensorPlan, Width
from ..plans.growth_plan import Plan
from .block import Block, in_parts, of_parts
from .extended import Entry, Extension, entries
from .index_maps import Held, IndexMap, Moments, Run, within
from .row_moments import keep_moments

PART = 1 << 20  # entries of a new tensor that are made at a time
_EXTENSIONS: dict[str, Literal["mean", "size"]] = {"mean": "mean", "gain": "mean", "draw": "size"}  # else zero


class Filling:
    """Fills tensors by one plan. The index maps, which many tensors share, are made once."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._maps: dict[tuple[Layout, tuple[str, ...], torch.device], IndexMap] = {}
        self._columns: dict[tuple[Layout, tuple[str, ...], int, str, int, torch.device], Columns] = {}
        statistics = [planned.layouts[0] for planned in plan.tensors if planned.kind == "running_var"]
        self._normed = {name for layout in statistics for name in atoms(layout)}

    def __call__(self, planned: TensorPlan, tensor: Tensor) -> Tensor:
        """The grown tensor: new memory on the same device, in the same dtype and memory format.

        Args:
            planned: The tensor's part of the plan.
            tensor: The teacher's tensor, of the old shape.

        Raises:
            PlanError: Two methods meet in one product of widths.
        """
        tensor = tensor.detach()
        memory = memory_format(tensor)
        shape = [self.plan.new_size(layout) for layout in planned.layouts]
        grown = torch.empty(shape, dtype=tensor.dtype, device=tensor.device, memory_format=memory)
        if tensor.device.type == "meta" or not grown.numel():
            advance(size(tensor))
            return grown
        for block in self.blocks(planned, tensor):
            block.fill(block.of(grown))
        return grown

    # Over 60 lines because its blocks share all that is found before the first: `fill` closes over it.
    def blocks(self, planned: TensorPlan, tensor: Tensor, held: Held | None = None) -> Iterator[Block]:
        """The blocks of a grown tensor, which can be filled in any order, in any thread.

        Args:
            planned: The tensor's part of the plan.
            tensor: The teacher's tensor, of the old shape, with data; or those of its entries that are held, with the
                `extended` ones.
            held: Which these are. Only the new entries that copy one of them are right then.

        Raises:
            PlanError: Two methods meet in one product of widths.
        """
        if tensor.is_complex():
            parts = torch.view_as_real(tensor.detach().resolve_conj())
            yield from map(of_parts, self.blocks(in_parts(planned), parts, held))
            return
        whole = size(tensor)
        shape = torch.Size([self.plan.new_size(layout) for layout in planned.layouts])
        used = [(dim, name) for dim in range(len(shape)) for name in self._methods(planned, dim)]
        if not used and held is None:
            yield from copies(tensor)
            return
        filled = [(dim, name) for dim, name in used if _fills(planned, name)]
        apart: list[Entry] = []
        if held is None:
            moments = self.moments(planned, tensor)
            _check_means(planned, tensor, [name for _, name in filled])
            tensor, apart = entries(tensor, self.extensions(planned))
        else:
            moments = held.moments
        fan_in = shape[1:].numel() if len(shape) > 1 else 1
        steps = [
            (how, column if moments is None else replace(column, mean=moments[0], std=moments[1]))
            for dim, name in filled
            for how in (methods.method(name),)
            for column in (self._column(planned, dim, name, fan_in, tensor.device),)
        ]
        kept = {dim: self._map(planned, dim, tensor.device) for dim in self.kept(planned)}
        steps = [(how, column) for how, column in steps if column.dim not in kept]
        along, number = _blocks(planned, shape, steps)
        maps = {dim: self._map(planned, dim, tensor.device) for dim, _ in used}
        if held is not None:
            maps[held.dim] = self._map(planned, held.dim, tensor.device).of(held)
        drawn = has_arithmetic(tensor)
        inside = maps | {entry.dim: maps[entry.dim].within(tensor.shape[entry.dim]) for entry in apart}
        sources = [_Source(dim, known, drawn and _written_later(planned, dim, steps)) for dim, known in inside.items()]

        def fill(block: int, start: int, stop: int, target: Tensor) -> None:
            part = _gather(tensor, target, sources, along, start, stop)
            for entry in apart:
                entry.put(part, maps, (along, start, stop))
            for how, column in steps:
                here = column.within(start, stop) if column.dim == along else column
                draws = block_generator(self.plan.seed, planned.name, column.dim, block)
                part = _by_method(planned, part, here, how, draws)
            if kept:
                draws = block_generator(self.plan.seed, f"{planned.name} rows", next(iter(kept)), block)
                part = keep_moments(part, kept, planned.rows, planned.correction, draws)
            for dim in planned.drawn:
                draws = block_generator(self.plan.seed, f"{planned.name} means", dim, block)
                _draw(part, dim, self._width(planned.layouts[dim]), draws)
            self._put_zeros(planned, part, (along, start, stop))
            if part is not target:
                target.copy_(part)
            advance(whole * (stop - start) / shape[along])

        for block, start in enumerate(range(0, shape[along], number)):
            stop = min(start + number, shape[along])
            yield Block(along, start, stop, partial(fill, block, start, stop))

    def _put_zeros(self, planned: TensorPlan, part: Tensor, place: tuple[int, int, int]) -> None:
        """Write what counts as zero into the new entries of a block, whose (dimension, start, stop) is the place."""
        along, start, stop = place
        for dim in planned.zeroed:
            new = ~self._map(planned, dim, part.device).original
            rows = (new[start:stop] if dim == along else new).nonzero().flatten()
            part.index_fill_(dim, rows.to(part.device), planned.zero)

    def _methods(self, planned: TensorPlan, dim: int) -> tuple[str, ...]:
        """The methods by which a dimension grows: none where it does not, else one or more."""
        layout = planned.layouts[dim]
        used = _methods(self.plan, layout)
        if len(used) > 1:
            inside = [names for block in layout if len(names := _methods(self.plan, (block,))) > 1]
            if inside:
                raise PlanError(
                    f"{planned.name} has a dimension that is a product of widths grown by {' and '.join(inside[0])}"
                )
        return used

    def kept(self, planned: TensorPlan) -> list[int]:
        """The dimensions that grow so that rows keep their moments: those of replicas, where the function stays."""
        grown = [(d, self._methods(planned, d)) for d in planned.rows if planned.roles[d] == "contract"]
        used = [methods.method(name) for _, names in grown for name in names]
        exact = all(how.replicas and how.preserves_function for how in used)
        return [dim for dim, names in grown if names] if exact else []

    # -- what the teacher's tensor says as a whole ------------------------------------------------

    def extensions(self, planned: TensorPlan) -> dict[int, Extension]:
        """By dimension the entry that is added to the teacher's, because new entries copy it."""
        found = {}
        for dim, part in enumerate(planned.mean_fill or [""] * len(planned.layouts)):
            if part:
                gain = math.sqrt(self._width(planned.layouts[dim]).variance) if part == "gain" else 1.0
                found[dim] = Extension(_EXTENSIONS.get(part, "zero"), gain)
            elif self._means(planned, dim):
                found[dim] = Extension("mean")
        return found

    def moments(self, planned: TensorPlan, tensor: Tensor, reduce: Reduce = alone) -> Moments | None:
        """The mean and the standard deviation of a teacher's tensor, if a method needs them; arguments as for sums."""
        names = [name for dim in range(len(planned.layouts)) for name in self._methods(planned, dim)]
        if not any(_fills(planned, name) and methods.method(name).moments for name in names):
            return None
        if not has_arithmetic(tensor):  # such methods leave it gathered
            return None
        return exact_mean_and_std(tensor, math.prod(map(self.plan.old_size, planned.layouts)), reduce)

    def index(self, planned: TensorPlan, dim: int) -> tuple[Tensor, Tensor]:
        """As `Plan.index`, where an entry that copies the extension has the dimension's old size, and is no replica."""
        layout = planned.layouts[dim]
        index, original = self.plan.index(layout)
        copies = torch.zeros(len(index), dtype=torch.bool)
        if only_atom(layout) is not None and (number := self._width(layout).mean_channels):
            copies[-number:] = True
        for name in self._means(planned, dim):
            copies |= ~_of_method(self.plan, layout, name, index, original)[1]
        return index.masked_fill(copies, self.plan.old_size(layout)), original | copies

    def _means(self, planned: TensorPlan, dim: int) -> tuple[str, ...]:
        """The methods by which a dimension grows whose new entries are gathered as the mean of the old ones."""
        part = _part(planned, dim)
        if part == "contract":
            return ()
        used = [methods.method(name) for name in self._methods(planned, dim) if _fills(planned, name)]
        return tuple([how.name for how in used if how.begins_as_mean(part, shift=planned.kind in SHIFTS)])

    def _width(self, layout: Layout) -> Width:
        return self.plan.width(str(only_atom(layout)))

    # -- made once -------------------------------------------------------------------------------

    def _map(self, planned: TensorPlan, dim: int, device: torch.device) -> IndexMap:
        key = (planned.layouts[dim], self._means(planned, dim), device)
        if key not in self._maps:
            self._maps[key] = IndexMap(*self.index(planned, dim), device)
        return self._maps[key]

    def _column(self, planned: TensorPlan, dim: int, name: str, fan_in: int, device: torch.device) -> Columns:
        layout, means = planned.layouts[dim], self._means(planned, dim)
        key = (layout, means, dim, name, fan_in, device)
        if key not in self._columns:
            known = self._map(planned, dim, device)
            index, original = _of_method(self.plan, layout, name, known.index, known.original)
            if alike := torch.nonzero(index == self.plan.old_size(layout)).flatten().tolist():
                index = index.clone()
                index[alike] += torch.arange(len(alike))  # nobody's replicas
            normed = not self._normed.isdisjoint(atoms(layout))
            self._columns[key] = Columns(dim, index, original, device, normed, fan_in)
        return self._columns[key]


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the entries of one grown dimension come from.

    Attributes:
        dim: The dimension.
        map: Its index map.
        overwritten: Whether its new entries are written later, so that only the old ones are gathered.
    """

    dim: int
    map: IndexMap
    overwritten: bool

    def runs(self, start: int, stop: int) -> list[Run] | None:
        """The ranges to copy; None where they would be many."""
        runs = self.map.old if self.overwritten else self.map.runs
        return within(runs, start, stop) if runs else None


def _draw(weight: Tensor, dim: int, width: Width, draws: torch.Generator) -> None:
    """Columns for channels that are zero now: uniform, between the mean of the others' sizes and its negative.

    They hold the mean size of the teacher's columns, each of which is divided among its copies.
    """
    number = width.mean_channels
    place = weight.narrow(dim, weight.shape[dim] - number, number)
    drawn = torch.rand(place.shape, generator=draws, dtype=torch.float32) * 2 - 1
    place.mul_((drawn * (width.old / (width.new - number))).to(place))


_Steps = Sequence[tuple[methods.Method, Columns]]


def _blocks(planned: TensorPlan, shape: torch.Size, steps: _Steps) -> tuple[int, int]:
    """Along which dimension a tensor is made by blocks, and how many entries of it at a time."""
    beside = [dim for dim, role in enumerate(planned.roles) if role == "carry" and dim not in planned.rows]
    if not beside or not all(how.separable for how, _ in steps):
        return 0, shape[0]
    along = beside[0]
    return along, max(1, PART * shape[along] // shape.numel())


def _written_later(planned: TensorPlan, dim: int, steps: _Steps) -> bool:
    """Whether methods write every new entry of a dimension before any of them reads it."""
    here = [how for how, column in steps if column.dim == dim]
    contracts = planned.roles[dim] == "contract"
    produces = "contract" in planned.roles
    written = bool(here) and all(how.overwrites and (contracts or (produces and not how.replicas)) for how in here)
    return written and all(how.overwrites for how, _ in steps)  # one of another dimension may read what is there


def _gather(tensor: Tensor, target: Tensor, sources: Sequence[_Source], along: int, start: int, stop: int) -> Tensor:
    """The entries of one block: in the target where they are few ranges, else apart."""
    if not any(source.dim == along for source in sources):
        tensor = tensor.narrow(along, start, stop - start)
    ranges = [
        source.runs(start, stop) if source.dim == along else source.runs(0, target.shape[source.dim])
        for source in sources
    ]
    for source, runs in zip(sources, ranges, strict=True):
        if runs is None:
            inside = (start, stop) if source.dim == along else (0, target.shape[source.dim])
            tensor = source.map.gather(tensor, source.dim, *inside)
    few = [(source.dim, runs) for source, runs in zip(sources, ranges, strict=True) if runs is not None]
    for chosen in itertools.product(*[runs for _, runs in few]):
        there, here = target, tensor
        for (dim, _), (new, old, number) in zip(few, chosen, strict=True):
            there, here = there.narrow(dim, new, number), here.narrow(dim, old, number)
        there.copy_(here)
    return target


def methods_of(plan: Plan, planned: TensorPlan) -> list[methods.Method]:
    """The methods by which the dimensions of a tensor grow."""
    return [methods.method(name) for layout in planned.layouts for name in _methods(plan, layout)]


def _methods(plan: Plan, layout: Layout) -> tuple[str, ...]:
    return tuple(dict.fromkeys(method for n in atoms(layout) if (method := plan.method_of(n))))


def _fills(planned: TensorPlan, name: str) -> bool:
    """Whether a method fills a tensor: norms and tables stay gathered, but for what the method says."""
    return planned.kind == "bias" or "contract" in planned.roles or methods.method(name).carries


def _check_means(planned: TensorPlan, tensor: Tensor, names: Sequence[str]) -> None:
    """Raise where new rows are to be the mean of what has none."""
    if not has_arithmetic(tensor) and any(methods.method(name).begins_as_mean("produce") for name in names):
        held = dtype_name(tensor.dtype)
        raise PlanError(f"{planned.name} holds {held}, which has no mean: ask for new='zero' or new='random'")


def _part(planned: TensorPlan, dim: int) -> methods.Part:
    """Which function of a method fills a tensor along a dimension."""
    if planned.roles[dim] == "contract":
        return "contract"
    if "contract" in planned.roles:
        return "produce"
    return "bias" if planned.kind == "bias" else "carry"


def _of_method(plan: Plan, layout: Layout, name: str, index: Tensor, original: Tensor) -> tuple[Tensor, Tensor]:
    """The index map for one method: what others grow looks as if it had not grown."""
    if len(_methods(plan, layout)) == 1:
        return index, original
    index, original, start = index.clone(), original.clone(), 0
    for block in layout:
        stop = start + plan.new_size((block,))
        if _methods(plan, (block,)) != (name,):
            index[start:stop] = torch.arange(start, stop) + len(index) + int(index.max())  # old entries of their own
            original[start:stop] = True
        start = stop
    return index, original


def _by_method(
    planned: TensorPlan,
    grown: Tensor,
    column: Columns,
    how: methods.Method,
    draws: torch.Generator,
) -> Tensor:
    part = _part(planned, column.dim)
    if part == "carry":
        return how.carry(grown, column, draws, shift=planned.kind in SHIFTS)
    fill = {"contract": how.contract, "produce": how.produce, "bias": how.bias}[part]
    return fill(grown, column, draws)


def copies(tensor: Tensor) -> Iterator[Block]:
    """The blocks of a copy of a tensor that does not change."""

    def copy(start: int, stop: int, target: Tensor) -> None:
        target.copy_(tensor[start:stop])
        advance(size(target))

    rows = max(1, PART * len(tensor) // tensor.numel())
    for start in range(0, len(tensor), rows):
        stop = min(start + rows, len(tensor))
        yield Block(0, start, stop, partial(copy, start, stop))


def size(tensor: Tensor) -> int:
    """The work of growing a tensor, for the progress: its own size in bytes."""
    return tensor.numel() * tensor.element_size()


def memory_format(tensor: Tensor) -> torch.memory_format:
    """How a tensor lies in memory: channels last, or else contiguous."""
    for memory, rank in ((torch.channels_last, 4), (torch.channels_last_3d, 5)):
        if tensor.ndim == rank and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=memory):
            return memory
    return torch.contiguous_format
