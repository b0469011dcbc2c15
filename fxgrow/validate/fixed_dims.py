"""The sizes of inputs that a student must keep: those that its code mixes with widths that grow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from ..errors import PlanError
from ..infer.forms import dims_apart
from ..infer.width_graph import WidthGraph
from ..layouts.layout import Places, atoms
from ..model.call_args import labelled
from ..model.fixed_sizes import NUMBER_OF_DIMENSIONS, FixedSize
from ..plans.entries import IoDimPlan
from ..plans.growth_plan import Plan
from ..recording.run import named_inputs


def fixed_sizes(widths: WidthGraph, plan: Plan, departs: Callable[[WidthGraph, Plan], bool]) -> tuple[FixedSize, ...]:
    """What the inputs of a plan's student must keep to.

    Args:
        widths: Of the teacher.
        plan: For these.
        departs: Whether the student departs from the plan on the inputs of other widths, given the plan for these.

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
    labels = {name: label for name, (label, _) in inputs.items()}
    for one in trials:
        if departs(widths.elsewhere(one), _moved(plan, {labels[name]: own for name, own in one.places.items()})):
            dims += sorted(one.changed)
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


def _moved(plan: Plan, places: Mapping[str, Places]) -> Plan:
    """The plan for inputs of other numbers of dimensions, whose channels stand elsewhere."""

    def moved(one: IoDimPlan) -> IoDimPlan:
        own = places.get(one.at, ()) if one.kind == "input" else ()
        return replace(one, dim=own.index(one.dim)) if one.dim in own else one

    return replace(plan, io_dims=tuple(map(moved, plan.io_dims)))


def note_of(sizes: Sequence[FixedSize]) -> str:
    """What a plan says of the sizes that its student keeps to."""
    kept = [f"dimension {one.dim} of {one.input} ({one.size})" for one in sizes if one.dim != NUMBER_OF_DIMENSIONS]
    ranks = [f"{one.size} ({one.input})" for one in sizes if one.dim == NUMBER_OF_DIMENSIONS]
    refused = [f"other sizes in {', '.join(kept)}"] * bool(kept)
    refused += [f"another number of dimensions than {', '.join(ranks)}"] * bool(ranks)
    mixes = "sizes of inputs" if kept else "the number of dimensions of inputs"
    return f"the code mixes {mixes} with widths; the student refuses inputs of {', and of '.join(refused)}"
