"""The student of a sharded model: planned on meta, sharded as its teacher was, and filled parameter by parameter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..base.progress import step
from ..checkpoints.new_tensors import NewTensors
from ..checkpoints.outline import Grown, Info, Made, inside, outline
from ..depth.initial import row_blocks
from ..errors import GrowError
from ..model.copies import named_parameters, stored
from ..model.partition import Partition, as_dtensor, give_back, local_part, partition_of
from ..model.sharded import is_dtensor
from ..model.walk import named_modules
from ..plans.growth_plan import Plan
from ..rewrite.fill import size
from .fill_shards import ShardFilling
from .units import Unit, shard_again, units_of

WHOLE = Partition(None, (), None, None, 0, 1)  # of a parameter that every process has


def mesh_of(model: nn.Module) -> tuple[Any, torch.device]:
    """The mesh of a sharded model's parameters, and the device of this process in it."""
    parameters: list[Any] = [p for p in named_parameters(model).values() if is_dtensor(p)]
    widest = max(parameters, key=lambda p: int(p.device_mesh.ndim))
    return widest.device_mesh, local_part(widest).device


def check_units(teacher: nn.Module, plan: Plan) -> list[Unit]:
    """The calls of `fully_shard` that are to be made again, if all of the plan can be done part by part.

    Raises:
        GrowError: It cannot; the message says why.
    """
    if plan.output != "module":
        raise GrowError("a sharded model grows with output='module', since its blocks are what is sharded")
    units = units_of(teacher)
    if not units:
        raise GrowError(
            "the parameters are DTensors, and no module was given to fully_shard, so nothing says how those of the "
            "student are placed; grow the model before it is distributed"
        )
    filling, partitions = ShardFilling(plan), _partitions(teacher)
    for planned in plan.tensors:
        if planned.name in partitions:
            filling.check(planned, partitions[planned.name])
    return units


def _partitions(teacher: nn.Module) -> dict[str, Partition]:
    return {name: partition_of(p, name) for name, p in named_parameters(teacher).items() if is_dtensor(p)}


def sharded_student(
    plan: Plan, teacher: nn.Module, units: list[Unit], student: nn.Module, *, release: bool = False
) -> nn.Module:
    """The student of a sharded model, sharded in the same way and filled, in place.

    Every process calls it with the same plan.

    Args:
        plan: One plan, of `output="module"`.
        teacher: The model.
        units: From `check_units`.
        student: The student of the teacher's copy on the meta device.
        release: Whether to give the memory of the teacher's parts back as the student's are made; else the teacher is
            not touched.

    Raises:
        GrowError: torch does not shard the student as its teacher was.
    """
    given = _given(teacher)
    made = outline(plan, {name: Info(tuple(tensor.shape), tensor.dtype) for name, tensor in given.items()})
    _fill_buffers(student, plan, made)
    shard_again(student, units, plan)
    with torch.no_grad(), step("filling", sum(size(local_part(t) if is_dtensor(t) else t) for t in given.values())):
        _Parameters(plan, given, made, release=release).fill(student)
    return student


def _given(teacher: nn.Module) -> dict[str, Tensor]:
    """What the teacher's `state_dict` holds, by name."""
    names = {name for name, *_ in stored(teacher)}
    return {name: tensor for name, tensor in _all(teacher) if name in names}


def _all(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for path, module in named_modules(model, duplicates=True):
        for key, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is not None:
                yield f"{path}.{key}".lstrip("."), tensor


def _fill_buffers(student: nn.Module, plan: Plan, made: Mapping[str, Made]) -> None:
    """Give the buffers of new layers, which were built without data, what they begin with."""
    new = NewTensors(plan.seed)
    for path, module in named_modules(student):
        for key, buffer in module._buffers.items():
            one = made.get(f"{path}.{key}".lstrip("."))
            if buffer is not None and buffer.is_meta and one is not None and not isinstance(one.how, Grown):
                module._buffers[key] = new.rows(one, 0, one.info.shape[0] if one.info.shape else 1)


class _Parameters:
    """Makes the parameters of a student, one after the other."""

    def __init__(self, plan: Plan, given: Mapping[str, Tensor], made: Mapping[str, Made], *, release: bool) -> None:
        self._planned = {one.name: one for one in plan.tensors}
        self._given, self._made = given, made
        self._filling, self._new_tensors = ShardFilling(plan), NewTensors(plan.seed)
        self._release = release
        self._device = next(local_part(tensor).device for tensor in given.values() if is_dtensor(tensor))

    def fill(self, student: nn.Module) -> None:
        """Put parameters with data in the places of those that have none."""
        places: dict[int, list[tuple[nn.Module, str]]] = {}
        for _, module in named_modules(student):
            for key, parameter in module._parameters.items():
                places.setdefault(id(parameter), []).append((module, key))
        held: dict[str, Any] = dict(_all(student))
        first: dict[int, str] = {}  # names, one for each parameter
        for name in [name for name, one in self._made.items() if not one.buffer]:
            first.setdefault(id(held[name]), name)
        sources = {name: self._source(name) for name in first.values()}
        uses = Counter(sources.values())
        for name, source in sources.items():
            parameter = held[name]
            new = nn.Parameter(self._new(name, self._made[name], parameter), parameter.requires_grad)
            for module, key in places[id(parameter)]:
                module._parameters[key] = new
            uses[source] -= 1
            if self._release and source is not None and not uses[source]:
                give_back(self._given[source])

    def _source(self, name: str) -> str | None:
        """The first name of the teacher's parameter that one of the student's is made from, if it is a DTensor."""
        how = self._made[name].how
        old = self._given[how.source] if isinstance(how, Grown) else None
        return next(key for key, one in self._given.items() if one is old) if is_dtensor(old) else None

    def _new(self, name: str, one: Made, parameter: Any) -> Tensor:
        partition = partition_of(parameter, name) if is_dtensor(parameter) else WHOLE
        local = torch.empty(partition.local_shape(one.info.shape), dtype=one.info.dtype, device=self._device)
        self._write(name, one, partition, local)
        return as_dtensor(local, partition, parameter.shape) if is_dtensor(parameter) else local

    def _write(self, name: str, one: Made, partition: Partition, local: Tensor) -> None:
        if not isinstance(one.how, Grown):
            self._write_new(one, partition, local)
            return
        old = self._given[one.how.source]
        before = partition_of(old, one.how.source) if is_dtensor(old) else WHOLE
        if (before.dim, before.number) != (partition.dim, partition.number):
            raise GrowError(f"{name!r} of the student is divided in another way than {one.how.source!r} of the teacher")
        if one.around:
            local.zero_()
        target, part = inside(local, one.around), local_part(old) if is_dtensor(old) else old.detach()
        known = self._planned.get(one.how.planned)
        if known is None:
            target.copy_(part)
        else:
            self._filling(known, part, partition, target)

    def _write_new(self, one: Made, partition: Partition, local: Tensor) -> None:
        """Write this process's part of a tensor that comes from none of the teacher's, a block at a time."""
        shape, dim = one.info.shape, partition.dim
        start, stop = (0, shape[0] if shape else 1) if dim is None else partition.own(shape[dim])
        if not dim:
            for first, last in row_blocks((stop - start, *shape[1:])):
                rows = self._new_tensors.rows(one, start + first, start + last)
                (local[first:last] if shape else local).copy_(rows)
            return
        for first, rows in self._new_tensors.blocks(one):
            local[first : first + len(rows)].copy_(rows.narrow(dim, start, stop - start))
