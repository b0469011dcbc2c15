"""The table of rules, and the language they are written in.

A rule gets the operator's arguments with every tensor replaced by a `Value` (its layouts) and returns
the layouts of what comes out; on the way it tells the `Env` which widths are one, which must stay, and
what has to be true of a mapping for the operator to commute with growth.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import torch

from ..base.roles import Use
from ..base.torch_private import OpOverload, OpOverloadPacket
from ..layouts.layout import ONE, Layout
from ..layouts.unify import Kind, size
from ..model.tree import Mode

KERNEL = "it is a dimension of a kernel or of space, not a width"
PARTIAL = "has no finite value or slope for some numbers"  # 0 times what a new channel gives may be nan

Outcome = Any  # tuple[Layout, ...] | Value | list[tuple[Layout, ...] | Value | None]


@dataclass(frozen=True, slots=True)
class Value:
    """What is known of a tensor.

    Attributes:
        layouts: One layout per dimension.
        origin: The parameter or buffer that it is a view of, or "".
        dims: With an origin, for each dimension those of the origin that it consists of.
        invalid: Layouts that must be pinned if the value is used at all (indices into a width, say).
        constant: Whether it depends on no input and no parameter.
    """

    layouts: tuple[Layout, ...]
    origin: str = ""
    dims: tuple[tuple[int, ...], ...] = ()
    invalid: tuple[Layout, ...] = ()
    constant: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(size(layout) for layout in self.layouts)

    def derived(self, layouts: Sequence[Layout], dims: Sequence[tuple[int, ...]]) -> Value:
        """The same tensor in another shape, or scaled: its values still split as the origin's do."""
        if not self.origin:
            return Value(tuple(layouts))
        return Value(tuple(layouts), self.origin, tuple(dims))


class Env(ABC):
    """What a rule can say.

    Attributes:
        op: The overload at work.
        outs: The shapes of its results.
        mode: "train" or "eval".
        strides: The strides of its tensor arguments.
        dtypes: The dtypes of all its tensors, those in lists too.
    """

    op: Any
    mode: Mode
    outs: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]

    @property
    def name(self) -> str:
        """The operator at work, without its namespace and overload: "add_"."""
        name: str = self.op._schema.name.partition("::")[2]
        return name

    @abstractmethod
    def unify(self, a: Layout, b: Layout) -> None:
        """The two dimensions are one width with one mapping."""

    @abstractmethod
    def pin(self, layout: Layout, reason: str) -> None:
        """The dimension keeps its size."""

    def keep(self, layout: Layout, why: str) -> None:
        """As `pin`, for what the operator at work does to the dimension; the reason names the operator."""
        self.pin(layout, f"{self.name}: {why}")

    @abstractmethod
    def cut(self, layout: Layout, position: int) -> tuple[Layout, Layout]:
        """The dimension before and after a position."""

    @abstractmethod
    def split(self, layout: Layout, sizes: Sequence[int], kinds: Sequence[Kind]) -> list[Layout]:
        """The dimension seen as several."""

    @abstractmethod
    def kinds(self, sizes: Sequence[int]) -> tuple[Kind, ...]:
        """For the sizes of a view in the user's code: "count" where they are literals, else "width"."""

    @abstractmethod
    def count(self, size: int) -> Layout:
        """A new number of groups."""

    @abstractmethod
    def elastic(self, size: int) -> Layout:
        """A dimension of constant values, which follows whatever it meets."""

    @abstractmethod
    def contract(self, value: Value, dim: int) -> None:
        """The operator sums over this dimension of a weight, times an activation."""

    @abstractmethod
    def uniform(self, layouts: Sequence[Layout], reason: str) -> None:
        """Exactness only where every channel of these dimensions has equally many replicas."""

    @abstractmethod
    def centred(self, x: Value, over: Sequence[Layout], weight: Value | None, bias: Value | None, eps: float) -> None:
        """As `uniform`, for a layer norm: x - mean over x's standard deviation, times a weight, plus a bias.

        Over one whole width it is exact, too, where the other new channels carry the mean (`fxgrow.means`).
        """

    @abstractmethod
    def replicas_only(self, layout: Layout, reason: str) -> None:
        """Exactness only where new channels are replicas of old ones."""

    @abstractmethod
    def expect(self, argument: int, front: Layout, back: Layout = ()) -> None:
        """After growth this integer argument is the size of `front`; where it counts from the end, of `back`."""

    @abstractmethod
    def declare(self, **sizes: Layout | list[Layout]) -> None:
        """Attributes or literals of these names that hold the size of this dimension (a list: of these) follow."""

    @abstractmethod
    def note(self, layouts: Sequence[Layout], text: str) -> None:
        """What a user should know where one of these dimensions grows."""


def broadcast(env: Env, operands: Sequence[Value]) -> tuple[Layout, ...]:
    """The layouts of an elementwise result, with the operands' dimensions unified."""
    rank = max((len(v.layouts) for v in operands), default=0)
    out: list[Layout] = []
    for dim in range(-rank, 0):
        here = [v.layouts[dim] for v in operands if len(v.layouts) >= -dim]
        sizes = [v.shape[dim] for v in operands if len(v.layouts) >= -dim]
        widest = max(sizes) if 0 not in sizes else 0
        chosen: Layout | None = None
        for layout, length in zip(here, sizes, strict=True):
            if length != widest:
                env.keep(layout, "one number is broadcast over all channels")
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
"""How an operator treats a channel that carries the mean of the others; "": in no way that is known.

- "each": linear in each tensor, each channel by itself, in which all agree: views, joins, means over space.
- "spread": the same; a new dimension holds equal entries.
- "fresh": equal entries, whatever goes in. "alike": equal entries, if what goes in has.
- "sum": a sum or difference. "scale": a product. "divide": a quotient.
- "product": a matrix product, of the last two tensors; "filter": a convolution, of the first two.
- "norm": a layer norm.
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """How to exercise a rule: a module (or function) on hidden activations, used by the generic tests.

    Attributes:
        build: Makes a callable that takes one activation of the given shape and returns one.
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
    """For which mappings g: [new] -> [old] an operator commutes with growth, by what happens to a dimension.

    Each attribute names the dimensions of which it is true, and is "" where it is true of none.

    Attributes:
        any: Whatever the new channels hold.
        replicas: Where new channels are replicas of old ones.
        equal: Where every channel has equally many replicas.
        pinned: Never: the dimension keeps its size.
    """

    any: str = ""
    replicas: str = ""
    equal: str = ""
    pinned: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule and what the checks and the documentation need to know of its operator."""

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
        ops: Overloads (`torch.ops.aten.relu.default`) or packets (`torch.ops.aten.relu`: all its overloads).
        samples: At least one, for the generic tests.
        exact: For which mappings the operator is exact.
        sized: Arguments that are implied by the shapes and so may differ between teacher and student.
        linear: How a channel goes through that carries the mean of the others.
        kinds: What a parameter or buffer is that is given as an argument, by the names of ATen's schema. A "shift" of
            a call that sums over channels is a bias.

    Raises:
        ValueError: It is no operator, it has a rule already, there is no sample, or nothing said about exactness.
    """

    def register(function: RuleFunction) -> RuleFunction:
        if not samples:
            raise ValueError(f"the rule {function.__name__} has no sample")
        if exact == Exactness():
            raise ValueError(f"the rule {function.__name__} does not say when it is exact")
        overloads = [overload for op in ops for overload in _overloads(op)]
        for overload in overloads:
            if overload in _TABLE.rules:
                raise ValueError(f"{overload} has a rule already")
        _TABLE.rules.update(dict.fromkeys(overloads, Rule(function, sized, tuple(samples), exact, linear, kinds or {})))
        return function

    return register


def _overloads(op: Any) -> list[Any]:
    if isinstance(op, OpOverload):
        return [op]
    if isinstance(op, OpOverloadPacket):
        return [getattr(op, name) for name in op.overloads()]
    raise ValueError(f"{op!r} is no operator: give an overload such as torch.ops.aten.relu.default, or a packet")


def rules() -> Mapping[Any, Rule]:
    """All rules by overload, read-only."""
    return MappingProxyType(_TABLE.rules)


def rule_for(op: Any) -> Rule | None:
    """The rule of an overload; operators that PyTorch tags as pointwise share one."""
    found = _TABLE.rules.get(op)
    if found is None and is_pointwise(op):
        return _TABLE.rules[torch.ops.aten.hardswish.default]
    return found


def is_pointwise(op: Any) -> bool:
    """Whether PyTorch tags the overload, or the one that it is the in-place form of, as elementwise."""
    if torch.Tag.pointwise in op.tags:
        return True
    name = op._schema.name.split("::")[1]
    if op.namespace != "aten" or not name.endswith("_"):
        return False
    plain = getattr(getattr(torch.ops.aten, name[:-1], None), op._overloadname, None)
    return plain is not None and torch.Tag.pointwise in plain.tags
