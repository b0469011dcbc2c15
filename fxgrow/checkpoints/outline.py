"""What a student's checkpoint holds, from a plan and the names, shapes and dtypes of the teacher's. Reads no data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..depth.kept_shape import new_value
from ..depth.new_layers import build_new_layer
from ..errors import PlanError
from ..model.strides import Order, grown_order, is_channels_last, strides_in
from ..plans.changes import Enlarge, Insert, KeptShape, Repeat, in_order
from ..plans.entries import Stored
from ..plans.growth_plan import Plan


@dataclass(frozen=True, slots=True)
class Info:
    """A tensor of a file, without its data.

    Attributes:
        shape: Its shape.
        dtype: Its dtype.
        order: How it lies in memory, for files that say it.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    order: Order = ()

    @property
    def bytes(self) -> int:
        """The size of its data."""
        return self.numel * self.dtype.itemsize

    @property
    def numel(self) -> int:
        """The number of its entries."""
        return torch.Size(self.shape).numel()

    @property
    def strides(self) -> tuple[int, ...]:
        """The strides in which it lies, without gaps."""
        return strides_in(self.order, self.shape)


@dataclass(frozen=True, slots=True)
class Grown:
    """A tensor of the teacher, grown as the plan says, or copied.

    Attributes:
        source: Its name in the teacher's file.
        planned: The name under which the plan may have it.
    """

    source: str
    planned: str


@dataclass(frozen=True, slots=True)
class Filled:
    """A tensor of one value."""

    value: float


@dataclass(frozen=True, slots=True)
class Drawn:
    """A new weight, drawn by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class OfLayer:
    """A tensor of a new layer.

    Attributes:
        new: The layer.
        key: The tensor's name in it.
        dtype: The dtype of the layer.
    """

    new: Insert
    key: str
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class Made:
    """How a tensor of the student is made.

    Attributes:
        how: From what.
        info: Its shape and dtype.
        around: Zeros around it, as `torch.nn.functional.pad` takes them; empty for none.
        tie: What tensors that are one have in common; "" where it is none of these.
        buffer: Whether it is a buffer.
        absent: Whether the teacher's file has it under another name alone.
    """

    how: Grown | Filled | Drawn | OfLayer
    info: Info
    around: tuple[int, ...] = ()
    tie: str = ""
    buffer: bool = False
    absent: bool = False


def outline(plan: Plan, given: Mapping[str, Info]) -> dict[str, Made]:
    """The tensors of a student's checkpoint by name, in the order of its model.

    Args:
        plan: One plan.
        given: The tensors of the teacher's checkpoint.

    Raises:
        PlanError: They are not those of the plan's teacher, or the plan does not say what these are.
    """
    check_given(plan, given)
    made = _grown(plan, given)
    for change in sorted(plan.changes, key=in_order):
        if isinstance(change, Enlarge):
            _enlarge(made, change)
        elif isinstance(change, Repeat):
            _repeat(made, change)
        else:
            _insert(made, change)
    return {plan.numbering(name): one for name, one in _in_file(made)}


def _in_file(made: Mapping[str, Made]) -> Iterator[tuple[str, Made]]:
    """What the student's file holds; of a tensor that the teacher's leaves out, the first name if it has no other."""
    held = {one.tie for one in made.values() if not one.absent}
    for name, one in made.items():
        if not one.absent or one.tie not in held:
            held.add(one.tie)
            yield name, replace(one, absent=False)


def check_given(plan: Plan, given: Mapping[str, Info]) -> None:
    """Whether a checkpoint is one of the plan's teacher.

    Raises:
        PlanError: It is not.
    """
    if not plan.stored:
        raise PlanError(
            "the plan does not say what a checkpoint of its teacher holds, since it was made before version "
            "1.3 of the format: plan again"
        )
    known = {one.name: one for one in plan.stored}
    if more := [name for name in given if name not in known]:
        raise PlanError(f"the checkpoint has {more[0]!r}, which the teacher of this plan, {plan.model}, does not have")
    held = {known[name].same_as or name for name in given}
    if missing := [name for name, one in known.items() if (one.same_as or name) not in held]:
        raise PlanError(f"the checkpoint lacks {missing[0]!r}, which the teacher of this plan, {plan.model}, has")
    for name, info in given.items():
        _check_info(known[name], info)


def _check_info(stored: Stored, info: Info) -> None:
    if stored.shape != info.shape:
        raise PlanError(
            f"the plan expects {stored.name!r} of shape {stored.shape}, and the checkpoint has {info.shape}"
        )
    alike = info.dtype == getattr(torch, stored.dtype) if stored.dtype else info.dtype.is_floating_point
    if not alike:
        expected = stored.dtype or "a floating dtype"
        raise PlanError(f"the plan expects {stored.name!r} as {expected}, and the checkpoint has {info.dtype}")


def _grown(plan: Plan, given: Mapping[str, Info]) -> dict[str, Made]:
    """The teacher's tensors with their new widths."""
    planned = {one.name: one for one in plan.tensors}
    sources: dict[str, str] = {}  # by the first name of a tensor, the one that the file has
    for one in plan.stored:
        if one.name in given:
            sources.setdefault(one.same_as or one.name, one.name)
    made: dict[str, Made] = {}
    tied = {one.same_as for one in plan.stored if one.same_as}
    for one in plan.stored:
        first = one.same_as or one.name
        source = sources[first]
        info = given.get(one.name, given[source])
        if first in planned:
            shape = tuple(map(plan.new_size, planned[first].layouts))
            info = Info(shape, info.dtype, grown_order(info.order, info.shape))
        tie = first if first in tied else ""
        made[one.name] = Made(Grown(source, first), info, (), tie, one.buffer, one.name not in given)
    return made


def _enlarge(made: dict[str, Made], change: Enlarge) -> None:
    weight = f"{change.path}.weight"
    if weight not in made or made[weight].info.shape[-len(change.old) :] != change.old:
        raise PlanError(f"{change.path} has no kernel of size {change.old}; the plan was made for another model")
    more = [(after - before) // 2 for before, after in zip(change.old, change.new, strict=True)]
    around = tuple(size for size in reversed(more) for _ in range(2))
    names = [n for n, one in made.items() if n == weight or (one.tie and one.tie == made[weight].tie)]
    for name in names:
        one = made[name]
        shape = (*one.info.shape[: -len(change.new)], *change.new)
        order = one.info.order if is_channels_last(one.info.order) else ()
        made[name] = replace(one, info=replace(one.info, shape=shape, order=order), around=around)


def _repeat(made: dict[str, Made], repeat: Repeat) -> None:
    inside = {n.removeprefix(f"{repeat.block}."): one for n, one in made.items() if n.startswith(f"{repeat.block}.")}
    if missing := [name for name in repeat.fills if name not in inside]:
        raise PlanError(f"{repeat.block} has no parameter {missing[0]!r}; the plan was made for another model")
    values = {inside[name].tie or name: value for name, value in repeat.fills.items()}
    outside = {one.tie for name, one in made.items() if one.tie and not name.startswith(f"{repeat.block}.")}
    for path in repeat.paths:
        for name, one in inside.items():
            if repeat.kept_shape is not None and repeat.kept_shape.drops(name):
                continue
            value = values.get(one.tie or name)
            how = one.how if value is None else Filled(value)
            shared = value is None and not one.buffer and one.tie in outside  # with others, too, as in a student
            tie = one.tie if shared or not one.tie else f"{path} {one.tie}"
            made[f"{path}.{name}"] = replace(one, how=how, tie=tie, around=one.around if value is None else ())
        if repeat.kept_shape is not None:
            _keep_shape(made, repeat.kept_shape, path, inside)


def _keep_shape(made: dict[str, Made], kept: KeptShape, path: str, inside: Mapping[str, Made]) -> None:
    """Make the tensors of a clone anew that have another shape in it than in its block."""
    if f"{kept.like}.weight" not in inside:
        raise PlanError(f"the block of {path} has no layer {kept.like!r}; the plan was made for another model")
    width = inside[f"{kept.like}.weight"].info.shape[0]
    for name in filter(kept.is_new, inside):
        one = made[f"{path}.{name}"]
        if kept.flag:
            _resize(made, f"{path}.{name}", kept.resized(name, one.info.shape, width))
            continue
        norm = len(one.info.shape) == 1
        how = one.how if isinstance(one.how, Filled) else Drawn(f"{path}.{name}")
        shape = (width,) if norm else (one.info.shape[0], width, *one.info.shape[2:])
        filled = Filled(new_value(name.rpartition(".")[2])) if norm else how
        if shape != one.info.shape:
            made[f"{path}.{name}"] = replace(one, how=filled, info=Info(shape, one.info.dtype), tie="", around=())


def _resize(made: dict[str, Made], name: str, shape: tuple[int, ...]) -> None:
    """Make a tensor of a clone in another shape, if it has another; one of a norm, or a bias, of one value."""
    one = made[name]
    if shape == one.info.shape:
        return
    how = Drawn(name) if len(shape) > 1 else Filled(new_value(name.rpartition(".")[2]))
    kept = one.how if isinstance(one.how, Filled) else how
    made[name] = replace(one, how=kept, info=Info(shape, one.info.dtype), tie="", around=())


def _insert(made: dict[str, Made], new: Insert) -> None:
    inside = [one for name, one in made.items() if name.startswith(f"{new.after}.") and not one.buffer]
    if not inside:
        raise PlanError(f"{new.after} has no parameters, so no new layer follows it")
    dtype = inside[0].info.dtype
    layer = build_new_layer(new, 0, torch.device("meta"), dtype)
    buffers = {name for name, _ in layer.named_buffers()}
    for key, tensor in layer.state_dict().items():
        info = Info(tuple(tensor.shape), tensor.dtype)
        made[f"{new.path}.{key}"] = Made(OfLayer(new, key, dtype), info, buffer=key in buffers)


def infos_of_teacher(plan: Plan) -> dict[str, Info]:
    """What a checkpoint of a plan's teacher holds, with floating tensors in single precision."""
    return {one.name: Info(one.shape, getattr(torch, one.dtype or "float32")) for one in plan.stored}


def shapes_of_student(plan: Plan) -> dict[str, tuple[int, ...]]:
    """The shapes in the `state_dict` of a plan's student, by name; none where its teacher has no tensors."""
    of_teacher = infos_of_teacher(plan)
    return {name: one.info.shape for name, one in outline(plan, of_teacher).items()} if of_teacher else {}


def stranger(plan: Plan, held: Mapping[str, tuple[int, ...]]) -> str:
    """The name of a tensor that a student of a plan has no place for, lacks, or has in another shape; "" for none.

    Args:
        plan: The student's own plan, the last one of a chain.
        held: The shapes in its `state_dict`, by name.
    """
    if not plan.stored:  # of a version that did not say
        return ""
    expected = shapes_of_student(plan)
    wrong = [name for name in expected.keys() | held.keys() if expected.get(name) != held.get(name)]
    return min(wrong, default="")


def inside(tensor: Tensor, around: tuple[int, ...]) -> Tensor:
    """The part of a tensor inside of the zeros around it."""
    for axis, (before, after) in enumerate(zip(around[::2], around[1::2], strict=True)):
        dim = tensor.ndim - 1 - axis
        tensor = tensor.narrow(dim, before, tensor.shape[dim] - before - after)
    return tensor


def pairs(plan: Plan, given: Mapping[str, Info]) -> Iterator[tuple[str, str]]:
    """The pairs of names in the teacher's file that are to hold one tensor."""
    first: dict[str, str] = {}
    for one in plan.stored:
        if one.name in given and (source := first.setdefault(one.same_as or one.name, one.name)) != one.name:
            yield source, one.name


def tied(made: Mapping[str, Made]) -> Iterator[tuple[str, str]]:
    """The names of the student's tensors that are another one, each with the first name of that."""
    first: dict[str, str] = {}
    for name, one in made.items():
        if one.tie and (other := first.setdefault(one.tie, name)) != name:
            yield name, other
