"""Weights that are looked up in one place and summed over in another: an embedding that is the head, too.

Where it is looked up, a new channel is a copy of an old one, and so is its column. Where that column is summed over,
the copy would count once more, and it cannot be divided. It counts nothing where the other factor is zero in new
channels. That is so if this factor comes from a gain (and a shift) of its own, such as those of the last layer norm,
whose new entries are zero, and if nothing else reads it:

    sum over old and new channels of W[:, c] (gain[c] u[c] + shift[c])  =  sum over old channels of the same.

So the values behind the gain are followed to the last call that reads them. All that reads them must be such a sum, or
keep zeros zero.

Source: fxgrow's docs/design.md, section 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..layouts.layout import only_atom
from ..ops import Value
from ..recording.call import Call
from .findings import CARRY, CONTRACT, Findings, Flow, KeyedValue

At = tuple[str, int]  # (parameter, dimension)
Key = int | str | None
Vector = tuple[str, float, int]  # a parameter of one dimension, what it is where the value is zero, its sign (1 or -1)
_MOVES = frozenset((  # calls after which entries of a vector are what they were
    "detach", "alias", "clone", "lift_fresh", "view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "expand", "t",
    "_to_copy", "neg",
))  # fmt: skip
_EACH = ("each", "rounded", "spread")
_PASSES = (*_EACH, "scale", "divide")  # how channels of zeros may go through a call


@dataclass(frozen=True, slots=True)
class ReadTwice:
    """What becomes of such weights.

    Attributes:
        carried: The (parameter, dimension) that are carried, although they are summed over as well.
        zeroed: The (gain or shift, dimension) whose new entries count as zero, and for which of those.
        values: What these entries are: 0, or -1 where the code takes 1 + gain.
    """

    carried: frozenset[At]
    zeroed: Mapping[At, At]
    values: Mapping[str, float]

    def roles(self, before: Mapping[At, set[str]]) -> dict[At, set[str]]:
        """The roles of all dimensions."""
        return {at: {CARRY} if at in self.carried else roles for at, roles in before.items()}

    def dims(self, name: str) -> tuple[int, ...]:
        """The dimensions of a tensor whose new entries are zero."""
        return tuple(sorted(dim for one, dim in self.zeroed if one == name))


def find_read_twice(findings: Findings) -> ReadTwice:
    """The weights that are carried and summed over, and the gains that make that exact."""
    zeroed: dict[At, At] = {}
    values: dict[str, float] = {}
    carried: set[At] = set()
    for at in [at for at, roles in findings.roles.items() if roles == {CARRY, CONTRACT}]:
        gains = _gains(findings, at)
        if gains:
            carried.add(at)
            zeroed.update(dict.fromkeys([(name, 0) for name in sorted(gains)], at))
            values.update(gains)
    return ReadTwice(frozenset(carried), zeroed, values)


def _gains(findings: Findings, at: At) -> dict[str, float]:
    """The gains and shifts before all sums over a dimension of a weight, and what their new entries are.

    None where that is not exact.
    """
    name, dim = at
    own = findings.unifier.resolve(findings.tensors[name][dim])
    if only_atom(own) is None:
        return {}
    found: dict[str, float] = {}
    for one in (findings, *findings.forms):
        for mode, predictions in one.predictions.items():
            flows = [prediction.flow for prediction in predictions]
            gains = _Run(flows, one.calls[mode], at).gains()
            if gains is None or any(found.get(name, value) != value for name, value in gains.items()):
                return {}
            found.update(gains)
    same = all(findings.unifier.resolve(findings.tensors[gain][0]) == own for gain in found)
    alone = all(findings.roles.get((gain, 0)) == {CARRY} for gain in found)
    return found if same and alone else {}


class _Run:
    """The calls of one run, and where their values come from and go."""

    def __init__(self, flows: Sequence[Flow], calls: Sequence[Call], at: At) -> None:
        self._flows = flows
        self._name, self._dim = at
        self._made_by = {key: flow for flow in flows for key, _ in flow.outs}
        self._vectors: dict[Key, Vector] = {}
        for flow, call in zip(flows, calls, strict=True):
            self._vectors.update({key: (value.origin, 0.0, 1) for key, value in flow.ins if _is_vector(value)})
            given = self._vectors.get(flow.ins[0][0]) if len(flow.ins) == 1 and flow.outs else None
            made = None if given is None else _made(given, flow, call)
            if made is not None:
                self._vectors[flow.outs[0][0]] = made

    def gains(self) -> dict[str, float] | None:
        """The parameters whose entries make all sums over the weight exact, and these; None where there are none."""
        starts: set[Key] = set()
        found: list[Vector] = []
        for flow in self._flows:
            for place, dim in flow.contracts:
                value = flow.ins[place][1]
                if value.source != self._name or self._dim not in value.dims[dim]:
                    continue
                factor = self._factor(flow, place) if value.dims[dim] == (self._dim,) else None
                behind = None if factor is None else self._behind(factor)
                if behind is None:
                    return None
                starts.add(behind[0])
                found += behind[1]
        gains = {name: zero for name, zero, _ in found}
        alike = all(gains[name] == zero for name, zero, _ in found)
        return gains if alike and self._are_followed(starts, gains) else None

    def _factor(self, flow: Flow, place: int) -> Key:
        """What a weight is multiplied with in a product of matrices."""
        last = len(flow.ins) - 1
        if flow.linear != "product" or last < 1 or place < last - 1:
            return None
        return flow.ins[last - 1 if place == last else last][0]

    def _behind(self, key: Key) -> tuple[Key, list[Vector]] | None:
        """The result of the gain that a value comes from, and the gain with the shifts behind it."""
        flow = self._made_by.get(key)
        if flow is None:
            return None
        if flow.norm is not None:
            affine = [flow.ins[place][0] for place in (flow.norm.weight, flow.norm.bias) if place is not None]
            known = [self._vectors[one] for one in affine if one in self._vectors]
            return (flow.outs[0][0], known) if flow.norm.weight is not None and len(known) == len(affine) else None
        vectors = [self._vectors[one] for one, _ in flow.ins if one in self._vectors]
        others = [one for one, _ in flow.ins if one not in self._vectors]
        if len(vectors) == len(others) == 1:
            if flow.linear == "scale":
                return flow.outs[0][0], vectors
            behind = self._behind(others[0]) if flow.linear == "sum" and not flow.numbers else None
            return None if behind is None else (behind[0], [*behind[1], *vectors])
        if vectors or flow.linear not in _PASSES:
            return None
        return next((behind for other in others if (behind := self._behind(other)) is not None), None)

    def _are_followed(self, starts: set[Key], gains: Mapping[str, float]) -> bool:
        """Whether all that reads these values, or one of the gains, keeps zeros in new channels from being seen."""
        zero = set(starts)
        for flow in self._flows:
            made = flow.outs[0][0] if flow.outs else None
            read = [place for place, (key, _) in enumerate(flow.ins) if key in zero]
            shifts = [place for place, (key, _) in enumerate(flow.ins) if self._comes_from(key, gains)]
            if not read:
                if shifts and made not in starts and made not in self._vectors:
                    return False  # a gain that is read in another place
            elif flow.linear != "fresh" and not self._is_summed(flow, read):  # which reads no numbers
                if not _keeps_zeros(flow, read, shifts):
                    return False
                zero.update(key for key, _ in flow.outs)
        return True

    def _comes_from(self, key: Key, gains: Mapping[str, float]) -> bool:
        vector = self._vectors.get(key)
        return vector is not None and vector[0] in gains

    def _is_summed(self, flow: Flow, read: Sequence[int]) -> bool:
        """Whether a call sums a value over the channels, with the columns that are only looked up otherwise."""
        return any(
            flow.ins[place][1].source == self._name
            and flow.ins[place][1].dims[dim] == (self._dim,)
            and [flow.ins[other][0] for other in read] == [self._factor(flow, place)]
            for place, dim in flow.contracts
        )


def _made(given: Vector, flow: Flow, call: Call) -> Vector | None:
    """What a call makes of a vector; None where that is none."""
    name, zero, sign = given
    op = call.op._overloadpacket.__name__
    if op in _MOVES:
        return (name, zero, -sign if op == "neg" else sign) if flow.floating else None
    number = call.constants[0][1] if len(call.constants) == 1 else None
    if not isinstance(number, int | float):
        return None
    if op == "rsub":  # number - value
        return name, zero + sign * number, -sign
    added = {"add": number, "sub": -number}.get(op)
    return None if added is None else (name, zero - sign * added, sign)


def _is_vector(value: Value) -> bool:
    """Whether a value is a parameter of one dimension, as it is."""
    return bool(value.origin) and value.dims == ((0,),) and not (value.scaled or value.zeros or value.rows)


def _keeps_zeros(flow: Flow, read: Sequence[int], shifts: Sequence[int]) -> bool:
    """Whether channels that are zero in some arguments are so in all results."""
    others: Iterable[KeyedValue] = [one for place, one in enumerate(flow.ins) if place not in read]
    if flow.linear in _EACH:
        return not others
    if flow.linear == "scale":
        return not any(value.infinite for _, value in others)
    if flow.linear == "divide":
        return not others and list(read) == [0]
    return flow.linear == "sum" and not flow.numbers and len(read) + len(shifts) == len(flow.ins)
