"""The table of rules: per operator its rule, samples of it, and the mappings for which it is exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any, Literal

import torch

from ..base.roles import Use
from ..base.torch_private import OpOverload, OpOverloadPacket, is_composite
from .env import Outcome

RuleFunction = Callable[..., Outcome]

Linear = Literal[
    "", "each", "rounded", "spread", "fresh", "alike", "sum", "scale", "divide", "product", "filter", "norm"
]
"""How an operator maps a channel that carries the mean of the others; "" if the analysis must assume nothing.

- "each": linear in each tensor, and the same function for each channel: views, joins, means over space.
- "rounded": as "each", with a rounding, after which a mean is not the mean of the others. Rules say `Env.rounds`.
- "spread": as "each"; entries along a new dimension are equal.
- "fresh": all entries are equal, for any input. "alike": entries are equal if those of the input are.
- "sum": a sum or difference. "scale": a product. "divide": a quotient.
- "product": a matrix product, of the last two tensors; "filter": a convolution, of the first two.
- "norm": a layer norm.
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """A test case of a rule: a module or function on hidden activations, used by the generic tests.

    Attributes:
        build: Returns a callable that takes one activation of the given shape and returns one.
        shape: Shape of that activation without the batch.
        grows: Whether its width can grow through the operator.
        dim: Which dimension of the activation, counting the batch, is the width.
    """

    build: Callable[[], Callable[[torch.Tensor], torch.Tensor]]
    shape: tuple[int, ...] = (8, 6, 4)
    grows: bool = True
    dim: int = 1


@dataclass(frozen=True, slots=True)
class Exactness:
    """The mappings g: [new] -> [old] for which an operator commutes with growth, per dimension.

    Each attribute describes the dimensions that it holds for, and is "" if it holds for none.

    Attributes:
        any: Exact for any values of the new channels.
        replicas: Exact if new channels are replicas of old ones.
        equal: Exact if every channel has the same number of replicas.
        zero: Exact if the new entries of weights are zero.
        pinned: Never exact: the dimension keeps its size.
    """

    any: str = ""
    replicas: str = ""
    equal: str = ""
    zero: str = ""
    pinned: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, with the properties of its operators for checks and documentation; see `rule`."""

    function: RuleFunction
    sized: tuple[int | str, ...]
    samples: tuple[Sample, ...]
    exact: Exactness
    linear: Linear = ""
    kinds: Mapping[str, Use] = field(default_factory=dict)


@dataclass(slots=True)
class _Table:
    rules: dict[Any, Rule] = field(default_factory=dict)


_TABLE = _Table()


def rule(
    *ops: Any,
    samples: Sequence[Sample],
    exact: Exactness,
    sized: tuple[int | str, ...] = (),
    linear: Linear = "",
    kinds: Mapping[str, Use] | None = None,
) -> Callable[[RuleFunction], RuleFunction]:
    """Function decorator: adds a rule for operators, of ATen or of a library of your own.

    Args:
        ops: Overloads (`torch.ops.aten.relu.default`) or packets (`torch.ops.aten.relu`: all its overloads that a run
            can record).
        samples: At least one, for the generic tests.
        exact: The mappings for which the operator is exact.
        sized: Arguments that the shapes determine, so that they may differ between teacher and student.
        linear: How a channel that carries the mean of the others is mapped.
        kinds: The kinds of parameters and buffers among the arguments, by the names of ATen's schema. A "shift" of a
            call that sums over channels is a bias.

    Raises:
        ValueError: An operator already has a rule, `samples` or `exact` is empty, or an argument is no operator.
    """

    def register(function: RuleFunction) -> RuleFunction:
        if not samples:
            raise ValueError(f"the rule {function.__name__} has no sample")
        if exact == Exactness():
            raise ValueError(f"the rule {function.__name__} does not state when it is exact")
        overloads = [overload for op in ops for overload in _overloads(op)]
        for overload in overloads:
            if overload in _TABLE.rules:
                raise ValueError(f"{overload} already has a rule")
        _TABLE.rules.update(dict.fromkeys(overloads, Rule(function, sized, tuple(samples), exact, linear, kinds or {})))
        return function

    return register


def _overloads(op: Any) -> list[Any]:
    if isinstance(op, OpOverload):
        return [op]
    if isinstance(op, OpOverloadPacket):
        return [overload for name in op.overloads() if _is_recorded(overload := getattr(op, name))]
    raise ValueError(f"{op!r} is no operator: give an overload such as torch.ops.aten.relu.default, or a packet")


def _is_recorded(overload: Any) -> bool:
    """Whether a run can record the overload: it gives tensors of its own, and PyTorch does not take it apart before."""
    schema = overload._schema
    gives_tensors = any("Tensor" in str(result.type) for result in schema.returns)
    return gives_tensors and not any(a.is_out for a in schema.arguments) and not is_composite(overload)


def rules() -> Mapping[Any, Rule]:
    """All rules by overload, as a read-only view."""
    return MappingProxyType(_TABLE.rules)


TAGGED_LATER = frozenset(("ldexp", "leaky_relu"))  # elementwise, and tagged so since torch 2.11 and 2.13


def rule_for(op: Any) -> Rule | None:
    """The rule of an overload, or None; operators that PyTorch tags as pointwise share one."""
    own = _TABLE.rules.get(op)
    if own is None and is_pointwise(op):
        return _TABLE.rules[torch.ops.aten.hardswish.default]
    return own


@cache
def is_pointwise(op: Any) -> bool:
    """Whether PyTorch tags the overload, or its out-of-place form, as elementwise."""
    name = op._schema.name.split("::")[1]
    if torch.Tag.pointwise in op.tags or (op.namespace == "aten" and name.removesuffix("_") in TAGGED_LATER):
        return True
    if op.namespace != "aten" or not name.endswith("_"):
        return False
    plain = getattr(getattr(torch.ops.aten, name[:-1], None), op._overloadname, None)
    return plain is not None and torch.Tag.pointwise in plain.tags
