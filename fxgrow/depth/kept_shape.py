"""A clone of a down-sampling block that keeps the shape of its input: stride 1, and no projection in its shortcut.

The layers that read the input get as many inputs as the block has results. A block that has no shortcut because it
changes the shape gets one by its own attribute that says so. Weights of another shape than before are drawn anew; all
others are copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PlanError
from ..model.layer_kinds import BATCH_NORM, CONVOLUTION, LINEAR, POOLING, is_a, is_layer_class
from ..model.stated import stated_int, stated_size, states_its_sizes
from ..model.walk import named_modules
from ..plans.changes import KeptShape
from .initial import drawn

NO_FLAGS = ("training",)


Dims = tuple[tuple[str, tuple[int, ...]], ...]


def ways_to_keep_shape(block: nn.Module, dims_like: Callable[[str, int], Dims]) -> Iterator[KeptShape]:
    """The ways in which a clone of a block may keep the shape of its input; whether it does is to be tried.

    Args:
        block: A block, of which a child projects its input to the number of channels and the size of its results, or
            that has a shortcut only where it keeps the shape.
        dims_like: The dimensions of the block's tensors that are one width with a dimension of one of them.
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
    yield from _ways_by_flag(block, dims_like)


def _ways_by_flag(block: nn.Module, dims_like: Callable[[str, int], Dims]) -> Iterator[KeptShape]:
    """A block says whether it has a skip connection: an attribute of its own is False, and True in those that have."""
    flags = [name for name, value in vars(block).items() if value is False and name not in NO_FLAGS and name[0] != "_"]
    layers = [(name, module) for name, module in named_modules(block) if is_layer_class(type(module))]
    maps = [(name, module) for name, module in layers if _is_map(module)]
    if not flags or not maps:
        return
    (first, reader), (like, _) = maps[0], maps[-1]
    grouped = stated_int(reader, "groups", 1)
    if grouped not in (1, _ends(reader)[0]):
        return
    dims = dims_like(f"{first}.weight", 0 if grouped > 1 else 1)
    strides = [name for name, module in layers if _is_strided(module)]
    own = [""] * (isinstance(vars(block).get("stride"), int) and vars(block)["stride"] > 1)
    for flag in flags if dims else ():
        yield KeptShape((*own, *strides), (), "", like, "none", flag, dims)


def _projection(child: nn.Module | None) -> str | None:
    """The only linear map in a child of a block, by its name in it; None where there is not one."""
    found = [name for name, module in named_modules(child) if _is_map(module)] if child is not None else []
    return found[0] if len(found) == 1 else None


def _is_map(module: nn.Module) -> bool:
    mapping = is_a(module, LINEAR, CONVOLUTION) and states_its_sizes(module)
    return mapping and isinstance(module._parameters.get("weight"), Tensor)


def _ends(layer: Any) -> tuple[int, int]:
    """The numbers of inputs and of results of a linear map."""
    return (layer.in_features, layer.out_features) if is_a(layer, LINEAR) else (layer.in_channels, layer.out_channels)


def _is_strided(module: nn.Module) -> bool:
    stride = stated_size(module, "stride") if _has_stride(module) else 1
    return any(step != 1 for step in stride) if isinstance(stride, tuple) else stride != 1


def _has_stride(module: nn.Module) -> bool:
    return is_a(module, CONVOLUTION, POOLING) and stated_size(module, "stride") is not None


def _readers(branch: list[tuple[str, nn.Module]], width: int) -> tuple[str, ...] | None:
    """The layers at the beginning of a branch whose number of inputs is that of the block; None where none read it."""
    found: list[str] = []
    for name, module in branch:
        if is_a(module, BATCH_NORM) and stated_int(module, "num_features") == width:
            found.append(name)
        elif _is_map(module):
            alone = stated_int(module, "groups", 1) == 1
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
    for name in kept.strides:
        _unstride(clone, name)
    if kept.flag:
        _resize(clone, kept, width, path, seed)
        return
    if before != width and not kept.inputs:
        raise PlanError(f"the plan names no layer of the block of {path} that reads its {before} channels")
    for number, name in enumerate(kept.inputs):
        if number < len(kept.inputs) - 1:
            _widen_norm(_layer(clone, name, BATCH_NORM), width)
        else:
            _widen_map(_layer(clone, name, LINEAR, CONVOLUTION), width, f"{path}.{name}.weight", seed)
    clone._modules[kept.shortcut] = None if kept.instead == "none" else nn.Identity()


def _resize(clone: nn.Module, kept: KeptShape, width: int, path: str, seed: int) -> None:
    """Give the dimensions that have the width of the input that of the results, and let the block add its input."""
    if not isinstance(vars(clone).get(kept.flag), bool):
        raise PlanError(f"the block of {path} does not say {kept.flag!r}; the plan was made for another model")
    vars(clone)[kept.flag] = True
    found = dict(named_modules(clone))
    for name in kept.others:
        owner, _, own = name.rpartition(".")
        table = next((t for t in _tables_of(found.get(owner)) if t.get(own) is not None), None)
        if table is None or not kept.fits(name, table[own].ndim):
            raise PlanError(f"the block of {path} has no such tensor {name!r}; the plan was made for another model")
        table[own] = _like(table[own], kept.resized(name, tuple(table[own].shape), width), f"{path}.{name}", own, seed)
    for owner in dict.fromkeys(name.rpartition(".")[0] for name in kept.others):
        _restate(found[owner])


def _tables_of(module: nn.Module | None) -> Iterator[Any]:
    if module is not None:
        yield from (module._parameters, module._buffers)


def _like(old: Any, shape: tuple[int, ...], name: str, own: str, seed: int) -> Any:
    """A tensor of another shape in the place of an old one; that itself, if it has the shape."""
    if shape == tuple(old.shape):
        return old
    if len(shape) > 1:
        new = drawn(shape, seed, name, old.device, old.dtype)
    else:
        new = torch.full(shape, new_value(own), dtype=old.dtype, device=old.device)
    return nn.Parameter(new) if isinstance(old, nn.Parameter) else new


def _restate(layer: Any) -> None:
    """Set the sizes that a layer states by those of its tensors."""
    if is_a(layer, BATCH_NORM):
        tensors = [t for table in _tables_of(layer) for t in table.values() if t is not None and t.ndim]
        layer.num_features = tensors[0].shape[0]
    elif is_a(layer, LINEAR):
        layer.out_features, layer.in_features = layer.weight.shape
    else:
        layer.out_channels = layer.weight.shape[0]
        if stated_int(layer, "groups", 1) > 1:  # one filter for each channel
            layer.groups = layer.in_channels = layer.out_channels
        else:
            layer.in_channels = layer.weight.shape[1]


def _layer(clone: nn.Module, name: str, *kinds: Any) -> Any:
    found = dict(named_modules(clone)).get(name)
    if found is None or not is_a(found, *kinds) or not (is_a(found, BATCH_NORM) or states_its_sizes(found)):
        raise PlanError(f"its block has no layer {name!r} of the kind that the plan names; it was made for another one")
    return found


def _unstride(clone: nn.Module, name: str) -> None:
    layer: Any = clone if not name else dict(named_modules(clone)).get(name)
    if layer is None or (name and not _has_stride(layer)) or "stride" not in vars(layer):
        raise PlanError(f"{name or 'the block'} has no stride; the plan was made for another model")
    layer.stride = (1,) * len(layer.stride) if isinstance(layer.stride, tuple) else 1


def _widen_norm(norm: Any, width: int) -> None:
    if stated_int(norm, "num_features") == width:
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
    if old is None or stated_int(layer, "groups", 1) != 1:
        raise PlanError(f"{name} is no weight that reads all inputs; the plan was made for another model")
    shape = (old.shape[0], width, *old.shape[2:])
    if shape == old.shape:
        return  # a copy
    layer.weight = nn.Parameter(drawn(shape, seed, name, old.device, old.dtype))
    if is_a(layer, LINEAR):
        layer.in_features = width
    else:
        layer.in_channels = width
