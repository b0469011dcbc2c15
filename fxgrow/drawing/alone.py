"""A plan by itself: as much of the widths as it holds, which is enough for the level `groups`.

It knows the parameters that change, and their widths before and after; of the graph, of what stays and of why it
knows nothing but what it says was left alone.
"""

from __future__ import annotations

import networkx as nx
from torch import nn

from ..capture.traced import Traced
from ..infer.findings import CONTRACT
from ..infer.groups import Group
from ..infer.width_graph import TensorWidths, WidthGraph
from ..layouts.layout import atoms
from ..model.example_inputs import ModelInputs
from ..ops import KERNEL
from ..plans.entries import TensorPlan, Width
from ..plans.growth_plan import Plan


def widths_of(plan: Plan) -> WidthGraph:
    """The widths that a plan speaks of, as they are in the first teacher; there is no graph behind them."""
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
    found = WidthGraph(
        traced=_unseen(plan),
        groups_by_name={name: Group(name, width.old, tuple(members[name])) for name, width in sizes.items()},
        tensors={
            name: TensorWidths(name, tensor.layouts, tensor.roles, tensor.kind) for name, tensor in tensors.items()
        },
        nodes={},
        calls={"eval": []},
        numbers={},
        predictions={"eval": []},
        literals=(),
        attributes=(),
        constraints=((), (), ()),
        inputs={},
        outputs={},
        ties=nx.Graph(),
    )
    return found.pin(sizes.keys() - _flowing(plan, found), KERNEL)


def _flowing(plan: Plan, found: WidthGraph) -> set[str]:
    """The widths that grow, that a parameter makes or that it reads; others are sizes of kernels."""
    flowing = {width.name for step in plan.steps for width in step.grown_widths}
    for tensor in found.tensors.values():
        read = [la for la, role in zip(tensor.layouts, tensor.roles, strict=True) if role == CONTRACT]
        flowing.update(*map(atoms, [*read, found.produced(tensor.name)]))
    return flowing


def _unseen(plan: Plan) -> Traced:
    """A model of which only the class is known."""
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
