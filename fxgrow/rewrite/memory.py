"""Whether there is room for a student, asked before anything of it is made."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor

from ..base.magnitude import is_inexact
from ..base.memory import free_memory
from ..base.tables import short
from ..errors import PlanError
from ..plans.costs import WORKSPACE, total
from ..plans.growth_plan import Plan


def check_memory(plan: Plan, tensors: Mapping[str, Tensor], device: torch.device | None = None) -> None:
    """Refuse a student that no device of its teacher has room for.

    Args:
        plan: One plan.
        tensors: The teacher's parameters and buffers by name; on meta they take nothing.
        device: Where the student is to be; None: where its teacher is.

    Raises:
        PlanError: With what the student takes and what is free.
    """
    for place, size in _sizes(plan, tensors, device).items():
        free = free_memory(place)
        if free is not None and size + WORKSPACE > free:
            raise PlanError(
                f"the student takes {short(size)}B on {place}, beside its teacher, and {short(free)}B are free"
                f"{_widest(plan)}; ask for less, or grow a checkpoint file to file (fxgrow.grow_checkpoint)"
            )


def _sizes(plan: Plan, tensors: Mapping[str, Tensor], device: torch.device | None) -> Counter[torch.device]:
    """The bytes of a student by device; new layers and clones are where the first tensor is."""
    planned = {tensor.name: tensor.layouts for tensor in plan.tensors}
    sizes: Counter[torch.device] = Counter()
    entries = 0
    for name, tensor in tensors.items():
        number = math.prod(map(plan.new_size, planned[name])) if name in planned else tensor.numel()
        sizes[device or tensor.device] += number * tensor.element_size()
        entries += number if isinstance(tensor, torch.nn.Parameter) else 0
    first = next((tensor for tensor in tensors.values() if is_inexact(tensor)), None)
    if plan.changes and plan.costs and first is not None:
        more = total(plan.costs).parameters[1] - entries
        sizes[device or first.device] += max(more, 0) * first.element_size()
    return sizes


def _widest(plan: Plan) -> str:
    width = max(plan.grown_widths, key=lambda one: one.new, default=None)
    return "" if width is None else f"; the widest is {width.name}, {width.old:,} -> {width.new:,}"
