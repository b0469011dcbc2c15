"""Weights that are looked up in one place and summed over in another: an embedding that is the head, too.

Where it is looked up, a new channel is a copy of an old one, and so is its column. Where that column is summed over,
the copy would count once more, and it cannot be divided. It counts nothing where the other factor is zero in new
channels.
That is so if this factor comes from a gain (and a shift) of its own, such as those of the last layer norm, whose new
entries are zero, and if nothing else reads it:

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
        pairs = [_raised(flow, call) for flow, call in zip(flows, calls, strict=True)]
        self._raised = dict(pair for pair in pairs if pair is not None)

    def gains(self) -> dict[str, float] | None:
        """The parameters whose entries make all sums over the weight exact, and these; None where there are none."""
        starts: set[Key] = set()
        found: dict[str, float] = {}
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
                found.update(behind[1])
        return found if self._are_followed(starts, found) else None

    def _factor(self, flow: Flow, place: int) -> Key:
        """What a weight is multiplied with in a product of matrices."""
        last = len(flow.ins) - 1
        if flow.linear != "product" or last < 1 or place < last - 1:
            return None
        return flow.ins[last - 1 if place == last else last][0]

    def _behind(self, key: Key) -> tuple[Key, dict[str, float]] | None:
        """The result of the gain that a value comes from, and new entries of the gain and of the shifts behind it."""
        flow = self._made_by.get(key)
        if flow is None:
            return None
        if flow.norm is not None:
            affine = [flow.ins[place][1] for place in (flow.norm.weight, flow.norm.bias) if place is not None]
            named = flow.norm.weight is not None and all(map(_is_vector, affine))
            return (flow.outs[0][0], {value.origin: 0.0 for value in affine}) if named else None
        vectors = [value for _, value in flow.ins if _is_vector(value)]
        others = [key for key, value in flow.ins if not value.source]
        if len(vectors) == 1 and len(others) == 1:
            if flow.linear == "scale":
                return flow.outs[0][0], {vectors[0].origin: 0.0}
            behind = self._behind(others[0]) if flow.linear == "sum" and not flow.numbers else None
            return None if behind is None else (behind[0], {**behind[1], vectors[0].origin: 0.0})
        raised = [key for key, _ in flow.ins if key in self._raised]
        if raised and flow.linear == "scale" and len(flow.ins) == 2:
            return flow.outs[0][0], dict([self._raised[raised[0]]])
        if vectors or flow.linear not in _PASSES:
            return None
        return next((behind for other in others if (behind := self._behind(other)) is not None), None)

    def _are_followed(self, starts: set[Key], gains: Mapping[str, float]) -> bool:
        """Whether all that reads these values, or one of the gains, keeps zeros in new channels from being seen."""
        zero = set(starts)
        for flow in self._flows:
            read = [place for place, (key, _) in enumerate(flow.ins) if key in zero]
            shifts = [place for place, (_, value) in enumerate(flow.ins) if value.source in gains]
            raised = [key for key, _ in flow.ins if self._raised.get(key, ("",))[0] in gains]
            if not read:
                known = flow.outs[0][0] in starts or (
                    not raised and (flow.outs[0][0] in self._raised or _is_view(flow))
                )
                if (shifts or raised) and not known:
                    return False  # a gain that is read in another place
            elif flow.linear != "fresh" and not self._is_summed(flow, read):  # which reads no numbers
                if not _keeps_zeros(flow, read, shifts):
                    return False
                zero.update(key for key, _ in flow.outs)
        return True

    def _is_summed(self, flow: Flow, read: Sequence[int]) -> bool:
        """Whether a call sums a value over the channels, with the columns that are only looked up otherwise."""
        return any(
            flow.ins[place][1].source == self._name
            and flow.ins[place][1].dims[dim] == (self._dim,)
            and [flow.ins[other][0] for other in read] == [self._factor(flow, place)]
            for place, dim in flow.contracts
        )


def _raised(flow: Flow, call: Call) -> tuple[Key, tuple[str, float]] | None:
    """A value that is a number more than a parameter: its key, the parameter, and where the value is zero."""
    number = call.constants[0][1] if len(call.constants) == 1 else None
    if call.op._schema.name != "aten::add" or len(flow.ins) != 1 or not isinstance(number, int | float):
        return None
    key, value = flow.outs[0][0], flow.ins[0][1]
    return (key, (value.origin, -float(number))) if _is_vector(value) else None


def _is_vector(value: Value) -> bool:
    """Whether a value is a parameter of one dimension, as it is."""
    return bool(value.origin) and value.dims == ((0,),) and not (value.scaled or value.zeros or value.rows)


def _is_view(flow: Flow) -> bool:
    return flow.linear in _EACH and len(flow.ins) == 1


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
