"""Which dimensions of a tensor a node asks about that gives plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx

from ..layouts.layout import Layout
from ..ops import Value

# Questions about a tensor whose answer depends on no size of it.
_OF_NO_SIZE = frozenset((
    "dim", "element_size", "get_device", "is_complex", "is_conj", "is_floating_point", "is_inference", "is_neg",
    "is_signed", "is_tensor", "ndimension", "type",
))  # fmt: skip

# Questions whose answer depends on sizes, beside the shape.
_OF_SIZES = frozenset(("size", "numel", "nelement", "nbytes", "sym_numel", "stride", "storage_offset", "storage",
    "untyped_storage", "__len__"))  # fmt: skip
# Those of them whose answer depends on what a tensor is a view of, so that it is no product of sizes.
_OF_MEMORY = frozenset(("stride", "storage_offset", "storage", "untyped_storage"))


def is_shape(node: fx.Node) -> bool:
    """Whether a node gives the shape of a tensor."""
    return _name(node) == ("shape" if node.target is getattr else "size") and _dim(node) is None


def _name(node: fx.Node) -> str:
    if node.target is getattr:
        return str(node.args[1])
    return str(getattr(node.target, "__name__", node.target))


def _dim(node: fx.Node) -> Any:
    """Which dimension `x.size(dim)` asks for; None for all of them."""
    if node.target is getattr:
        return None
    return node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")


def asks_for_sizes(node: fx.Node) -> bool:
    """Whether a node may ask a tensor for sizes, or for a number that depends on them."""
    return is_shape(node) or _name(node) in _OF_SIZES


def asks_for_memory(node: fx.Node) -> bool:
    """Whether a node asks where in memory the entries of a tensor are."""
    return _name(node) in _OF_MEMORY


def asked_of(node: fx.Node, tensor: Value) -> Sequence[Layout]:
    """The dimensions of a tensor that a node which gives plain values asks about."""
    if (node.target is getattr and node.args[1] not in ("shape", "nbytes")) or _name(node) in _OF_NO_SIZE:
        return ()
    if _name(node) == "size" and isinstance(dim := _dim(node), int):
        return (tensor.layouts[dim],)
    return tensor.layouts[:1] if _name(node) == "__len__" else tensor.layouts
