"""Widths by what they are worth: the most score for each unit of cost first.

A width of score s that grows by a factor f is worth s log f, so that each further channel is worth less. The sum is
largest, for a cost, where all widths that grow have one s d(log f) / d(cost): steps go to where that is the largest.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence

from .ladders import Unit
from .search import Search

STRIDE = 1.02  # factor of a step, where a single channel is less


def grow_by_score(search: Search, together: Sequence[Unit], scores: Mapping[str, float]) -> None:
    """Grow the units step by step until nothing more fits.

    Args:
        search: The widths and the goal; its widths change.
        together: The units that may grow.
        scores: What a width is worth, by name; a unit is worth the sum of its widths.
    """
    worth = [sum(scores.get(name, 0.0) for name in unit.ladders) for unit in together]
    heap = [(-_gain(search, unit, worth[n]), n) for n, unit in enumerate(together) if worth[n] > 0]
    heapq.heapify(heap)
    while heap and not search.is_near():
        _, number = heapq.heappop(heap)
        unit = together[number]
        gain = -_gain(search, unit, worth[number])
        if heap and gain > heap[0][0]:  # what else has grown since makes it worth less
            heapq.heappush(heap, (gain, number))
        elif search.try_(_stride(search, unit)) or search.try_(unit.at(unit.next_factor(search.sizes))):
            heapq.heappush(heap, (-_gain(search, unit, worth[number]), number))


def _stride(search: Search, unit: Unit) -> dict[str, int]:
    factor = max(unit.next_factor(search.sizes), _factor(search, unit) * STRIDE)
    return {name: max(size, search.sizes[name]) for name, size in unit.at(factor).items()}


def _factor(search: Search, unit: Unit) -> float:
    """The factor that a unit has grown by: the mean one of its widths."""
    logs = [math.log(search.sizes[name] / ladder.old) for name, ladder in unit.ladders.items()]
    return math.exp(sum(logs) / len(logs))


def _gain(search: Search, unit: Unit, worth: float) -> float:
    """What the next step is worth for each unit of cost."""
    step = _stride(search, unit)
    logs = [math.log(step[name] / search.sizes[name]) for name in unit.ladders]
    more = search.cost(step) - search.total
    return worth * sum(logs) / len(logs) / more if more > 0 else math.inf
