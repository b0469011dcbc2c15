"""The skip connection of a block whose code no graph shows, from the ATen calls of one run.

In: the calls of a block. The skip is followed from a result of the block back to what it is given, through calls that
do not change its values. From each other operand the analysis goes back to parameters whose zeros make it zero. What a
call does to numbers is tried, not listed, so it knows no operator. Out: which results carry which inputs, and these
parameters; or the reason for which the block has no such form. `replay.is_identity` tests the outcome.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from ..base.generators import same_randomness
from ..base.magnitude import is_inexact
from ..errors import Unfit
from ..recording.program import ProgramTape, Step, Visit
from .memo import found_once
from .replay import Values, copies, replay, stand_in

Place = tuple[int, int]  # the id of a tensor, and the number of calls before which it is read


@dataclass(frozen=True, slots=True)
class Carried:
    """What a block carries past its branches.

    Attributes:
        ends: Which of the tensors that it is given comes back as which of its results, by their numbers.
        fills: The parameters that make the branches zero if they are 0, or -1 where code adds 1 to them, by their names
            in the block.
    """

    ends: tuple[tuple[int, int], ...]
    fills: Mapping[str, int]


def carried(tape: ProgramTape, visit: Visit) -> Carried:
    """The skip connection of a block.

    Raises:
        Unfit: The block has none, or no parameters make its branches zero.
    """
    analysis = _Analysis(tape, visit)
    ends: list[tuple[int, int]] = []
    fills: dict[str, int] = {}
    reason = Unfit("it returns no tensor")
    with torch.no_grad(), same_randomness():
        for number, (tensor, _) in enumerate(visit.result):
            try:
                skip = analysis.skip(tensor, visit.end)
            except Unfit as why:
                reason = why if not number else reason
                continue
            except RecursionError:
                raise Unfit("its skip connection passes too many calls") from None
            ends.append((skip.entry, number))
            fills = joined(fills, skip.fills)
    if not ends:
        raise reason
    if not fills:
        raise Unfit("it has no branch beside its skip connection")
    return Carried(tuple(ends), fills)


@dataclass(frozen=True, slots=True)
class _Skip:
    entry: int
    fills: Mapping[str, int]


def joined(*fills: Mapping[str, int]) -> dict[str, int]:
    """Values of parameters that are needed together.

    Raises:
        Unfit: One would have two.
    """
    together: dict[str, int] = {}
    for some in fills:
        for name, value in some.items():
            if together.setdefault(name, value) != value:
                raise Unfit(f"its branches need 0 and -1 in {name}")
    return together


T = TypeVar("T")


@dataclass(slots=True)
class _Analysis:
    """The analysis of one call of a block. Results are kept per place, because paths through nested sums join."""

    tape: ProgramTape
    visit: Visit
    _skips: dict[Place, _Skip | Unfit] = field(default_factory=dict)
    _tails: Mapping[int, dict[Place, Mapping[str, int] | Unfit]] = field(default_factory=lambda: {0: {}, -1: {}})
    _computed: dict[Place, bool] = field(default_factory=dict)
    _places: dict[int, list[int]] = field(default_factory=dict)  # by tensor: the calls of the block that make it

    def __post_init__(self) -> None:
        for at in range(self.visit.first, self.visit.end):
            for out in self.tape.steps[at].outs:
                self._places.setdefault(id(out), []).append(at)

    # -- the skip --------------------------------------------------------------------------------

    def skip(self, tensor: Tensor, before: int) -> _Skip:
        """The skip connection that ends in a tensor, as it is before a call.

        Raises:
            Unfit: It is not what the block is given plus branches.
        """
        return self._kept(self._skips, tensor, before, self._skip)

    def _skip(self, tensor: Tensor, at: int | None) -> _Skip:
        if at is None:
            given = next((i for i, (t, _) in enumerate(self.visit.given) if t is tensor), None)
            if given is None:
                raise Unfit(f"{self._named(tensor)} is added, not the input of the block")
            return _Skip(given, {})
        step = self.tape.steps[at]
        reads = _distinct(read for read in step.reads() if is_inexact(read))
        values = [read for read in reads if not self._of_parameters(read, at)]
        reasons: list[Unfit] = []
        for read in values:
            if read.numel() == tensor.numel() and self._passes(step, read, tensor, at):
                try:
                    skip = self.skip(read, at)
                    branches = [self.tail(other, at) for other in reads if other is not read]
                    return _Skip(skip.entry, joined(skip.fills, *branches))
                except Unfit as reason:
                    reasons.append(reason)
        if reasons:
            raise max(reasons, key=lambda reason: "branch" in str(reason))
        if len(values) == 1 and values[0].shape == tensor.shape:
            raise Unfit(f"{self._site(at)} changes the values of the skip connection")
        raise Unfit(f"its result is not the sum of its input and other terms: {self._site(at)} is on the way")

    def _passes(self, step: Step, read: Tensor, out: Tensor, at: int) -> bool:
        """Whether a call leaves the values of one argument as they are, where the other ones are zero.

        An activation may change values that are none of its results; the tensor of a call with another shape is
        taken for a view.
        """
        if read.shape != out.shape:
            return sum(1 for _ in step.reads()) == 1
        values = {id(t): torch.zeros(t.shape, dtype=t.dtype) for t in step.reads() if not self._of_parameters(t, at)}
        values[id(read)] = torch.randn(read.shape, dtype=read.dtype)
        once = self._outcome(step, values, out)
        if once is None:
            return False
        values[id(read)] = once
        again = self._outcome(step, values, out)
        return again is not None and torch.equal(again, once)

    # -- the branches ----------------------------------------------------------------------------

    def tail(self, tensor: Tensor, before: int, value: int = 0) -> Mapping[str, int]:
        """The parameters of the block that make all entries of a tensor 0 (or -1), and the values with which they do.

        Raises:
            Unfit: There are no such parameters.
        """
        return self._kept(self._tails[value], tensor, before, partial(self._tail, value))

    def _tail(self, value: int, tensor: Tensor, at: int | None) -> Mapping[str, int]:
        constant = self.tape.constant(tensor)
        if constant is not None and bool((constant == value).all()):
            return {}
        if at is None:
            return {self._own(tensor): value}
        reason = Unfit(f"its branch ends in {self._site(at)}, which no zeros in parameters make zero")
        for group, given in self._groups(at):
            if self._all_are(value, self.tape.steps[at], group, given, tensor):
                try:
                    return joined(*(self.tail(read, at, given) for read in group))
                except Unfit as why:
                    reason = why
        raise reason

    def _groups(self, at: int) -> Iterator[tuple[list[Tensor], int]]:
        """What of the arguments of a call may be 0, or -1, in the order in which it is tried."""
        reads = _distinct(read for read in self.tape.steps[at].reads() if is_inexact(read))
        weights = [read for read in reads if self._of_parameters(read, at)]
        yield from ((group, 0) for group in _weights_first(weights))
        yield from (([read], -1) for read in weights if len(reads) == 1)
        yield from (([read], 0) for read in reads if not self._of_parameters(read, at))
        yield reads, 0

    def _of_parameters(self, tensor: Tensor, before: int) -> bool:
        """Whether a tensor is a parameter of the block, or computed from such alone."""
        at = self._made(tensor, before)
        if at is None:
            return isinstance(tensor, torch.nn.Parameter) and self._named(tensor).startswith(f"{self.visit.path}.")
        place = (id(tensor), at)
        if place not in self._computed:
            reads = _distinct(self.tape.steps[at].reads())
            self._computed[place] = bool(reads) and all(self._of_parameters(read, at) for read in reads)
        return self._computed[place]

    def _all_are(self, value: int, step: Step, group: Sequence[Tensor], given: int, out: Tensor) -> bool:
        """Whether a call gives one value everywhere for one in some arguments and random numbers in the others."""
        chosen = set(map(id, group))
        values = {
            id(t): torch.full(t.shape, given, dtype=t.dtype) if id(t) in chosen else stand_in(self.tape, t)
            for t in step.reads()
        }
        result = self._outcome(step, values, out)
        return result is not None and bool((result == value).all())

    def _own(self, tensor: Tensor) -> str:
        """The name of a parameter, relative to the block, which must own it."""
        name = self.tape.names.get(id(tensor), "")
        if not self._of_parameters(tensor, self.visit.first):
            raise Unfit(f"its branch ends in {name or 'a tensor'}, which is no parameter of it")
        return name.removeprefix(f"{self.visit.path}.")

    # -- the calls -------------------------------------------------------------------------------

    def _made(self, tensor: Tensor, before: int) -> int | None:
        """The last call of the block before one that made a tensor, or wrote it; None where the block is given it."""
        places = self._places.get(id(tensor), ())
        number = bisect.bisect_left(places, before)
        return places[number - 1] if number else None

    def _outcome(self, step: Step, values: Values, out: Tensor) -> Tensor | None:
        """One result of a call for other arguments; None where it fails or is not finite."""
        try:
            values = copies(values)
            replay(self.tape, [step], values)
        except Exception:  # noqa: BLE001 - any error means that nothing is known of the call
            return None
        result = values.get(id(out))
        return result if result is not None and bool(result.isfinite().all()) else None

    def _site(self, at: int) -> str:
        return self.tape.calls[at].site

    def _named(self, tensor: Tensor) -> str:
        return self.tape.names.get(id(tensor), "a tensor from outside")

    def _kept(
        self, known: dict[Place, T | Unfit], tensor: Tensor, before: int, find: Callable[[Tensor, int | None], T]
    ) -> T:
        """`find(tensor, the call that made it)`, once per place; a reason for failure is kept, too."""
        at = self._made(tensor, before)
        return found_once(known, (id(tensor), -1 if at is None else at), lambda: find(tensor, at))


def _distinct(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The tensors without repetitions, by identity."""
    return list({id(tensor): tensor for tensor in tensors}.values())


def _weights_first(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Each parameter of a call alone, then two together; weights before vectors, the last one first."""
    ordered = [one for vectors in (False, True) for one in reversed(parameters) if (one.ndim < 2) is vectors]
    yield from ([one] for one in ordered)
    yield from map(list, itertools.combinations(ordered, 2))
