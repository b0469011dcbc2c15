"""The sizes of inputs that a student must keep: those that its code mixes with widths that grow."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from ..errors import PlanError
from ..infer.forms import dims_apart
from ..infer.width_graph import WidthGraph
from ..layouts.layout import atoms
from ..model.call_args import labelled
from ..model.fixed_sizes import NUMBER_OF_DIMENSIONS, FixedSize
from ..plans.growth_plan import Plan
from ..recording.run import named_inputs


def fixed_sizes(widths: WidthGraph, plan: Plan, departs: Callable[[WidthGraph], bool]) -> tuple[FixedSize, ...]:
    """What the inputs of a plan's student must keep to.

    Args:
        widths: Of the teacher.
        plan: For these.
        departs: Whether the student departs from the plan on the inputs of other widths.

    Raises:
        PlanError: It would have to keep to two sizes of one dimension.
    """
    inputs: dict[str, tuple[str, Tensor]] = {}
    for form in (widths.traced, *widths.traced.forms):
        given = zip(named_inputs(form.arguments).items(), labelled(form.arguments), strict=True)
        inputs = {name: (label, tensor) for (name, tensor), label in given} | inputs
    growing = {width.name for width in plan.grown_widths}
    found: dict[FixedSize, None] = {}
    dims = [
        dim
        for one in widths.fixed
        if any(name in growing for layout in one.layouts for name in atoms(layout))
        for dim in one.dims
    ]
    kept = frozenset(dims)
    trials = [one for one in widths.trials if growing and kept.isdisjoint(one.changed)]
    dims += [dim for one in trials if departs(widths.elsewhere(one)) for dim in sorted(one.changed)]
    apart = dims_apart(widths.traced)
    for name, dim in dims:
        if (name, dim) in apart:
            raise PlanError(
                f"the code mixes sizes of {inputs[name][0]} with widths, and the forms of inputs differ in these: give "
                "forms of equal sizes"
            )
        label, tensor = inputs[name]
        size = tensor.ndim if dim == NUMBER_OF_DIMENSIONS else tensor.shape[dim]
        found[FixedSize(label, dim, size)] = None
    return tuple(found)


def note_of(sizes: Sequence[FixedSize]) -> str:
    """What a plan says of the sizes that its student keeps to."""
    kept = [
        f"the {one.size} dimensions of {one.input}"
        if one.dim == NUMBER_OF_DIMENSIONS
        else f"dimension {one.dim} of {one.input} ({one.size})"
        for one in sizes
    ]
    return f"the code mixes sizes of inputs with widths; the student refuses inputs of other sizes in {', '.join(kept)}"
