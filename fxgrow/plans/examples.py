"""The example inputs that a plan was made with."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ..model.example_data import call_from_data
from ..model.example_inputs import ModelInputs
from .growth_plan import Plan


def example_of(plan: Plan, tensors: Iterable[Tensor]) -> ModelInputs | None:
    """The example inputs that a plan was made with, on the meta device; None where it could not hold them.

    Args:
        plan: The plan.
        tensors: Those of the model, which say the dtype.
    """
    return examples_of(plan, tensors)[0]


def examples_of(plan: Plan, tensors: Iterable[Tensor]) -> list[ModelInputs | None]:
    """The same for each form of inputs that it was made with."""
    dtype = next((t.dtype for t in tensors if t.is_floating_point()), torch.get_default_dtype())
    held = [plan.example, *[form.example for form in plan.forms]]
    return [None if one is None else call_from_data(one, dtype) for one in held]
