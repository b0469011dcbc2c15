"""A number to aim at so that what comes of it is a given one, by bracketing: it need only grow with the aim."""

from __future__ import annotations

from dataclasses import dataclass, field

MARGIN = 0.1  # of the bracket, which the next aim keeps from its ends
MOST_STEP = 4.0  # times the last aim


@dataclass(slots=True)
class Bounds:
    """What came of the aims so far.

    Attributes:
        least: The least aim that makes sense.
        low: The largest aim that gave too little, with what it gave.
        high: The smallest that gave too much.
        tried: All aims.
    """

    least: float
    low: tuple[float, float] | None = None
    high: tuple[float, float] | None = None
    before: tuple[float, float] | None = None  # the low one before
    tried: set[float] = field(default_factory=set)

    def next(self, aim: float, got: float, goal: float) -> int:
        """The next aim.

        Args:
            aim: The last one.
            got: What it gave.
            goal: What the next one is to give.
        """
        self.tried.add(aim)
        if got > goal:
            self.high = (aim, got)
        else:
            self.before, self.low = self.low, (aim, got)
        return max(round(self.least), round(self._between(goal)))

    def _between(self, goal: float) -> float:
        if self.low is not None and self.high is not None:
            part = (goal - self.low[1]) / (self.high[1] - self.low[1])
            return self.low[0] + (self.high[0] - self.low[0]) * min(max(part, MARGIN), 1 - MARGIN)
        if self.high is not None:
            return self.high[0] * goal / self.high[1]
        assert self.low is not None, "an aim was tried"
        aim, got = self.low
        step = goal / got
        if self.before is not None and got > self.before[1]:
            step = 1 + (goal - got) / (got - self.before[1]) * (aim - self.before[0]) / aim
        return aim * min(max(step, 1 + MARGIN / 10), MOST_STEP)
