"""Floating-point operations of each call of a model, before growth and after it, from layouts alone.

The layouts say the shapes that a recorded call has at any widths, torch's own formulas what it costs there. `flops`
counts with the same formulas on a run, which a plan that is only drawn does not have.

Source: torch.utils.flop_counter (which operators count, and a multiplication with an addition as two).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.flop_counter import flop_registry

from ..infer.findings import Prediction
from ..infer.width_graph import WidthGraph
from ..layouts.layout import Layout, measure
from ..recording.tape import Call

Sizes = Callable[[str], int]  # the width of a group


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


def work(widths: WidthGraph, sizes: Sizes) -> Iterator[Work]:
    """What each call of a forward pass on the example inputs costs that multiplies matrices or convolves."""
    mode = "eval" if "eval" in widths.calls else widths.traced.modes[0]
    for call, prediction in zip(widths.calls[mode], widths.predictions[mode], strict=False):
        formula = flop_registry.get(call.op.overloadpacket)
        if formula is not None:
            args, kwargs = _arguments(call, prediction, sizes)
            shapes = [_shape(layouts, sizes) for layouts in prediction.outs]
            flops = formula(*args, **kwargs, out_val=shapes[0] if len(shapes) == 1 else tuple(shapes))
            yield Work(_weight(prediction), call.site, flops)


def _weight(prediction: Prediction) -> str:
    """The last parameter of two dimensions or more that goes in."""
    named = [value.origin for _, value in prediction.flow.ins if value.origin and len(value.layouts) > 1]
    return named[-1] if named else ""


def _arguments(call: Call, prediction: Prediction, sizes: Sizes) -> tuple[list[Any], dict[str, Any]]:
    """Those of the call, with shapes in the place of tensors, which stand where no constant does."""
    given: dict[int | str, Any] = dict(call.constants)
    free = (at for at in itertools.count() if at not in given)
    given.update([(next(free), _shape(value.layouts, sizes)) for _, value in prediction.flow.ins])
    positions = sorted(at for at in given if isinstance(at, int))
    return [given[at] for at in positions], {at: value for at, value in given.items() if isinstance(at, str)}


def _shape(layouts: Sequence[Layout], sizes: Sizes) -> tuple[int, ...]:
    return tuple(measure(layout, sizes) for layout in layouts)
