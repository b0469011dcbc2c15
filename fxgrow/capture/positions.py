"""Which nodes of a graph depend on how many dimensions a tensor has.

An image without a batch goes through convolutions and pooling as one with a batch does. But the dimension 0 of one is
the channels of the other: `x.flip(0)` is harmless for a batch and mixes channels, and a layer with a weight per channel
(`nn.PReLU(6)`) takes an image of 6 rows for one of 6 channels. A student of such a model refuses other numbers of
dimensions than the example's.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

from torch import Tensor, fx, nn

from ..model.layer_kinds import counts_from_front, is_layer
from ..model.walk import submodule
from .origins import VALUE

_BY_POSITION = frozenset((
    "batch_norm", "cat", "channel_shuffle", "chunk", "concat", "concatenate", "group_norm", "narrow",
    "native_channel_shuffle", "prelu", "reshape", "select", "shape", "size", "split", "stack", "tensor_split", "unbind",
    "view",
))  # fmt: skip
_BY_DIM = frozenset((  # depend on positions where they are given a dimension that is counted from the front
    "all", "amax", "amin", "aminmax", "any", "argmax", "argmin", "argsort", "cosine_similarity", "count_nonzero",
    "cummax", "cummin", "cumprod", "cumsum", "cumulative_trapezoid", "diff", "fft", "flip", "flipud", "gather", "glu",
    "ifft", "index_add", "index_copy", "index_fill", "index_select", "irfft", "kthvalue", "log_softmax",
    "logcumsumexp", "logsumexp", "max", "mean", "median", "min", "mode", "movedim", "moveaxis", "msort", "nanmean",
    "nanmedian", "nansum", "norm", "normalize", "prod", "quantile", "renorm", "rfft", "roll", "rot90", "scatter",
    "scatter_add", "softmax", "softmin", "sort", "std", "std_mean", "sum", "swapaxes", "swapdims", "take_along_dim",
    "topk", "transpose", "trapezoid", "unfold", "unique_consecutive", "var", "var_mean", "vector_norm",
))  # fmt: skip
_WITHOUT_DIM = ("flipud", "msort")  # always along the first


def counts_dimensions(node: fx.Node, root: nn.Module) -> bool:
    """Whether what a node does to a tensor depends on which dimension is which.

    Args:
        node: Of a graph under construction.
        root: The tree that the graph runs on.
    """
    if node.op == "call_module":
        module = submodule(root, str(node.target))
        return counts_from_front(module) or not is_layer(module)  # code that no graph shows may count, too
    if node.target is getattr:
        return node.args[1] in _BY_POSITION
    if node.target is operator.getitem:
        return isinstance(node.args[1], tuple | int | slice) and _is_tensor(node.args[0])
    if node.op == "placeholder":
        return False
    name = getattr(node.target, "__name__", node.target)
    return name in _BY_POSITION or name in _WITHOUT_DIM or (name in _BY_DIM and 0 in _numbers(node))


def _is_tensor(source: Any) -> bool:
    return isinstance(source, fx.Node) and isinstance(source.meta[VALUE], Tensor)


def _numbers(node: fx.Node) -> Iterator[int]:
    """The plain integers among the arguments of a node, without its first argument."""
    pending: list[Any] = [*node.args[1:], *node.kwargs.values()]
    while pending:
        value = pending.pop()
        if isinstance(value, list | tuple):
            pending += value
        elif type(value) is int:
            yield value
