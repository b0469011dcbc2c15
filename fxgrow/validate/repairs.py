"""The repairs of a plan whose student departs from it: what is tried where a size goes wrong, and what was."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from ..infer.width_graph import WidthGraph
from ..layouts.layout import Equality, Layout, atoms
from ..plans.growth_plan import Plan
from .verdict import Mismatch, Verdict

FEW = 4  # widths that are tried to be grown by one factor, where a size goes wrong; those that do already are one


@dataclass(slots=True)
class Repairs:
    """What the rounds so far found out.

    Attributes:
        keeps_place: Widths of inputs and outputs: new ones come last, so that a repair takes the others first.
        pins: Widths that stay, and why.
        ties: Widths that grow by one factor, and why.
        tried: The sets of widths of which that was tried.
        equal: Layouts that the code makes equal.
        tried_equal: The pairs of which that was tried.
        repaired: The widths for which this round has a repair.
        supposed: The pairs among `equal` that were tried because the sizes are equal in the teacher.
        guesses: The tie that was tried last for a place, the widths that meet there and those around them, by which
            blocks of one code are told apart. Where these do not fit again, it was wrong, and is undone.
    """

    keeps_place: frozenset[str]
    pins: dict[str, str] = field(default_factory=dict)
    ties: dict[frozenset[str], str] = field(default_factory=dict)
    tried: set[frozenset[str]] = field(default_factory=set)
    equal: dict[tuple[Layout, Layout], Equality] = field(default_factory=dict)
    tried_equal: set[tuple[Layout, Layout]] = field(default_factory=set)
    repaired: set[str] = field(default_factory=set)
    supposed: set[tuple[Layout, Layout]] = field(default_factory=set)
    guesses: dict[tuple[str, frozenset[str], frozenset[str]], frozenset[str]] = field(default_factory=dict)

    def on(self, widths: WidthGraph) -> WidthGraph:
        """The widths with all of these constraints."""
        widths = replace(widths.tie(self.ties), equal=tuple(self.equal.values()))
        for reason in dict.fromkeys(self.pins.values()):
            widths = widths.pin([name for name, why in self.pins.items() if why == reason], reason)
        return widths

    def equalise(self, mismatch: Mismatch) -> bool:
        """Make the sizes of parts equal that the code makes equal; whether that is tried for the first time."""
        new = [pair for pair in mismatch.equal if pair not in self.tried_equal]
        self.tried_equal.update(new)
        for pair in new:
            self.equal[pair] = Equality(*pair, f"the code makes equal parts at {mismatch.site}")
        return bool(new)

    def add(self, widths: WidthGraph, mismatch: Mismatch, reason: str, proposal: Plan, verdict: Verdict) -> None:
        """A constraint for the widths that meet where a size goes wrong, and for those in the same code elsewhere.

        Only modules of the class that the run did not reach are meant: the others have mismatches of their own.
        """
        pinned = [name for name in widths.inside(mismatch.module) if name in self.pins]
        names, near, idle = self._parts(mismatch)
        self._add(widths, mismatch.site, names, near, reason, idle, mismatch.wrong)
        growing = {width.name for width in proposal.grown_widths}
        same_code = widths.alike(
            mismatch.module, verdict.reached, mismatch.groups, mismatch.around, pinned, mismatch.wrong, *idle
        )
        for groups, around, stay, wrong, *theirs in same_code:
            if growing.issuperset(groups) and self.pins.keys() >= set(stay):
                resting = [[n for n in some if n not in growing and n not in self.pins] for some in theirs]
                near = [n for n in around if n in growing]
                self._add(widths, mismatch.site, groups, near, reason, resting, wrong)

    def would_pin(self, widths: WidthGraph, mismatch: Mismatch) -> bool:
        """Whether nothing is left to try for the widths that meet there, so that they would be pinned."""
        names, near, idle = self._parts(mismatch)
        return not (
            self.repaired.issuperset(names)
            or next(self._supposable(widths, names, idle), None)
            or next(self._ties_to_try(widths, names, near, idle), None)
        )

    def _parts(self, mismatch: Mismatch) -> tuple[Sequence[str], Sequence[str], Sequence[Sequence[str]]]:
        """The widths that meet there, those around them, and those that nobody asked for, all of which may grow."""
        others = [name for name in mismatch.groups if name not in self.keeps_place]
        near = [name for name in mismatch.around if others and name not in self.keeps_place]
        idle = [[n for n in some if n not in self.pins and n not in self.keeps_place] for some in mismatch.idle]
        return others or mismatch.groups, near, idle

    def _add(
        self,
        widths: WidthGraph,
        site: str,
        names: Sequence[str],
        around: Sequence[str],
        reason: str,
        idle: Sequence[Sequence[str]],
        wrong: Sequence[str],
    ) -> None:
        """Let widths grow by one factor; or together with those around (`heads` and `C` in `C // heads`); or pin them.

        Each is tried once, in this order. Before a width is pinned, those that nobody asked for are tried with it
        (`heads`, where `C` is asked for by its name). Of several that meet, those whose sizes are `wrong` are pinned.
        """
        together = frozenset(names)
        if together | set(around) <= self.repaired:  # an earlier mismatch of this round has the repair
            return
        place = (site, together, frozenset(around))
        self._undo(place)
        if self._suppose_equal(widths, names, idle, reason):
            return
        candidate = next(self._ties_to_try(widths, names, around, idle), None)
        if candidate is not None:
            self.tried.add(candidate)
            self.ties[candidate] = reason
            self.guesses[place] = candidate
            self.repaired |= candidate
            return
        if together <= self.repaired:
            return
        self.repaired |= together
        stay = [name for name in names if name in wrong] or names
        self.ties = self.without_ties_of(stay).ties
        self.equal = {pair: equality for pair, equality in self.equal.items() if not equality.names & set(stay)}
        self.pins.update({name: reason for name in stay if name not in self.pins})

    def _ties_to_try(
        self, widths: WidthGraph, names: Sequence[str], around: Sequence[str], idle: Sequence[Sequence[str]]
    ) -> Iterator[frozenset[str]]:
        together = frozenset(names)
        more = [together.union(around, others) for others in idle if others]
        for candidate in (together, together | frozenset(around), *more):
            if candidate not in self.tried and self._is_a_few(widths, candidate):
                yield candidate

    def _undo(self, place: tuple[str, frozenset[str], frozenset[str]]) -> None:
        """Undo the tie that was tried last for widths at a place, where they do not fit even so."""
        failed = self.guesses.pop(place, None)
        if failed is not None and failed not in self.guesses.values():
            self.ties.pop(failed, None)

    def without_ties_of(self, names: Sequence[str]) -> Repairs:
        """The same without those ties that some widths have a part in."""
        return replace(self, ties={tied: why for tied, why in self.ties.items() if not tied & set(names)})

    def freeing(self, names: set[str], grown: AbstractSet[str]) -> Iterator[Repairs]:
        """The same without those ties of some widths of which nothing grows; and so that what they are tied to stays.

        Args:
            names: The widths.
            grown: The widths that grow.
        """
        undone = {tied: why for tied, why in self.ties.items() if tied & names and not tied & grown}
        stay = {name: why for tied, why in undone.items() for name in sorted(tied - names)}
        kept = {tied: why for tied, why in self.ties.items() if tied not in undone}
        for pins in ({}, stay):
            yield replace(copy.deepcopy(self), ties=dict(kept), pins={**pins, **self.pins})

    def _suppose_equal(
        self, widths: WidthGraph, names: Sequence[str], idle: Sequence[Sequence[str]], reason: str
    ) -> bool:
        """Give a width and one that nobody asked for one size, if they have in the teacher; whether that is new."""
        useless = {known for known in self.supposed if {*atoms(known[0]), *atoms(known[1])} & set(names)}
        self.supposed -= useless
        self.equal = {known: equality for known, equality in self.equal.items() if known not in useless}
        pair = next(self._supposable(widths, names, idle), None)
        if pair is None:
            return False
        self.tried_equal.add(pair)
        self.supposed.add(pair)
        self.equal[pair] = Equality(*pair, reason)
        self.repaired |= {*atoms(pair[0]), *atoms(pair[1])}
        return True

    def _supposable(
        self, widths: WidthGraph, names: Sequence[str], idle: Sequence[Sequence[str]]
    ) -> Iterator[tuple[Layout, Layout]]:
        others = dict.fromkeys(other for some in idle for other in some)
        for name in names if len(names) == 1 else ():
            for other in others:
                pair: tuple[Layout, Layout] = (((name,),), ((other,),))
                if widths.width(name) == widths.width(other) and pair not in self.tried_equal:
                    yield pair

    def _is_a_few(self, widths: WidthGraph, names: frozenset[str]) -> bool:
        """Whether there are several widths to tie, and not too many; those that have one ratio count once."""
        return 1 < len({widths.groups_by_name[name].ratio or name for name in names}) <= FEW
