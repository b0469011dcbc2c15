"""A tensor of the teacher to a tensor of the student: gathered by the plan, then filled by the method."""

from __future__ import annotations

import torch
from torch import Tensor

from . import methods
from .layout import atoms
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
    columns: list[Columns] = []
    for dim, layout in enumerate(found.layouts):
        if plan.grows(layout):
            index, original = plan.index(layout)
            grown = grown.index_select(dim, index.to(grown.device))
            columns.append(Columns(dim, index, original))
    if not columns:
        grown = grown.clone()
    if tensor.device.type != "meta":
        for column in columns:
            grown = _by_method(plan, found, grown, column, is_bias=is_bias)
    return like_memory_of(tensor, grown)


def _by_method(plan: Plan, found: TensorPlan, grown: Tensor, column: Columns, *, is_bias: bool) -> Tensor:
    layout = found.layouts[column.dim]
    name = next(plan.width(n).method for n in atoms(layout) if plan.width(n).method)
    how = methods.method(name)
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
