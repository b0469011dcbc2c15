"""A clone of a down-sampling block that keeps the shape of its input: stride 1, and no projection in its shortcut.

The layers that read the input get as many inputs as the block has results. Weights of another shape than before are
drawn anew; all others are copies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..base.rng import named_generator
from ..errors import PlanError
from ..model.layer_kinds import BATCH_NORM, CONVOLUTION, LINEAR, is_a, is_layer_class
from ..model.walk import named_modules
from ..plans.changes import KeptShape

POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)


def ways_to_keep_shape(block: nn.Module) -> Iterator[KeptShape]:
    """The ways in which a clone of a block may keep the shape of its input; whether it does is to be tried.

    Args:
        block: A block, of which a child projects its input to the number of channels and the size of its results.
    """
    projections = [(n, inner) for n, child in block._modules.items() if (inner := _projection(child)) is not None]
    projections.sort(key=lambda found: found[1] == "")  # a sequence is a shortcut rather than a single layer
    for shortcut, inner in projections:
        like = f"{shortcut}.{inner}" if inner else shortcut
        layer: Any = block.get_submodule(like)
        branch = [
            (name, module)
            for name, module in named_modules(block)
            if not f"{name}.".startswith(f"{shortcut}.") and is_layer_class(type(module))
        ]
        strides = [name for name, module in branch if _is_strided(module)]
        own = [""] * (isinstance(vars(block).get("stride"), int) and vars(block)["stride"] > 1)
        old, new = _ends(layer)
        inputs = _readers(branch, old)
        if inputs is None and old == new:
            inputs = ()
        if inputs is not None:
            for instead in ("none", "identity"):
                yield KeptShape((*own, *strides), inputs, shortcut, like, instead)


def _projection(child: nn.Module | None) -> str | None:
    """The only linear map in a child of a block, by its name in it; None where there is not one."""
    found = [name for name, module in named_modules(child) if _is_map(module)] if child is not None else []
    return found[0] if len(found) == 1 else None


def _is_map(module: nn.Module) -> bool:
    return is_a(module, LINEAR, CONVOLUTION) and isinstance(module._parameters.get("weight"), Tensor)


def _ends(layer: Any) -> tuple[int, int]:
    """The numbers of inputs and of results of a linear map."""
    return (layer.in_features, layer.out_features) if is_a(layer, LINEAR) else (layer.in_channels, layer.out_channels)


def _is_strided(module: Any) -> bool:
    stride = module.stride if _has_stride(module) else 1
    return any(step != 1 for step in stride) if isinstance(stride, tuple) else stride != 1


def _has_stride(module: nn.Module) -> bool:
    return is_a(module, CONVOLUTION) or isinstance(module, POOLS)


def _readers(branch: list[tuple[str, nn.Module]], width: int) -> tuple[str, ...] | None:
    """The layers at the beginning of a branch whose number of inputs is that of the block; None where none read it."""
    found: list[str] = []
    for name, module in branch:
        if is_a(module, BATCH_NORM) and getattr(module, "num_features", 0) == width:
            found.append(name)
        elif _is_map(module):
            alone = getattr(module, "groups", 1) == 1
            return (*found, name) if alone and _ends(module)[0] == width else None
    return None


# -- the clone -------------------------------------------------------------------------------------


def keep_shape(clone: nn.Module, kept: KeptShape, path: str, seed: int) -> None:
    """Let a clone of a block keep the shape of its input, in place.

    Args:
        clone: A copy of the block.
        kept: What is to change.
        path: The path of the clone; its new weights are drawn by their names.
        seed: The seed for these.

    Raises:
        PlanError: The block has no such layers.
    """
    layer: Any = _layer(clone, kept.like, LINEAR, CONVOLUTION)
    before, width = _ends(layer)
    if before != width and not kept.inputs:
        raise PlanError(f"the plan names no layer of the block of {path} that reads its {before} channels")
    for name in kept.strides:
        _unstride(clone, name)
    for number, name in enumerate(kept.inputs):
        if number < len(kept.inputs) - 1:
            _widen_norm(_layer(clone, name, BATCH_NORM), width)
        else:
            _widen_map(_layer(clone, name, LINEAR, CONVOLUTION), width, f"{path}.{name}.weight", seed)
    clone._modules[kept.shortcut] = None if kept.instead == "none" else nn.Identity()


def _layer(clone: nn.Module, name: str, *kinds: Any) -> Any:
    found = dict(named_modules(clone)).get(name)
    if found is None or not is_a(found, *kinds):
        raise PlanError(f"its block has no layer {name!r} of the kind that the plan names; it was made for another one")
    return found


def _unstride(clone: nn.Module, name: str) -> None:
    layer: Any = clone if not name else dict(named_modules(clone)).get(name)
    if layer is None or (name and not _has_stride(layer)) or "stride" not in vars(layer):
        raise PlanError(f"{name or 'the block'} has no stride; the plan was made for another model")
    layer.stride = (1,) * len(layer.stride) if isinstance(layer.stride, tuple) else 1


def _widen_norm(norm: Any, width: int) -> None:
    if norm.num_features == width:
        return  # a copy
    norm.num_features = width
    for name, table in _tables(norm):
        old = table.get(name)
        if old is not None:
            new = torch.full((width,), new_value(name), dtype=old.dtype, device=old.device)
            table[name] = nn.Parameter(new) if isinstance(old, nn.Parameter) else new


def _tables(norm: nn.Module) -> Iterator[tuple[str, Any]]:
    yield from ((name, norm._parameters) for name in ("weight", "bias"))
    yield from ((name, norm._buffers) for name in ("running_mean", "running_var"))


def new_value(name: str) -> float:
    """What a parameter or statistic of a new norm is."""
    return 1.0 if name in ("weight", "running_var") else 0.0


def _widen_map(layer: Any, width: int, name: str, seed: int) -> None:
    old = layer._parameters.get("weight")
    if old is None or getattr(layer, "groups", 1) != 1:
        raise PlanError(f"{name} is no weight that reads all inputs; the plan was made for another model")
    shape = (old.shape[0], width, *old.shape[2:])
    if shape == old.shape:
        return  # a copy
    layer.weight = nn.Parameter(drawn(shape, seed, name, old.device, old.dtype))
    if is_a(layer, LINEAR):
        layer.in_features = width
    else:
        layer.in_channels = width


def drawn(shape: tuple[int, ...], seed: int, name: str, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A new weight as `torch.nn` initialises it, shape (results, inputs, *kernel), drawn by its name."""
    if device.type == "meta":
        return torch.empty(shape, device=device, dtype=dtype)
    weight = torch.empty(shape, dtype=torch.float32, device="cpu")
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=named_generator(seed, name))
    return weight.to(device, dtype)
