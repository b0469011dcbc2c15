"""Which dimensions of a tensor a node asks about that gives plain values."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from torch import fx

from ..capture.proxy import truth
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
# Those that count entries, or bytes.
_COUNTS = frozenset(("numel", "nelement", "nbytes", "sym_numel", "__len__"))
COMPARISONS = (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge)


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


def asks_whether_empty(node: fx.Node) -> bool:
    """Whether a node asks if sizes make 0, as `x.numel() == 0` does: no width decides that, since none is 0."""
    if node.target is truth:
        return _is_count(node.args[0])
    if node.target not in COMPARISONS or len(node.args) != 2:
        return False
    one, other = node.args
    return (_is_zero(one) and _is_count(other)) or (_is_zero(other) and _is_count(one))


def _is_zero(number: Any) -> bool:
    return type(number) is int and number == 0


def _is_count(number: Any) -> bool:
    """Whether a number is made of sizes by products and sums alone."""
    if not isinstance(number, fx.Node):
        return type(number) is int and number > 0
    if number.target in (operator.mul, operator.add):
        return all(map(_is_count, number.args))
    first = number.args[0] if number.args else None
    if number.target is operator.getitem or number.target is math.prod:
        of_shape = isinstance(first, fx.Node) and is_shape(first)
        return of_shape and (number.target is math.prod or isinstance(number.args[1], int))
    return _name(number) in _COUNTS or (_name(number) == "size" and isinstance(_dim(number), int))


def asked_of(node: fx.Node, tensor: Value) -> Sequence[Layout]:
    """The dimensions of a tensor that a node which gives plain values asks about."""
    if (node.target is getattr and node.args[1] not in ("shape", "nbytes")) or _name(node) in _OF_NO_SIZE:
        return ()
    if _name(node) == "size" and isinstance(dim := _dim(node), int):
        return (tensor.layouts[dim],)
    return tensor.layouts[:1] if _name(node) == "__len__" else tensor.layouts
