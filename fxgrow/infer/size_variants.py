"""Example inputs of other sizes: other batches, other images or sequences, other numbers of dimensions."""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..base.torch_private import pytree
from ..errors import TraceError
from ..layouts.layout import InputDim, Places
from ..model.fixed_sizes import NUMBER_OF_DIMENSIONS
from ..recording.run import named_inputs

Change = Callable[[Tensor], Tensor]
SEVERAL = 5  # entries of a new dimension, so that `size // 4` is not 0
TIMES = 2  # the example's size, up to which tokens and pixels are as many as a width has channels
MARK = 10  # a size beyond those of new dimensions
BEYOND = (2, 5)  # times a width: `batch < 2 * channels` and `batch % (3 * channels)` become other numbers
MANY = (9, 4)  # times the example's size: quotients of sizes change, to numbers that divide widths


@dataclass(frozen=True, slots=True)
class Variant:
    """Arguments of other sizes than the example's.

    Attributes:
        kind: What differs: "batch", "rank", "all", or the dimensions.
        enough: Of this kind so many that the model takes are analysed.
        arguments: The arguments of `forward` by name.
        changed: The dimensions of inputs that differ.
        places: By inputs whose number of dimensions differs, which of the example's each dimension is; None: a new one.
    """

    kind: str
    arguments: Mapping[str, Any]
    changed: frozenset[InputDim]
    enough: int = 1
    places: Mapping[str, Places] = field(default_factory=dict)


def ranks(arguments: Mapping[str, Any]) -> Iterator[Variant]:
    """A dimension less, and one more, in front or behind the first."""
    changed = frozenset((name, NUMBER_OF_DIMENSIONS) for name in named_inputs(arguments))
    changes: list[Change] = [lambda x: x[0] if x.ndim > 1 and len(x) else x, lambda x: x[None]]
    if any(x.ndim > 1 for x in named_inputs(arguments).values()):
        times = SEVERAL if _is_cheap(arguments) else 1
        changes.append(lambda x: torch.stack([x] * times, 1) if x.ndim else x)
    for change in changes:
        given = _changed(arguments, change)
        after = named_inputs(given)
        places = {name: _places(x, after[name], change) for name, x in named_inputs(arguments).items()}
        yield Variant("rank", given, changed, places=places)


def _places(before: Tensor, after: Tensor, change: Change) -> Places:
    """Which dimension of a tensor each one is after a change; as they were, where it was left as it is."""
    places: list[int | None] = [None] * after.ndim
    for dim in range(before.ndim):  # one at a time: a tensor of many dimensions may not be large in all of them
        marked = change(torch.empty([MARK if d == dim else 1 for d in range(before.ndim)], device="meta"))
        if marked.ndim != after.ndim:
            return tuple(range(before.ndim))
        places = [dim if n == MARK else place for n, place in zip(marked.shape, places, strict=True)]
    return tuple(places)


def all_at_once(
    arguments: Mapping[str, Any], avoided: Collection[int], stated: Collection[InputDim] = ()
) -> Iterator[tuple[Variant, ...]]:
    """Variants in which every size is another one: larger ones, a little larger ones, and much larger ones.

    Where running on large inputs costs something, the later sizes are twice and half of the example's in turns, and the
    batch is hardly larger. Not every model takes these: in each tuple, a variant stands in for those before it that it
    does not take.

    Args:
        arguments: The example's.
        avoided: The sizes of the model, none of which is to come up by accident.
        stated: The dimensions of inputs that have to stay.
    """
    tensors = named_inputs(arguments)
    by_place = max((t.ndim for t in tensors.values()), default=0) > 3
    places = [(name, d, n) for name, t in tensors.items() for d, n in enumerate(t.shape) if (name, d) not in stated]
    keys = list(dict.fromkeys(_key(d, n, by_place=by_place) for _, d, n in places if n > 1 or d == 0))

    def variant(times: tuple[int, int], *, halved: bool = False) -> Variant:
        new: dict[tuple[int, int], int] = {}
        for number, (d, n) in enumerate(keys):
            if halved and d and n > 3:
                new[d, n] = n // 2 if not number % 2 else 2 * n
                continue
            start = n * times[number % 2] + (number + 1 if times == (1, 1) or not d else 0)
            start = n + 1 if halved and not d else start
            new[d, n] = next(m for m in itertools.count(start) if d or m not in avoided)

        def change(name: str, x: Tensor) -> Tensor:
            for d, n in enumerate(x.shape):
                wanted = n if (name, d) in stated else new.get(_key(d, n, by_place=by_place), n)
                if wanted != n:
                    x = _longer(x, d, wanted)
            return x.clone()

        return _with_tensors("all", arguments, {name: change(name, x) for name, x in tensors.items()})

    cheap = _is_cheap(arguments)
    yield (variant((2, 3)),) if cheap else (variant((2, 3), halved=True), variant((2, 3)))
    yield (variant((1, 1)),)
    if cheap:
        yield (variant(MANY),)


def _key(dim: int, size: int, *, by_place: bool) -> tuple[int, int]:
    """What has to change alike: sizes of a batch, of one side of images, or lengths that are equal anywhere."""
    return (min(dim, 1) if not by_place else dim), size


def batches(
    arguments: Mapping[str, Any], avoided: Collection[int], stated: Collection[InputDim] = ()
) -> Iterator[Variant]:
    """Other sizes of the first dimension; those first that are no other size of the model.

    The batch is what most inputs have there, or of several such sizes that of the first input. Other inputs may have
    other sizes, such as nodes beside the two rows of a list of edges, or boxes beside images.

    Args:
        arguments: The example's.
        avoided: The other sizes.
        stated: The dimensions of inputs that have to stay.
    """
    found = Counter(t.shape[0] for t in named_inputs(arguments).values() if t.ndim and t.shape[0])
    for place, (size, _) in enumerate(found.most_common()):
        more = [n for n in range(size + 1, 3 * size + 8) if n not in avoided]
        apart = [n for n in more if n % size] or more
        kind = f"first dimension {size}" if place else "batch"
        for new in dict.fromkeys([*apart[:1], *_large(arguments, size), *apart[2:3], 2 * size, 3 * size]):
            yield _resized(kind, arguments, 0, size, new, stated, enough=3)


def at_widths(
    arguments: Mapping[str, Any], widths: Sequence[int], stated: Collection[InputDim], most: float = math.inf
) -> Iterator[tuple[Variant, ...]]:
    """As many samples, tokens and pixels as a width has channels, or more than any has; or samples alone.

    Numbers that mix a size of the inputs with a width, such as `batch % channels` and `min(batch, channels)`, are other
    ones there once the width has grown. In each tuple, the second variant stands in for the first, where the model does
    not take that. Tokens and pixels that would be many times the example's stay, since code may loop over them.

    Args:
        arguments: The example's.
        widths: The sizes of widths.
        stated: The dimensions of inputs that have to stay.
        most: So many times the example's entries an input may have at most, all dimensions together.
    """
    tensors = named_inputs(arguments)
    places = [(name, d) for name, t in tensors.items() for d, n in enumerate(t.shape) if n > 1 or not d]
    free = [place for place in places if place not in stated]

    def variant(kind: str, dims: Collection[InputDim], new: int) -> Variant:
        changed = dict(tensors)
        for name, d in dims:
            changed[name] = _longer(changed[name], d, new)
        return _with_tensors(kind, arguments, {name: x.clone() for name, x in changed.items()})

    samples = [(name, d) for name, d in free if not d]

    def times(dims: Collection[InputDim], new: int) -> float:
        """How many times as many entries the largest of the inputs would have."""
        own = [[new / max(tensors[name].shape[d], 1) for of, d in dims if of == name] for name in tensors]
        return max(map(math.prod, own), default=1)

    for new in (*widths, *[beyond * max(widths) for beyond in BEYOND if widths]):
        near = [(name, d) for name, d in free if d and new <= TIMES * tensors[name].shape[d]]
        kinds = (("all", [*samples, *near]), ("batch", samples))
        yield tuple([variant(kind, dims, new) for kind, dims in kinds if times(dims, new) <= most])


def others(
    arguments: Mapping[str, Any], avoided: Collection[int], stated: Collection[InputDim] = ()
) -> Iterator[Variant]:
    """Other sizes of the later dimensions: both sides of an image, each alone, and all that have one size.

    Arguments are those of `batches`: nodes may have as many features as there are edges.
    """
    tensors = named_inputs(arguments)
    ranked = [t.ndim for t in tensors.values()]
    if max(ranked, default=0) > 3:
        yield from (_enlarged(arguments, times) for times in ((2, 3), *[MANY] * _is_cheap(arguments), (2, 2), (4, 4)))
    for dim in range(1, max(ranked, default=0)):
        sizes = {t.shape[dim] for t in tensors.values() if t.ndim > dim}
        for size in sorted(sizes - {0}):
            free = [n for n in range(size + 1, size + 12) if n not in avoided]
            near = (2 * size, 3 * size, size + 1, size + 2, size - 1)
            for new in dict.fromkeys([*free[:1], *_large(arguments, size), *free[1:2], *near]):
                if new > 0:
                    enough = 2 if max(ranked) > 3 else 3
                    yield _resized(f"dimension {dim}", arguments, dim, size, new, stated, enough=enough)
    places = {(d, n) for t in tensors.values() for d, n in enumerate(t.shape) if d and n > 1}
    for size in sorted({n for _, n in places if sum(n == other for _, other in places) > 1}):
        for new in itertools.islice((n for n in range(size + 1, size + 12) if n not in avoided), 2):
            yield _resized(f"size {size}", arguments, None, size, new, stated)


def each_alone(arguments: Mapping[str, Any], avoided: Collection[int], dims: Collection[InputDim]) -> Iterator[Variant]:
    """Other sizes of dimensions of inputs, each alone: two nodes have as little to do with the two rows of their edges.

    Args:
        arguments: The example's.
        avoided: The sizes of the model.
        dims: The dimensions.
    """
    tensors = named_inputs(arguments)
    for name, dim in sorted(dims):
        size = tensors[name].shape[dim]
        for new in (*[n for n in range(size + 1, size + 12) if n not in avoided][:1], 2 * size):
            changed = {one: (_longer(x, dim, new) if one == name else x).clone() for one, x in tensors.items()}
            yield _with_tensors(f"dimension {dim} of {name}", arguments, changed)


def _large(arguments: Mapping[str, Any], size: int) -> tuple[int, ...]:
    """Sizes at which `1 + size // 32` is another number than at the example's."""
    return tuple([times * size for times in MANY]) if _is_cheap(arguments) else ()


def _is_cheap(arguments: Mapping[str, Any]) -> bool:
    """Whether running on large inputs costs nothing."""
    return all(tensor.is_meta for tensor in named_inputs(arguments).values())


def resized(arguments: Mapping[str, Any], dim: int, size: int, new: int) -> Variant:
    """Every dimension `dim` of one size with another size."""
    return _resized("batch" if not dim else f"dimension {dim}", arguments, dim, size, new, ())


def _resized(
    kind: str,
    arguments: Mapping[str, Any],
    dim: int | None,
    size: int,
    new: int,
    stated: Collection[InputDim],
    *,
    enough: int = 1,
) -> Variant:
    """Every dimension `dim` of one size (None: any dimension but the first) with another size, but those that stay."""
    changed = {}
    for name, x in named_inputs(arguments).items():
        for d in range(1, x.ndim) if dim is None else [dim]:
            if d < x.ndim and x.shape[d] == size and (name, d) not in stated:
                x = _longer(x, d, new)
        changed[name] = x.clone()
    return replace(_with_tensors(kind, arguments, changed), enough=enough)


def _longer(x: Tensor, dim: int, new: int) -> Tensor:
    """The entries of a dimension again and again, or the first of them.

    Raises:
        TraceError: torch cannot make such a tensor, as many sparse ones.
    """
    try:
        return torch.cat([x] * -(-new // x.shape[dim]), dim).narrow(dim, 0, new)
    except (RuntimeError, TypeError) as error:
        if x.layout == torch.strided and not x.is_nested:
            raise
        held = f"a tensor of the layout {x.layout}" if not x.is_nested else "a nested tensor"
        raise TraceError(
            f"example_inputs hold {held}, of which fxgrow tries no other sizes; give plain ones"
        ) from error


def _with_tensors(kind: str, arguments: Mapping[str, Any], changed: Mapping[str, Tensor]) -> Variant:
    """The arguments with other tensors in the places of theirs, by the names of `named_inputs`."""
    shapes = {name: (x.shape, changed[name].shape) for name, x in named_inputs(arguments).items()}
    dims = frozenset(
        (name, d) for name, pair in shapes.items() for d, (a, b) in enumerate(zip(*pair, strict=True)) if a != b
    )
    left = iter(changed.values())
    return Variant(kind, _changed(arguments, lambda _: next(left)), dims)


def _enlarged(arguments: Mapping[str, Any], times: tuple[int, int]) -> Variant:
    images = {name: x for name, x in named_inputs(arguments).items() if x.ndim > 3}
    changed = frozenset((name, d) for name, x in images.items() for d in (x.ndim - 2, x.ndim - 1))
    return Variant(
        "sides",
        _changed(arguments, lambda x: x if x.ndim < 4 else x.repeat(*[1] * (x.ndim - 2), *times)),
        changed,
    )


def _changed(arguments: Mapping[str, Any], change: Change) -> Mapping[str, Any]:
    changed: Mapping[str, Any] = pytree.tree_map_only(Tensor, functools.partial(_if_can_be, change), dict(arguments))
    return changed


def _if_can_be(change: Change, x: Tensor) -> Tensor:
    """What a change makes of a tensor; one that is sparse, which torch cannot change so, stays."""
    try:
        return change(x)
    except (RuntimeError, TypeError):
        if x.layout == torch.strided:
            raise
        return x
