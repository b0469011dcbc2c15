"""What the records of benchmarks/worth.py show, as figures: only seeds that all compared methods have are compared."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.worth_clock import Times, seconds_of
from benchmarks.worth_fit import Saving, above_envelope, envelope_reaches, fitted, interval, saving
from benchmarks.worth_methods import Method
from benchmarks.worth_records import Found, Records
from benchmarks.worth_settings import BUDGETS, PROTOCOL, Key, Settings

Interval = tuple[float, float] | None
WHAT = ("flops", "seconds")
REFERENCE = "B"
CLEARLY = 3.0  # spreads


@dataclass(frozen=True, slots=True)
class Part:
    """One track.

    Attributes:
        of: Its settings.
        methods: By name.
        records: What was measured.
        budgets: FLOPs, by name.
        whole: The number of runs of the whole protocol.
        digest: Of the data.
        times: Seconds of a step of each net, timed side by side; without them, runs have the seconds they took.
        best: The best rates, by method and budget.
    """

    of: Settings
    methods: Mapping[str, Method]
    records: Records
    budgets: Mapping[str, float]
    whole: int
    digest: str
    times: Times = field(default_factory=dict)
    best: Mapping[tuple[str, str], float] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "best", self.records.best_rates())

    def keys(self, name: str, budget: str) -> dict[int, Key]:
        """The runs of a method at its best rate, by seed."""
        return self.records.at_best_rate(name, budget, self.best)

    def runs(self, name: str, budget: str) -> dict[int, Found]:
        """What was measured in them, with seconds that can be compared."""
        return {seed: self._comparable(name, self.records.runs[key]) for seed, key in self.keys(name, budget).items()}

    def _comparable(self, name: str, found: Found) -> Found:
        seconds = seconds_of(self.of, self.methods[name], found, self.times) if self.times else None
        return found if seconds is None else {**found, "seconds": seconds}

    def losses(self, name: str, budget: str) -> dict[int, float]:
        """The final test losses, by seed."""
        return {seed: self.records.loss(key) for seed, key in self.keys(name, budget).items()}

    def fixed(self) -> list[str]:
        """The fixed sizes that were measured at all."""
        return [name for name, method in self.methods.items() if method.is_fixed and self.measured(name)]

    @property
    def sizes(self) -> int:
        """How many nets of a fixed size the protocol has."""
        return len({method.stages[0].net for method in self.methods.values() if method.is_fixed})

    def grown(self, *, free: bool = False) -> list[str]:
        """The methods that grow and were measured."""
        return [
            name
            for name, method in self.methods.items()
            if not method.is_fixed and method.has_free_teacher == free and self.measured(name)
        ]

    def measured(self, name: str) -> list[str]:
        """The budgets at which a method was measured."""
        return [budget for budget in BUDGETS if self.keys(name, budget)]

    def shown(self) -> list[str]:
        """The budgets of the protocol, and smaller ones that were measured."""
        measured = {key.budget for key in self.records.runs}
        return [budget for budget in BUDGETS if budget in PROTOCOL or budget in measured]

    def seconds_whole(self) -> float | None:
        """What the whole protocol takes, by the mean seconds for a FLOP so far."""
        runs = self.records.runs.values()
        flops = sum(run["flops"] + run["free_flops"] for run in runs)
        if not flops:
            return None
        took = sum(run["seconds"] + run["free_seconds"] for run in runs)
        share = self.whole / len(PROTOCOL)
        return float(took / flops * share * sum(self.budgets[name] for name in PROTOCOL))


@dataclass(frozen=True, slots=True)
class Comparison:
    """A method beside the lowest fixed size at one budget.

    Attributes:
        difference: Of mean losses; below 0 is better.
        interval: Of the difference.
        lowest: The name of the fixed size.
        seeds: That were compared.
        sizes: How many nets of a fixed size have these seeds, and so are in the comparison.
    """

    difference: float
    interval: Interval
    lowest: str
    seeds: tuple[int, ...]
    sizes: int


def compared(part: Part, name: str, budget: str) -> Comparison | None:
    """A method beside the envelope at one budget."""
    mine = part.losses(name, budget)
    others = {fixed: losses for fixed in part.fixed() if fixed != name and (losses := part.losses(fixed, budget))}
    if not mine or not others:
        return None
    shared, kept = _common(mine, others)
    if not shared or not kept:
        return None
    sizes = list(kept.values())
    lowest = min(kept, key=lambda fixed: statistics.fmean(kept[fixed][seed] for seed in shared))
    return Comparison(
        above_envelope(mine, sizes, shared),
        interval(shared, lambda seeds: above_envelope(mine, sizes, seeds)),
        lowest,
        tuple(shared),
        len({part.methods[fixed].stages[0].net for fixed in kept}),
    )


def _common(
    mine: Mapping[int, float], others: Mapping[str, Mapping[int, float]]
) -> tuple[list[int], dict[str, Mapping[int, float]]]:
    """The seeds of a method that the lowest fixed size has as well, and the fixed sizes that have all of them.

    The lowest is never left out: it is what the method has to beat.
    """

    def mean(losses: Mapping[int, float]) -> float:
        both = [losses[seed] for seed in losses if seed in mine]
        return statistics.fmean(both) if both else math.inf

    lowest = min(others, key=lambda fixed: mean(others[fixed]))
    shared = sorted(mine.keys() & others[lowest].keys())
    return shared, {fixed: losses for fixed, losses in others.items() if set(shared) <= losses.keys()}


# -- savings -------------------------------------------------------------------------------------------


def reference(part: Part) -> str | None:
    """The budget at which scratch's loss is the aim: B, or the largest below it that was measured."""
    names = [budget for budget in part.measured("scratch") if BUDGETS[budget] <= BUDGETS[REFERENCE]]
    return names[-1] if len(names) > 1 else None


def points(part: Part, name: str, what: str, seeds: Sequence[int]) -> list[tuple[float, float]]:
    """What was spent and the loss, means over seeds, a point for each budget that has all of them."""
    found = []
    for budget in part.measured(name):
        runs, losses = part.runs(name, budget), part.losses(name, budget)
        if set(seeds) <= runs.keys():
            spent = statistics.fmean(runs[seed][what] for seed in seeds)
            found.append((spent, statistics.fmean(losses[seed] for seed in seeds)))
    return found


def saved(part: Part, name: str, what: str) -> tuple[Saving, Interval, int] | None:
    """What a method saves of FLOPs or of seconds against the envelope, its interval, and the number of seeds."""
    aim = reference(part)
    if aim is None:
        return None
    sizes = [losses for size in part.fixed() if (losses := part.losses(size, aim))]
    lowest = min(sizes, key=lambda losses: statistics.fmean(losses.values()))
    needed = [part.losses("scratch", aim), lowest, *(part.losses(name, budget) for budget in part.measured(name))]
    seeds = sorted(set.intersection(*(set(losses) for losses in needed)))

    def of(sample: Sequence[int]) -> Saving | None:
        target = statistics.fmean(part.losses("scratch", aim)[seed] for seed in sample)
        fixed = [points(part, size, what, sample) for size in part.fixed()]
        return saving(points(part, name, what, sample), fixed, target)

    found = of(seeds) if seeds else None
    if found is None or (found.part == -math.inf and aim not in part.measured(name)):
        return None  # of a method that was not measured with so much it is not known whether it reaches the loss
    ends = interval(seeds, lambda sample: None if (one := of(sample)) is None else one.part)
    return found, ends, len(seeds)


def saved_after(part: Part, name: str, budget: str) -> tuple[Saving, Interval, int] | None:
    """What a method saves of the FLOPs that the envelope spends for the loss that the method has after a budget.

    ">=" where no fixed size has this loss with the most that was measured.
    """
    curves = [size for size in part.fixed() if len(part.measured(size)) > 1]
    mine = part.losses(name, budget)
    seeds = sorted(mine.keys() & _seeds_of(part, "scratch"))

    def of(sample: Sequence[int]) -> Saving | None:
        fixed = [found for size in curves if (found := fitted(points(part, size, "flops", sample)))]
        if not fixed:
            return None
        spent = statistics.fmean(part.runs(name, budget)[seed]["flops"] for seed in sample)
        least = envelope_reaches(fixed, statistics.fmean(mine[seed] for seed in sample))
        return Saving(1 - spent / (least or max(curve.high for curve in fixed)), "=" if least else ">=")

    found = of(seeds) if seeds else None
    if found is None:
        return None
    return found, interval(seeds, lambda sample: None if (one := of(sample)) is None else one.part), len(seeds)


def _seeds_of(part: Part, name: str) -> set[int]:
    """The seeds that a method has with at least two budgets."""
    counts = Counter(seed for budget in part.measured(name) for seed in part.losses(name, budget))
    return {seed for seed, number in counts.items() if number > 1}


@dataclass(frozen=True, slots=True)
class Lead:
    """How far ahead a smaller net is: what the largest one spends from scratch until it has the loss of that net.

    If growth were free, and the grown net then went on as the one from scratch does from the same loss, this is all
    that it could save. A real growth starts from less, as the smaller net's rate does not come down before it.

    Attributes:
        share: Of the reference budget; below 0 the smaller net is behind.
        bound: "<=" where scratch has this loss with the least that was measured, ">=" where it has not with the most.
    """

    share: float
    bound: Literal["=", "<=", ">="]

    def __str__(self) -> str:
        sign = {"=": "", "<=": "≤ ", ">=": "≥ "}[self.bound]
        return f"{sign}{round(100 * self.share):+d} %"


def lead(part: Part, name: str, budget: str) -> Lead | None:
    """How far a smaller net is ahead after a budget; None where it, or scratch with two budgets, was not measured."""
    aim, curve = reference(part), fitted(_means(part, "scratch"))
    losses = part.losses(name, budget)
    if aim is None or curve is None or not losses:
        return None
    spent = statistics.fmean(run["flops"] for run in part.runs(name, budget).values())
    needed = curve.reaches(statistics.fmean(losses.values()))
    bound: Literal["=", "<=", ">="] = ">=" if needed is None else "<=" if needed == curve.low else "="
    return Lead(((curve.high if needed is None else needed) - spent) / part.budgets[aim], bound)


def _means(part: Part, name: str) -> list[tuple[float, float]]:
    """What was spent and the loss, the mean over all seeds of each budget."""
    return [
        (
            statistics.fmean(run["flops"] for run in part.runs(name, budget).values()),
            statistics.fmean(part.losses(name, budget).values()),
        )
        for budget in part.measured(name)
    ]


@dataclass(frozen=True, slots=True)
class Smaller:
    """The best net below the largest, beside scratch.

    Attributes:
        name: Of the net.
        budget: Where both were measured: B, or the largest below it.
        worse: By how much its mean loss is above that of scratch; below 0 it is better.
        spread: The standard deviation over the seeds, of scratch or of that net, whichever is larger; None of one seed.
    """

    name: str
    budget: str
    worse: float
    spread: float | None

    @property
    def is_clearly_worse(self) -> bool:
        """Whether B is large enough for the largest net to be worth having."""
        return self.budget == REFERENCE and self.spread is not None and self.worse >= CLEARLY * self.spread


def smaller_net(part: Part) -> Smaller | None:
    """The best smaller net at the largest budget, up to B, at which it and scratch were measured."""
    for budget in reversed([name for name in part.measured("scratch") if BUDGETS[name] <= BUDGETS[REFERENCE]]):
        big = part.losses("scratch", budget)
        others = {
            name: [losses[seed] for seed in big if seed in losses]
            for name in part.fixed()
            if part.methods[name].stages[0].net != part.of.big
            for losses in (part.losses(name, budget),)
        }
        others = {name: losses for name, losses in others.items() if len(losses) == len(big)}
        if others:
            best = min(others, key=lambda name: statistics.fmean(others[name]))
            several = len(big) > 1
            spread = max(statistics.stdev(big.values()), statistics.stdev(others[best])) if several else None
            return Smaller(best, budget, statistics.fmean(others[best]) - statistics.fmean(big.values()), spread)
    return None
