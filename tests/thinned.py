"""A covering sample of the cases that are many and slow, the same in every process.

A case has a place on a circle, by the CRC-32 of its name. A kind of test runs the cases of one arc of it. The arcs of
kinds that share their cases lie end to end, so that each case is in at least one of them. Of all pairs of two lists run
as many as it takes to have each entry of both; and so of the cases of a test with several lists of parameters, where
these are eight or more. `--thorough` runs all cases.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

THOROUGH = pytest.mark.thorough
MANY = 8  # cases of several lists of parameters, of which not all run

# The arc of each kind: where it starts on the circle, and its length, the share of cases that run.
ARCS: dict[str, tuple[float, float]] = {
    # Of all networks of the registry: the first two have each of them.
    "exact": (0, 10 / 24),
    "golden": (10 / 24, 14 / 24),
    "module output": (15 / 24, 4 / 24),
    "other inputs": (17 / 24, 3 / 24),
    "deeper": (16 / 24, 3 / 24),
    "float32": (19 / 24, 2 / 24),
    "wider ends": (4 / 24, 3 / 24),
    "parameter order": (18 / 24, 1 / 24),
    "costs": (0, 1 / 24),
    "drawn as one call": (2 / 24, 2 / 24),
    # Of kinds of changes.
    "drawn behind another": (0, 1 / 6),
    # Of kinds of new layers at activations.
    "claims": (0, 1 / 4),
    # Of the models of torchvision.
    "deeper stages of a graph": (0, 1 / 2),
    "deeper stages of a module": (1 / 2, 1 / 2),
    "real models": (1 / 4, 1 / 4),
    "figures": (0, 1 / 3),
    "budgets": (1 / 2, 1 / 3),
    # Of the decoders of transformers.
    "decoders that generate": (0, 1 / 2),
    "decoders that are saved": (1 / 2, 1 / 2),
    # Of the samples of rules, which tests/test_rules.py grows, too.
    "means through rules": (0, 1 / 3),
}
OF_NETS = ("exact", "golden", "module output", "other inputs", "deeper", "wider ends", "float32")


def runs(kind: str, case: str) -> bool:
    """Whether a case is in the sample of a kind of test."""
    start, share = ARCS[kind]
    return (zlib.crc32(case.encode()) / 2**32 - start) % 1 < share


def thinned(kind: str) -> pytest.MarkDecorator:
    """Marks a test with parameters: without `--thorough`, it runs on the sample of this kind."""
    if kind not in ARCS:
        raise KeyError(kind)
    return pytest.mark.thinned(kind)


def pairs(first: Sequence[Any] | Mapping[str, Any], second: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
    """Every pair of entries of two lists, as parameters; entries of a mapping are named by their keys.

    Without `--thorough`, as many run as the longer list has entries.
    """
    rows, columns = (
        [*some.items()] if isinstance(some, Mapping) else [(x, x) for x in some] for some in (first, second)
    )
    shorter = min(len(rows), len(columns))
    return [
        pytest.param(a, b, id=f"{name}-{other}", marks=() if (i - j) % shorter == 0 else THOROUGH)
        for (i, (name, a)), (j, (other, b)) in itertools.product(enumerate(rows), enumerate(columns))
    ]


def _is_apart(item: pytest.Item) -> bool:
    """Whether a test has its parameters from several lists, and this case is not needed to have each entry of them."""
    if not isinstance(item, pytest.Function):
        return False
    lists = [
        (len(mark.args[1]), _position(item, *mark.args[:2]))
        for mark in item.iter_markers("parametrize")
        if len(mark.args[1]) > 1
    ]
    if len(lists) < 2 or math.prod(length for length, _ in lists) < MANY:
        return False
    (most, place), *others = sorted(lists, key=lambda one: -one[0])  # those of one length in their order
    past = 1  # by mixed radices, so that entries of two short lists meet in all ways, where the longest is long enough
    for length, position in others:
        if position != (place // past if past * length <= most else place) % length:
            return True
        past *= length
    return False


def _position(item: pytest.Function, names: str | Sequence[str], entries: Sequence[Any]) -> int:
    """The position of a case in one of its lists of parameters."""
    words = [name.strip() for name in names.split(",")] if isinstance(names, str) else names
    values = [item.callspec.params[name] for name in words]

    def is_it(entry: Any) -> bool:
        if type(entry) is type(pytest.param()):
            entry = entry.values
        elif len(words) == 1:
            entry = (entry,)
        return all(a is b for a, b in zip(entry, values, strict=True))

    return next((position for position, entry in enumerate(entries) if is_it(entry)), 0)


def _case(item: pytest.Function) -> str:
    """The name of the network or model that a test takes, or the name of its case."""
    values = item.callspec.params
    return str(getattr(values.get("net"), "name", None) or values.get("name", item.callspec.id))


def split(items: Iterable[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """The tests that are in the sample of their kind or of no kind, and the others."""
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        kinds = [marker.args[0] for marker in item.iter_markers("thinned") if isinstance(item, pytest.Function)]
        sampled = all(runs(kind, _case(item)) for kind in kinds) if kinds else not _is_apart(item)
        (kept if sampled and item.get_closest_marker("thorough") is None else left).append(item)
    return kept, left
