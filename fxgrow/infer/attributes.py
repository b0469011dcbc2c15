"""Sizes that modules of torch.nn state as attributes: ``conv.out_channels``, ``norm.normalized_shape``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..layouts.layout import Layout
from ..model.layer_kinds import EMBEDDING, LINEAR_MAPS, RECURRENT, RECURRENT_LAYERS, RMS_NORM, is_a, is_instance_norm
from ..model.stated import stated_int, stated_size
from ..model.walk import named_modules
from ..ops import Value


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute of a module that states sizes: `conv.out_channels`, `norm.normalized_shape`."""

    module: str
    name: str
    layouts: tuple[Layout, ...]


def of_module(path: str, module: Any, value: Value, out: Any) -> Iterator[Attribute]:
    """Sizes that a module of torch.nn states and that no operator's rule sees.

    Args:
        path: The module's.
        module: The module.
        value: The layouts of its input.
        out: Those of its result, in the structure of the result.
    """
    if is_a(module, RMS_NORM):
        if isinstance(shape := stated_size(module, "normalized_shape"), tuple):
            yield Attribute(path, "normalized_shape", value.layouts[-len(shape) :])
    elif is_instance_norm(module):
        channels = 1 if len(value.layouts) > 2 and value.shape[1] == stated_size(module, "num_features") else 0
        yield Attribute(path, "num_features", (value.layouts[channels],))
    elif isinstance(module, RECURRENT):
        yield from _recurrent(path, module, value, out)


def of_weights(root: nn.Module, tensors: Mapping[str, tuple[Layout, ...]]) -> Iterator[Attribute]:
    """Sizes that a module states of its weight, also where another module uses that weight."""
    for name, module in named_modules(root):
        weight = tensors.get(f"{name}.weight".lstrip("."))
        if weight is None or stated_int(module, "groups", 1) != 1:
            continue
        for kind in (*LINEAR_MAPS, EMBEDDING):
            if is_a(module, kind):
                yield from (Attribute(name, size, (weight[dim],)) for size, dim in kind.weight_sizes.items())


def _recurrent(name: str, module: nn.RNNBase | nn.RNNCellBase, x: Value, out: Any) -> Iterator[Attribute]:
    """Sizes of a recurrent layer: of its input, its state, and the state's projection."""
    yield Attribute(name, "input_size", (x.layouts[-1],))
    state = out[1] if isinstance(module, RECURRENT_LAYERS) else out
    shown, hidden = state if isinstance(state, list | tuple) else (state, state)
    yield Attribute(name, "hidden_size", (hidden.layouts[-1],))
    if isinstance(module, RECURRENT_LAYERS) and stated_int(module, "proj_size"):
        yield Attribute(name, "proj_size", (shown.layouts[-1],))
