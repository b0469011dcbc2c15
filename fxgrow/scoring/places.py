"""What a new layer or block would gain at each place: the gradient of its parameters in a student that has them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..api import apply, plan
from ..errors import GrowError
from ..infer.width_graph import WidthGraph
from ..model.copies import named_parameters
from ..plans.growth_plan import Plan
from ..spec.requests import Deepen
from .result import Place


class Deeper:
    """A student with a new layer or block at every place, which computes what the model does."""

    def __init__(self, model: nn.Module, widths: WidthGraph, requests: Sequence[Deepen]) -> None:
        """Make it.

        Args:
            model: A copy of the model, with values.
            widths: Its widths.
            requests: The places.

        Raises:
            PlanError: There is no place for one.
        """
        made: Plan = plan(widths, list(requests))
        self.student: nn.Module = apply(made, model)
        for parameter in self.student.parameters():
            parameter.requires_grad_(True)
        names = named_parameters(self.student)
        self._follows = _followed(made)
        self._new = {
            path: {name: names[name] for name in names if name.startswith(f"{path}.")} for path in self._follows
        }
        self._sums: dict[str, Tensor] = {}
        self._batches = 0

    def add(self, batch: Any, loss: Callable[[Any, Any], Tensor]) -> None:
        """Add the gradient of one batch."""
        self._batches += 1
        parameters = {name: p for inside in self._new.values() for name, p in inside.items()}
        with torch.enable_grad():
            value = loss(self.student, batch)
            gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
        for name, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                more = gradient.detach().to(torch.promote_types(gradient.dtype, torch.float64))
                self._sums[name] = self._sums[name] + more if name in self._sums else more

    def places(self) -> tuple[Place, ...]:
        """The places, the one that gains most first."""
        found = [Place(path, self._follows[path], self._length(inside)) for path, inside in self._new.items()]
        return tuple(sorted(found, key=lambda place: -place.value))

    def _length(self, names: Iterable[str]) -> float:
        """The length of the mean gradient of some parameters."""
        return sum(float(self._sums[n].abs().square().sum()) for n in names if n in self._sums) ** 0.5 / self._batches


def _followed(made: Plan) -> dict[str, str]:
    """By the path of each new module what it follows: a layer, or the block that it is a clone of."""
    return {made.student_name(path): change.follows for change in made.changes for path in change.new_paths}


def requests_of(deeper: object) -> list[Deepen]:
    """The requests for new layers and blocks, as a list.

    Raises:
        GrowError: It is something else.
    """
    given = [] if deeper is None else [deeper] if isinstance(deeper, Deepen) else deeper
    if not isinstance(given, list | tuple) or not all(isinstance(one, Deepen) for one in given):
        raise GrowError(f"deeper is a Deepen, or a list of them, not {deeper!r:.80}")
    return list(given)
