"""A student with random weights, to measure how long it takes before there is a teacher to grow."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..base.magnitude import is_inexact
from ..base.rng import dtype_drawn, named_generator
from ..capture.traced import Traced
from ..model.copies import DEVICE, clone_shared, named_tensors, plain_tensors
from ..model.opaque import OPAQUE_MODEL
from ..model.walk import named_modules
from ..plans.growth_plan import Plan
from .memory import check_memory
from .student import assemble
from .tensors import grown_tensors

SCALE = 0.02  # standard deviation of the weights: large enough for no denormal numbers


def sample_student(traced: Traced, plan: Plan) -> nn.Module:
    """The student of a plan in eval mode, on the device of the traced model, with random weights.

    Integers in it are 0 and booleans False: the values are not known on meta.

    Raises:
        PlanError: There is no room for it.
    """
    device = vars(traced.root).get(DEVICE) or torch.device("cpu")
    tensors = named_tensors(traced.root)
    check_memory(plan, tensors, device)
    grown = grown_tensors(plan, tensors)
    real: dict[int, Tensor] = {}
    for name, tensor in tensors.items():
        data = _filled(grown[name], name, device)
        real[id(tensor)] = nn.Parameter(data, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else data
    for number, tensor in enumerate(plain_tensors(list(named_modules(traced.root)))):
        if tensor.is_meta:
            real.setdefault(id(tensor), _filled(tensor, str(number), device))
    root = clone_shared(traced.root, real)
    known = {name: constant for name, constant in (traced.constants or {}).items() if not constant.is_meta}
    root.__dict__.update({name: constant.to(device) for name, constant in known.items()})
    student = assemble(root, traced, plan, traced.class_name)
    made: nn.Module = student if plan.output == "graph" else root.__dict__[OPAQUE_MODEL]
    return made.eval()


def _filled(tensor: Tensor, name: str, device: torch.device) -> Tensor:
    """A tensor of the same shape with numbers: of weights random ones, of other parts 1 or 0."""
    if not is_inexact(tensor):
        return torch.zeros(tensor.shape, dtype=tensor.dtype, device=device)
    if not isinstance(tensor, nn.Parameter):
        return torch.ones(tensor.shape, dtype=tensor.dtype, device=device)
    numbers = torch.empty(tensor.shape, dtype=dtype_drawn(tensor))
    return numbers.normal_(0, SCALE, generator=named_generator(0, name)).to(device, tensor.dtype)
