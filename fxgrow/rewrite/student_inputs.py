"""Pads teacher inputs to the student's channels and slices student outputs back to the teacher's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..base.magnitude import is_inexact
from ..base.rng import dtype_drawn, named_generator
from ..model.call_args import relabelled, relabelled_inputs
from ..model.example_inputs import ModelInputs
from ..plans.entries import IoDimPlan
from ..plans.growth_plan import Plan


def padded(plan: Plan, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """The teacher's arguments, by the names of `forward`, as the student takes them: random numbers in new channels."""
    return relabelled(arguments, _paddings(plan)) if plan.io_dims else arguments


def padded_inputs(plans: Sequence[Plan], model: nn.Module, inputs: ModelInputs) -> ModelInputs:
    """The same for the arguments of a call, through one plan after the other."""
    for plan in plans:
        if plan.io_dims:
            inputs = relabelled_inputs(model, inputs, _paddings(plan))
    return inputs


def old_outputs(plans: Sequence[Plan], mode: str, outputs: Sequence[Tensor], number: int = 0) -> list[Tensor]:
    """Of the tensors that a student returns in a mode the part that the teacher returns.

    Args:
        plans: Those that made the student.
        mode: The mode.
        outputs: What the student returns.
        number: How many tensors the teacher returns; if it is as many, clones add none for these inputs.
    """
    kept = list(outputs)
    for plan in reversed(plans):
        of_clones = {output.number for output in plan.clone_outputs if output.mode == mode}
        if len(kept) > number:
            kept = [tensor for i, tensor in enumerate(kept) if i not in of_clones]
        for io_dim in plan.io_dims:
            if io_dim.kind == "output" and io_dim.at == mode and io_dim.number < len(kept):
                tensor = kept[io_dim.number]
                if io_dim.dim < tensor.ndim and tensor.shape[io_dim.dim] == io_dim.new:
                    kept[io_dim.number] = tensor.narrow(io_dim.dim, 0, io_dim.old)
    return kept


def _paddings(plan: Plan) -> dict[str, Callable[[Tensor], Tensor]]:
    names = dict.fromkeys(io_dim.at for io_dim in plan.io_dims if io_dim.kind == "input")
    return {
        at: partial(_pad, plan, [io_dim for io_dim in plan.io_dims if (io_dim.kind, io_dim.at) == ("input", at)])
        for at in names
    }


def _pad(plan: Plan, io_dims: Sequence[IoDimPlan], tensor: Tensor) -> Tensor:
    for io_dim in io_dims:
        shape = list(tensor.shape)
        if io_dim.dim < len(shape) and shape[io_dim.dim] == io_dim.old:  # else it is no input of the teacher's
            shape[io_dim.dim] = io_dim.new - io_dim.old
            tensor = torch.cat(
                [tensor, _noise(shape, tensor, named_generator(plan.seed, f"input {io_dim.at}"))], io_dim.dim
            )
    return tensor


def _noise(shape: Sequence[int], like: Tensor, draws: torch.Generator) -> Tensor:
    """Random numbers of a tensor's kind: normal ones, or integers that it holds."""
    if like.device.type == "meta":
        return torch.empty(shape, dtype=like.dtype, device="meta")
    if is_inexact(like) or not like.numel():
        return torch.randn(shape, generator=draws, dtype=dtype_drawn(like)).to(like)
    at = torch.randint(like.numel(), tuple(shape), generator=draws)
    return like.flatten()[at.to(like.device)]
