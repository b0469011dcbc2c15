"""All widths that a few units may have, where whole channels are coarse: what is nearest to a budget."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..spec.parse import MOST_CHANNELS
from .ladders import Unit
from .search import WITHIN, Search

MOST_CHOICES = 5000


@dataclass(frozen=True, slots=True)
class Choice:
    """Some widths and what they cost."""

    cost: int
    sizes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What there is around the goal.

    Attributes:
        near: Of the widths that are within the allowed distance those that grow most alike; None where there are none.
        below: The widths with the largest cost up to the goal.
        above: The widths with the smallest cost above it; None where they are not known.
    """

    near: Choice | None
    below: Choice
    above: Choice | None


def neighbours(search: Search, together: Sequence[Unit], old: Mapping[str, int]) -> Neighbours | None:
    """All that the units can have around the goal.

    Args:
        search: The goal, and the widths of all other groups.
        together: The units that may grow.
        old: Their widths in the teacher.

    Returns:
        None where there are too many to try.
    """
    rungs = [list(itertools.islice(_rungs(search, unit, old), MOST_CHOICES)) for unit in together]
    if not rungs or math.prod(map(len, rungs)) > MOST_CHOICES:
        return None
    choices = []
    for chosen in itertools.product(*rungs):
        sizes = {name: size for one in chosen for name, size in one.items()}
        choices.append(Choice(search.cost(sizes), sizes))
    near = [one for one in choices if abs(one.cost - search.goal) <= WITHIN * search.goal]
    return Neighbours(
        min(near, key=lambda one: (_spread(one, old), abs(one.cost - search.goal)), default=None),
        max((one for one in choices if one.cost <= search.goal), key=lambda one: one.cost, default=choices[0]),
        min((one for one in choices if one.cost > search.goal), key=lambda one: one.cost, default=None),
    )


def _spread(choice: Choice, old: Mapping[str, int]) -> float:
    """The largest factor by the smallest."""
    factors = [size / old[name] for name, size in choice.sizes.items()]
    return max(factors) / min(factors)


def _rungs(search: Search, unit: Unit, old: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """The widths of a unit one after the other, up to the first that costs more than is allowed."""
    least = {name: old[name] for name in search.sizes if name in old}
    sizes = {name: old[name] for name in unit.ladders}
    yield sizes
    while search.cost({**least, **sizes}) <= search.goal * (1 + WITHIN):
        sizes = unit.at(unit.next_factor(sizes))
        if max(sizes.values()) >= MOST_CHANNELS:
            return
        yield sizes
