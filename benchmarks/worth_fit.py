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
GRID = 2000  # points of the logarithm of what was spent, where a curve is read
ALL = 4000  # at most so many resamples are gone through in full
DRAWS = 2000
Seed = TypeVar("Seed")


@dataclass(frozen=True, slots=True)
class Curve:
    """A least-squares polynomial of the loss over the logarithm of what was spent: a parabola, a line of two points.

    It says nothing outside of the points' range.

    Attributes:
        low: The least that was spent.
        high: The most.
        coefficients: Of the powers of log(spent / low), the highest first.
    """

    low: float
    high: float
    coefficients: tuple[float, ...]

    def at(self, spent: float) -> float:
        """The loss; infinite outside of the range."""
        if not self.low * (1 - ROUNDED) <= spent <= self.high * (1 + ROUNDED):
            return math.inf
        return float(np.polyval(self.coefficients, math.log(spent / self.low)))

    def reaches(self, loss: float) -> float | None:
        """The least that has to be spent for a loss, to the grid; None: it is not reached in the range."""
        logs = np.linspace(0.0, math.log(self.high / self.low), GRID)
        losses = np.polyval(self.coefficients, logs)
        below = np.flatnonzero(losses <= loss + 1e-9)
        if len(below) == 0:
            return None
        first = int(below[0])
        if first == 0:
            return self.low
        left, right = losses[first - 1], losses[first]
        part = (left - loss) / (left - right) if left > right else 1.0
        return self.low * math.exp(logs[first - 1] + min(1.0, part) * (logs[first] - logs[first - 1]))


def fitted(points: Sequence[Point]) -> Curve | None:
    """The curve of two points or more that have a finite loss; None of fewer."""
    usable = sorted(point for point in points if math.isfinite(point[1]))
    spent = [x for x, _ in usable]
    if len(set(spent)) < 2:
        return None
    logs = [math.log(x / spent[0]) for x in spent]
    coefficients = np.polyfit(logs, [y for _, y in usable], min(2, len(set(spent)) - 1))
    return Curve(spent[0], spent[-1], tuple(float(c) for c in coefficients))


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
