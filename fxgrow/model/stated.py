"""Sizes that modules state as attributes. A user's class may have anything under the name of one, such as a tensor."""

from __future__ import annotations

from numbers import Integral
from typing import Any, TypeGuard

from torch import nn

from .layer_kinds import CONVOLUTIONS, LINEAR, is_a


def stated_size(module: nn.Module, name: str) -> int | tuple[int, ...] | None:
    """The int or the ints that an attribute of a module states; None where it is missing or anything else."""
    try:
        value = getattr(module, name, None)
    except Exception:  # noqa: BLE001 - a property of a user may raise anything
        return None
    if _is_int(value):
        return int(value)
    if isinstance(value, tuple | list) and all(map(_is_int, value)):
        return tuple(map(int, value))
    return None


def stated_int(module: nn.Module, name: str, default: int = 0) -> int:
    """The same for a single int; the default where it is none."""
    size = stated_size(module, name)
    return size if isinstance(size, int) else default


def states_its_sizes(layer: nn.Module) -> bool:
    """Whether a layer is a linear map that states all its sizes as torch's do."""
    if is_a(layer, LINEAR):
        return min(stated_int(layer, "in_features", -1), stated_int(layer, "out_features", -1)) >= 0
    if not is_a(layer, *CONVOLUTIONS):
        return False
    padding = getattr(layer, "padding", None)
    padded = isinstance(padding, str) or isinstance(stated_size(layer, "padding"), tuple)
    if not padded or not isinstance(getattr(layer, "padding_mode", None), str):
        return False
    single = all(stated_int(layer, name, -1) >= 0 for name in ("in_channels", "out_channels", "groups"))
    return single and all(isinstance(stated_size(layer, name), tuple) for name in ("kernel_size", "stride", "dilation"))


def _is_int(value: Any) -> TypeGuard[Integral]:
    return isinstance(value, Integral) and not isinstance(value, bool)
