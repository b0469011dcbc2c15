"""Example inputs of other sizes: other batches, other images or sequences, other numbers of dimensions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..base.torch_private import pytree
from ..layouts.layout import InputDim
from ..model.fixed_sizes import NUMBER_OF_DIMENSIONS
from ..recording.run import named_inputs

Change = Callable[[Tensor], Tensor]
MANY = (4, 9)  # times the example's size: quotients of sizes change, to numbers that divide widths
KINDS = 3  # of a kind of variant so many that the model takes are looked at


@dataclass(frozen=True, slots=True)
class Variant:
    """Arguments of other sizes than the example's.

    Attributes:
        kind: What differs: "batch", "rank", or the dimensions.
        arguments: The arguments of `forward` by name.
        changed: The dimensions of inputs that differ.
    """

    kind: str
    arguments: Mapping[str, Any]
    changed: frozenset[InputDim]


def ranks(arguments: Mapping[str, Any]) -> Iterator[Variant]:
    """A dimension less, and one more, in front."""
    changed = frozenset((name, NUMBER_OF_DIMENSIONS) for name in named_inputs(arguments))
    for change in (lambda x: x[0] if x.ndim > 1 and len(x) else x, lambda x: x[None]):
        yield Variant("rank", _changed(arguments, change), changed)


def batches(arguments: Mapping[str, Any], avoided: Collection[int]) -> Iterator[Variant]:
    """Other sizes of the first dimension; those first that are no other size of the model.

    Args:
        arguments: The example's.
        avoided: The other sizes.
    """
    sizes = [t.shape[0] for t in named_inputs(arguments).values() if t.ndim]
    size = max(set(sizes), key=sizes.count) if sizes else 0
    if not size:
        return
    more = [n for n in range(size + 1, 3 * size + 8) if n not in avoided]
    apart = [n for n in more if n % size] or more
    for new in dict.fromkeys([*apart[:1], *_large(arguments, size), *apart[2:3], 2 * size, 3 * size]):
        yield _resized("batch", arguments, 0, size, new)


def others(arguments: Mapping[str, Any], avoided: Collection[int]) -> Iterator[Variant]:
    """Other sizes of the later dimensions: both sides of an image, each alone, and all that have one size."""
    tensors = named_inputs(arguments)
    ranked = [t.ndim for t in tensors.values()]
    if max(ranked, default=0) > 3:
        yield from (_enlarged(arguments, times) for times in (2, *_large(arguments, 1), 3))
    for dim in range(1, max(ranked, default=0)):
        sizes = {t.shape[dim] for t in tensors.values() if t.ndim > dim}
        for size in sorted(sizes - {0}):
            free = [n for n in range(size + 1, size + 12) if n not in avoided]
            near = (2 * size, 3 * size, size + 1, size + 2, size - 1)
            for new in dict.fromkeys([*free[:1], *_large(arguments, size), *free[1:2], *near]):
                if new > 0:
                    yield _resized(f"dimension {dim}", arguments, dim, size, new)
    for size in sorted({n for t in tensors.values() for n in t.shape[1:] if n > 1}):
        for new in itertools.islice((n for n in range(size + 1, size + 12) if n not in avoided), 2):
            yield _resized(f"size {size}", arguments, None, size, new)


def _large(arguments: Mapping[str, Any], size: int) -> tuple[int, ...]:
    """Sizes at which `1 + size // 32` is another number than at the example's, where running on them costs nothing."""
    on_meta = all(tensor.is_meta for tensor in named_inputs(arguments).values())
    return tuple([times * size for times in MANY]) if on_meta else ()


def _resized(kind: str, arguments: Mapping[str, Any], dim: int | None, size: int, new: int) -> Variant:
    """Every dimension `dim` of one size (None: any dimension but the first) with another size."""

    def chosen(x: Tensor) -> list[int]:
        return [d for d in (range(1, x.ndim) if dim is None else [dim]) if d < x.ndim and x.shape[d] == size]

    def change(x: Tensor) -> Tensor:
        for d in chosen(x):
            x = torch.cat([x] * -(-new // size), d).narrow(d, 0, new)
        return x.clone()

    changed = frozenset((name, d) for name, x in named_inputs(arguments).items() for d in chosen(x))
    return Variant(kind, _changed(arguments, change), changed)


def _enlarged(arguments: Mapping[str, Any], times: int) -> Variant:
    images = {name: x for name, x in named_inputs(arguments).items() if x.ndim > 3}
    changed = frozenset((name, d) for name, x in images.items() for d in (x.ndim - 2, x.ndim - 1))
    return Variant(
        "sides",
        _changed(arguments, lambda x: x if x.ndim < 4 else x.repeat(*[1] * (x.ndim - 2), times, times)),
        changed,
    )


def _changed(arguments: Mapping[str, Any], change: Change) -> Mapping[str, Any]:
    changed: Mapping[str, Any] = pytree.tree_map_only(Tensor, change, dict(arguments))
    return changed
