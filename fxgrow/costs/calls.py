"""FLOPs of each call of a model at any widths, from layouts, without a run.

The layouts give the shapes of a recorded call at any widths, and torch's formulas its FLOPs. `flops` uses the same
formulas on a run; a drawing of a plan has no student to run, and a budget tries many sizes.

Source: torch.utils.flop_counter (which operators count; a multiply-add counts as two).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..infer.findings import Prediction
from ..infer.width_graph import WidthGraph
from ..layouts.layout import Layout, measure
from ..recording.call import Call
from .torchs import formulas

Sizes = Callable[[str], int]  # the width of a group


@dataclass(frozen=True, slots=True)
class Work:
    """The cost of one recorded call.

    Attributes:
        weight: The parameter that the call contracts; "" for a product of two activations.
        site: The location of the call in the model.
        module: The path of the module that makes it.
        flops: The number of FLOPs.
    """

    weight: str
    site: str
    module: str
    flops: int


def work(widths: WidthGraph, sizes: Sizes) -> Iterator[Work]:
    """The cost of each convolution and matrix product of a forward pass on the example inputs.

    Args:
        widths: The width graph of the model.
        sizes: The width of each group to count for.
    """
    for call, prediction in counted(widths):
        yield Work(_weight(prediction), call.site, call.module, flops_of(call, prediction, sizes))


def counted(widths: WidthGraph) -> Iterator[tuple[Call, Prediction]]:
    """The calls of a forward pass that have FLOPs, with the layouts of what they read and make."""
    mode = "eval" if "eval" in widths.calls else widths.traced.modes[0]
    known = formulas()
    for call, prediction in zip(widths.calls[mode], widths.predictions[mode], strict=False):
        if call.op.overloadpacket in known:
            yield call, prediction


def flops_of(call: Call, prediction: Prediction, sizes: Sizes) -> int:
    """The FLOPs of a call at some widths."""
    args, kwargs = _arguments(call, prediction, sizes)
    shapes = [_shape(layouts, sizes) for layouts in prediction.outs]
    out = shapes[0] if len(shapes) == 1 else tuple(shapes)
    registered = formulas()[call.op.overloadpacket]
    of_shapes = getattr(registered, "__wrapped__", None)  # torch's formula; what wraps it looks for tensors
    return int(of_shapes(*args, **kwargs, out_shape=out) if of_shapes else registered(*args, **kwargs, out_val=out))


def _weight(prediction: Prediction) -> str:
    """The last operand that is a parameter with at least two dimensions; "" if none is."""
    named = [value.source for _, value in prediction.flow.ins if value.source and len(value.layouts) > 1]
    return named[-1] if named else ""


def _arguments(call: Call, prediction: Prediction, sizes: Sizes) -> tuple[list[Any], dict[str, Any]]:
    """(args, kwargs) of the call, with shapes in place of tensors; tensors are where no constant is."""
    given: dict[int | str, Any] = dict(call.constants)
    free = (at for at in itertools.count() if at not in given)
    given.update([(next(free), _shape(value.layouts, sizes)) for _, value in prediction.flow.ins])
    positions = sorted(at for at in given if isinstance(at, int))
    return [given[at] for at in positions], {at: value for at, value in given.items() if isinstance(at, str)}


def _shape(layouts: Sequence[Layout], sizes: Sizes) -> tuple[int, ...]:
    return tuple(measure(layout, sizes) for layout in layouts)
