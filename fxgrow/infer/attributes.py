"""Sizes that modules of torch.nn state as attributes: ``conv.out_channels``, ``norm.normalized_shape``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.instancenorm import _InstanceNorm

from ..layouts.layout import Layout
from ..ops import Value


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute of a module that states sizes: `conv.out_channels`, `norm.normalized_shape`."""

    module: str
    name: str
    layouts: tuple[Layout, ...]


def of_module(path: str, module: nn.Module, value: Value, out: Any) -> Iterator[Attribute]:
    """Sizes that a module of torch.nn states, where no operator's rule sees them.

    Args:
        path: The module's.
        module: The module.
        value: What is known of what goes in.
        out: What is known of what comes out.
    """
    if isinstance(module, nn.RMSNorm):
        yield Attribute(path, "normalized_shape", value.layouts[-len(module.normalized_shape) :])
    elif isinstance(module, _InstanceNorm):
        channels = 1 if len(value.layouts) > 2 and value.shape[1] == module.num_features else 0
        yield Attribute(path, "num_features", (value.layouts[channels],))
    elif isinstance(module, nn.RNNBase | nn.RNNCellBase):
        yield from _recurrent(path, module, value, out)


_FORWARD, _TRANSPOSED = {"out_channels": 0, "in_channels": 1}, {"in_channels": 0, "out_channels": 1}
_STATED: dict[type[nn.Module], dict[str, int]] = {  # attribute: the dimension of `weight` that it states
    nn.Linear: {"out_features": 0, "in_features": 1},
    nn.Embedding: {"num_embeddings": 0, "embedding_dim": 1},
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), _FORWARD),
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), _TRANSPOSED),
}


def of_weights(root: nn.Module, tensors: Mapping[str, tuple[Layout, ...]]) -> Iterator[Attribute]:
    """Sizes that a module states of its weight, also where another module uses that weight."""
    for name, module in root.named_modules():
        weight = tensors.get(f"{name}.weight".lstrip("."))
        for kind, stated in _STATED.items():
            if isinstance(module, kind) and weight is not None and getattr(module, "groups", 1) == 1:
                yield from (Attribute(name, size, (weight[dim],)) for size, dim in stated.items())


def _recurrent(name: str, module: nn.RNNBase | nn.RNNCellBase, x: Value, out: Any) -> Iterator[Attribute]:
    """Sizes of a recurrent layer: of its input, its state, and the state's projection."""
    yield Attribute(name, "input_size", (x.layouts[-1],))
    state = out[1] if isinstance(module, nn.RNNBase) else out
    shown, hidden = state if isinstance(state, list | tuple) else (state, state)
    yield Attribute(name, "hidden_size", (hidden.layouts[-1],))
    if isinstance(module, nn.RNNBase) and module.proj_size:
        yield Attribute(name, "proj_size", (shown.layouts[-1],))
