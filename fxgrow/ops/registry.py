"""The table of rules, and the interface that rules are written against.

A rule gets the operator's arguments with each tensor replaced by a `Value` (its layouts), and returns the
layouts of the results. It calls `Env` to state which dimensions are one width, which are pinned, and which
mappings commute with the operator.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import torch

from ..base.roles import Use
from ..base.torch_private import OpOverload, OpOverloadPacket, is_composite
from ..layouts.layout import ONE, Layout
from ..layouts.unify import Kind, size
from ..model.tree import Mode

KERNEL = "it is a dimension of a kernel or of space, not a width"
PARTIAL = "has no finite value or slope for some inputs"  # so 0 times the value of a new channel may be nan
LARGE = "is not finite for some inputs far from zero"
POSITIONS = "reads values as positions"  # a new channel's may lie outside of what is indexed

Outcome = Any  # tuple[Layout, ...] | Value | list[tuple[Layout, ...] | Value | None]


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor in the analysis.

    Attributes:
        layouts: One layout per dimension.
        origin: The parameter or buffer that it is a view or a multiple of, or "".
        dims: With an origin, for each dimension the dimensions of the origin that it consists of.
        invalid: Layouts that must be pinned if the value is used, such as the width that it holds indices into.
        constant: Whether it depends on no input and no parameter.
        infinite: Whether it may hold infinities or NaN where all inputs are finite. They are at the same places
            whatever the numbers of the channels are.
    """

    layouts: tuple[Layout, ...]
    origin: str = ""
    dims: tuple[tuple[int, ...], ...] = ()
    invalid: tuple[Layout, ...] = ()
    constant: bool = False
    infinite: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(size(layout) for layout in self.layouts)

    def derived(self, layouts: Sequence[Layout], dims: Sequence[tuple[int, ...]]) -> Value:
        """The same tensor in another shape, or scaled; dividing its origin among replicas still divides it."""
        if not self.origin:
            return Value(tuple(layouts))
        return Value(tuple(layouts), self.origin, tuple(dims))


class Env(ABC):
    """The operations of a rule: it states constraints by calling them.

    Attributes:
        op: The overload that the rule is applied to.
        outs: The shapes of its results.
        mode: "train" or "eval".
        strides: The strides of its tensor arguments.
        dtypes: The dtypes of all its tensor arguments, including those in lists.
    """

    op: Any
    mode: Mode
    outs: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]

    @property
    def name(self) -> str:
        """The name of the operator without namespace and overload: "add_"."""
        name: str = self.op._schema.name.partition("::")[2]
        return name

    @abstractmethod
    def unify(self, a: Layout, b: Layout) -> None:
        """The two dimensions are one width with one channel mapping."""

    @abstractmethod
    def pin(self, layout: Layout, reason: str) -> None:
        """Pin the dimension to its size, for this reason."""

    def keep(self, layout: Layout, why: str) -> None:
        """As `pin`; the name of the operator is prepended to the reason."""
        self.pin(layout, f"{self.name}: {why}")

    @abstractmethod
    def cut(self, layout: Layout, position: int) -> tuple[Layout, Layout]:
        """The dimension cut at a position: the layouts of the two parts."""

    @abstractmethod
    def split(self, layout: Layout, sizes: Sequence[int], kinds: Sequence[Kind]) -> list[Layout]:
        """The dimension as a row-major product of dimensions of these sizes: their layouts."""

    @abstractmethod
    def kinds(self, sizes: Sequence[int]) -> tuple[Kind, ...]:
        """For each size of a view in the user's code: "count" if it is a literal, else "width"."""

    @abstractmethod
    def count(self, size: int) -> Layout:
        """The layout of a new number of groups."""

    @abstractmethod
    def elastic(self, size: int) -> Layout:
        """The layout of a dimension of equal values, which takes the size of what it is unified with."""

    @abstractmethod
    def contract(self, value: Value, dim: int) -> None:
        """The operator multiplies this weight by an activation and sums over the dimension."""

    @abstractmethod
    def uniform(self, layouts: Sequence[Layout], reason: str) -> None:
        """Exact only if every channel of these dimensions has the same number of replicas."""

    @abstractmethod
    def centred(self, x: Value, over: Sequence[Layout], weight: Value | None, bias: Value | None, eps: float) -> None:
        """As `uniform`, for a layer norm: (x - mean(x)) / sqrt(var(x) + eps) * weight + bias, over dimensions `over`.

        Over exactly one width it is also exact if the channels without equal replicas carry the mean of the others
        (solver/mean_channels.py).
        """

    @abstractmethod
    def replicas_only(self, layout: Layout, reason: str) -> None:
        """Exact only if new channels are replicas of old ones."""

    @abstractmethod
    def unread(self, layout: Layout) -> None:
        """The operator leaves out these entries of its operand without reading them, as a slice does."""

    @abstractmethod
    def expect(self, argument: int, front: Layout, back: Layout = ()) -> None:
        """After growth this integer argument is the size of `front`; of `back` if it is negative (from the end)."""

    @abstractmethod
    def declare(self, **sizes: Layout | list[Layout]) -> None:
        """Attributes and literals of these names that hold the size of the dimension (list: sizes) are rewritten."""

    @abstractmethod
    def note(self, layouts: Sequence[Layout], text: str) -> None:
        """Add a note to the plan if one of these dimensions grows."""


def broadcast(env: Env, operands: Sequence[Value]) -> tuple[Layout, ...]:
    """The layouts of an elementwise result; the dimensions of the operands are unified, or pinned if broadcast."""
    rank = max((len(v.layouts) for v in operands), default=0)
    out: list[Layout] = []
    for dim in range(-rank, 0):
        here = [v.layouts[dim] for v in operands if len(v.layouts) >= -dim]
        sizes = [v.shape[dim] for v in operands if len(v.layouts) >= -dim]
        widest = max(sizes) if 0 not in sizes else 0
        chosen: Layout | None = None
        for layout, length in zip(here, sizes, strict=True):
            if length != widest:
                env.keep(layout, "one value is broadcast over all channels")
            elif chosen is None:
                chosen = layout
            else:
                env.unify(chosen, layout)
        out.append(ONE if chosen is None else chosen)
    return tuple(out)


def tensors(args: Sequence[Any]) -> list[Value]:
    """The tensor arguments of a call."""
    return [a for a in args if isinstance(a, Value)]


RuleFunction = Callable[..., Outcome]

Linear = Literal["", "each", "spread", "fresh", "alike", "sum", "scale", "divide", "product", "filter", "norm"]
"""How an operator maps a channel that carries the mean of the others; "" if the analysis must assume nothing.

- "each": linear in each tensor, and the same function for each channel: views, joins, means over space.
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
        pinned: Never exact: the dimension keeps its size.
    """

    any: str = ""
    replicas: str = ""
    equal: str = ""
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


def rule_for(op: Any) -> Rule | None:
    """The rule of an overload, or None; operators that PyTorch tags as pointwise share one."""
    own = _TABLE.rules.get(op)
    if own is None and is_pointwise(op):
        return _TABLE.rules[torch.ops.aten.hardswish.default]
    return own


def is_pointwise(op: Any) -> bool:
    """Whether PyTorch tags the overload, or its out-of-place form, as elementwise."""
    if torch.Tag.pointwise in op.tags:
        return True
    name = op._schema.name.split("::")[1]
    if op.namespace != "aten" or not name.endswith("_"):
        return False
    plain = getattr(getattr(torch.ops.aten, name[:-1], None), op._overloadname, None)
    return plain is not None and torch.Tag.pointwise in plain.tags
