"""Residual blocks in a graph: what they take and give, and which zeros in their parameters leave only the skip.

A block is a module whose nodes have one result, which is what it takes plus branches (x + f(x), as often as it likes),
perhaps through an activation that leaves such values alone. With zeros in the last affine of each branch a clone of it
changes nothing, in train mode and in eval mode.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn

from ..base.isolation import rng_preserved
from ..base.structures import leaf_tensors
from ..capture.proxy import ASKED
from ..capture.traced import Traced
from ..errors import Unfit
from ..infer.width_graph import WidthGraph
from ..layouts.layout import Layout, measure
from ..model.activations import of_node
from ..model.copies import named_tensors
from ..model.layer_kinds import (
    AFFINE_NORMS,
    ATTENTIONS,
    CONTAINERS,
    CONVOLUTION,
    LINEAR,
    LINEAR_MAPS,
    functions_of,
    is_a,
    is_layer_class,
)
from ..model.provenance import describe, modules_of
from ..model.tree import Mode
from ..ops import Value
from ..plans.changes import Region, Repeat
from .trial import is_identity_on_random_inputs, run_node

NodeValues = Mapping[Mode, Mapping[fx.Node, Any]]  # per mode, what each node of its graph gives on the example inputs


def repeat(widths: WidthGraph, known: NodeValues, block: str, paths: tuple[str, ...]) -> Repeat:
    """Clones of a block, which give what the block gives.

    Args:
        widths: Of the model.
        known: The values of all nodes.
        block: The path of its module.
        paths: Of the clones.

    Raises:
        Unfit: It is no such block, and why.
    """
    traced = widths.traced
    zeros: dict[str, None] = {}
    regions = []
    for mode, graph in traced.graphs.items():
        nodes = [node for node in graph.nodes if node.op != "output" and block in modules_of(node)]
        if not nodes:
            continue
        analysed = _Block(widths, mode, block, frozenset(nodes))
        leave = analysed.leave()
        skip = analysed.skip(leave)
        if _layouts(widths, mode, skip.entry.name) != _layouts(widths, mode, leave.name):
            raise Unfit("it gives another shape than it takes")
        if not skip.zeros:
            raise Unfit("it has no branch beside its skip")
        zeros.update(dict.fromkeys(skip.zeros))
        _try(widths, known, mode, nodes, (skip.entry, leave), [f"{block}.{name}" for name in skip.zeros])
        regions.append(Region(mode, skip.entry.name, leave.name, tuple(node.name for node in nodes)))
    if not regions:
        raise Unfit("nothing in the graph runs inside it: it is kept as a call, or is not used")
    return Repeat(block, paths, tuple(zeros), tuple(regions))


def _try(
    widths: WidthGraph,
    known: NodeValues,
    mode: Mode,
    nodes: list[fx.Node],
    ends: tuple[fx.Node, fx.Node],
    zeros: list[str],
) -> None:
    """Run it with the zeros on random numbers, in each mode that has this graph.

    Raises:
        Unfit: A clone would change something.
    """
    traced = widths.traced
    for way in (mode,) if len(traced.graphs) > 1 else tuple(traced.tapes):
        inside = set(nodes)
        outside = {n: known[mode][n] for node in nodes for n in node.all_input_nodes if n not in inside}
        try:
            same = is_identity_on_random_inputs(traced.root, way, nodes, ends, outside, zeros)
        except Exception as error:  # noqa: BLE001 - whatever its code raises on other numbers than the example's
            raise Unfit(f"it could not be tried on random numbers: {type(error).__name__}: {error}") from None
        if not same:
            raise Unfit(f"with zeros in {', '.join(zeros)} it would change what it takes in {way} mode")


def last_blocks(widths: WidthGraph, known: NodeValues, path: str) -> list[str]:
    """The last residual block of each stage that a module holds: of each run of blocks that take the same shape.

    Raises:
        Unfit: There is none, and why.
    """
    reasons: dict[str, str] = {}
    if widths.traced.output == "module":
        raise Unfit("the model's own class has no place for new blocks; use output='graph'")
    leaf = call_around(widths.traced, path)
    if leaf and (leaf != path or not is_layer_class(widths.traced.classes[path])):
        raise Unfit(f"it runs inside {leaf}, which is kept as a call")
    blocks = _blocks(widths, known, path, reasons)
    if not blocks:
        told = "; ".join(f"{name}: {reason}" for name, reason in list(reasons.items())[:4]) or "it holds only layers"
        raise Unfit(f"no block in it can be cloned so that the clone changes nothing: {told}")
    return [list(stage)[-1].block for _, stage in itertools.groupby(blocks, lambda block: _shape(widths, block))]


def _blocks(widths: WidthGraph, known: NodeValues, path: str, reasons: dict[str, str]) -> list[Repeat]:
    """The blocks in a module, in order; itself, where it is one and no chain of them."""
    kind = widths.traced.classes[path]
    own: list[Repeat] = []
    if not is_layer_class(kind) and not issubclass(kind, CONTAINERS):
        try:
            own = [repeat(widths, known, path, ())]
        except Unfit as reason:
            reasons[path] = str(reason)
    children = [name for name in widths.traced.classes if name and name.rpartition(".")[0] == path]
    within = [block for child in children for block in _blocks(widths, known, child, reasons)]
    return own if own and len(within) < 2 else within


def call_around(traced: Traced, path: str) -> str:
    """The module that is a call in the graph and holds another, or is it; "" where none is."""
    if traced.opaque:
        return traced.class_name
    called = {str(n.target) for graph in traced.graphs.values() for n in graph.nodes if n.op == "call_module"}
    return next((leaf for leaf in sorted(called) if f"{path}.".startswith(f"{leaf}.")), "")


def _shape(widths: WidthGraph, block: Repeat) -> tuple[Layout, ...] | None:
    region = block.regions[0]
    return _layouts(widths, region.mode, region.entry)


def _inside(path: str, block: str) -> bool:
    return path == block or path.startswith(f"{block}.")


def _layouts(widths: WidthGraph, mode: Mode, node: str) -> tuple[Layout, ...] | None:
    value = widths.value(mode, node)
    return value.layouts if isinstance(value, Value) else None


@dataclass(frozen=True, slots=True)
class _Skip:
    """The way of a block's input to its output.

    Attributes:
        entry: The node outside that it takes.
        zeros: The parameters that end the branches beside it, by their names in the block.
    """

    entry: fx.Node
    zeros: tuple[str, ...]


class _Block:
    """The nodes of a block in one graph."""

    def __init__(self, widths: WidthGraph, mode: Mode, path: str, nodes: frozenset[fx.Node]) -> None:
        self.root = widths.traced.root
        self.widths = widths
        self.mode = mode
        self.path = path
        self.nodes = nodes
        self._skips: dict[fx.Node, _Skip | Unfit] = {}
        self._tails: dict[fx.Node, tuple[str, ...] | Unfit] = {}

    def leave(self) -> fx.Node:
        """The node that others use."""
        used = [n for n in self.nodes if any(user not in self.nodes and user.target not in ASKED for user in n.users)]
        if len(used) != 1:
            raise Unfit(f"it gives {len(used)} values to what follows, not one")
        return used[0]

    # -- the skip --------------------------------------------------------------------------------

    def skip(self, node: fx.Node) -> _Skip:
        """How what the block takes comes to a node unchanged.

        Raises:
            Unfit: It does not.
        """
        return _once(self._skips, node, self._skip)

    def _skip(self, node: fx.Node) -> _Skip:
        if node not in self.nodes:
            if node.op == "get_attr":
                raise Unfit(f"{node.target} is added, but nothing that the block takes")
            return _Skip(node, ())
        closing = of_node(node, self.root)
        if closing is not None:
            if not closing.keeps(closing):
                raise Unfit(f"{describe(node)} ({closing.name}) changes what the skip carries")
            return self.skip(node.all_input_nodes[0])
        if node.target in _ADDS and len(node.all_input_nodes) == 2:
            return self._sum(node)
        if node.op == "call_method" and node.target in _COPIES:
            return self.skip(node.all_input_nodes[0])
        raise Unfit(f"its result is not what it takes plus something: there is {describe(node)} on the way")

    def _sum(self, node: fx.Node) -> _Skip:
        left, right = node.all_input_nodes
        reasons = []
        for carried, branch in ((left, right), (right, left)):
            try:
                skip = self.skip(carried)
                return _Skip(skip.entry, tuple(dict.fromkeys((*skip.zeros, *self.tail(branch)))))
            except Unfit as reason:
                reasons.append(str(reason))
        raise Unfit(max(reasons, key=lambda reason: "branch" in reason))

    # -- the branches ----------------------------------------------------------------------------

    def tail(self, node: fx.Node) -> tuple[str, ...]:
        """The parameters that make a node's value zero when they are.

        Raises:
            Unfit: There are none.
        """
        return _once(self._tails, node, self._tail)

    def _tail(self, node: fx.Node) -> tuple[str, ...]:
        if node not in self.nodes:
            raise Unfit(f"its branch ends in {describe(node)}, outside of it")
        if node.op == "get_attr":
            if not self._is_parameter(node):
                raise Unfit(f"its branch ends in {node.target}, which is no parameter")
            return self._own([str(node.target)])
        if node.op == "call_module":
            module = self.root.get_submodule(str(node.target))
            if is_a(module, *_AFFINE) and isinstance(module._parameters.get("weight"), nn.Parameter):
                return self._own([f"{node.target}.{name}" for name, _ in module.named_parameters(recurse=False)])
            if isinstance(module, ATTENTIONS):
                return self._own([f"{node.target}.out_proj.{name}" for name, _ in module.out_proj.named_parameters()])
        elif node.target in _AFFINE_FUNCTIONS:
            parameters = [n for n in node.all_input_nodes[1:] if n.op == "get_attr" and self._is_parameter(n)]
            if any(str(n.target).rpartition(".")[2] != "bias" for n in parameters):
                return self._own([str(n.target) for n in parameters])
        elif node.target in _PRODUCTS:
            return self._any_of(node)
        elif node.target in _ADDS or node.target is torch.cat:
            return tuple(dict.fromkeys(name for part in node.all_input_nodes for name in self.tail(part)))
        if len(node.all_input_nodes) == 1 and self._keeps_zeros(node):
            return self.tail(node.all_input_nodes[0])
        last = self._last_affine(node)
        if last:
            return self._own(last)
        raise Unfit(f"its branch ends in {describe(node)}, which no zeros in parameters make zero")

    def _any_of(self, product: fx.Node) -> tuple[str, ...]:
        """Of a product, zeros in one factor: a parameter (layer scale) before what comes before."""
        factors = sorted(product.all_input_nodes, key=lambda n: n.op != "get_attr")
        reason = Unfit(f"its branch ends in {describe(product)}")
        for factor in factors:
            try:
                return self.tail(factor)
            except Unfit as why:
                reason = why
        raise reason

    def _own(self, names: list[str]) -> tuple[str, ...]:
        outside = [name for name in names if not _inside(name, self.path)]
        if outside:
            raise Unfit(f"its branch ends in {outside[0]}, which belongs to another module")
        return tuple(name.removeprefix(f"{self.path}.") for name in names)

    def _is_parameter(self, node: fx.Node) -> bool:
        path, _, name = str(node.target).rpartition(".")
        return name in self.root.get_submodule(path)._parameters

    def _last_affine(self, node: fx.Node) -> list[str]:
        """Of a function that takes parameters those whose zeros make its result zero, whatever the others are.

        One weight, alone or with one bias; the last first.
        """
        taken = [n for n in node.all_input_nodes if n.op == "get_attr" and self._is_parameter(n)]
        zeros = {n: self._zeros(n) for n in node.all_input_nodes}
        shapes = {n: zero for n, zero in zeros.items() if zero is not None}
        if not callable(node.target) or len(shapes) < len(zeros):
            return []
        for weight in (n for n in reversed(taken) if shapes[n].dim() > 1):
            for bias in (weight, *(n for n in reversed(taken) if shapes[n].dim() == 1)):
                given = {n: zero if n in (weight, bias) else torch.randn_like(zero) for n, zero in shapes.items()}
                if self._makes_zeros(node, given):
                    return [str(n.target) for n in dict.fromkeys((weight, bias))]
        return []

    def _makes_zeros(self, node: fx.Node, given: Mapping[fx.Node, Tensor]) -> bool:
        if node.op == "call_module" and named_tensors(self.root.get_submodule(str(node.target))):
            return False
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), given.__getitem__)
        try:
            with torch.no_grad(), rng_preserved():
                made = run_node(self.root, node, args, kwargs, {})
        except Exception:  # noqa: BLE001 - whatever it is, it does not work on such tensors
            return False
        tensors = leaf_tensors(made)
        return bool(tensors) and not any(bool(tensor.any()) for tensor in tensors)

    def _keeps_zeros(self, node: fx.Node) -> bool:
        """Whether a node of one input makes zeros of zeros, by trying it."""
        given = self._zeros(node.all_input_nodes[0])
        if given is None:
            return node.target is operator.getitem  # of several results, all of them zero
        return self._makes_zeros(node, {node.all_input_nodes[0]: given})

    def _zeros(self, node: fx.Node) -> Tensor | None:
        layouts = _layouts(self.widths, self.mode, node.name)
        return None if layouts is None else torch.zeros([measure(la, self.widths.width) for la in layouts])


T = TypeVar("T")


def _once(known: dict[fx.Node, T | Unfit], node: fx.Node, find: Callable[[fx.Node], T]) -> T:
    """The result of a search at a node, kept: many ways lead through sums of sums to the same node."""
    if node not in known:
        try:
            known[node] = find(node)
        except Unfit as reason:
            known[node] = reason
    result = known[node]
    if isinstance(result, Unfit):
        raise result
    return result


_ADDS: frozenset[Any] = frozenset({operator.add, operator.iadd, torch.add, "add", "add_"})
_COPIES = frozenset({"contiguous", "clone", "to", "type_as"})
_PRODUCTS: frozenset[Any] = frozenset({operator.mul, operator.imul, torch.mul, "mul", "mul_"})
_AFFINE = (*LINEAR_MAPS, *AFFINE_NORMS)
_AFFINE_FUNCTIONS: frozenset[Any] = frozenset(functions_of(LINEAR, CONVOLUTION, *AFFINE_NORMS))
