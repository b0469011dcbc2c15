"""The state of a search for widths that cost as much as a budget allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..costs.terms import Terms
from ..spec.parse import MOST_CHANNELS
from .ladders import Unit

NEAR = 1e-3  # of the goal: nearer than this need not be searched
WITHIN = 0.01  # of the goal: further away is an error


class Search:
    """Widths, what they cost, and the cost to reach.

    Args:
        terms: The cost as a function of widths.
        sizes: The widths at first, of all groups.
        goal: The cost to reach.
    """

    def __init__(self, terms: Terms, sizes: Mapping[str, int], goal: int) -> None:
        self.sizes = dict(sizes)
        self.goal = goal
        self._terms = terms
        self.total = terms.total(self.sizes.__getitem__)

    def cost(self, new: Mapping[str, int]) -> int:
        """The cost with other widths for some groups."""
        names = [name for name, size in new.items() if size != self.sizes[name]]
        if not names:
            return self.total
        sizes = {**self.sizes, **new}
        before = self._terms.part(names, self.sizes.__getitem__)
        return self.total - before + self._terms.part(names, sizes.__getitem__)

    def take(self, new: Mapping[str, int]) -> None:
        """Go on with other widths for some groups."""
        self.total = self.cost(new)
        self.sizes.update(new)

    def try_(self, new: Mapping[str, int]) -> bool:
        """Take widths if they fit; whether they do."""
        fits = max(new.values()) < MOST_CHANNELS and self.cost(new) <= self.goal
        if fits:
            self.take(new)
        return fits

    def matters(self, unit: Unit) -> bool:
        """Whether the cost depends on a unit."""
        return self.cost(unit.at(unit.next_factor(self.sizes))) > self.total

    def is_near(self) -> bool:
        """Whether the cost is so near the goal that the rest does not matter."""
        return 0 <= self.goal - self.total <= NEAR * self.goal

    @property
    def is_far(self) -> bool:
        """Whether the cost is further below the goal than is allowed."""
        return self.goal - self.total > WITHIN * self.goal

    def above(self, units: Iterable[Unit]) -> int | None:
        """Where the goal is far, the next cost above it; if that is near enough, its widths are taken."""
        if not self.is_far:
            return None
        steps = [unit.at(unit.next_factor(self.sizes)) for unit in units]
        steps = [step for step in steps if max(step.values()) < MOST_CHANNELS]
        costs = [(self.cost(step), number) for number, step in enumerate(steps)]
        more = min((found for found in costs if found[0] > self.goal), default=None)
        if more is not None and more[0] - self.goal <= WITHIN * self.goal:
            self.take(steps[more[1]])
            return None
        return None if more is None else more[0]
