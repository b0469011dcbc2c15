"""Parameters and floating-point operations of each layer, before growth and after it, from layouts alone.

A convolution whose kernel has K entries per output channel makes 2 K operations per output entry, a transposed one
per input entry; a product of matrices (m, k) and (k, n) makes 2 m k n. Nothing else counts, as in torch's FLOP counter.

Source: torch/utils/flop_counter.py (which operators count, and a multiplication with an addition as two).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .findings import CONTRACT, Prediction
from .layout import Layout, measure
from .ops import Value
from .tape import Call
from .widths import WidthGraph

Sizes = Callable[[str], int]  # the width of a group

_PRODUCTS = {"mm": 2, "bmm": 2, "addmm": 3, "baddbmm": 3}  # how many tensors; the last two are multiplied


@dataclass(frozen=True, slots=True)
class Work:
    """The operations of one call of the model.

    Attributes:
        weight: The parameter that the call sums over; "" where it multiplies two activations.
        site: Where the call stands.
        flops: Floating-point operations.
    """

    weight: str
    site: str
    flops: int


def parameters(widths: WidthGraph, name: str, sizes: Sizes) -> int:
    """The number of entries of a parameter or buffer."""
    return math.prod(measure(layout, sizes) for layout in widths.tensors[name].layouts)


def work(widths: WidthGraph, sizes: Sizes) -> Iterator[Work]:
    """What each call of a forward pass on the example inputs costs that multiplies matrices or convolves."""
    mode = "eval" if "eval" in widths.calls else widths.traced.modes[0]
    for call, found in zip(widths.calls[mode], widths.predictions[mode], strict=False):
        name = call.op._schema.name.removeprefix("aten::")
        values = [value for _, value in found.flow.ins]
        if name in ("convolution", "_convolution") and len(values) > 1:
            yield _convolution(widths, call, found, values, sizes)
        elif name in _PRODUCTS and len(values) == _PRODUCTS[name]:
            a, b = values[-2:]
            flops = 2 * _size(a.layouts, sizes) * measure(b.layouts[-1], sizes)
            yield Work(b.origin or a.origin, call.site, flops)


def _convolution(widths: WidthGraph, call: Call, found: Prediction, values: Sequence[Value], sizes: Sizes) -> Work:
    x, weight = values[:2]
    known = widths.tensors.get(weight.origin)
    transposed = known is not None and known.roles[:1] == (CONTRACT,)
    entries = x.layouts if transposed or not found.outs else found.outs[0]
    return Work(weight.origin, call.site, 2 * _size(entries, sizes) * _size(weight.layouts[1:], sizes))


def _size(layouts: Sequence[Layout], sizes: Sizes) -> int:
    return math.prod(measure(layout, sizes) for layout in layouts)
