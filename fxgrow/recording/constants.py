"""Constants of a run: how a tape tells them apart, and what stands for them on meta."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..base.content import digest
from ..base.magnitude import far_from_zero
from .meta_cache import META

CPU = torch.device("cpu")


def is_uniform(real: Tensor) -> bool:
    """Whether all entries of a constant are alike, so that any mapping of its dimensions leaves it as it is."""
    return real.numel() > 0 and bool((real == real.flatten()[0]).all())


def is_infinite(real: Tensor) -> bool:
    """Whether some entry of a constant is infinite, NaN, or so far from zero that its square is infinite."""
    if not (real.is_floating_point() or real.is_complex()) or not real.numel():
        return False
    return not bool((real.abs() < far_from_zero([real.dtype])).all())


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
    """A tensor on the meta device with the same strides, also those of what was expanded: views depend on them."""
    if real.layout != torch.strided or real.is_quantized:
        return real.detach().to(META)
    return torch.empty_strided(real.shape, real.stride(), dtype=real.dtype, device=META)
