"""The skip connection of a residual block, and the parameters whose zeros leave only the skip.

In: the nodes of a block in one graph. The skip is followed from the result of the block back to its input, through
sums and activations that do not change its values. From each other operand of such a sum (a branch) the analysis goes
back to the last affine operation: with zeros in its parameters the branch is zero. Out: the node that the block reads,
and these parameters; or the reason for which the block has no such form.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..base.generators import rng_preserved
from ..base.structures import leaf_tensors
from ..capture.proxy import ASKED
from ..errors import Unfit
from ..infer.width_graph import WidthGraph
from ..layouts.layout import Layout, measure
from ..model.activations import of_node
from ..model.copies import named_tensors
from ..model.layer_kinds import AFFINE_NORMS, ATTENTIONS, CONVOLUTION, LINEAR, LINEAR_MAPS, functions_of, is_a
from ..model.provenance import describe
from ..model.tree import Mode
from ..ops import Value
from .memo import found_once
from .trial import run_node


def layouts_of(widths: WidthGraph, mode: Mode, node: str) -> tuple[Layout, ...] | None:
    """The layouts of the tensor that a node gives; None if it gives no single tensor."""
    value = widths.value(mode, node)
    return value.layouts if isinstance(value, Value) else None


@dataclass(frozen=True, slots=True)
class Skip:
    """The skip connection of a block.

    Attributes:
        entry: The node outside the block whose value the skip carries.
        zeros: The parameters that make the branches zero if they are zero, by their names in the block.
    """

    entry: fx.Node
    zeros: tuple[str, ...]


class BlockAnalysis:
    """The analysis of a block in one graph. Results are cached per node, because paths through nested sums join.

    Args:
        widths: The width graph of the model.
        mode: The mode of the graph.
        path: The path of the block's module.
        nodes: The nodes of the graph that are in the block.
    """

    def __init__(self, widths: WidthGraph, mode: Mode, path: str, nodes: frozenset[fx.Node]) -> None:
        self.root = widths.traced.root
        self.widths = widths
        self.mode = mode
        self.path = path
        self.nodes = nodes
        self._skips: dict[fx.Node, Skip | Unfit] = {}
        self._tails: dict[fx.Node, tuple[str, ...] | Unfit] = {}

    def exit(self) -> fx.Node:
        """The node of the block that nodes outside of it use.

        Raises:
            Unfit: There is not exactly one.
        """
        used = [n for n in self.nodes if any(user not in self.nodes and user.target not in ASKED for user in n.users)]
        if len(used) != 1:
            raise Unfit(f"{len(used)} of its values are used outside of it; expected one")
        return used[0]

    # -- the skip --------------------------------------------------------------------------------

    def skip(self, node: fx.Node) -> Skip:
        """The skip connection that ends in a node.

        Raises:
            Unfit: The node is not the block's input plus branches.
        """
        return found_once(self._skips, node, lambda: self._skip(node))

    def _skip(self, node: fx.Node) -> Skip:
        if node not in self.nodes:
            if node.op == "get_attr":
                raise Unfit(f"{node.target} is added, not the input of the block")
            return Skip(node, ())
        activation = of_node(node, self.root)
        if activation is not None:
            if not activation.keeps(activation):
                raise Unfit(f"{describe(node)} ({activation.name}) changes the values of the skip connection")
            return self.skip(node.all_input_nodes[0])
        if node.target in _ADDS and len(node.all_input_nodes) == 2:
            return self._sum(node)
        if node.op == "call_method" and node.target in _COPIES:
            return self.skip(node.all_input_nodes[0])
        raise Unfit(f"its result is not the sum of its input and other terms: {describe(node)} is on the way")

    def _sum(self, node: fx.Node) -> Skip:
        """Of the two operands one must be the skip, the other one a branch."""
        left, right = node.all_input_nodes
        reasons = []
        for carried, branch in ((left, right), (right, left)):
            try:
                skip = self.skip(carried)
                return Skip(skip.entry, tuple(dict.fromkeys((*skip.zeros, *self.tail(branch)))))
            except Unfit as reason:
                reasons.append(str(reason))
        raise Unfit(max(reasons, key=lambda reason: "branch" in reason))  # why an operand is no branch is more specific

    # -- the branches ----------------------------------------------------------------------------

    def tail(self, node: fx.Node) -> tuple[str, ...]:
        """The parameters that make the value of a node zero if they are zero.

        Raises:
            Unfit: There are no such parameters in the block.
        """
        return found_once(self._tails, node, lambda: self._tail(node))

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
            if not all(self._is_added(str(n.target)) for n in parameters):
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
        """The parameters for one factor of a product; a factor that is a parameter (layer scale) is preferred."""
        factors = sorted(product.all_input_nodes, key=lambda n: n.op != "get_attr")
        reason = Unfit(f"its branch ends in {describe(product)}")
        for factor in factors:
            try:
                return self.tail(factor)
            except Unfit as why:
                reason = why
        raise reason

    def _own(self, names: list[str]) -> tuple[str, ...]:
        """Names of parameters, relative to the block, which must own them."""
        outside = [name for name in names if not name.startswith(f"{self.path}.")]
        if outside:
            raise Unfit(f"its branch ends in {outside[0]}, which belongs to another module")
        return tuple(name.removeprefix(f"{self.path}.") for name in names)

    def _is_parameter(self, node: fx.Node) -> bool:
        path, _, name = str(node.target).rpartition(".")
        return name in self.root.get_submodule(path)._parameters

    def _is_added(self, parameter: str) -> bool:
        """Whether all that the model does with a parameter is to add it, so that its zeros make nothing zero."""
        tensor = self.widths.tensors.get(parameter)
        return tensor is not None and tensor.kind in ("bias", "shift")

    def _last_affine(self, node: fx.Node) -> list[str]:
        """The parameters of an unknown function whose zeros make its result zero, found by running it.

        Tries each weight, the last one first, alone and with each bias. All other tensors are random.
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
        """Whether the result of a node is zero for the given values of its inputs."""
        if node.op == "call_module" and named_tensors(self.root.get_submodule(str(node.target))):
            return False
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), given.__getitem__)
        try:
            with torch.no_grad(), rng_preserved():
                result = run_node(self.root, node, args, kwargs, {})
        except Exception:  # noqa: BLE001 - any error means that the function is not known to give zeros
            return False
        tensors = leaf_tensors(result)
        return bool(tensors) and not any(bool(tensor.any()) for tensor in tensors)

    def _keeps_zeros(self, node: fx.Node) -> bool:
        """Whether a node with one input maps zeros to zeros, found by running it."""
        given = self._zeros(node.all_input_nodes[0])
        if given is None:
            return node.target is operator.getitem  # an element of a sequence of zeros
        return self._makes_zeros(node, {node.all_input_nodes[0]: given})

    def _zeros(self, node: fx.Node) -> Tensor | None:
        """Zeros of the shape of a node's value; None if that is no single tensor."""
        layouts = layouts_of(self.widths, self.mode, node.name)
        return None if layouts is None else torch.zeros([measure(la, self.widths.width) for la in layouts])


_ADDS: frozenset[Any] = frozenset({operator.add, operator.iadd, torch.add, "add", "add_"})
_COPIES = frozenset({"contiguous", "clone", "to", "type_as"})
_PRODUCTS: frozenset[Any] = frozenset({operator.mul, operator.imul, torch.mul, "mul", "mul_"})
_AFFINE = (*LINEAR_MAPS, *AFFINE_NORMS)
_AFFINE_FUNCTIONS: frozenset[Any] = frozenset(functions_of(LINEAR, CONVOLUTION, *AFFINE_NORMS))
