"""The entries of all plans of a chain, under the names that its last student has for them.

Each plan has the names of its own teacher. A plan may number containers through, which moves what stands behind, and a
new layer may take over the consumers of a width. So a tensor of several plans is told by its name in the last student,
and a width by the layer that makes it, or else by the dimensions of tensors that it is.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from ..base.roles import Role, TensorKind
from ..layouts.layout import Layout, atoms, of, substitute
from .changes import KernelSize, StructuralChange
from .entries import IoDimPlan
from .growth_plan import Plan

Sizes = tuple[int, int]  # in the first teacher and in the last student
Added = tuple[int, int]  # parameters, and those of them that are in weights of several dimensions
Member = tuple[str, int, Layout, int]  # a tensor, its dimension, the layout without names, and which atom in it

WIDTH = re.compile(r"(.+? of )?([^ /\[#(]+)(.*)", re.DOTALL)  # "heads of blocks.0.attn", "blocks.0.attn.qkv per head"


@dataclass(frozen=True, slots=True)
class ChainTensor:
    """A parameter or buffer that a chain changes.

    Attributes:
        name: Its name.
        layouts: Of the last plan that changes it, in the names of the widths.
        roles: Of that plan.
        kind: Which kind of argument it is.
        old: Its shape in the first teacher; of a tensor of a new module, that in the first plan that changes it.
        new: Its shape in the last student.
    """

    name: str
    layouts: tuple[Layout, ...]
    roles: tuple[Role, ...]
    kind: TensorKind
    old: tuple[int, ...]
    new: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ChainChange:
    """A structural change of a plan of a chain.

    Attributes:
        change: What the plan says of it, in its own names.
        path: Of the first new module, or of the convolution.
        new_paths: The new modules.
        in_student: What changes in the last student, by its names there: the new modules, or else the convolution.
        follows: The module that they stand behind; "" for none.
        behind: The module whose results they take, where no graph says it.
        text: What it is, in words.
        number: Of the plan in the chain, from 0.
    """

    change: StructuralChange
    path: str
    new_paths: tuple[str, ...]
    in_student: tuple[str, ...]
    follows: str
    behind: str
    text: str
    number: int


class ChainEntries:
    """The entries of a plan and of all that follow it.

    Args:
        plan: The first of them.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.steps = plan.steps
        self._names = self._linked()

    @cached_property
    def widths(self) -> Mapping[str, Sizes]:
        """The widths of all tensors that change, grown or not."""
        found: dict[str, Sizes] = {}
        for names, step in zip(self._names, self.steps, strict=True):
            for width in step.groups:
                name = names[width.name]
                found[name] = found.get(name, (width.old, 0))[0], width.new
        return found

    @cached_property
    def grown(self) -> frozenset[str]:
        """The widths that grow in any of the plans."""
        steps = zip(self._names, self.steps, strict=True)
        return frozenset(names[width.name] for names, step in steps for width in step.grown_widths)

    @cached_property
    def tensors(self) -> Mapping[str, ChainTensor]:
        """The tensors that change."""
        found: dict[str, ChainTensor] = {}
        for number, step in enumerate(self.steps):
            for one in step.tensors:
                name = self.plan.student_name(one.name, number)
                old, new = (tuple(map(size, one.layouts)) for size in (step.old_size, step.new_size))
                old = found[name].old if name in found else old
                layouts = tuple(self._renamed(number, layout) for layout in one.layouts)
                found[name] = ChainTensor(name, layouts, one.roles, one.kind, old, new)
        return found

    @cached_property
    def skipped(self) -> Mapping[str, str]:
        """The widths and layers that a plan leaves as they are, with the reasons."""
        return {
            names.get(entry.name) or self.name_of(entry.name, number): entry.reason
            for number, (names, step) in enumerate(zip(self._names, self.steps, strict=True))
            for entry in step.skipped
        }

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """The notes of all plans, each once."""
        return tuple(dict.fromkeys(note for step in self.steps for note in step.notes))

    @cached_property
    def io_dims(self) -> tuple[tuple[str, IoDimPlan], ...]:
        """The dimensions of inputs and outputs that grow, each with its width."""
        steps = zip(self._names, self.steps, strict=True)
        return tuple((names[dim.group], dim) for names, step in steps for dim in step.io_dims)

    @cached_property
    def changes(self) -> tuple[ChainChange, ...]:
        """The structural changes."""
        return tuple(self._changes(str, of_plans=False))

    def changes_in_teacher(self, called: Callable[[str], str]) -> tuple[ChainChange, ...]:
        """The same with the names of a model that lacks the new modules, which are called as in the plans.

        Args:
            called: What it calls a module, of which the last student's name is given.
        """
        return tuple(self._changes(called, of_plans=True))

    @cached_property
    def names_in_plans(self) -> Mapping[str, str]:
        """For each new module, by its path in the last student, its path in the plan that makes it, each once.

        What it is a clone of or stands behind is called there as in the first teacher, or as new modules are here.
        """
        found: dict[str, str] = {}
        for number, step in enumerate(self.steps):
            for change in (one for one in step.changes if one.new_paths):
                base = change.original or change.follows
                called = self._called(self.plan.student_name(base, number), found)
                begun = all(path.startswith(base) for path in change.new_paths)
                own = [f"{called}{path.removeprefix(base)}" if begun else path for path in change.new_paths]
                taken = {*found.values()}
                again = next(n for n in itertools.count(1) if not taken & {_numbered(path, n) for path in own})
                in_student = [self.plan.student_name(path, number) for path in change.new_paths]
                found.update(zip(in_student, [_numbered(path, again) for path in own], strict=True))
        return found

    def _called(self, path: str, new: Mapping[str, str]) -> str:
        """The first teacher's name of a module of the last student, or that of a new one with what is in it."""
        known = path.split(".")
        for end in range(len(known), 0, -1):
            if (made := new.get(".".join(known[:end]))) is not None:
                return ".".join([made, *known[end:]])
        parts: list[str] = []
        for end, own in enumerate(known, 1):
            wanted = ".".join(known[:end])
            before = map(str, range(int(own), -1, -1)) if own.isdigit() else (own,)  # clones have moved it
            parts.append(
                next((one for one in before if self.plan.student_name(".".join([*parts, one])) == wanted), own)
            )
        return ".".join(parts)

    def _changes(self, called: Callable[[str], str], *, of_plans: bool) -> Iterator[ChainChange]:
        for number, step in enumerate(self.steps):

            def known(path: str, number: int = number) -> str:
                return self.plan.student_name(path, number)

            def name(path: str, number: int = number) -> str:
                return called(self.plan.student_name(path, number)) if path else ""

            for change in step.changes:
                in_student, path = tuple(map(known, change.new_paths or (change.path,))), name(change.path)
                new_paths = tuple(map(name, change.new_paths))
                if of_plans and change.new_paths:
                    new_paths = tuple(self.names_in_plans[one] for one in in_student)
                    part = change.new_paths[0].removeprefix(change.path)  # of a flat layer, whose parts are entries
                    path = "".join(new_paths[0].rsplit(part, 1)) if part else new_paths[0]
                yield ChainChange(
                    change,
                    path=path,
                    new_paths=new_paths,
                    in_student=in_student,
                    follows=name(change.follows),
                    behind=name(change.behind),
                    text=change.text(name),
                    number=number,
                )

    @cached_property
    def kernels(self) -> Mapping[str, tuple[KernelSize, KernelSize]]:
        """By the paths of the convolutions that get a larger kernel, the first size and the last."""
        found: dict[str, tuple[KernelSize, KernelSize]] = {}
        for number, step in enumerate(self.steps):
            for change in step.changes:
                for path, (old, new) in change.kernels.items():
                    name = self.plan.student_name(path, number)
                    found[name] = found[name][0] if name in found else old, new
        return found

    def shapes(self, tensor: str) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """The shapes of a tensor that changes before and after, with its kernel."""
        known = self.tensors.get(tensor)
        if known is None:
            return None
        old, new = (
            self.kernels.get(tensor.removesuffix(".weight"), ((), ())) if tensor.endswith(".weight") else ((), ())
        )
        return (*known.old[: len(known.old) - len(old)], *old), (*known.new[: len(known.new) - len(new)], *new)

    def size_of(self, members: Iterable[Member], here: int) -> Sizes | None:
        """The sizes of a width of a model, told by what it is of tensors that are not new; None where they do not tell.

        Args:
            members: In the order of the model.
            here: Its size in that model.
        """
        for member in members:
            if self.is_new(member[0]):
                continue
            if member[0] not in self.tensors:
                return here, here  # the tensor stays as it is
            if member in self._sizes:
                return self._sizes[member]
        return None

    def is_new(self, path: str) -> bool:
        """Whether only the last student has a module or tensor."""
        return any(f"{path}.".startswith(f"{new}.") for new in self.plan.new_modules)

    def is_new_width(self, name: str) -> bool:
        """Whether only the last student has a width, by its name and by all that is known of tensors."""
        members = self._tensors_of.get(name, [])
        return bool(members) and all(map(self.is_new, [_path_of(name), *members]))

    @cached_property
    def _tensors_of(self) -> Mapping[str, list[str]]:
        """The tensors of each width."""
        found: dict[str, list[str]] = {}
        for tensor in self.tensors.values():
            for name in {name for layout in tensor.layouts for name in atoms(layout)}:
                found.setdefault(name, []).append(tensor.name)
        return found

    def made_by(self, path: str) -> int | None:
        """How many channels a module of the last student makes; None where no plan changes its tensors."""
        inside = [one for name, one in self.tensors.items() if f"{name}.".startswith(f"{path}.")]
        made = [size for one in inside[-1:] for size, role in zip(one.new, one.roles, strict=True) if role == "carry"]
        return made[0] if made else None

    def added(self, path: str) -> Added:
        """How many more parameters a new module has in the last student than where it is made; new ones in it apart."""
        return self._added.get(path, (0, 0))

    @cached_property
    def _added(self) -> Mapping[str, Added]:
        new = self.plan.new_modules
        found: dict[str, Added] = {}
        for name, tensor in self.tensors.items():
            made = next((above for above in _above(name) if above in new), None)
            shapes = self.shapes(name)
            if made is not None and shapes is not None and tensor.kind not in ("running_mean", "running_var"):
                all_of_it, matrices = found.get(made, (0, 0))
                more = math.prod(shapes[1]) - math.prod(shapes[0])
                found[made] = all_of_it + more, matrices + (more if len(tensor.new) > 1 else 0)
        return found

    def names_of(self, members: Iterable[Member], *, first: bool) -> Iterator[str]:
        """The names here of a width of a model, by what it is of tensors.

        Args:
            members: In the order of the model.
            first: Whether the model is the first teacher, or else the last student.
        """
        known = self._of_members[0 if first else 1]
        return (known[member] for member in members if member in known)

    def name_of(self, width: str, number: int = 0) -> str:
        """The last student's name of a width, or of a module, from that in a plan, by its text alone."""
        return renamed_width(width, lambda path: self.plan.student_name(path, number))

    @cached_property
    def _sizes(self) -> Mapping[Member, Sizes]:
        found: dict[Member, Sizes] = {}
        for number, step in enumerate(self.steps):
            for member, name in self._members(number):
                width = step.width(name)
                found[member] = found.get(member, (width.old, 0))[0], width.new
        return found

    @cached_property
    def _of_members(self) -> tuple[Mapping[Member, str], Mapping[Member, str]]:
        """The width of each member in the first plan that changes its tensor, and in the last."""
        first: dict[Member, str] = {}
        last: dict[Member, str] = {}
        for number, names in enumerate(self._names):
            for member, name in self._members(number):
                first.setdefault(member, names[name])
                last[member] = names[name]
        return first, last

    def _linked(self) -> list[dict[str, str]]:
        """For each plan the names of its widths."""
        linked: list[dict[str, str]] = []
        known: dict[Member, str] = {}  # of the plans behind
        taken: set[str] = set()
        for number, step in reversed([*enumerate(self.steps)]):
            members = [*self._members(number)]
            met: dict[str, str] = {}
            for member, name in members:
                if member in known:
                    met.setdefault(name, known[member])
            names = {}
            for width in step.groups:
                own = self.name_of(width.name, number)
                names[width.name] = own if own in taken else met.get(width.name, own)
            for member, name in members:
                known.setdefault(member, names[name])
            taken.update(names.values())
            linked.insert(0, names)
        return linked

    def _members(self, number: int) -> Iterator[tuple[Member, str]]:
        for tensor in self.steps[number].tensors:
            yield from members_of(self.plan.student_name(tensor.name, number), tensor.layouts)

    def _renamed(self, number: int, layout: Layout) -> Layout:
        return substitute(layout, lambda name: of(self._names[number][name]))


def members_of(tensor: str, layouts: Iterable[Layout]) -> Iterator[tuple[Member, str]]:
    """What each width is of a tensor."""
    for dim, layout in enumerate(layouts):
        form = substitute(layout, lambda _: of(""))
        for at, name in enumerate(atoms(layout)):
            yield (tensor, dim, form, at), name


def _above(name: str) -> Iterator[str]:
    """The modules that a tensor is in, from the innermost out."""
    while name := name.rpartition(".")[0]:
        yield name


def _path_of(width: str) -> str:
    found = WIDTH.fullmatch(width)
    return found[2] if found else width


def _numbered(path: str, number: int) -> str:
    return f"{path} ({number})" if number > 1 else path


def renamed_width(width: str, called: Callable[[str], str]) -> str:
    """The name of a width where modules are called otherwise: "heads of layers.2", once "heads of layers.1"."""
    found = WIDTH.fullmatch(width)
    return f"{found[1] or ''}{called(found[2])}{found[3]}" if found else width
