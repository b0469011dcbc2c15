"""New widths for code that cuts a dimension into equal parts: ``x.chunk(2, 1)``, ``x[:, : c // 2]``.

Where no literal can follow, the parts have to grow by equally many channels. With layouts that are sums of widths
times numbers, each such place is a linear equation between what the widths gain, in whole numbers that are not
negative::

    times * |part| = |dimension|     4*a + 2 = 2 + 4*b, so a and b gain the same
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from ..infer.groups import Group
from ..layouts.layout import Equality, measure

Terms = dict[str, Fraction]
CONSTANT = ""  # among the terms of a sum: what is added


@dataclass(frozen=True, slots=True)
class GroupGain:
    """What some groups gain together: so many channels each, a whole number of times.

    Attributes:
        channels: By group.
        wanted: How often, were there no equations.
        given: Whether it has to be just that.
    """

    channels: Mapping[str, int]
    wanted: int
    given: bool = False


def solve_equal_parts(
    equalities: Sequence[Equality], groups: Mapping[str, Group], gains: Sequence[GroupGain]
) -> dict[str, int]:
    """New widths near the wanted ones for which the equalities hold. Equalities without a solution are left out.

    Args:
        equalities: Which sizes have to be one.
        groups: The width groups by name.
        gains: What can grow; all else stays.
    """
    new: dict[str, int] = {}
    for together in _components(equalities, gains):
        names = {name for equality in together for name in equality.names}
        theirs = {str(i): gain for i, gain in enumerate(gains) if names & set(gain.channels)}
        times = _solve([_terms(equality, groups, theirs) for equality in together], theirs)
        if times is None:
            continue
        widths = {n: groups[n].size + c * times[i] for i, gain in theirs.items() for n, c in gain.channels.items()}
        sizes = {name: group.size for name, group in groups.items()} | widths
        if all(measure(e.left, sizes.__getitem__) == measure(e.right, sizes.__getitem__) for e in together):
            new |= widths
    return new


def _components(equalities: Sequence[Equality], gains: Sequence[GroupGain]) -> list[list[Equality]]:
    """Partition the equalities: two are in one part if they share a width, or have widths that gain together."""
    components: list[tuple[set[str], list[Equality]]] = []
    for equality in equalities:
        names, members = equality.names, [equality]
        names = names.union(*(gain.channels for gain in gains if names & set(gain.channels)))
        for other in [c for c in components if c[0] & names]:
            components.remove(other)
            names, members = names | other[0], [*other[1], *members]
        components.append((names, members))
    return [members for _, members in components]


def _terms(equality: Equality, groups: Mapping[str, Group], gains: Mapping[str, GroupGain]) -> Terms:
    """The difference left - right as a linear function of the gains; it is 0 in the teacher."""
    sizes = {name: groups[name].size for name in equality.names}

    def difference(name: str) -> int:
        more = {**sizes, name: sizes[name] + 1}.__getitem__
        left = measure(equality.left, more) - measure(equality.left, sizes.__getitem__)
        return left - measure(equality.right, more) + measure(equality.right, sizes.__getitem__)

    per_channel = {name: difference(name) for name in sizes}
    terms = {i: sum(c * per_channel.get(n, 0) for n, c in gain.channels.items()) for i, gain in gains.items()}
    return {i: Fraction(term) for i, term in terms.items() if term}


def _solve(rows: Sequence[Terms], gains: Mapping[str, GroupGain]) -> dict[str, int] | None:
    """Gaussian elimination: how often each gain is taken so that every row is 0. None: no solution was found."""
    solved: dict[str, Terms] = {}  # each is the sum of its terms, which are none of these
    pending = [{i: Fraction(1), CONSTANT: Fraction(-gain.wanted)} for i, gain in gains.items() if gain.given]
    pending += rows
    while pending:
        row = _inserted(pending.pop(0), solved)
        free = [i for i in row if i != CONSTANT]
        if not free:
            if row:
                return None
            continue
        if CONSTANT not in row and len({row[i] > 0 for i in free}) == 1 and len(free) > 1:
            pending[:0] = [{i: Fraction(1)} for i in free]  # they add up to nothing, so there is nothing of any
            continue
        pivot = _pivot(row, gains)
        solved[pivot] = {i: -term / row[pivot] for i, term in row.items() if i != pivot}
        solved = {i: _inserted(terms, {pivot: solved[pivot]}) if i != pivot else terms for i, terms in solved.items()}
    return _whole(solved, gains)


def _inserted(row: Terms, solved: Mapping[str, Terms]) -> Terms:
    total: Terms = {}
    for i, factor in row.items():
        for j, term in solved.get(i, {i: Fraction(1)}).items():
            total[j] = total.get(j, Fraction(0)) + factor * term
    return {i: term for i, term in total.items() if term}


def _pivot(row: Terms, gains: Mapping[str, GroupGain]) -> str:
    """The variable to solve for: if possible one with a sign of its own, so that its value is not negative."""
    free = [i for i in row if i != CONSTANT]
    alone = [i for i in free if sum((row[i] > 0) == (row[j] > 0) for j in free) == 1]
    return min(alone, key=lambda i: abs(row[i])) if alone else max(free, key=lambda i: gains[i].wanted)


def _whole(solved: Mapping[str, Terms], gains: Mapping[str, GroupGain]) -> dict[str, int] | None:
    """Integers near the wanted ones; of two that are equally near, the larger."""
    free = [i for i in gains if i not in solved]
    near = {i: float(gains[i].wanted) for i in free}
    times: dict[str, int] = {}
    for i in free:
        column = {p: terms[i] for p, terms in solved.items() if i in terms}
        ask = 1.0 + sum(float(term) ** 2 for term in column.values())
        missing = sum(float(term) * (gains[p].wanted - _sum(solved[p], near)) for p, term in column.items())
        near[i] += missing / ask
        steps = math.lcm(*(term.denominator for term in column.values()))
        for chosen in _candidates(near[i], steps, at_least=1 if gains[i].wanted else 0):
            times[i] = chosen
            if all(_is_number(solved[p], times) for p in column):
                break
        else:
            return None
        near[i] = float(times[i])
    if not all(_is_number(terms, times) for terms in solved.values()):
        return None
    return times | {p: int(_sum(terms, times)) for p, terms in solved.items()}


def _candidates(near: float, steps: int, at_least: int) -> Iterator[int]:
    start = max(math.floor(near + 0.5), at_least)
    yield from range(start, start + steps)
    yield from range(start - 1, max(start - steps, -1), -1)


def _is_number(terms: Terms, times: Mapping[str, int]) -> bool:
    """Whether a sum is a natural number; True while a variable in it is not decided yet."""
    if any(i not in times for i in terms if i != CONSTANT):
        return True
    total = sum((term * (1 if i == CONSTANT else times[i]) for i, term in terms.items()), Fraction(0))
    return total >= 0 and total.denominator == 1


def _sum(terms: Terms, times: Mapping[str, float] | Mapping[str, int]) -> float:
    return sum(float(term) * (1 if i == CONSTANT else times[i]) for i, term in terms.items())
