"""Activation functions: which nodes compute one, its range and fixed points, and a module that computes the same.

An identity layer with an activation f may follow f if f(f(x)) = f(x), as for ReLU. A function that is not listed here
is not treated as an activation.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ..errors import PlanError

Range = tuple[float, float]
EMPTY: Range = (math.inf, -math.inf)


@dataclass(frozen=True, slots=True)
class Activation:
    """An elementwise nonlinearity: the name of a class of torch.nn and its arguments, as plain data."""

    name: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def module(self) -> nn.Module:
        """A new module that computes it, not in place."""
        module: nn.Module = getattr(nn, self.name)(**{name: _number(value) for name, value in self.kwargs.items()})
        return module

    def why_invalid(self) -> str:
        """Why it is none that can be built, as a reason; "" where it can."""
        if self.name not in _MODULES:
            return f"{self.name!r} is no known activation"
        allowed = set(inspect.signature(getattr(nn, self.name)).parameters) - _CHANGES_NOTHING
        if not self.kwargs.keys() <= allowed:
            return f"{self.name} has no argument {min(self.kwargs.keys() - allowed)!r}"
        try:
            with torch.device("meta"):
                self.module()
        except (TypeError, ValueError, RuntimeError, ArithmeticError, AssertionError) as error:
            return f"{self.name} does not take its arguments: {error}"
        return ""

    def keeps(self, before: Activation) -> bool:
        """Whether f(b(x)) = b(x) for all x, with f this activation and b `before`."""
        if self.name == before.name and self.name in IDEMPOTENT and dict(self.kwargs) == dict(before.kwargs):
            return True
        (low, high), (least, most) = _fixed(self), _range(before)
        return low <= least and most <= high


def _number(value: Any) -> Any:
    return float(value) if value in ("inf", "-inf") else value


IDEMPOTENT = frozenset({"ReLU", "ReLU6", "Hardtanh", "Hardshrink", "Threshold", "Identity"})


def _fixed(activation: Activation) -> Range:
    """An interval of fixed points: f(x) = x for all x in it; EMPTY if none is known."""
    kwargs = activation.kwargs
    always: dict[str, Range] = {"ReLU": (0, math.inf), "ReLU6": (0, 6), "Identity": (-math.inf, math.inf)}
    if activation.name == "Hardtanh":
        return _number(kwargs.get("min_val", -1.0)), _number(kwargs.get("max_val", 1.0))
    if activation.name in ("LeakyReLU", "PReLU", "RReLU", "ELU", "CELU"):
        return 0, math.inf
    return always.get(activation.name, EMPTY)


def _range(activation: Activation) -> Range:
    """An interval that contains all values of an activation."""
    kwargs = activation.kwargs
    if activation.name == "Hardtanh":
        return _number(kwargs.get("min_val", -1.0)), _number(kwargs.get("max_val", 1.0))
    known: dict[str, Range] = {
        "ReLU": (0, math.inf), "ReLU6": (0, 6), "Sigmoid": (0, 1), "Hardsigmoid": (0, 1), "Softplus": (0, math.inf),
        "Tanh": (-1, 1), "Softsign": (-1, 1),
    }  # fmt: skip
    return known.get(activation.name, (-math.inf, math.inf))


_MODULES = (
    "ReLU", "ReLU6", "Hardtanh", "Hardshrink", "Threshold", "ELU", "CELU", "SELU", "GELU", "SiLU", "Mish", "Hardswish",
    "Hardsigmoid", "Sigmoid", "Tanh", "Softplus", "Softshrink", "Softsign", "Tanhshrink", "LeakyReLU", "LogSigmoid",
    "PReLU", "RReLU", "Identity",
)  # fmt: skip
_BY_CLASS = {getattr(nn, name): name for name in _MODULES}
_CHANGES_NOTHING = {"inplace", "training", "input", "self", "device", "dtype", "weight", "out"}


def of_module(module: nn.Module) -> Activation | None:
    """The activation that a module of torch.nn computes; None if it is no known one."""
    name = _BY_CLASS.get(type(module))
    if name is None:
        return None
    names = [n for n in inspect.signature(type(module)).parameters if n not in _CHANGES_NOTHING]
    if name == "PReLU":
        return Activation(name, {"num_parameters": module.num_parameters})
    return Activation(name, {n: getattr(module, n) for n in names if hasattr(module, n)})


def activation_by_name(name: str) -> Activation:
    """The activation of a class of torch.nn by name, case-insensitive, with default arguments.

    Raises:
        PlanError: No known activation has the name.
    """
    known = {one.lower(): one for one in _MODULES}
    if name.lower() not in known:
        raise PlanError(f"no activation {name!r}; known: same, none, parametric, {', '.join(_MODULES)}")
    return Activation(known[name.lower()], {"threshold": 0.0, "value": 0.0} if name.lower() == "threshold" else {})


def _clamp(low: Any = None, high: Any = None, **named: Any) -> Activation | None:
    low, high = named.get("min", low), named.get("max", high)
    if isinstance(low, int | float | None) and isinstance(high, int | float | None) and (low, high) != (None, None):
        bounds = ("-inf" if low is None else float(low), "inf" if high is None else float(high))  # JSON has no infinity
        ordered = float(bounds[0]) <= float(bounds[1])
        return Activation("Hardtanh", {"min_val": bounds[0], "max_val": bounds[1]}) if ordered else None
    return None


def _like(name: str, *parameters: str) -> Callable[..., Activation | None]:
    def activation(*args: Any, **kwargs: Any) -> Activation | None:
        given = {**dict(zip(parameters, args, strict=False)), **kwargs}
        given = {key: value for key, value in given.items() if key in parameters}
        return Activation(name, given) if all(isinstance(v, int | float | str) for v in given.values()) else None

    return activation


_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "hardtanh": ("min_val", "max_val"), "hardshrink": ("lambd",), "threshold": ("threshold", "value"),
    "elu": ("alpha",), "celu": ("alpha",), "gelu": ("approximate",), "leaky_relu": ("negative_slope",),
    "softshrink": ("lambd",), "softplus": ("beta", "threshold"),
}  # fmt: skip


def _functions() -> dict[Any, Callable[..., Activation | None]]:
    """For each function and method name of torch that computes an activation, a maker of the `Activation`."""
    makers: dict[Any, Callable[..., Activation | None]] = {}
    for name in (n for n in _MODULES if n not in ("PReLU", "RReLU")):
        words = {"LeakyReLU": "leaky_relu", "LogSigmoid": "logsigmoid"}
        word = words.get(name, name.lower())
        maker = _like(name, *_ARGUMENTS.get(word, ()))
        for spelling in (word, f"{word}_"):
            makers.update({getattr(home, spelling): maker for home in (F, torch) if hasattr(home, spelling)})
            if hasattr(Tensor, spelling):
                makers[spelling] = maker
    for word, maker in (("clamp", _clamp), ("clip", _clamp)):
        makers.update({f"{word}": maker, f"{word}_": maker, getattr(torch, word): maker})
    makers["clamp_min"] = makers["clamp_min_"] = makers[torch.clamp_min] = lambda low=None, **kw: _clamp(low, **kw)
    return makers


_BY_TARGET = _functions()


def of_node(node: fx.Node, root: nn.Module) -> Activation | None:
    """The activation that a node of a graph computes; None if it computes no known one."""
    if node.op == "call_module":
        return of_module(root.get_submodule(str(node.target)))
    if node.op not in ("call_function", "call_method"):
        return None
    maker = _BY_TARGET.get(node.target)
    if maker is None:
        return None
    args = node.args[1:] if node.args else ()
    return maker(*args, **{key: value for key, value in node.kwargs.items() if key not in _CHANGES_NOTHING})


class ParametricActivation(nn.Module):
    """(1 - a) f(x) + a x, with a learnable scalar a that is initialised to 1, so that it starts as the identity.

    Args:
        function: f, which must not work in place.

    Shape:
        Any shape; the output has the shape of the input.

    Source: Network Morphism (Wei et al., arXiv 1603.01670), section 3.4.
    """

    def __init__(self, function: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.a = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return (1 - self.a) * self.function(x) + self.a * x
