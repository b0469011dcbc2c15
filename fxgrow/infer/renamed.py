"""A plan in the names of a width graph: those of widths, and of modules where a chain of plans numbers them through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

from ..layouts.layout import Layout, atoms, of, substitute
from ..plans.chain_entries import ChainEntries, Member, Sizes, members_of, renamed_width
from ..plans.growth_plan import Plan
from .width_graph import WidthGraph


class NamesIn:
    """What a width graph calls what a chain of plans changes.

    Args:
        widths: Of the first teacher, or of the last student.
        entries: Those of the chain, under the names of the last student.
        of_student: Whether the graph is the student's.
    """

    def __init__(self, widths: WidthGraph, entries: ChainEntries, *, of_student: bool) -> None:
        self._widths, self._entries, self._of_student = widths, entries, of_student

    def module(self, path: str) -> str:
        """The name of a module or tensor, from the last student's; a new one has that of its plan in a teacher."""
        parts = path.split(".")
        for end in range(len(parts), 0, -1) if not self._of_student else ():
            known = self._modules.get(".".join(parts[:end]))
            if known is not None:
                return ".".join([known, *parts[end:]])
        return path

    def in_student(self, path: str) -> str:
        """The last student's name of a module of a teacher, or of a new one as its plan calls it."""
        parts = path.split(".")
        for end in range(len(parts), 0, -1):
            new = self._new_modules.get(".".join(parts[:end]))
            if new is not None:
                return ".".join([new, *parts[end:]])
        return self._entries.plan.student_name(path)

    def width(self, name: str) -> str:
        """The name of a width, from the one among the entries; of a module, too."""
        return self._groups.get(name) or renamed_width(name, self.module)

    def sizes(self, group: str) -> Sizes | None:
        """The sizes of a width of the graph before the chain and after it; None where no plan names it."""
        found = self._entries.size_of(self._members.get(group, ()), self._widths.width(group))
        return found or self._entries.widths.get(self._own(group))

    @cached_property
    def _modules(self) -> Mapping[str, str]:
        plan, traced = self._entries.plan, self._widths.traced
        paths = (*filter(None, traced.classes), *self._widths.tensors)
        return {plan.student_name(path): path for path in paths} | dict(self._entries.names_in_plans)

    @cached_property
    def _new_modules(self) -> Mapping[str, str]:
        return {name: path for path, name in self._entries.names_in_plans.items()}

    @cached_property
    def _members(self) -> Mapping[str, list[Member]]:
        """What each width of the graph is of tensors, under the names of the last student."""
        members: dict[str, list[Member]] = {}
        for name, tensor in self._widths.tensors.items():
            name = name if self._of_student else self._entries.plan.student_name(name)
            for member, group in members_of(name, tensor.layouts):
                members.setdefault(group, []).append(member)
        return members

    @cached_property
    def _groups(self) -> Mapping[str, str]:
        """The names in the graph of the widths among the entries."""
        groups: dict[str, str] = {}
        for group in self._widths.groups_by_name:
            names = self._entries.names_of(self._members.get(group, ()), first=not self._of_student)
            groups.setdefault(next(names, self._own(group)), group)
        return groups

    def _own(self, group: str) -> str:
        """The last student's name of a width of the graph, by its text."""
        return group if self._of_student else self._entries.name_of(group)


def in_names_of(widths: WidthGraph, plan: Plan) -> Plan:
    """A plan without those that follow it, with each width called as in the graph of the model that it was made for.

    A file of an earlier version calls some widths otherwise. Which width is which is told by the dimensions of
    parameters that it is, and not by its name.
    """
    names: dict[str, str] = {}
    for tensor in plan.tensors:
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
