"""What growth costs: parameters, FLOPs and bytes before and after, as a plan states them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..base.fitted import fitted_text
from ..base.tables import short, times

Pair = tuple[int, int]  # before and after growth
SHOWN = 40  # layers in the printed table
WORKSPACE = 64 << 20  # bytes that making a student takes beside it


@dataclass(frozen=True, slots=True)
class Amount:
    """A number before growth and after it.

    Attributes:
        before: Of the teacher.
        after: Of the student.
    """

    before: int
    after: int

    @property
    def ratio(self) -> float:
        """After / before; infinite where there was nothing before."""
        return self.after / self.before if self.before else (float("inf") if self.after else 1.0)

    def __str__(self) -> str:
        if self.before == self.after:
            return short(self.after)
        ratio = f" ({times(self.ratio, digits=3)})" if self.before else ""
        return f"{short(self.before)} -> {short(self.after)}{ratio}"


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What a module costs by itself, without its submodules.

    Attributes:
        name: Its path in the student; "" for the model itself.
        parameters: The numbers of its parameters; a tied one counts at its first occurrence.
        bytes: Of its parameters and buffers.
        flops: Of its own code on the example inputs in eval mode, as torch counts them: 2 per multiply-add of
            convolutions, matrix products and attention; None where they are not known.
    """

    name: str
    parameters: Pair = (0, 0)
    bytes: Pair = (0, 0)
    flops: Pair | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What growth costs, by module and in all.

    Attributes:
        layers: The modules, those with the most new parameters first.
        parameters: The number of parameters.
        flops: The FLOPs of one forward pass on the example inputs; None where they are not known.
        bytes: The bytes of parameters and buffers.
        peak: The bytes that it takes to make the student beside its teacher.
    """

    layers: tuple[LayerCost, ...]
    parameters: Amount
    flops: Amount | None
    bytes: Amount
    peak: int

    def __str__(self) -> str:
        rows = [_row(layer) for layer in self.layers[:SHOWN]]
        if len(self.layers) > SHOWN:
            rows.append((f"{len(self.layers) - SHOWN} more", *_figures(total(self.layers[SHOWN:]))))
        return f"{self.totals}\n\n{fitted_text((('module', 'parameters', 'FLOPs'), rows))}"

    @property
    def totals(self) -> str:
        """The figures of the whole, a line each."""
        flops = "not known" if self.flops is None else self.flops
        memory = f"{self.bytes}; making the student takes up to {short(self.peak)}B"
        return f"parameters: {self.parameters}\nFLOPs: {flops}\nbytes: {memory}"


def cost_of(layers: Iterable[LayerCost]) -> Cost:
    """The cost of a model, from that of its modules."""
    rows = sorted(layers, key=lambda one: (one.parameters[0] - one.parameters[1], -_new_flops(one)))
    whole = total(rows)
    flops = None if whole.flops is None else Amount(*whole.flops)
    return Cost(tuple(rows), Amount(*whole.parameters), flops, Amount(*whole.bytes), whole.bytes[1] + WORKSPACE)


def total(layers: Iterable[LayerCost]) -> LayerCost:
    """The sum of some modules; the FLOPs are not known where those of one are not."""
    rows = list(layers)
    flops = [one.flops for one in rows if one.flops is not None]
    return LayerCost(
        "",
        _sum(one.parameters for one in rows),
        _sum(one.bytes for one in rows),
        _sum(flops) if len(flops) == len(rows) else None,
    )


def joined(first: LayerCost, last: LayerCost) -> LayerCost:
    """What a chain of plans costs, from its first and its last plan."""
    flops = None if first.flops is None or last.flops is None else (first.flops[0], last.flops[1])
    parameters, size = (first.parameters[0], last.parameters[1]), (first.bytes[0], last.bytes[1])
    return LayerCost(last.name, parameters, size, flops)


def _new_flops(layer: LayerCost) -> int:
    return layer.flops[1] - layer.flops[0] if layer.flops is not None else 0


def _sum(pairs: Iterable[Pair]) -> Pair:
    before, after = 0, 0
    for pair in pairs:
        before, after = before + pair[0], after + pair[1]
    return before, after


def _row(layer: LayerCost) -> tuple[str, str, str]:
    return (layer.name or "(the model itself)", *_figures(layer))


def _figures(layer: LayerCost) -> tuple[str, str]:
    return str(Amount(*layer.parameters)), str(Amount(*layer.flops)) if layer.flops is not None else ""
