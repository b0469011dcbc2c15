"""Net2Net as the notebooks do it: widen pairs of consecutive layers, one after the other.

Channel j of n new ones copies channel g(j); producer rows are U[j] = W[g(j)], consumer columns
V[:, j] = W'[:, g(j)] / |{k: g(k) = g(j)}| (Chen, Goodfellow, Shlens 2016, section 2.2). To break the symmetry, the
notebook adds noise of 5 % of the new weight's standard deviation; here to the new rows alone, which is the least.

Written from the description, without the known mistakes of the ports (statistics of batch norm that are not copied, a
teacher that changes): a baseline at its best. What it keeps is that somebody has to name the pairs. Here they are the
layers in the order of their definition, each with the batch norm behind it; a pair whose sizes do not fit is refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

LAYERS = (nn.Linear, nn.modules.conv._ConvNd)
NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
# One entry of a batch norm's state for each channel.
OF_CHANNELS = ("weight", "bias", "running_mean", "running_var")


class NotAPairError(ValueError):
    """Two consecutive layers are not a producer and its consumer."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two layers that follow each other, and what normalises in between."""

    names: tuple[str, str]
    first: nn.Module
    second: nn.Module
    norms: tuple[nn.Module, ...]


def pairs(model: nn.Module) -> Iterator[Pair]:
    """Consecutive layers, in the order of their definition."""
    before: tuple[str, nn.Module] | None = None
    norms: list[nn.Module] = []
    for name, module in model.named_modules():
        if isinstance(module, NORMS):
            norms.append(module)
        elif isinstance(module, LAYERS):
            if before is not None:
                yield Pair((before[0], name), before[1], module, tuple(norms))
            before, norms = (name, module), []


def widen_all(model: nn.Module, factor: float, noise: float = 5e-2, seed: int = 0) -> nn.Module:
    """Widen all pairs, in place.

    Raises:
        NotAPairError: two consecutive layers cannot be a pair.
    """
    generator = torch.Generator().manual_seed(seed)
    found = list(pairs(model))
    if not found:
        raise NotAPairError("no two layers")
    for pair in found:
        width = pair.first.weight.shape[0]
        widen(pair, int(width * factor + 0.5), noise, generator)
    return model


def widen(pair: Pair, width: int, noise: float, generator: torch.Generator) -> None:
    """Give the first layer a new width, in place."""
    first, second = pair.first, pair.second
    old = first.weight.shape[0]
    _check(pair, old)
    extra = torch.randint(old, (width - old,), generator=generator)
    g = torch.cat([torch.arange(old), extra])  # (width,)
    shares = torch.bincount(g, minlength=old)[g].to(first.weight.dtype)  # (width,)
    rows = first.weight.detach()[g]
    if noise:
        spread = noise * float(rows.std())
        rows[old:] += spread * torch.randn(rows[old:].shape, generator=generator, dtype=rows.dtype)
    _set(first, "weight", rows)
    if first.bias is not None:
        _set(first, "bias", first.bias.detach()[g])
    for norm in pair.norms:
        for name in OF_CHANNELS:
            if getattr(norm, name) is not None:
                _set(norm, name, getattr(norm, name).detach()[g])
        norm.num_features = width
    weight = second.weight.detach()
    columns = weight.unflatten(1, (old, -1))[:, g]  # (out, width, pixels of a flattened map or 1, ...)
    columns = columns / shares.view(1, -1, *(1,) * (columns.ndim - 2))
    _set(second, "weight", columns.flatten(1, 2))
    if isinstance(first, nn.Linear):
        first.out_features = width
    else:
        first.out_channels = width
    if isinstance(second, nn.Linear):
        second.in_features = second.weight.shape[1]
    else:
        second.in_channels = width


def _check(pair: Pair, old: int) -> None:
    for layer in (pair.first, pair.second):
        if getattr(layer, "groups", 1) != 1:
            raise NotAPairError("grouped convolution")
        if getattr(layer, "transposed", False):
            raise NotAPairError("transposed convolution")
    if any(not isinstance(norm, nn.modules.batchnorm._BatchNorm) for norm in pair.norms):
        raise NotAPairError("another norm than batch norm")
    if len(pair.norms) > 1:
        raise NotAPairError("two batch norms between two layers")
    if any(norm.num_features != old for norm in pair.norms):
        raise NotAPairError("batch norm of another width")
    takes = pair.second.weight.shape[1]
    flat = isinstance(pair.second, nn.Linear) and isinstance(pair.first, nn.modules.conv._ConvNd)
    if takes % old if flat else takes != old:
        raise NotAPairError(f"the next layer by definition is not the consumer ({old} -> {takes})")


def _set(module: nn.Module, name: str, values: Tensor) -> None:
    """A new parameter or buffer of that name."""
    if name in module._parameters:
        setattr(module, name, nn.Parameter(values))
    else:
        setattr(module, name, values)
