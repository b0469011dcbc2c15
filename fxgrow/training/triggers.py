"""When a growth is due: after a number of steps or epochs, or when a metric no longer improves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from ..base.scalars import as_int, as_number
from ..errors import PlanError


@dataclass(frozen=True, slots=True)
class Step:
    """After this many steps of the optimizer."""

    number: int

    def __post_init__(self) -> None:
        _check_number("Step", self.number)


@dataclass(frozen=True, slots=True)
class Epoch:
    """After this many epochs."""

    number: int

    def __post_init__(self) -> None:
        _check_number("Epoch", self.number)


@dataclass(frozen=True, slots=True, eq=False)
class Plateau:
    """After a metric has not improved for some epochs. Of several plateaus each begins after the one before it.

    Attributes:
        patience: How many epochs.
        min_delta: By how much the metric has to improve on its best value.
        mode: "min" where less is better, as for a loss; "max" for an accuracy.
    """

    patience: int = 3
    min_delta: float = 0.0
    mode: Literal["min", "max"] = "min"

    def __post_init__(self) -> None:
        _check_number("the patience of Plateau", self.patience)
        delta = as_number(self.min_delta)
        if delta is None or not 0 <= delta < math.inf:
            raise PlanError(f"the min_delta of Plateau is a number, 0 or more, not {self.min_delta!r:.60}")
        if self.mode not in ("min", "max"):
            raise PlanError(f"the mode of Plateau is 'min' or 'max', not {self.mode!r:.60}")

    def improves(self, metric: float, best: float | None) -> bool:
        """Whether a metric is better than the best one so far."""
        if best is None:
            return not math.isnan(metric)
        return metric < best - self.min_delta if self.mode == "min" else metric > best + self.min_delta


Trigger = Step | Epoch | Plateau


def trigger(key: object) -> Trigger:
    """A trigger as a user gives it: an int is a number of steps.

    Raises:
        PlanError: It is none.
    """
    if isinstance(key, Step | Epoch | Plateau):
        return key
    number = as_int(key)
    if number is None:
        raise PlanError(f"a growth is due at a step (an int), an Epoch or a Plateau, not at {key!r:.60}")
    return Step(number)


Planned = TypeVar("Planned")


def in_time(growths: Sequence[tuple[Trigger, Planned]]) -> list[tuple[Trigger, Planned]]:
    """Growths in the order in which they come, as far as that is known: steps among steps, and epochs among epochs."""
    entries = list(growths)
    for kind in (Step, Epoch):
        places = [place for place, (when, _) in enumerate(growths) if isinstance(when, kind)]
        ordered = sorted(places, key=lambda place: _number(growths[place][0]))
        for place, source in zip(places, ordered, strict=True):
            entries[place] = growths[source]
    return entries


def _number(when: Trigger) -> int:
    return 0 if isinstance(when, Plateau) else when.number


def _check_number(what: str, number: object) -> None:
    value = as_int(number)
    if value is None or value < 1:
        raise PlanError(f"{what} is a whole number, 1 or more, not {number!r:.60}")
