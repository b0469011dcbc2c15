"""Constants of a run: how a tape tells them apart, and what stands for them on meta."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import rnn

from ..base.content import dense, digest
from ..base.magnitude import far_from_zero, has_arithmetic
from ..base.torch_private import native_pad_packed_sequence
from ..errors import TraceError
from .meta_cache import META
from .operators import NO_MEMORY

CPU = torch.device("cpu")
FULL = torch.ops.aten.full.default
PADDED = rnn.pad_packed_sequence.__code__
TAKEN = (torch.strided, torch.sparse_coo, torch.jagged)  # the layouts of constants that calls may read
CALLED = fx.Interpreter.call_function.__name__


def is_uniform(real: Tensor) -> bool:
    """Whether all entries of a constant are alike, so that any mapping of its dimensions leaves it as it is."""
    return real.layout == torch.strided and real.numel() > 0 and bool((real == real.flatten()[0]).all())


def is_infinite(real: Tensor) -> bool:
    """Whether some entry of a constant is infinite, NaN, or so far from zero that its square is infinite."""
    if not (real.is_floating_point() or real.is_complex()) or not real.numel():
        return False
    numbers = dense(real) if has_arithmetic(real) else dense(real).float()  # float8 is read as another dtype
    return not bool((numbers.abs() < far_from_zero([numbers.dtype])).all())


def fingerprint_of(real: Tensor) -> str:
    """A constant by its content; one with all entries alike by that entry, whatever its shape."""
    if is_uniform(real):
        return f"constant {real.dtype} {real.flatten()[0].item()}"
    return f"constant {real.dtype} {tuple(real.shape)} {digest(real)}"


def plain_value(value: Any) -> Any:
    """A constant argument as one that another run can be compared with: of a generator what it would draw."""
    if isinstance(value, torch.Generator):
        return f"generator {digest(value.get_state())}"
    return tuple(value) if isinstance(value, list) else value


def like_on_meta(real: Tensor) -> Tensor:
    """A tensor on the meta device with the same strides, also those of what was expanded: views depend on them.

    Raises:
        TraceError: It is of a layout without them, such as torch.sparse_csr.
    """
    if real.layout not in TAKEN:
        raise TraceError(
            f"the code computes with a constant of the layout {real.layout}; keep it dense or as torch.sparse_coo"
        )
    if real.layout != torch.strided or real.is_quantized:
        return real.detach().to(META)
    return torch.empty_strided(real.shape, real.stride(), dtype=real.dtype, device=META)


def computed(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a call on constants alone gives, computed for real."""
    device = kwargs.get("device")
    if device is not None and torch.device(device).type == "meta":
        kwargs["device"] = CPU
    return (torch.ops.aten.zeros.default if op is NO_MEMORY else op)(*args, **kwargs)


def is_filled_later(op: Any) -> bool:
    """Whether a call makes the memory that `pad_packed_sequence` writes the steps of sequences into.

    It is made from numbers alone, as constants are; but who reads it reads what was written, and its sizes are those of
    what is written. The function is in C++, so what tells is who called it: that of torch.nn, or a node of a graph.
    """
    frame = sys._getframe(1) if op is FULL else None
    while frame is not None:
        code = frame.f_code
        if code is PADDED or (code.co_name == CALLED and frame.f_locals.get("target") is native_pad_packed_sequence):
            return True
        frame = frame.f_back
    return False


def written(site: str) -> TraceError:
    """Why a write to a constant that outlives the call is refused."""
    return TraceError(
        f"{site or 'forward'} writes into a tensor that is neither a parameter nor a buffer, or that "
        "tracing would make a constant; register it as a buffer, or write `x = x + y` for `x += y`"
    )


def infinite_tensors(tensors: Mapping[str, Tensor]) -> frozenset[str]:
    """The tensors of a model that hold infinities or NaN; matrices of parameters are taken to hold none."""
    looked_at = {
        name: tensor
        for name, tensor in tensors.items()
        if not isinstance(tensor, nn.Parameter) or sum(n > 1 for n in tensor.shape) < 2
    }
    return frozenset(name for name, tensor in looked_at.items() if not tensor.is_meta and is_infinite(tensor))
