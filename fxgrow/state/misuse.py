"""A warning where a student is trained by an optimizer that still holds its teacher: nothing would learn.

Seen at the second backward pass of a student whose parameters have not changed since it was made. Then, and only then,
the optimizers that are alive are looked through. One hook on one parameter does it, and goes when it has looked.
"""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Sequence

from torch import Tensor, nn
from torch.optim import Optimizer

from ..model.copies import named_parameters
from ..model.sharded import is_dtensor
from ..model.supported import HARMLESS
from .optimizer import Moving

_LOOK_AT = 2  # backward passes


def watch(teacher: nn.Module, student: nn.Module, moved: Sequence[Moving]) -> None:
    """Look out for an optimizer that was left at the teacher, of the parameters that none was moved with."""
    held = {id(p) for one in moved for group in one.optimizer.param_groups for p in group["params"]}
    mine = [p for p in _trained(student) if id(p) not in held]
    theirs = [p for p in _trained(teacher) if not any(id(p) in one.named for one in moved)]
    if mine and theirs and not mine[-1].is_meta and not is_dtensor(mine[-1]):
        _Watch(mine[-1], theirs)


def _trained(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that take a gradient."""
    return [parameter for parameter in named_parameters(model).values() if parameter.requires_grad]


class _Watch:
    """The hook, on a student's parameter."""

    def __init__(self, parameter: nn.Parameter, of_teacher: Sequence[Tensor]) -> None:
        self._theirs = [weakref.ref(tensor) for tensor in of_teacher]
        self._passes = 0
        self._version = parameter._version
        vars(self)[HARMLESS] = True
        self._handle = parameter.register_post_accumulate_grad_hook(self)

    def __call__(self, parameter: Tensor) -> None:
        self._passes += 1
        trained = parameter._version != self._version
        if trained or self._passes >= _LOOK_AT:
            self._handle.remove()
        if not trained and self._passes >= _LOOK_AT:
            self._look(parameter)

    def _look(self, parameter: Tensor) -> None:
        theirs = {id(tensor) for ref in self._theirs if (tensor := ref()) is not None}
        objects = gc.get_objects() if theirs else []
        holding = [one for one in objects if issubclass(type(one), Optimizer)]  # asks no object anything
        held = [{id(p) for group in one.param_groups for p in group["params"]} for one in holding]
        if any(theirs & ids for ids in held) and not any(id(parameter) in ids for ids in held):
            kinds = {type(one).__name__ for one, ids in zip(holding, held, strict=True) if theirs & ids}
            warnings.warn(
                f"the student gets gradients, and the {' and the '.join(sorted(kinds))} still holds the parameters of "
                "its teacher, so the student does not learn: give grow(..., optimizer=...), or make a new one for it "
                "(all optimizers of the model, where there are several: optimizer=[...])",
                stacklevel=2,
            )
