"""The source of drawings: a width graph, a plan, and their sizes, labels and figures before and after growth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from ..base.tables import count
from ..costs.calls import work
from ..errors import PlanError
from ..infer.groups import Group
from ..infer.renamed import NamesIn
from ..infer.width_graph import WidthGraph
from ..layouts.layout import Layout, atoms, measure
from ..model.copies import named_tensors
from ..model.stated import stated_int, stated_size
from ..plans.chain_entries import ChainChange, ChainEntries
from ..plans.changes import KernelSize
from ..plans.costs import LayerCost
from ..plans.entries import IoDimPlan
from ..plans.growth_plan import Plan
from ..report.report import Report
from .view import GROWS, LEVELS, PINNED, STAYS, Level, Swatch, WidthChange

WITHOUT_A_MODEL = "drawn from the plan alone: widths that stay, layers and FLOPs need the model"


@dataclass(frozen=True)
class Source:
    """The data of a drawing, with figures before and after growth.

    Attributes:
        widths: The width graph of the teacher; of the student, if `of_student`.
        plan: The plan; None for a model without one.
        of_student: Whether the width graph is that of the student.
        report: The report of `fxgrow.verify`.
        alone: Whether there is no model: no graph, and only the widths of parameters that change.
    """

    widths: WidthGraph
    plan: Plan | None = None
    of_student: bool = False
    report: Report | None = None
    alone: bool = False

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels that can be drawn."""
        return LEVELS[:1] if self.alone else LEVELS

    @cached_property
    def legend(self) -> Mapping[str, Swatch]:
        """The swatches of the width groups by name, in the order of the model."""
        return {swatch.name: swatch for swatch in self._swatches()}

    @cached_property
    def parameter_names(self) -> frozenset[str]:
        """The tensors that are parameters, not buffers."""
        return frozenset(
            name for name, tensor in named_tensors(self.widths.traced.root).items() if isinstance(tensor, nn.Parameter)
        )

    @cached_property
    def inside(self) -> Mapping[str, Sequence[str]]:
        """The parameters and buffers of each module, including those of its submodules."""
        tensors: dict[str, list[str]] = {}
        for name in self.widths.tensors:
            module = name.rpartition(".")[0]
            while module:
                tensors.setdefault(module, []).append(name)
                module = module.rpartition(".")[0]
        return tensors

    @cached_property
    def flops(self) -> Mapping[str, WidthChange]:
        """FLOPs of one forward pass, by the weight that is contracted; by location if there is none."""
        totals: dict[str, WidthChange] = {}
        for key, (old, new) in self.work:
            known = totals.get(key, (0, 0))
            totals[key] = known[0] + old, known[1] + new
        return totals

    @cached_property
    def work(self) -> tuple[tuple[str, WidthChange], ...]:
        """The weight, or else the location, and the FLOPs of each call that has any, in the order of the calls."""
        before = work(self.widths, lambda name: self.sizes(name)[0])
        after = work(self.widths, lambda name: self.sizes(name)[1])
        keys = ((old.weight or old.site, (old.flops, new.flops)) for old, new in zip(before, after, strict=True))
        return tuple((key, self._corrected(key, flops)) for key, flops in keys)

    @cached_property
    def new_paths(self) -> frozenset[str]:
        """The modules that only the student has."""
        return frozenset(self._new_paths())

    @cached_property
    def title(self) -> str:
        """The class of the model and the number of widths that grow."""
        name = self.plan.model if self.plan is not None else self.widths.traced.class_name
        if self.plan is None:
            free = sum(swatch.state != PINNED for swatch in self.legend.values())
            return f"{name}: {count(len(self.legend), 'width')}, {free} can grow"
        grown, verb = len(self.grown), "grows" if len(self.grown) == 1 else "grow"
        widths = count(grown, "width") if self.alone else f"{grown} of {count(len(self.legend), 'width')}"
        changes = sum(step.other_changes for step in self.plan.steps)
        return f"{name}: {widths} {verb}" + (f", {count(changes, 'other change')}" if changes else "")

    @property
    def grown(self) -> tuple[Swatch, ...]:
        """The widths that grow, without those of new layers."""
        return tuple(swatch for swatch in self.legend.values() if swatch.state == GROWS and swatch.size[0] > 0)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes of the plan or the trace, and the result of the report."""
        notes = self.entries.notes if self.entries is not None else self.widths.traced.notes
        if self.alone:
            changed = [f"{change.path}: {change.text}" for change in self.changes]
            left = [f"{name} is left as it is: {reason}" for name, reason in self.skipped.items()]
            notes = (*notes, *changed, *left, WITHOUT_A_MODEL)
        if self.report is None:
            return notes
        error = max(self.report.errors.values())
        return (f"{'the same function' if self.report.exact else 'NOT the same function'}, error {error:.1e}", *notes)

    @cached_property
    def entries(self) -> ChainEntries | None:
        """The entries of all steps of the plan, under the names of the last student; None without a plan."""
        return None if self.plan is None else ChainEntries(self.plan)

    @property
    def of_chain(self) -> ChainEntries | None:
        """The same where others follow the plan, which may change what it makes; else None."""
        return None if self.plan is None or self.plan.next is None else self.entries

    @cached_property
    def changes(self) -> tuple[ChainChange, ...]:
        """The structural changes of all steps of the plan, with the names of the drawing."""
        if self.entries is None:
            return ()
        if self._names_of_student:
            return self.entries.changes
        return self.entries.changes_in_teacher(self._names.module)

    @cached_property
    def skipped(self) -> Mapping[str, str]:
        """The widths and layers that a step of the plan leaves as they are, with the reasons."""
        if self.entries is None:
            return {}
        return {self._names.width(name): reason for name, reason in self.entries.skipped.items()}

    @cached_property
    def io_dims(self) -> tuple[tuple[str, IoDimPlan], ...]:
        """The dimensions of inputs and outputs that grow, each with its width."""
        if self.entries is None:
            return ()
        return tuple((self._names.width(name), dim) for name, dim in self.entries.io_dims)

    def in_student(self, path: str) -> str:
        """The last student's name of a module of the drawing."""
        return path if self.entries is None or self._names_of_student else self._names.in_student(path)

    def below(self, path: str) -> tuple[WidthChange, WidthChange]:
        """The parameters and FLOPs of a module of the last student, with its submodules, before and after."""
        inside = [one for one in self._costs if f"{one.name}.".startswith(f"{path}.")]
        flops = [one.flops or (0, 0) for one in inside]
        return (
            (sum(one.parameters[0] for one in inside), sum(one.parameters[1] for one in inside)),
            (sum(old for old, _ in flops), sum(new for _, new in flops)),
        )

    @cached_property
    def _costs(self) -> Sequence[LayerCost]:
        try:
            return self.plan.cost().layers if self.plan is not None else ()
        except PlanError:  # a file of a version without costs
            return ()

    @property
    def _names_of_student(self) -> bool:
        """Whether the width graph has the names of the last student."""
        return self.of_student or self.alone

    @cached_property
    def _names(self) -> NamesIn:
        assert self.entries is not None
        return NamesIn(self.widths, self.entries, of_student=self._names_of_student)

    def sizes(self, name: str) -> WidthChange:
        """The width of a group before and after."""
        return self._sizes[name]

    @cached_property
    def _sizes(self) -> Mapping[str, WidthChange]:
        return {name: self._size_of(name) for name in self.widths.groups_by_name}

    def _size_of(self, name: str) -> WidthChange:
        here = self.widths.width(name)
        if name in self._new_groups:
            return 0, here
        old, new = (self._names.sizes(name) if self.entries is not None else None) or (here, here)
        return (old if new == here else here, here) if self.of_student else (here, new if old == here else here)

    @cached_property
    def _new_groups(self) -> frozenset[str]:
        """The width groups that only new layers have."""
        groups = self.widths.groups if self.new_paths else ()
        if self.alone and self.entries is not None:  # the plan names few of the tensors
            return frozenset(group.name for group in groups if self.entries.is_new_width(group.name))
        return frozenset(group.name for group in groups if all(self.is_new(tensor) for tensor, _ in group.members))

    def parameters(self, tensor: str) -> WidthChange:
        """The number of entries of a parameter or buffer before and after."""
        old, new = self._entries_by_widths(tensor)
        return (0, new) if self.is_new(tensor) else self._corrected(tensor, (old, new))

    def _entries_by_widths(self, tensor: str) -> WidthChange:
        """The same if its kernel stayed, and if each width had one size in all tensors that it is of."""
        sizes = [*map(self.size, self.widths.tensors[tensor].layouts)]
        return math.prod(old for old, _ in sizes), math.prod(new for _, new in sizes)

    def _corrected(self, key: str, change: WidthChange) -> WidthChange:
        """A figure proportional to the number of entries of a tensor, for the shapes that the plan gives it."""
        shapes = self._shapes(key)
        if shapes is None:
            return change
        pairs = zip(change, map(math.prod, shapes), self._entries_by_widths(key), strict=True)
        old, new = (figure * entries // known if known else figure for figure, entries, known in pairs)
        return old, new

    def _shapes(self, tensor: str) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """The shapes before and after of a tensor that the plan changes; None of any other, or where there is none."""
        if self.entries is None or tensor not in self.widths.tensors:
            return None
        name = tensor if self._names_of_student else self.entries.plan.student_name(tensor)
        known = self.entries.shapes(name)
        if known is None and (kernel := self._kernels.get(tensor.removesuffix(".weight"))):
            sizes = [self.size(layout) for layout in self.widths.tensors[tensor].layouts[: -len(kernel[0])]]
            return (*(old for old, _ in sizes), *kernel[0]), (*(new for _, new in sizes), *kernel[1])
        return known

    def kernel(self, tensor: str) -> str:
        """The kernel size of a convolution, "7×7", or "7×7→9×9" if it changes."""
        path = tensor.rpartition(".")[0]
        if path in self._kernels:
            return "→".join("×".join(map(str, size)) for size in self._kernels[path])
        return "×".join(str(self.size(layout)[0]) for layout in self.widths.tensors[tensor].layouts[2:])

    def larger_kernel(self, path: str) -> tuple[KernelSize, KernelSize] | None:
        """The kernel of a convolution before and after growth; None if it stays."""
        return self._kernels.get(path)

    def what(self, path: str) -> str:
        """The type of a module with its kernel, stride and groups: "Conv2d 3×3 /2"."""
        kind = self.widths.traced.classes.get(path)
        if kind is None:
            return ""
        words = [kind.__name__]
        weight = f"{path}.weight"
        if weight in self.widths.tensors and len(self.widths.tensors[weight].layouts) > 2:
            words.append(self.kernel(weight))
        try:
            module = self.widths.traced.root.get_submodule(path)
        except AttributeError:
            return " ".join(words)
        stride = stated_size(module, "stride")
        steps = stride if isinstance(stride, tuple) else (1 if stride is None else stride,)
        if any(step != 1 for step in steps):
            words.append("/" + "×".join(dict.fromkeys(map(str, steps))))
        groups = stated_int(module, "groups", 1)
        if groups > 1:
            words.append("depthwise" if groups == stated_int(module, "in_channels") else f"{groups} groups")
        return " ".join(words)

    @cached_property
    def _kernels(self) -> Mapping[str, tuple[KernelSize, KernelSize]]:
        """The kernels that get larger, by the path of the convolution."""
        kernels = self.entries.kernels if self.entries is not None else {}
        return {self._names.module(path): sizes for path, sizes in kernels.items()}

    def size(self, layout: Layout) -> WidthChange:
        """The size of a dimension before and after."""
        return measure(layout, lambda name: self.sizes(name)[0]), measure(layout, lambda name: self.sizes(name)[1])

    def group_of(self, layouts: Iterable[Layout]) -> str:
        """The group to show for some dimensions: of the first one with groups the widest, preferably not pinned."""
        for layout in layouts:
            names = [name for name in atoms(layout) if name in self.legend]
            if names:
                best = max(names, key=lambda name: (self.legend[name].state != PINNED, self.widths.width(name)))
                return str(best)
        return ""

    def is_new(self, path: str) -> bool:
        """Whether only the student has a module."""
        return any(path == new or path.startswith(f"{new}.") for new in self.new_paths)

    def originals(self, path: str) -> Iterator[str]:
        """What a new module or tensor is a clone of or stands behind, and so on where that is new as well."""
        for change in reversed(self.changes):
            for new in change.new_paths:
                if f"{path}.".startswith(f"{new}."):
                    path = f"{change.follows}{path.removeprefix(new)}" if change.change.original else change.follows
                    yield path
                    break

    def _new_paths(self) -> Iterator[str]:
        for change in self.changes:
            yield from change.new_paths

    def _swatches(self) -> Iterator[Swatch]:
        shown = self.widths.groups
        hues = iter(_hues(sum(self._state(group) != PINNED for group in shown)))
        for group in shown:
            state = self._state(group)
            hue, shade = (-1, 0) if state == PINNED else next(hues)
            reason = self.skipped.get(group.name) or ("" if self.alone else self.widths.state(group.name))
            layers = tuple(dict.fromkeys(tensor.rpartition(".")[0] or tensor for tensor, _ in group.members))
            yield Swatch(group.name, hue, shade, self.sizes(group.name), state, reason, layers)

    def _state(self, group: Group) -> str:
        old, new = self.sizes(group.name)
        return GROWS if new > old else PINNED if group.pinned or group.deferred_to else STAYS


def _hues(number: int) -> Iterator[tuple[int, int]]:
    """(hue, shade) of distinct colours: consecutive hues differ by the golden angle, similar hues by their shade."""
    for i in range(number):
        yield round(i * 360 * (2 - (1 + math.sqrt(5)) / 2) + 215) % 360, i * 3 // max(number, 24)
