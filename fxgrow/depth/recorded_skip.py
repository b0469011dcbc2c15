"""The skip connection of a block whose code no graph shows, from the ATen calls of one run.

In: the calls of a block. The skip is followed from a result of the block back to what it is given, through calls that
do not change its values. From each other operand the analysis goes back to parameters whose zeros make it zero. What a
call does to numbers is tried, not listed, so it knows no operator. Out: which results carry which inputs, and these
parameters; or the reason for which the block has no such form. `replay.is_identity` tests the outcome.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from ..base.generators import same_randomness
from ..errors import Unfit
from ..recording.program import ProgramTape, Step, Visit
from .replay import Values, copies, replay, stand_in

Place = tuple[int, int]  # the id of a tensor, and the number of calls before which it is looked at


@dataclass(frozen=True, slots=True)
class Carried:
    """What a block carries past its branches.

    Attributes:
        ends: Which of the tensors that it is given comes back as which of its results, by their numbers.
        zeros: The parameters that make the branches zero if they are zero, by their names in the block.
    """

    ends: tuple[tuple[int, int], ...]
    zeros: tuple[str, ...]


def carried(tape: ProgramTape, visit: Visit) -> Carried:
    """The skip connection of a block.

    Raises:
        Unfit: The block has none, or no parameters make its branches zero.
    """
    analysis = _Analysis(tape, visit)
    ends: list[tuple[int, int]] = []
    zeros: dict[str, None] = {}
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
            zeros.update(dict.fromkeys(skip.zeros))
    if not ends:
        raise reason
    if not zeros:
        raise Unfit("it has no branch beside its skip connection")
    return Carried(tuple(ends), tuple(zeros))


@dataclass(frozen=True, slots=True)
class _Skip:
    entry: int
    zeros: tuple[str, ...]


T = TypeVar("T")


@dataclass(slots=True)
class _Analysis:
    """The analysis of one call of a block. Results are kept per place, because paths through nested sums join."""

    tape: ProgramTape
    visit: Visit
    _skips: dict[Place, _Skip | Unfit] = field(default_factory=dict)
    _tails: dict[Place, tuple[str, ...] | Unfit] = field(default_factory=dict)
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
            return _Skip(given, ())
        step = self.tape.steps[at]
        reads = list(dict.fromkeys(step.reads()))
        reasons = []
        for read in reads:
            if read.numel() != tensor.numel() or not read.is_floating_point() or self.parameter(read, at) is not None:
                continue
            others = [other for other in reads if other is not read]
            if not self._passes(step, read, tensor, at):
                continue
            try:
                skip = self.skip(read, at)
                zeros = (name for other in others if other.is_floating_point() for name in self.tail(other, at))
                return _Skip(skip.entry, tuple(dict.fromkeys((*skip.zeros, *zeros))))
            except Unfit as reason:
                reasons.append(reason)
        if reasons:
            raise max(reasons, key=lambda reason: "branch" in str(reason))
        raise Unfit(f"its result is not the sum of its input and other terms: {self._site(at)} is on the way")

    def _passes(self, step: Step, read: Tensor, out: Tensor, at: int) -> bool:
        """Whether a call leaves the values of one argument as they are, where the other ones are zero.

        An activation may change values that are none of its results; the tensor of a call with another shape is
        taken for a view.
        """
        if read.shape != out.shape:
            return sum(1 for _ in step.reads()) == 1
        values = {id(t): torch.zeros(t.shape, dtype=t.dtype) for t in step.reads() if self.parameter(t, at) is None}
        values[id(read)] = torch.randn(read.shape, dtype=read.dtype)
        once = self._outcome(step, values, out)
        if once is None:
            return False
        values[id(read)] = once
        again = self._outcome(step, values, out)
        return again is not None and torch.equal(again, once)

    # -- the branches ----------------------------------------------------------------------------

    def tail(self, tensor: Tensor, before: int) -> tuple[str, ...]:
        """The parameters of the block that make a tensor zero if they are zero.

        Raises:
            Unfit: There are no such parameters.
        """
        return self._kept(self._tails, tensor, before, self._tail)

    def _tail(self, tensor: Tensor, at: int | None) -> tuple[str, ...]:
        constant = self.tape.constant(tensor)
        if constant is not None and not bool(constant.any()):
            return ()
        if at is None:
            return self._own([tensor])
        step = self.tape.steps[at]
        reads = list(dict.fromkeys(read for read in step.reads() if read.is_floating_point()))
        own = [read for read in reads if self._is_own(self.parameter(read, at))]
        for group in _weights_first(own):
            if self._zero_with(step, group, tensor):
                return self._own([self.parameter(read, at) for read in group])
        reason = Unfit(f"its branch ends in {self._site(at)}, which no zeros in parameters make zero")
        others = [read for read in reads if read not in own]
        for read in others:
            if self._zero_with(step, [read], tensor):
                try:
                    return self.tail(read, at)
                except Unfit as why:
                    reason = why
        if len(reads) > 1 and self._zero_with(step, reads, tensor):
            return tuple(dict.fromkeys(name for read in reads for name in self.tail(read, at)))
        raise reason

    def parameter(self, tensor: Tensor, before: int) -> Tensor | None:
        """The parameter that a tensor is, or is a view of; None where it is none."""
        while True:
            at = self._made(tensor, before)
            if at is None:
                return tensor if isinstance(tensor, torch.nn.Parameter) and id(tensor) in self.tape.names else None
            reads = list(self.tape.steps[at].reads())
            if len(reads) != 1 or reads[0] is tensor or reads[0].numel() > tensor.numel():
                return None
            if not any(argument.alias_info for argument in self.tape.steps[at].op._schema.arguments):
                return None
            tensor, before = reads[0], at

    def _zero_with(self, step: Step, zero: Sequence[Tensor], out: Tensor) -> bool:
        """Whether a call gives zeros for zeros in some arguments and random numbers in the others."""
        zeros = set(map(id, zero))
        values = {
            id(t): torch.zeros(t.shape, dtype=t.dtype) if id(t) in zeros else stand_in(self.tape, t)
            for t in step.reads()
        }
        result = self._outcome(step, values, out)
        return result is not None and not bool(result.any())

    def _is_own(self, parameter: Tensor | None) -> bool:
        return parameter is not None and self.tape.names[id(parameter)].startswith(f"{self.visit.path}.")

    def _own(self, parameters: Iterable[Tensor | None]) -> tuple[str, ...]:
        """Names of parameters, relative to the block, which must own them."""
        names = []
        for tensor in parameters:
            name = self.tape.names.get(id(tensor), "")
            if not isinstance(tensor, torch.nn.Parameter) or not name.startswith(f"{self.visit.path}."):
                raise Unfit(f"its branch ends in {name or 'a tensor'}, which is no parameter of it")
            names.append(name.removeprefix(f"{self.visit.path}."))
        return tuple(names)

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
        place = (id(tensor), -1 if at is None else at)
        if place not in known:
            try:
                known[place] = find(tensor, at)
            except Unfit as reason:
                known[place] = reason
        result = known[place]
        if isinstance(result, Unfit):
            raise result
        return result


def _weights_first(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Each parameter of a call alone, then two together; weights before vectors, the last one first."""
    ordered = [one for vectors in (False, True) for one in reversed(parameters) if (one.ndim < 2) is vectors]
    yield from ([one] for one in ordered)
    yield from map(list, itertools.combinations(ordered, 2))
