"""A tensor of the teacher to a tensor of the student: gathered by the plan, then filled by the method.

A large tensor is made some rows at a time, which stay in the processor's cache meanwhile, and little is held
beside the student. Where it is cut depends on its shape alone, so that every device draws the same shares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .. import methods
from ..base.rng import named_generator
from ..errors import PlanError
from ..layouts.layout import Layout, atoms, only_atom
from ..methods import Columns, Where, take
from ..plans.entries import TensorPlan, Width
from ..plans.growth_plan import Plan

PART = 1 << 17  # entries of a new tensor that are made at a time
SHIFTS = ("bias", "shift", "running_mean")
MANY = 8  # runs of an index map, from which on they are no faster than an index


class Filling:
    """Fills tensors by one plan. The index maps, which many tensors share, are made once."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._maps: dict[tuple[Layout, torch.device], IndexMap] = {}
        self._columns: dict[tuple[Layout, int, str, torch.device], Columns] = {}
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
        shape = [self.plan.new_size(layout) for layout in planned.layouts]
        used = [(dim, name) for dim in range(len(shape)) for name in self._methods(planned, dim)]
        if not used:
            return tensor.clone(memory_format=memory_format(tensor))
        memory = memory_format(tensor)
        grown = torch.empty(shape, dtype=tensor.dtype, device=tensor.device, memory_format=memory)
        if tensor.device.type == "meta" or not grown.numel():
            return grown
        tensor = self._extended(planned, tensor)
        # norms and tables stay gathered, but for what the method says
        weighs = planned.kind == "bias" or "contract" in planned.roles
        filled = [(dim, name) for dim, name in used if weighs or methods.method(name).carries]
        if tensor.ndim == 1 and not filled:
            return self._map(planned.layouts[0], tensor.device).gather(tensor, 0)
        drawn_at = [(dim, named_generator(self.plan.seed, f"{planned.name}[{dim}] means")) for dim in planned.drawn]
        columns = [self._column(planned.layouts[dim], dim, name, tensor.device) for dim, name in filled]
        draws = [named_generator(self.plan.seed, f"{planned.name}[{dim}]") for dim, _ in filled]
        hows = [methods.method(name) for _, name in filled]
        along, step = _parts(planned, grown, hows)
        maps = {dim: self._map(planned.layouts[dim], tensor.device) for dim, _ in used}
        for start in range(0, grown.shape[along], step):
            target = grown.narrow(along, start, min(step, grown.shape[along] - start))
            part = _gather(tensor, target, maps, along, start)
            for how, column, drawn in zip(hows, columns, draws, strict=True):
                part = _by_method(planned, part, column, how, drawn)
            for dim, drawn in drawn_at:
                _draw(part, dim, self._width(planned.layouts[dim]).mean_channels, drawn)
            if part is not target:
                target.copy_(part)
        return grown

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

    # -- channels that carry means ---------------------------------------------------------------

    def _width(self, layout: Layout) -> Width:
        return self.plan.width(str(only_atom(layout)))

    def _extended(self, planned: TensorPlan, tensor: Tensor) -> Tensor:
        """The teacher's tensor with one more entry, for channels that carry means, in each dimension that has them."""
        for dim, part in enumerate(planned.mean_fill):
            if part == "gain":
                eta = math.sqrt(self._width(planned.layouts[dim]).variance)
                tensor = (tensor.double() * eta).to(tensor.dtype)
            if part in ("mean", "gain"):
                more = tensor.double().mean(dim, keepdim=True).to(tensor.dtype)
            elif part:
                more = torch.zeros_like(tensor.narrow(dim, 0, 1))
            if part:
                tensor = torch.cat([tensor, more], dim)
        return tensor

    # -- made once -------------------------------------------------------------------------------

    def _map(self, layout: Layout, device: torch.device) -> IndexMap:
        key = (layout, device)
        if key not in self._maps:
            index, original = self.plan.index(layout)
            if only_atom(layout) is not None and (number := self._width(layout).mean_channels):
                index[-number:] = self.plan.old_size(layout)  # the entry that is added to it
            self._maps[key] = IndexMap(index, original, device)
        return self._maps[key]

    def _column(self, layout: Layout, dim: int, name: str, device: torch.device) -> Columns:
        key = (layout, dim, name, device)
        if key not in self._columns:
            known = self._map(layout, device)
            index, original = _of_method(self.plan, layout, name, known.index, known.original)
            if only_atom(layout) is not None and (number := self._width(layout).mean_channels):
                index, original = index.clone(), original.clone()
                index[-number:] += torch.arange(number)  # nobody's replicas
                original[-number:] = True
            self._columns[key] = Columns(dim, index, original, device, not self._normed.isdisjoint(atoms(layout)))
        return self._columns[key]


class IndexMap:
    """The index map of one layout, for use on one device.

    Attributes:
        index: As `Plan.index` gives it, on the CPU.
        original: The same.
        there: The index on the device.
        runs: Ranges of old entries that make the new ones, one after the other; empty where they would be many.
    """

    def __init__(self, index: Tensor, original: Tensor, device: torch.device) -> None:
        self.index, self.original, self.there = index, original, index.to(device)
        seams = torch.nonzero(index.diff() != 1).flatten().tolist()
        starts = [0, *(seam + 1 for seam in seams)] if len(seams) < MANY else []
        stops = [*starts[1:], len(index)]
        self.runs = [slice(int(index[a]), int(index[a]) + b - a) for a, b in zip(starts, stops, strict=False)]
        moved = torch.nonzero(index != torch.arange(len(index)))
        self._same = int(moved[0]) if len(moved) else len(index)  # as many entries are where they were

    def part(self, start: int, stop: int) -> Where:
        """Where the new entries from `start` to `stop` come from."""
        return slice(start, stop) if stop <= self._same else self.there[start:stop]

    def gather(self, source: Tensor, dim: int, target: Tensor | None = None) -> Tensor:
        """The source gathered along a dimension: in the target where that is possible, else apart."""
        if target is not None and self.runs:
            start = 0
            for run in self.runs:
                target.narrow(dim, start, run.stop - run.start).copy_(take(source, dim, run))
                start += run.stop - run.start
            return target
        if target is not None and target.is_contiguous():
            return torch.index_select(source, dim, self.there, out=target)
        return source.index_select(dim, self.there)


def _draw(weight: Tensor, dim: int, number: int, draws: torch.Generator) -> None:
    """Columns for channels that are zero now: uniform, between the mean of the others' sizes and its negative."""
    old = weight.shape[dim] - number
    size = weight.narrow(dim, 0, old).abs().mean(dim, keepdim=True)
    place = weight.narrow(dim, old, number)
    place.copy_((torch.rand(place.shape, generator=draws, dtype=torch.float32) * 2 - 1).to(place) * size)


def _parts(planned: TensorPlan, grown: Tensor, hows: Sequence[methods.Method]) -> tuple[int, int]:
    """Along which dimension a tensor is made by parts, and how many entries of it at a time."""
    if "carry" not in planned.roles or not all(how.separable for how in hows):
        return 0, grown.shape[0]
    along = planned.roles.index("carry")
    return along, max(1, PART * grown.shape[along] // grown.numel())


def _gather(tensor: Tensor, target: Tensor, maps: Mapping[int, IndexMap], along: int, start: int) -> Tensor:
    """The entries from `start` on that fill the target: in it where it is contiguous, else apart."""
    stop = start + target.shape[along]
    source = take(tensor, along, maps[along].part(start, stop) if along in maps else slice(start, stop))
    inner = [dim for dim in maps if dim != along]
    for dim in inner[:-1]:
        source = maps[dim].gather(source, dim)
    return maps[inner[-1]].gather(source, inner[-1], target) if inner else target.copy_(source)


def _methods(plan: Plan, layout: Layout) -> tuple[str, ...]:
    return tuple(dict.fromkeys(method for n in atoms(layout) if (method := plan.method_of(n))))


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
    if planned.roles[column.dim] == "contract":
        return how.contract(grown, column, draws)
    if "contract" in planned.roles:
        return how.produce(grown, column, draws)
    if planned.kind == "bias":
        return how.bias(grown, column, draws)
    return how.carry(grown, column, draws, shift=planned.kind in SHIFTS)


def memory_format(tensor: Tensor) -> torch.memory_format:
    """How a tensor lies in memory: channels last, or else contiguous."""
    for memory, rank in ((torch.channels_last, 4), (torch.channels_last_3d, 5)):
        if tensor.ndim == rank and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=memory):
            return memory
    return torch.contiguous_format
