"""Larger kernels: whether the kernel of a convolution can be padded with zeros, and the plan entry for it."""

from __future__ import annotations

from typing import Any

from ..errors import Unfit
from ..infer.width_graph import WidthGraph
from ..model.copies import named_tensors
from ..model.stated import states_its_sizes
from ..model.tree import module_at
from ..plans.changes import Enlarge, StructuralChange
from ..spec.requests import Kernel

CONVOLUTION = "aten::convolution"


def enlarge(widths: WidthGraph, request: Kernel, path: str) -> list[StructuralChange]:
    """The plan entry for a larger kernel of the convolution at `path`.

    Raises:
        Unfit: The kernel cannot be enlarged without changing the function; the message says why.
    """
    conv: Any = module_at(widths.traced.root, path)
    if not hasattr(conv, "kernel_size"):
        raise Unfit("its class is no layer of torch.nn, so the graph contains its code, which sets the padding")
    _check_use(widths, path, conv)
    if not states_its_sizes(conv):
        raise Unfit("its class has something else than numbers under the names of its sizes")
    old: tuple[int, ...] = tuple(conv.kernel_size)
    new = (request.size,) * len(old) if isinstance(request.size, int) else request.size
    if len(new) != len(old):
        raise Unfit(f"size {new} has {len(new)} dimensions; the kernel of the layer has {len(old)}")
    for before, after in zip(old, new, strict=True):
        if after < before:
            raise Unfit(f"its kernel size {before} is already larger than {after}")
        if (after - before) % 2:
            raise Unfit(
                f"equal zeros are added on both sides: {before} can become {before + 2}, {before + 4}, ..., not {after}"
            )
    if conv.padding_mode != "zeros" and new != old:
        raise Unfit(
            f"its padding_mode is {conv.padding_mode!r}; only zero padding can be increased with the same result"
        )
    if new == old:
        raise Unfit(f"its kernel size is already {old}")
    return [Enlarge(path, old, new)]


def _check_use(widths: WidthGraph, path: str, conv: Any) -> None:
    """Raise unless the weight is used only by calls of the convolution, which follow its padding attribute."""
    name = next((name for name, tensor in named_tensors(widths.traced.root).items() if tensor is conv.weight), "")
    if not name:
        raise Unfit("its weight is computed from other parameters (a parametrization)")
    runs = [run for form in (widths.traced, *widths.traced.forms) for run in form.tapes.values()]
    users = [call for run in runs for call in run.calls if name in call.inputs]
    if not users:
        raise Unfit("its weight is not used in the run on the example inputs")
    other = next((call for call in users if call.module != path or call.op._schema.name != CONVOLUTION), None)
    if other is not None:
        raise Unfit(f"its weight is also used at {other.site or other.op}, whose padding would not change with it")
