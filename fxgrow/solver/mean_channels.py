"""Widths that may grow to any size because nothing but layer norms asks for equal replication.

From D channels to T: k = T // D copies of each, and r = T - k D channels that carry, for each token, the mean of
the D. Their mean is that of the D, and their variance eta^2 = k D / T times it, so that a layer norm with
gain eta and eps eta^2 times the old ones gives every copy what it gave the original,

    eta gain (x - m) / sqrt(eta^2 var + eta^2 eps) + bias = gain (x - m) / sqrt(var + eps) + bias,

and gives the r channels (m - m) * ... = 0, with a bias of 0. It holds as long as all that lies between norms commutes
with the mean. So each value is followed from call to call. Its new channels carry the *mean* of the others, or *zero*
(after a norm), or they are *alike*: equal to all others (constants). An operator that is not known to keep that state
is a reason to refuse.

Source: fxgrow's docs/design.md, section 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from ..infer.findings import CONTRACT, Flow, KeyedValue, Norm
from ..infer.width_graph import WidthGraph
from ..layouts.layout import atoms, of
from ..model.copies import named_tensors
from ..model.tree import Mode
from ..ops import Value
from ..plans.entries import Part

State = Literal["mean", "zero", "alike"]


@dataclass(frozen=True, slots=True)
class MeanChannels:
    """How the tensors of a width are filled if its new channels carry means.

    Attributes:
        parts: For each (parameter or buffer, dimension) what its entries for such channels are: the "mean" of
            the others, those of a layer norm's "gain" (which all change) or "shift", columns of "zero" where the
            channel has an activation, or a random "draw" where it is zero.
        norms: The layer norms over it.
    """

    parts: Mapping[tuple[str, int], Part]
    norms: tuple[Norm, ...]


class _Reason(Exception):
    """Why a width cannot have channels that carry means."""


def find_mean_channels(widths: WidthGraph, name: str) -> MeanChannels | str:
    """How a group can have channels that carry the mean of the others; the reason where it cannot."""
    try:
        return _Following(widths, name).outcome()
    except _Reason as reason:
        return str(reason)


class _Following:
    """Follows one width through the calls of every mode."""

    def __init__(self, widths: WidthGraph, name: str) -> None:
        self.widths = widths
        self.name = name
        self.dimension = of(name)
        self.states: dict[int | str, State] = {}
        self.uses: dict[tuple[str, int], set[Part]] = {}
        self.norms: list[Norm] = []
        self.site = ""

    def outcome(self) -> MeanChannels:
        """What becomes of the width.

        Raises:
            _Reason: It cannot have such channels.
        """
        kinds = named_tensors(self.widths.traced.root)
        others = self.widths.groups_by_name[self.name].ratio - {self.name}
        if others:
            raise _Reason(f"it has to grow by one factor with {', '.join(sorted(others))}")
        for tensor in self.widths.tensors.values():
            for layout in tensor.layouts:
                if self.name in atoms(layout) and layout != self.dimension:
                    raise _Reason(f"it is a part of a larger dimension of {tensor.name}")
                if self.name in atoms(layout) and not kinds[tensor.name].is_floating_point():
                    raise _Reason(f"{tensor.name} holds integers, which have no mean")
        for form in self.widths.each_form():
            for mode in form.traced.modes:
                self._run(form, mode)
        return MeanChannels(self._parts(), tuple(dict.fromkeys(self.norms)))

    def _run(self, form: WidthGraph, mode: Mode) -> None:
        self.states = {}
        for call, prediction in zip(form.calls[mode], form.predictions[mode], strict=True):
            flow = prediction.flow
            if any(self.name in atoms(la) for _, value in (*flow.ins, *flow.outs) for la in value.layouts):
                operator = call.op._schema.name.partition("::")[2]
                self.site = operator if operator in call.site else f"{operator} at {call.site}"
                self._call(flow)

    def _parts(self) -> dict[tuple[str, int], Part]:
        parts: dict[tuple[str, int], Part] = {}
        for tensor in self.widths.tensors.values():
            for dim, layout in enumerate(tensor.layouts):
                if layout != self.dimension:
                    continue
                uses = self.uses.get((tensor.name, dim), set())
                fit = {"zero", "draw"} if tensor.roles[dim] == CONTRACT else {"mean", "gain", "shift"}
                if len(uses) != 1 or not uses <= fit:
                    raise _Reason(f"{tensor.name} plays {' and '.join(sorted(uses)) or 'no known part'} along it")
                parts[tensor.name, dim] = next(iter(uses))
        return parts

    # -- one call --------------------------------------------------------------------------------

    def _call(self, flow: Flow) -> None:
        for _, value in (*flow.ins, *flow.outs):
            if any(self.name in atoms(la) and la != self.dimension for la in value.layouts):
                raise _Reason(f"{self.site} sees it as a part of a larger dimension")
            if len(self._at(value)) > 1 and not value.origin:
                raise _Reason(f"{self.site} has two dimensions of this width")
        if not flow.linear:
            raise _Reason(f"{self.site} does not commute with the mean over channels")
        if not flow.floating:
            raise _Reason(f"{self.site} does not give real numbers")
        results = [(key, value) for key, value in flow.outs if self._at(value)]
        origin = next((value.origin for _, value in results), "")
        if origin and flow.linear in ("each", "spread", "scale", "divide"):
            self._view(flow, origin)
            return
        state = self._result(flow)
        if flow.mutates and (flow.ins[0][1].origin or self._state(flow.ins[0]) != state):
            raise _Reason(f"{self.site} writes into a tensor that it is a dimension of")
        if (state is None) == bool(results):
            raise _Reason(f"{self.site} does not keep the dimension")
        for key, _ in results:
            if state is not None and key is not None:
                self.states[key] = state

    def _view(self, flow: Flow, origin: str) -> None:
        """A view of a weight, or a multiple of it: a later call shows how it is used."""
        if flow.mutates:
            raise _Reason(f"{self.site} writes into {origin}")
        for known in flow.ins:
            if known[1].origin != origin and self._at(known[1]) and self._state(known) != "alike":
                raise _Reason(f"{self.site} multiplies {origin} with another tensor along it")

    def _result(self, flow: Flow) -> State | None:
        """The state of the results, None where they do not have the width."""
        if flow.linear == "norm":
            return self._normed(flow)
        if flow.linear == "product":
            return self._product(flow, flow.ins[:-2], flow.ins[-2:])
        if flow.linear == "filter":
            return self._product(flow, flow.ins[2:], flow.ins[:2])
        if flow.linear == "fresh":
            return "alike"
        states = [self._state(known) for known in flow.ins]
        held = [state for state in states if state is not None]
        active = [state for state in held if state != "alike"]
        if flow.linear == "alike":
            if active:
                raise _Reason(f"{self.site} does not commute with the mean over channels")
            return "alike"
        if flow.linear in ("scale", "divide"):
            if len(active) > 1 or (flow.linear == "divide" and active and states[0] != active[0]):
                raise _Reason(f"{self.site} multiplies two tensors along it")
            return active[0] if active else "alike" if held else None
        if flow.linear == "sum" and "zero" in active and (len(held) < len(flow.ins) or flow.numbers):
            raise _Reason(f"{self.site} adds a number to what a layer norm gives")
        if flow.linear == "rounded" and "mean" in active:
            raise _Reason(f"{self.site} rounds, after which a mean is not that of the other channels")
        if flow.linear == "spread" and not held:
            return "alike"
        return self._joined(held)

    def _joined(self, states: Iterable[State]) -> State | None:
        kinds = set(states)
        if kinds <= {"mean", "alike"}:
            return "mean" if "mean" in kinds else "alike" if kinds else None
        if kinds == {"zero"}:
            return "zero"
        raise _Reason(f"{self.site} brings what a layer norm gives together with what it does not give")

    def _normed(self, flow: Flow) -> State:
        norm = flow.norm
        x = flow.ins[0][1]
        if norm is None or self._at(x) != [len(x.layouts) - 1]:
            raise _Reason(f"{self.site} does not normalise over this dimension alone")
        if self._state(flow.ins[0]) != "mean":
            raise _Reason(f"{self.site} normalises what has been normalised before, or a constant")
        if norm.weight is None:
            raise _Reason(f"{self.site} has no gain, which would have to change")
        if norm.module is None and norm.literal is None:
            raise _Reason(f"the eps of {self.site}, which would have to change, is neither a module's nor a literal")
        parts: tuple[tuple[int | None, Part], ...] = ((norm.weight, "gain"), (norm.bias, "shift"))
        for position, part in parts:
            if position is not None:
                value = flow.ins[position][1]
                if not value.origin or value.layouts != (self.dimension,):
                    raise _Reason(f"the {part} of {self.site} is no parameter")
                self._use(value, 0, part)
        self.norms.append(norm)
        return "zero"

    def _product(self, flow: Flow, bias: tuple[KeyedValue, ...], factors: tuple[KeyedValue, ...]) -> State | None:
        """A matrix product or a convolution: of a weight with an activation, over the width or beside it."""
        first = len(flow.ins) - len(factors) if flow.linear == "product" else 0
        summed = [(at - first, dim) for at, dim in flow.contracts if flow.ins[at][1].layouts[dim] == self.dimension]
        kept = [(at, dim) for at, known in enumerate(factors) for dim in self._at(known[1])]
        if len(summed) > 1:
            raise _Reason(f"{self.site} sums over it twice")
        for at, dim in summed:
            weight, other = factors[at][1], factors[1 - at]
            along = self._at(other[1])
            if len(along) != 1:
                raise _Reason(f"{self.site} has two dimensions of this width")
            state = self._state(other)
            for source in weight.dims[dim]:
                self.uses.setdefault((weight.origin, source), set()).add("draw" if state == "zero" else "zero")
            kept = [pair for pair in kept if pair not in ((at, dim), (1 - at, along[0]))]
        if len(kept) > 1:
            raise _Reason(f"{self.site} multiplies two tensors along it")
        added = [self._state(known) for known in bias]
        if not kept:
            return self._joined([state for state in added if state is not None])
        at, dim = kept[0]
        value = factors[at][1]
        if value.origin:
            self._use(value, dim, "mean")
            state = "mean"
        else:
            state = self._state(factors[at])
        if state == "zero" and bias:
            raise _Reason(f"{self.site} adds a number to what a layer norm gives")
        return self._joined([s for s in (state, *added) if s is not None])

    # -- values ----------------------------------------------------------------------------------

    def _at(self, value: Value) -> list[int]:
        """The dimensions of a value that are this width."""
        return [dim for dim, layout in enumerate(value.layouts) if layout == self.dimension]

    def _state(self, known: KeyedValue) -> State | None:
        """What the new channels of a value carry; None where it does not have the width."""
        key, value = known
        along = self._at(value)
        if not along:
            return None
        if value.constant:
            return "alike"
        if value.origin:
            if len(along) > 1:
                raise _Reason(f"{self.site} uses both dimensions of {value.origin}")
            self._use(value, along[0], "mean")
            return "mean"
        if key is None or key not in self.states:
            raise _Reason(f"{self.site} gets a tensor of unknown origin")
        return self.states[key]

    def _use(self, value: Value, dim: int, part: Part) -> None:
        for source in value.dims[dim]:
            if self.widths.tensors[value.origin].layouts[source] == self.dimension:
                self.uses.setdefault((value.origin, source), set()).add(part)
