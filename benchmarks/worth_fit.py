"""Curves of the final loss over what was spent, their lower envelope, savings, and paired bootstrap intervals."""

import itertools
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Point = tuple[float, float]  # what was spent, the loss
ROUNDED = 0.005  # a budget is spent to the nearest step, so that equal budgets differ by so much at most
EXACT = 1e-9  # losses that differ by less are equal
ALL = 4000  # at most so many resamples are gone through in full
DRAWS = 2000
Seed = TypeVar("Seed")


@dataclass(frozen=True, slots=True)
class Curve:
    """Straight lines between the mean losses of neighbouring budgets, over the logarithm of what was spent.

    It says nothing outside of the points' range. A parabola was tried: over four doublings it lay further from the
    means than the seeds are apart.

    Attributes:
        points: What was spent for each budget, and the mean loss, the least first.
    """

    points: tuple[Point, ...]

    @property
    def low(self) -> float:
        """The least that was spent."""
        return self.points[0][0]

    @property
    def high(self) -> float:
        """The most."""
        return self.points[-1][0]

    def at(self, spent: float) -> float:
        """The loss; infinite outside of the range."""
        if not self.low * (1 - ROUNDED) <= spent <= self.high * (1 + ROUNDED):
            return math.inf
        return float(np.interp(math.log(spent), [math.log(x) for x, _ in self.points], [y for _, y in self.points]))

    def reaches(self, loss: float) -> float | None:
        """The least that has to be spent for a loss; None: it is not reached in the range."""
        if self.points[0][1] <= loss + EXACT:
            return self.low
        for (left, above), (right, below) in itertools.pairwise(self.points):
            if below <= loss + EXACT:
                part = min(1.0, (above - loss) / (above - below))
                return math.exp(math.log(left) + part * (math.log(right) - math.log(left)))
        return None


def fitted(points: Sequence[Point]) -> Curve | None:
    """The curve of the points that have a finite loss, one of each budget; None of fewer than two."""
    usable = sorted(point for point in points if math.isfinite(point[1]))
    return Curve(tuple(usable)) if len(usable) > 1 else None


def envelope(curves: Sequence[Curve], spent: float) -> float:
    """The lowest loss of all curves; infinite where none says anything."""
    return min((curve.at(spent) for curve in curves), default=math.inf)


def envelope_reaches(curves: Sequence[Curve], loss: float) -> float | None:
    """The least that one of the curves has to spend for a loss."""
    return min((spent for curve in curves if (spent := curve.reaches(loss)) is not None), default=None)


@dataclass(frozen=True, slots=True)
class Saving:
    """The part of what the envelope spends that a method does not need.

    Attributes:
        part: From minus infinity (the loss is not reached) to 1.
        bound: "=" or, where the method reaches the loss with the least that was measured, ">=".
    """

    part: float
    bound: str

    def __str__(self) -> str:
        if self.part == -math.inf:
            return "not reached"
        return f"{'≥ ' if self.bound == '>=' else ''}{100 * self.part:.0f} %"


def saving(method: Sequence[Point], fixed: Sequence[Sequence[Point]], loss: float) -> Saving | None:
    """How much less a method spends than the envelope of fixed sizes, for a loss; None where it is not measured."""
    curve = fitted(method)
    least = envelope_reaches([found for points in fixed if (found := fitted(points))], loss)
    if curve is None or least is None:
        return None
    spent = curve.reaches(loss)
    if spent is None:
        return Saving(-math.inf, "=")
    return Saving(1 - spent / least, ">=" if spent == curve.low else "=")


def above_envelope(method: Mapping[int, float], fixed: Sequence[Mapping[int, float]], seeds: Sequence[int]) -> float:
    """The mean loss of a method over seeds, minus the lowest mean of a fixed size. Seeds may be there several times."""
    means = [statistics.fmean(losses[seed] for seed in seeds) for losses in (method, *fixed)]
    lowest = min(means[1:])
    return means[0] - lowest if math.isfinite(lowest) else math.nan


def resamples(seeds: Sequence[Seed]) -> list[list[Seed]]:
    """Samples with replacement: all of them where there are few, else many that are drawn."""
    if len(seeds) ** len(seeds) <= ALL:
        return [list(sample) for sample in itertools.product(seeds, repeat=len(seeds))]
    draws = random.Random(0)
    return [draws.choices(seeds, k=len(seeds)) for _ in range(DRAWS)]


def interval(
    seeds: Sequence[Seed], statistic: Callable[[Sequence[Seed]], float | None], level: float = 0.95
) -> tuple[float, float] | None:
    """The paired bootstrap's interval: the same seeds for all methods in each resample.

    Args:
        seeds: Those that all methods have.
        statistic: Of seeds; None where it is not measured.
        level: Of confidence.

    Returns:
        Both ends, percentiles; None with fewer than three seeds, which say nothing of a spread.
    """
    if len(seeds) < 3:
        return None
    found = [value for sample in resamples(seeds) if (value := statistic(sample)) is not None]
    if not found:
        return None
    found.sort()
    side = (1 - level) / 2
    return found[int(side * (len(found) - 1))], found[math.ceil((1 - side) * (len(found) - 1))]
