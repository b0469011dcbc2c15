"""What the plain values of a trace come from: which nodes, up to the tensors."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx

from ..base.structures import leaf_tensors
from ..base.torch_private import pytree

VALUE = "fxgrow_value"  # in node.meta while tracing: what the node gives on the example inputs

_COUNTED = (  # give as many tensors as sizes say
    "unbind", "split", "tensor_split", "split_with_sizes", "hsplit", "vsplit", "dsplit", "unsafe_split",
    "unsafe_split_with_sizes", "nonzero", "tolist",
)  # fmt: skip


def kinds_asked(node: fx.Node) -> list[fx.Node]:
    """The tensors whose dtype a plain value comes from."""
    return [n.args[0] for n in _plain_ancestors(node) if n.target is getattr and n.args[1] == "dtype"]  # type: ignore[misc]


def depends_on_numbers(node: fx.Node) -> bool:
    """Whether a plain value was taken out of a tensor's numbers rather than its shape."""
    return any(_is_number_of(n) for n in _plain_ancestors(node))


def guards(node: fx.Node) -> bool:
    """Whether a plain value could be another one for other inputs, or where the model is cast; devices do not count."""
    sources = [n for a in _plain_ancestors(node) for n in (a, *a.all_input_nodes)]
    asked = {n.args[1] for n in sources if n.target is getattr}
    if "device" in asked:
        return False
    if "dtype" in asked:
        return True
    return any(n.op != "get_attr" and (n.op == "placeholder" or isinstance(n.meta[VALUE], Tensor)) for n in sources)


def of_tensors(node: fx.Node) -> bool:
    """Whether a value is made of inputs, parameters or buffers by way of tensors, not of numbers as `torch.zeros`."""
    pending, seen = [node], set[fx.Node]()
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        if current.op in ("placeholder", "get_attr", "call_module"):
            return True
        pending += [one for one in current.all_input_nodes if leaf_tensors(one.meta[VALUE])]
    return False


def is_counted(node: fx.Node) -> bool:
    """Whether a sequence could be of another length for other inputs."""
    while node.target is operator.getitem and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    if node.op == "placeholder" or any(not isinstance(n.meta[VALUE], Tensor) for n in node.all_input_nodes):
        return True  # a number says how many
    name = getattr(node.target, "__name__", node.target)
    return name in _COUNTED or (name in ("chunk", "unsafe_chunk") and not _is_halved(node))


def _is_halved(node: fx.Node) -> bool:
    """Whether a `chunk` makes two parts of a dimension that is not the batch: one part is what code fails on."""
    named = dict(zip(("input", "chunks", "dim"), node.args, strict=False)) | dict(node.kwargs)
    return bool(named.get("chunks") == 2 and named.get("dim", 0) != 0)


def is_symbolic(structure: Any) -> bool:
    """Whether an argument holds tensors, so that it becomes a proxy."""
    return any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(structure))


def _plain_ancestors(node: fx.Node) -> Iterator[fx.Node]:
    """The node, and what it was computed from up to the tensors."""
    pending, seen = [node], set()
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        yield current
        pending += [n for n in current.all_input_nodes if not isinstance(n.meta.get(VALUE), Tensor)]


def _is_number_of(node: fx.Node) -> bool:
    if node.op == "call_method" and node.target in ("item", "tolist", "numpy", "__int__", "__float__", "__bool__"):
        return True
    return node.op == "call_function" and node.target in (torch.equal, torch.allclose, torch.is_nonzero)
