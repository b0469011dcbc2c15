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
from ..plans.chain_entries import ChainEntries, Member, members_of
from ..plans.growth_plan import Plan


def widths_of(plan: Plan) -> WidthGraph:
    """The widths in a plan and in those that follow it, as a width graph without nodes and calls.

    Widths and tensors have the names of the last student, and the sizes of the first teacher; where only the student
    has a width, its size there.
    """
    entries = ChainEntries(plan)
    members: dict[str, list[tuple[str, int]]] = {name: [] for name in entries.widths}
    places: dict[str, list[Member]] = {}
    for tensor in entries.tensors.values():
        for dim, layout in enumerate(tensor.layouts):
            for name in dict.fromkeys(atoms(layout)):
                members[name].append((tensor.name, dim))
        for member, name in members_of(tensor.name, tensor.layouts):
            places.setdefault(name, []).append(member)
    sizes = {
        name: entries.size_of(places.get(name, ()), old) or (old, new) for name, (old, new) in entries.widths.items()
    }
    new = {name for name in members if entries.is_new_width(name)}
    widths = WidthGraph(
        traced=_traced_stub(plan),
        groups_by_name={name: Group(name, sizes[name][name in new], tuple(inside)) for name, inside in members.items()},
        tensors={name: TensorWidths(name, one.layouts, one.roles, one.kind) for name, one in entries.tensors.items()},
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
    return widths.pin(members.keys() - _flowing(entries, widths), KERNEL)


def _flowing(entries: ChainEntries, widths: WidthGraph) -> set[str]:
    """The widths that grow, or that a parameter produces or contracts; the others are kernel sizes."""
    flowing = {*entries.grown}
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
