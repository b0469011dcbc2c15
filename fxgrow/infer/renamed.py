"""A plan in the names of a width graph: a file of an earlier version calls some widths otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..layouts.layout import Layout, atoms, of, substitute
from ..plans.growth_plan import Plan
from .width_graph import WidthGraph


def in_names_of(widths: WidthGraph, plan: Plan) -> Plan:
    """The same plan with each width called as in the graph of the model that it was made for.

    Which width is which is told by the dimensions of parameters that it is, and not by its name.
    """
    names: dict[str, str] = {}
    for step in plan.steps:
        for tensor in step.tensors:
            known = widths.tensors.get(tensor.name)
            if known is not None and len(known.layouts) == len(tensor.layouts):
                for theirs, ours in zip(tensor.layouts, known.layouts, strict=True):
                    if _form(theirs) == _form(ours):
                        for name, one in zip(atoms(theirs), atoms(ours), strict=True):
                            names.setdefault(name, one)
    return plan if all(name == one for name, one in names.items()) else renamed(plan, names)


def _form(layout: Layout) -> Layout:
    """A layout without its names."""
    return substitute(layout, lambda name: of(""))


def renamed(plan: Plan, names: Mapping[str, str]) -> Plan:
    """The same plan with other names for some widths."""

    def layouts(old: tuple[Layout, ...]) -> tuple[Layout, ...]:
        return tuple(substitute(layout, lambda name: of(names.get(name, name))) for layout in old)

    return replace(
        plan,
        groups=tuple(replace(width, name=names.get(width.name, width.name)) for width in plan.groups),
        tensors=tuple(replace(tensor, layouts=layouts(tensor.layouts)) for tensor in plan.tensors),
        io_dims=tuple(replace(dim, group=names.get(dim.group, dim.group)) for dim in plan.io_dims),
        skipped=tuple(replace(entry, name=names.get(entry.name, entry.name)) for entry in plan.skipped),
        next=None if plan.next is None else renamed(plan.next, names),
    )
