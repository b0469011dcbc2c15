"""A tensor of the teacher to a tensor of the student: gathered by the plan, then filled by the method."""

from __future__ import annotations

import torch
from torch import Tensor

from . import methods
from .errors import PlanError
from .layout import Layout, atoms
from .methods import Columns
from .plan import Plan, TensorPlan
from .seeds import generator


def fill(plan: Plan, found: TensorPlan, tensor: Tensor, *, is_bias: bool) -> Tensor:
    """The grown tensor, new memory on the same device, in the same dtype and memory format.

    Args:
        plan: The plan.
        found: The tensor's part of it.
        tensor: The teacher's tensor, of the old shape.
        is_bias: Whether it is the bias of a layer that contracts.
    """
    grown = tensor.detach()
    columns: list[tuple[str, Columns]] = []
    for dim, layout in enumerate(found.layouts):
        if plan.grows(layout):
            index, original = plan.index(layout)
            grown = grown.index_select(dim, index.to(grown.device))
            columns += [(name, _of_method(plan, found, dim, name, index, original)) for name in _methods(plan, layout)]
    if not columns:
        grown = grown.clone()
    if tensor.device.type != "meta":
        for name, column in columns:
            grown = _by_method(plan, found, grown, column, methods.method(name), is_bias=is_bias)
    return like_memory_of(tensor, grown)


def _methods(plan: Plan, layout: Layout) -> tuple[str, ...]:
    """The methods by which a dimension grows, one or more."""
    return tuple(dict.fromkeys(plan.method_of(n) for n in atoms(layout) if plan.method_of(n)))


def _of_method(plan: Plan, found: TensorPlan, dim: int, name: str, index: Tensor, original: Tensor) -> Columns:
    """The columns of one method; those of the others look as if they had not grown.

    Raises:
        PlanError: Two methods meet in one product of widths.
    """
    layout = found.layouts[dim]
    if len(_methods(plan, layout)) == 1:
        return Columns(dim, index, original)
    index, original, start = index.clone(), original.clone(), 0
    for block in layout:
        stop = start + plan.new_size((block,))
        inside = _methods(plan, (block,))
        if len(inside) > 1:
            raise PlanError(f"{found.name} has a dimension that is a product of widths grown by {' and '.join(inside)}")
        if inside != (name,):
            index[start:stop] = torch.arange(start, stop) + len(index) + int(index.max())  # old entries of their own
            original[start:stop] = True
        start = stop
    return Columns(dim, index, original)


def _by_method(
    plan: Plan, found: TensorPlan, grown: Tensor, column: Columns, how: methods.Method, *, is_bias: bool
) -> Tensor:
    draws = generator(plan.seed, f"{found.name}[{column.dim}]")
    if found.roles[column.dim] == "contract":
        return how.contract(grown, column, draws)
    if "contract" in found.roles:
        return how.produce(grown, column, draws)
    if is_bias:
        return how.bias(grown, column, draws)
    return grown


def like_memory_of(tensor: Tensor, grown: Tensor) -> Tensor:
    """The grown tensor in the memory format of the old one."""
    for memory, rank in ((torch.channels_last, 4), (torch.channels_last_3d, 5)):
        if tensor.ndim == rank and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=memory):
            return grown.contiguous(memory_format=memory)
    return grown.contiguous()
