"""The language of the rules: what an operator's rule can say of widths, and where that is written down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from ..base.structures import ArgumentPath
from ..capture.traced import Traced
from ..layouts.layout import Layout, fixed, is_fixed, of, product
from ..layouts.unify import Kind, Unifier, size
from ..model.layer_kinds import ATTENTIONS, LAYER_NORM
from ..model.tree import Mode, module_at
from ..ops import Env, Rule, Value
from ..ops.env import Rows
from . import literals
from .attributes import Attribute
from .findings import BETWEEN, CONTRACT, FLAT, Findings, Norm, RowMoments
from .spellings import Spelling, argument


@dataclass(frozen=True, slots=True)
class Scope:
    """The code that makes ATen calls: a node of the graph, or a call of torch in code that no graph shows.

    Attributes:
        mode: The graph.
        node: The node.
        spelling: The call, where no graph has a node for it.
        declared: What rules declared of its sizes, by the name of the argument.
    """

    mode: Mode
    node: fx.Node | None = None
    spelling: Spelling | None = None
    declared: dict[str, tuple[Layout, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of an ATen call as its rule takes them.

    Attributes:
        args: Those by position, each tensor replaced by what is known of it.
        kwargs: Those by name, likewise.
        keys: What numbers each of the tensors on the tape.
        strides: Of the tensors among `args`.
        dtypes: Of the tensors in `args`.
    """

    args: list[Any]
    kwargs: dict[str, Any]
    keys: tuple[int | str | None, ...] = ()
    strides: tuple[tuple[int, ...], ...] = ()
    dtypes: tuple[torch.dtype, ...] = ()


@dataclass(slots=True)
class CallContext:
    """One ATen call, and what its rule says of this call alone.

    Attributes:
        op: The overload.
        rule: Its rule.
        outs: The shapes of its results.
        arguments: What it takes.
        scope: The code that makes it.
        module: The module whose own code that is, if it is a layer's.
        contracted: How often (value, dimension) is summed over, by the value's id.
        expected: (argument, front, back) of `Env.expect`.
        summed: (value, dimension) that is summed over, in order.
        rounds: Whether it rounds what it takes.
        unread: Dimensions, or parts of some, that it leaves out.
        norm: (gain, shift, norm), where it is a layer norm.
    """

    op: Any
    rule: Rule | None
    outs: tuple[tuple[int, ...], ...]
    arguments: Arguments
    scope: Scope
    module: str | None = None
    contracted: Counter[tuple[int, int]] = field(default_factory=Counter)
    expected: list[tuple[int, Layout, Layout]] = field(default_factory=list)
    summed: list[tuple[Value, int]] = field(default_factory=list)
    rounds: bool = False
    unread: list[Layout] = field(default_factory=list)
    norm: tuple[Value | None, Value | None, Norm] | None = None


class RuleEnv(Env):
    """What a rule can say of one call. It is written into the findings, in terms of their unifier's variables."""

    def __init__(self, traced: Traced, findings: Findings, call: CallContext) -> None:
        self.traced = traced
        self.findings = findings
        self.unifier = findings.unifier
        self.call = call
        self.op = call.op
        self.outs = call.outs
        self.mode = call.scope.mode
        self.strides = call.arguments.strides
        self.dtypes = call.arguments.dtypes

    def unify(self, a: Layout, b: Layout) -> None:
        self.unifier.expressed(lambda: self.unifier.unify(a, b), a, b)

    def pin(self, layout: Layout, reason: str) -> None:
        self.unifier.pin(layout, reason)

    def cut(self, layout: Layout, position: int) -> tuple[Layout, Layout]:
        return cut(self.unifier, layout, position)

    def split(self, layout: Layout, sizes: Sequence[int], kinds: Sequence[Kind]) -> list[Layout]:
        return self.unifier.expressed(lambda: self.unifier.split_into(layout, sizes, kinds), layout)

    def kinds(self, sizes: Sequence[int]) -> tuple[Kind, ...]:
        return literals.kinds(self.call.scope.spelling or self.call.scope.node, sizes)

    def is_single(self, layout: Layout) -> bool:
        return self.unifier.is_single(layout)

    def in_one_head(self) -> bool:
        called = self.call.module
        module = None if called is None else module_at(self.traced.root, called)
        return isinstance(module, ATTENTIONS) and module.num_heads == 1

    def count(self, size: int) -> Layout:
        return of(self.unifier.fresh(f"groups of {self.unifier.site}", size, count=True))

    def elastic(self, size: int) -> Layout:
        return elastic(self.unifier, size)

    def contract(self, value: Value, dim: int) -> None:
        if not value.weighs:
            self.pin(value.layouts[dim], f"{self.unifier.site} {BETWEEN}")
            return
        self.findings.contractions.append((value.layouts[dim], value.source, value.dims[dim], self.unifier.site))
        for source in value.dims[dim]:
            self.findings.roles.setdefault((value.source, source), set()).add(CONTRACT)
            if value.rows is None or source not in value.rows.over:
                self.findings.plain_sums.setdefault((value.source, source), self.unifier.site)
        if value.rows is not None and not value.rows.over.issuperset(value.dims[dim]):
            self.pin(
                value.layouts[dim], f"{value.source}, standardised, is no multiple of itself in {self.unifier.site}"
            )
        if value.zeros:
            self._silent(value, dim, f"{value.origin} is no multiple of itself in {self.unifier.site}")
            if value.flat:
                self.note([value.layouts[dim]], FLAT.format(value.origin))
        self.call.contracted[id(value), dim % len(value.layouts)] += 1
        self.call.summed.append((value, dim % len(value.layouts)))

    def uniform(self, layouts: Sequence[Layout], reason: str) -> None:
        wide = [layout for layout in layouts if not is_fixed(layout)]
        if wide:
            self.findings.uniform.append((product(layouts), f"{reason} in {self.unifier.site}"))
            for layout in wide:
                self.replicas_only(layout, reason)

    def centred(self, x: Value, over: Sequence[Layout], weight: Value | None, bias: Value | None, eps: float) -> None:
        self.uniform(over, "a layer norm")
        module, literal = self._eps(eps)
        self.call.norm = (weight, bias, Norm(None, None, 4, eps, module, literal))

    def _eps(self, eps: float) -> tuple[str | None, tuple[Mode, str, ArgumentPath] | None]:
        """Where the eps of a layer norm is stated: by a module, or by a literal of the graph."""
        called, node = self.call.module, self.call.scope.node
        if called is not None:
            module = module_at(self.traced.root, called)
            own = any(type(module).forward is cls.forward for cls in LAYER_NORM.classes)
            return (called if own and getattr(module, "eps", None) == eps else None), None
        if node is None or self.call.scope.spelling is not None or node.op != "call_function":
            return None, None
        if node.target not in LAYER_NORM.functions:
            return None, None
        path, stated = argument(node, 4, "eps")
        if len(node.args) <= 4 and "eps" not in node.kwargs:
            stated = eps  # the default
        return None, (self.mode, node.name, path) if isinstance(stated, int | float) and stated == eps else None

    def replicas_only(self, layout: Layout, reason: str) -> None:
        self.findings.replicas.append((layout, f"{reason} in {self.unifier.site}"))

    def vanish(self, value: Value, dim: int, why: str) -> None:
        if not value.origin or not value.dims[dim]:
            self.keep(value.layouts[dim], why)
            return
        self._silent(value, dim, f"{self.name} in {self.unifier.site}, which {why}")
        self.call.contracted[id(value), dim % len(value.layouts)] += 1  # it is not carried by this call

    def _silent(self, value: Value, dim: int, reason: str) -> None:
        self.findings.silent.append((value.layouts[dim], value.origin, value.dims[dim], reason))

    def nonzero(self, length: tuple[str, tuple[Layout, ...]], why: str) -> None:
        origin, layouts = length
        reason = f"{self.name} in {self.unifier.site}, which {why}"
        self.findings.nonzero.extend((layout, origin, reason) for layout in layouts if not is_fixed(layout))

    def keeps_moments(self, rows: Rows, why: str, correction: float | None = None) -> None:
        reason = f"{self.name} in {self.unifier.site}, which {why} of {rows.origin}"
        self.findings.row_moments.append(RowMoments(rows.origin, rows.over, reason, correction))

    def leave_out(self, value: Value, dims: Sequence[int]) -> None:
        self.call.contracted.update((id(value), dim) for dim in dims)

    def is_buffer(self, origin: str) -> bool:
        owner, _, name = origin.rpartition(".")
        return name in module_at(self.traced.root, owner)._buffers

    def shape_of(self, origin: str) -> tuple[int, ...]:
        return tuple([size(layout) for layout in self.findings.tensors[origin]])

    def unread(self, layout: Layout) -> None:
        self.call.unread.append(layout)

    def expect(self, argument: int, front: Layout, back: Layout = ()) -> None:
        self.call.expected.append((argument, front, back))

    def declare(self, **sizes: Layout | list[Layout]) -> None:
        declared = {k: tuple(v) if isinstance(v, list) else (v,) for k, v in sizes.items()}
        self.call.scope.declared.update(declared)
        if self.call.module is not None:
            attributes = [Attribute(self.call.module, name, layouts) for name, layouts in declared.items()]
            self.findings.attributes.extend(attributes)

    def rounds(self) -> None:
        self.call.rounds = True

    def note(self, layouts: Sequence[Layout], text: str) -> None:
        self.findings.notes.extend((layout, text) for layout in layouts)


def cut(unifier: Unifier, layout: Layout, position: int) -> tuple[Layout, Layout]:
    """A dimension before and after a position, which may be either end."""
    if position == size(layout):
        return layout, fixed(0)
    if position == 0:
        return fixed(0), layout
    return unifier.expressed(lambda: unifier.cut(layout, position), layout)


def elastic(unifier: Unifier, size: int) -> Layout:
    """A dimension of constant values, which takes the size that it meets."""
    return fixed(size) if size < 2 else of(unifier.fresh(f"constant of {unifier.site}", size, elastic=True))
