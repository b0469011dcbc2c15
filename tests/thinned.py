"""A covering sample of the cases that are many and slow, the same in every process.

A case has a place on a circle, by the CRC-32 of its name. A kind of test runs the cases of one arc of it. The arcs of
kinds that share their cases lie end to end, so that each case is in at least one of them. `--thorough` runs them all.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import pytest

# The arc of each kind: where it starts on the circle, and its length, the share of cases that run.
ARCS: dict[str, tuple[float, float]] = {
    # Of all networks of the registry; tests/test_equality.py and tests/test_golden_analysis.py run each of them.
    "module output": (0, 1 / 3),
    "other inputs": (1 / 3, 1 / 4),
    "deeper": (7 / 12, 1 / 6),
    "wider ends": (3 / 4, 1 / 6),
    "float32": (11 / 12, 1 / 8),
}
NETS = ("module output", "other inputs", "deeper", "wider ends", "float32")


def runs(kind: str, case: str) -> bool:
    """Whether a case is in the sample of a kind of test."""
    start, share = ARCS[kind]
    return (zlib.crc32(case.encode()) / 2**32 - start) % 1 < share


def thinned(kind: str) -> pytest.MarkDecorator:
    """Marks a test with parameters: without `--thorough`, it runs on the sample of this kind."""
    if kind not in ARCS:
        raise KeyError(kind)
    return pytest.mark.thinned(kind)


def _case(item: pytest.Function) -> str:
    """The name of the network that a test takes, or the name of its case."""
    net = item.callspec.params.get("net")
    return str(getattr(net, "name", item.callspec.id))


def split(items: Iterable[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """The tests that are in the sample of their kind or of no kind, and the others."""
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        marker = item.get_closest_marker("thinned")
        sampled = marker is None or not isinstance(item, pytest.Function) or runs(marker.args[0], _case(item))
        (kept if sampled else left).append(item)
    return kept, left
