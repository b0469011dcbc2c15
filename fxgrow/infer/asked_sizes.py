"""Which dimensions of a tensor a node asks about that gives plain values."""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx

from ..layouts.layout import Layout
from ..ops import Value

# Questions about a tensor whose answer depends on no size of it.
_OF_NO_SIZE = frozenset((
    "dim", "element_size", "get_device", "is_complex", "is_conj", "is_floating_point", "is_inference", "is_neg",
    "is_signed", "is_tensor", "ndimension", "type",
))  # fmt: skip


def is_shape(node: fx.Node) -> bool:
    """Whether a node gives the shape of a tensor."""
    return (node.target is getattr and node.args[1] == "shape") or (node.target == "size" and len(node.args) == 1)


def _name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target))


def asked_of(node: fx.Node, tensor: Value) -> Sequence[Layout]:
    """The dimensions of a tensor that a node which gives plain values asks about."""
    if (node.target is getattr and node.args[1] not in ("shape", "nbytes")) or _name(node) in _OF_NO_SIZE:
        return ()
    if node.target == "size" and len(node.args) > 1 and isinstance(node.args[1], int):
        return (tensor.layouts[node.args[1]],)
    return tensor.layouts
