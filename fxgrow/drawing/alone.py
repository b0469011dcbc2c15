"""The width graph of a plan without its model, for the level `groups`.

A plan contains the parameters that change, with their widths before and after, and what was skipped. It contains no
graph, and no widths that stay.
"""

from __future__ import annotations

from torch import nn

from ..capture.traced import Traced
from ..infer.findings import CONTRACT
from ..infer.groups import Constraints, Group
from ..infer.ties import Ties
from ..infer.width_graph import TensorWidths, WidthGraph
from ..layouts.layout import atoms
from ..model.example_inputs import ModelInputs
from ..ops import KERNEL
from ..plans.entries import TensorPlan, Width
from ..plans.growth_plan import Plan


def widths_of(plan: Plan) -> WidthGraph:
    """The widths in a plan, with the sizes of the first teacher, as a width graph without nodes and calls."""
    sizes: dict[str, Width] = {}
    tensors: dict[str, TensorPlan] = {}
    for step in plan.steps:
        for width in step.groups:
            sizes.setdefault(width.name, width)
        for tensor in step.tensors:
            tensors.setdefault(tensor.name, tensor)
    members: dict[str, list[tuple[str, int]]] = {name: [] for name in sizes}
    for tensor in tensors.values():
        for dim, layout in enumerate(tensor.layouts):
            for name in dict.fromkeys(atoms(layout)):
                members[name].append((tensor.name, dim))
    widths = WidthGraph(
        traced=_traced_stub(plan),
        groups_by_name={name: Group(name, width.old, tuple(members[name])) for name, width in sizes.items()},
        tensors={
            name: TensorWidths(name, tensor.layouts, tensor.roles, tensor.kind) for name, tensor in tensors.items()
        },
        nodes={},
        calls={"eval": []},
        returned={},
        predictions={"eval": []},
        literals=(),
        attributes=(),
        constraints=Constraints(),
        inputs={},
        outputs={},
        ties=Ties({}),
    )
    return widths.pin(sizes.keys() - _flowing(plan, widths), KERNEL)


def _flowing(plan: Plan, widths: WidthGraph) -> set[str]:
    """The widths that grow, or that a parameter produces or contracts; the others are kernel sizes."""
    flowing = {width.name for step in plan.steps for width in step.grown_widths}
    for tensor in widths.tensors.values():
        read = [la for la, role in zip(tensor.layouts, tensor.roles, strict=True) if role == CONTRACT]
        flowing.update(*map(atoms, [*read, widths.produced(tensor.name)]))
    return flowing


def _traced_stub(plan: Plan) -> Traced:
    """A trace that contains only the class name of the model."""
    return Traced(
        root=nn.Module(),
        graphs={},
        modes=("eval",),
        inputs=ModelInputs((), {}),
        arguments={},
        tapes={},
        class_name=plan.model,
        classes={},
    )
