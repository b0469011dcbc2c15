"""The sizes of inputs that a student must keep: those that its code mixes with widths that grow."""

from __future__ import annotations

from ..infer.width_graph import WidthGraph
from ..layouts.layout import atoms
from ..model.call_args import labelled
from ..model.fixed_sizes import NUMBER_OF_DIMENSIONS, FixedSize
from ..plans.growth_plan import Plan
from ..recording.run import named_inputs

KEPT_SIZES = "the code mixes sizes of inputs with widths; the student refuses inputs of other sizes than the example"


def fixed_sizes(widths: WidthGraph, plan: Plan) -> tuple[FixedSize, ...]:
    """What the inputs of a plan's student must keep to."""
    arguments = widths.traced.arguments
    given = zip(named_inputs(arguments).items(), labelled(arguments), strict=True)
    inputs = {name: (label, tensor) for (name, tensor), label in given}
    growing = {width.name for width in plan.grown_widths}
    found: dict[FixedSize, None] = {}
    for one in widths.fixed:
        if any(name in growing for layout in one.layouts for name in atoms(layout)):
            for name, dim in one.dims:
                label, tensor = inputs[name]
                size = tensor.ndim if dim == NUMBER_OF_DIMENSIONS else tensor.shape[dim]
                found[FixedSize(label, dim, size)] = None
    return tuple(found)
