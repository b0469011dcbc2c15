"""An autograd Function of the user's, run with its backward, so that both are recorded.

A student's gradients are part of what it computes. For operators of torch they follow from the forward. A Function
states its backward itself, and that may look over channels. So wherever a run meets one, its backward runs too, on a
gradient of ones, and each input is added to its gradient: the two have to have the same layout. What the rules cannot
express is pinned by them, and numbers that follow a width differ in the student, as everywhere else. A backward that
asks which inputs need a gradient runs again with other answers; one that may be given None for a gradient, with that.

One thing the rules cannot tell: whether the backward is linear in the gradient, as every true derivative is. Replicas
share a gradient, so that the shares have to add up to the whole. `_Linear` follows the gradient through the calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from ..base.magnitude import is_inexact
from ..base.structures import leaf_tensors
from ..base.torch_private import TorchDispatchMode
from .operators import results_of, tensors_in

Refuse = Callable[[str, Any], None]  # (why, what the Function took and gave)


def apply_with_backward(function: type, args: tuple[Any, ...], kwargs: dict[str, Any], refuse: Refuse) -> Any:
    """What a Function gives; its backward is run beside it.

    Args:
        function: The class.
        args: What it is applied to.
        kwargs: The same by name.
        refuse: Told why the gradient of what the Function takes and gives may be another one at other widths.
    """
    result, context = forward_of(function, args, kwargs)
    name = f"{function.__name__}, an autograd Function of the model's own,"
    try:
        reason = _run_backwards(function, context, args, result)
    except Exception as error:  # noqa: BLE001 - whatever a backward raises that meets no gradients
        reason = f"has a backward that does not run alone ({type(error).__name__})"
    if reason:
        refuse(f"{name} {reason}", (args, kwargs, result))
    return result


def forward_of(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """What a Function's forward gives, and the context that it leaves for its backward."""
    context = _Context(args)
    if function.setup_context is torch.autograd.Function.setup_context:
        return function.forward(context, *args, **kwargs), context
    result = function.forward(*args, **kwargs)
    function.setup_context(context, args, result)
    return result, context


def ones_for(result: Any) -> list[Tensor]:
    """A gradient of ones for each tensor that a Function gives."""
    return [torch.ones_like(out) for out in results_of(result) if isinstance(out, Tensor)]


def _run_backwards(function: Any, context: _Context, args: tuple[Any, ...], result: Any) -> str:
    """Run a backward in every way in which autograd may run it; why that is refused, or ""."""
    if context.asked:
        return "asks in its forward which inputs need a gradient"
    ones = ones_for(result)
    reasons = [_run_backward(function, context, args, ones)]
    if context.asked:
        most = context.needs
        for context.needs in _other_needs(most):
            reasons.append(_run_backward(function, context, args, ones))
        context.needs = most
    if not context.materialize_grads and len(ones) > 1:
        for missing in range(len(ones)):
            given = [None if place == missing else one for place, one in enumerate(ones)]
            with suppress(TypeError):  # code that takes no None there: the teacher has no such gradient either
                reasons.append(_run_backward(function, context, args, given))
    return next(filter(None, reasons), "")


def _run_backward(function: Any, context: _Context, args: tuple[Any, ...], gradients: Sequence[Tensor | None]) -> str:
    with _Linear([g for g in gradients if g is not None]) as followed:
        given = results_of(function.backward(context, *gradients))
    for argument, gradient, needed in zip(args, given, context.needs, strict=False):
        if needed and isinstance(gradient, Tensor) and isinstance(argument, Tensor):
            if gradient.shape != argument.shape:
                return "gives a gradient of another shape"
            torch.add(argument, gradient)  # the same layout
    return f"has a backward that is not linear in the gradient ({followed.where})" if followed.where else ""


def _needs(args: tuple[Any, ...]) -> tuple[bool, ...]:
    """Which arguments can have a gradient."""
    return tuple([isinstance(a, Tensor) and is_inexact(a) for a in args])


def _other_needs(most: tuple[bool, ...]) -> list[tuple[bool, ...]]:
    """Other answers to which inputs need a gradient: all but one, and one alone; never none."""
    able = [place for place, need in enumerate(most) if need]
    sets = [set(able) - {place} for place in able] + [{place} for place in able]
    answers = [tuple([place in chosen for place in range(len(most))]) for chosen in sets if chosen]
    return [needs for needs in dict.fromkeys(answers) if needs != most]


class _Context:
    """What a Function's forward hands to its backward.

    Attributes:
        needs: The answer to which inputs need a gradient.
        asked: Whether code asked for it.
    """

    def __init__(self, args: tuple[Any, ...]) -> None:
        self.needs, self.asked = _needs(args), False
        self.saved_tensors: tuple[Any, ...] = ()
        self.materialize_grads = True

    @property
    def needs_input_grad(self) -> tuple[bool, ...]:
        self.asked = True
        return self.needs

    def save_for_backward(self, *tensors: Any) -> None:
        self.saved_tensors = tensors

    def save_for_forward(self, *tensors: Any) -> None:
        """For forward-mode derivatives, which nobody asks for."""

    def mark_dirty(self, *tensors: Any) -> None:
        """The tape sees what is written."""

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """The gradient of these is ones all the same."""

    def set_materialize_grads(self, value: bool) -> None:
        """Whether the gradient of a result that nothing used is given as zeros; else it is None."""
        self.materialize_grads = value


_SHAPING = frozenset((
    "view", "_unsafe_view", "reshape", "expand", "permute", "t", "transpose", "unsqueeze", "squeeze", "slice", "select",
    "clone", "detach", "alias", "contiguous", "_to_copy", "neg", "flatten", "sum", "mean", "split", "split_with_sizes",
    "cat", "flip", "roll", "constant_pad_nd", "zeros_like", "ones_like", "empty_like", "new_zeros",
))  # fmt: skip
_PRODUCTS = frozenset(("mul", "mm", "bmm", "addmm", "convolution"))  # linear in each factor
_SUMS = frozenset(("add", "sub", "rsub", "add_", "sub_"))


class _Linear(TorchDispatchMode):
    """Follows what depends on a gradient, and notes the first call that is not linear in it."""

    def __init__(self, gradients: list[Tensor]) -> None:
        super().__init__()
        self._kept: list[Tensor] = list(gradients)  # keeps ids unique
        self._depends = {id(g) for g in gradients}
        self.where = ""

    def __torch_dispatch__(
        self, op: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        given = [t for a in (*args, *named.values()) for t in tensors_in(a)]
        out = op(*args, **named)
        if any(id(t) in self._depends for t in given):
            name = op._overloadpacket.__name__
            if not self._is_linear(name, args, given) and not self.where:
                self.where = name
            if name not in ("zeros_like", "ones_like", "empty_like", "new_zeros"):
                tensors = leaf_tensors(out)
                self._kept += tensors
                self._depends |= {id(t) for t in tensors}
        return out

    def _is_linear(self, name: str, args: tuple[Any, ...], given: list[Tensor]) -> bool:
        follow = [id(t) in self._depends for t in given]
        if name in _SHAPING:
            return True
        if name in _PRODUCTS or name == "mul_":
            return sum(follow) == 1
        if name in ("div", "div_"):
            return follow[0] and not any(follow[1:])
        if name in _SUMS:
            return all(follow) and all(isinstance(a, Tensor) for a in args[:2])
        if name == "masked_fill":
            return follow[0] and not any(follow[1:]) and args[2] == 0
        if name == "where":
            return not follow[0] and all(follow[1:])
        return False
