"""Pads teacher inputs to the student's channels and slices student outputs back to the teacher's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..base.rng import named_generator
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


def old_outputs(plans: Sequence[Plan], mode: str, outputs: Sequence[Tensor]) -> list[Tensor]:
    """Of the tensors that a student returns in a mode the part that the teacher returns."""
    kept = list(outputs)
    for plan in reversed(plans):
        for end in plan.io_dims:
            if end.kind == "output" and end.at == mode and end.number < len(kept):
                tensor = kept[end.number]
                if end.dim < tensor.ndim and tensor.shape[end.dim] == end.new:
                    kept[end.number] = tensor.narrow(end.dim, 0, end.old)
    return kept


def _paddings(plan: Plan) -> dict[str, Callable[[Tensor], Tensor]]:
    places = dict.fromkeys(end.at for end in plan.io_dims if end.kind == "input")
    return {
        at: partial(_pad, plan, [end for end in plan.io_dims if (end.kind, end.at) == ("input", at)]) for at in places
    }


def _pad(plan: Plan, io_dims: Sequence[IoDimPlan], tensor: Tensor) -> Tensor:
    for end in io_dims:
        shape = list(tensor.shape)
        if shape[end.dim] == end.old:  # else it is no input of the teacher's
            shape[end.dim] = end.new - end.old
            tensor = torch.cat([tensor, _noise(shape, tensor, named_generator(plan.seed, f"input {end.at}"))], end.dim)
    return tensor


def _noise(shape: Sequence[int], like: Tensor, draws: torch.Generator) -> Tensor:
    """Random numbers of a tensor's kind: normal ones, or integers that it holds."""
    if like.device.type == "meta":
        return torch.empty(shape, dtype=like.dtype, device="meta")
    if like.is_floating_point() or not like.numel():
        return torch.randn(shape, generator=draws, dtype=torch.float32).to(like)
    at = torch.randint(like.numel(), tuple(shape), generator=draws)
    return like.flatten()[at.to(like.device)]
