"""The source of drawings: a width graph, a plan, and their sizes, labels and figures before and after growth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from ..base.tables import count
from ..costs.calls import work
from ..infer.groups import Group
from ..infer.width_graph import WidthGraph
from ..layouts.layout import Layout, atoms, measure, only_atom
from ..model.copies import named_tensors
from ..model.stated import stated_int, stated_size
from ..plans.changes import KernelSize, StructuralChange
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
        return tuple((key, self._with_kernel(key, flops)) for key, flops in keys)

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
        notes = self.plan.notes if self.plan is not None else self.widths.traced.notes
        if self.alone and self.plan is not None:
            changed = [f"{change.path}: {change}" for change in self.changes()]
            left = [
                f"{entry.name} is left as it is: {entry.reason}" for step in self.plan.steps for entry in step.skipped
            ]
            notes = (*notes, *changed, *left, WITHOUT_A_MODEL)
        if self.report is None:
            return notes
        error = max(self.report.errors.values())
        return (f"{'the same function' if self.report.exact else 'NOT the same function'}, error {error:.1e}", *notes)

    def changes(self) -> Iterator[StructuralChange]:
        """The structural changes of all steps of the plan."""
        for step in self.plan.steps if self.plan is not None else ():
            yield from step.changes

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
        members = self.widths.groups_by_name[name].members if self.of_student else ()
        # A new layer may change the name of a width: look it up by the dimensions of its parameters.
        names = [self._planned_names[member] for member in members if member in self._planned_names]
        old, new = self._planned.get(names[0] if names else name, (here, here))
        return (old if new == here else here, here) if self.of_student else (here, new if old == here else here)

    @cached_property
    def _new_groups(self) -> frozenset[str]:
        """The width groups that only new layers have."""
        groups = self.widths.groups if self.new_paths else ()
        return frozenset(group.name for group in groups if all(self.is_new(tensor) for tensor, _ in group.members))

    @cached_property
    def _planned_names(self) -> Mapping[tuple[str, int], str]:
        """The plan's name of the width of each dimension that is one width."""
        names: dict[tuple[str, int], str] = {}
        for step in self.plan.steps if self.plan is not None else ():
            for tensor in step.tensors:
                for dim, layout in enumerate(tensor.layouts):
                    name = only_atom(layout)
                    if isinstance(name, str):
                        names.setdefault((tensor.name, dim), name)
        return names

    @cached_property
    def _planned(self) -> Mapping[str, WidthChange]:
        widths: dict[str, WidthChange] = {}
        for step in self.plan.steps if self.plan is not None else ():
            for width in step.groups:
                widths[width.name] = widths.get(width.name, (width.old, 0))[0], width.new
        return widths

    def parameters(self, tensor: str) -> WidthChange:
        """The number of entries of a parameter or buffer before and after."""
        old, new = (math.prod(size[i] for size in map(self.size, self.widths.tensors[tensor].layouts)) for i in (0, 1))
        if self.is_new(tensor):
            return 0, new
        return self._with_kernel(tensor, (old, new))

    def _with_kernel(self, tensor: str, change: WidthChange) -> WidthChange:
        """A figure proportional to the kernel size, corrected if the plan enlarges the kernel."""
        path, _, name = tensor.rpartition(".")
        if name != "weight" or path not in self._kernels:
            return change
        old, new = change
        before, after = self._kernels[path]
        ratio = math.prod(after), math.prod(before)
        return (old * ratio[1] // ratio[0], new) if self.of_student else (old, new * ratio[0] // ratio[1])

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
        """The kernels that get larger, by the path of the convolution; of several changes the first."""
        return {path: sizes for change in reversed([*self.changes()]) for path, sizes in change.kernels.items()}

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

    def _new_paths(self) -> Iterator[str]:
        if self.of_student and self.plan is not None:
            yield from self.plan.new_modules
            return
        for change in self.changes():
            yield from change.new_paths

    def _swatches(self) -> Iterator[Swatch]:
        shown = self.widths.groups
        hues = iter(_hues(sum(self._state(group) != PINNED for group in shown)))
        skipped = {entry.name: entry.reason for entry in self.plan.skipped} if self.plan is not None else {}
        for group in shown:
            state = self._state(group)
            hue, shade = (-1, 0) if state == PINNED else next(hues)
            reason = skipped.get(group.name) or ("" if self.alone else self.widths.state(group.name))
            layers = tuple(dict.fromkeys(tensor.rpartition(".")[0] or tensor for tensor, _ in group.members))
            yield Swatch(group.name, hue, shade, self.sizes(group.name), state, reason, layers)

    def _state(self, group: Group) -> str:
        old, new = self.sizes(group.name)
        return GROWS if new > old else PINNED if group.pinned or group.deferred_to else STAYS


def _hues(number: int) -> Iterator[tuple[int, int]]:
    """(hue, shade) of distinct colours: consecutive hues differ by the golden angle, similar hues by their shade."""
    for i in range(number):
        yield round(i * 360 * (2 - (1 + math.sqrt(5)) / 2) + 215) % 360, i * 3 // max(number, 24)
