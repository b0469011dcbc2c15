"""A model layer by layer: width groups, parameters and FLOPs, before and after growth, and why a width stays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import nn

from ..capture.ladder import trace_model
from ..capture.traced import Traced
from ..errors import GrowError
from ..infer.findings import CARRY
from ..infer.freeze import freeze
from ..infer.groups import Group, can_grow
from ..infer.width_graph import TensorWidths, WidthGraph
from ..layouts.layout import atoms, show
from ..model.copies import clone_to_run, named_tensors
from ..model.example_inputs import ExampleInputs, ModelInputs, arguments_of
from ..model.tree import Mode, graph_for, set_mode
from ..plans.changes import Enlarge, Insert, Repeat
from ..plans.entries import TensorPlan
from ..plans.growth_plan import Plan, example_of
from ..rewrite.student import assemble, check_code, plan_of
from ..rewrite.student_inputs import padded, padded_inputs
from ..rewrite.tensors import check_tensors, grown_tensors
from ..spec.match import module_of
from .flops import flops_by_module
from .summary_table import Row, Summary

TEACHER_GIVES = "give summary the teacher, too"


def summarize(
    model: nn.Module | WidthGraph | Plan,
    example_inputs: ExampleInputs | None = None,
    *,
    teacher: nn.Module | WidthGraph | None = None,
) -> Summary:
    """A model, its widths, a plan or a student, layer by layer. Nothing is computed, nothing changed.

    Args:
        model: A model, a `WidthGraph`, a `Plan` or a student.
        example_inputs: As for `trace`; the teacher's where there is one, and not needed where a `WidthGraph` is given.
            None: those of the plan, or a guess.
        teacher: Of a plan or a student: what they leave out, which is the FLOPs before, and of a plan all figures of
            layers that stay as they are.

    Raises:
        GrowError: `model` is none of these, or the teacher is not the plan's, or a model does not run.
    """
    plan = model if isinstance(model, Plan) else plan_of(model) if isinstance(model, nn.Module) else None
    if plan is None:
        widths = freeze(trace_model(model, example_inputs)) if isinstance(model, nn.Module) else model
        if not isinstance(widths, WidthGraph):
            raise GrowError(f"summary takes a model, a WidthGraph or a Plan, not a {type(model).__name__}")
        return _of_widths(widths)
    if isinstance(teacher, nn.Module):
        check_tensors(plan, named_tensors(teacher))
        example = _example(plan, teacher, example_inputs)
        teacher = freeze(trace_model(teacher, example, leaf_modules=plan.leaf_modules, output=plan.output))
    elif teacher is not None and not isinstance(teacher, WidthGraph):
        raise GrowError(f"the teacher is a {type(teacher).__name__}; expected an nn.Module or a WidthGraph")
    if teacher is not None:
        example_inputs = teacher.traced.inputs
    if isinstance(model, nn.Module):
        return _of_student(model, plan, teacher, example_inputs)
    return _of_plan(plan) if teacher is None else _of_plan_and_teacher(plan, teacher)


def _example(plan: Plan, model: nn.Module, example_inputs: ExampleInputs | None) -> ExampleInputs:
    example = example_of(plan, named_tensors(model).values()) if example_inputs is None else example_inputs
    if example is None:
        raise GrowError("the plan could not hold its example inputs, which are no plain data: give example_inputs")
    return example


# -- before and after ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Side:
    """A model before or after.

    Attributes:
        kinds: The class of each module.
        shapes: Of each parameter and buffer.
        parameters: Which are parameters.
        flops: Of each module; None where they are not known.
    """

    kinds: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    parameters: frozenset[str]
    flops: Mapping[str, int] | None

    def layers(self) -> list[str]:
        """The modules that are rows."""
        own = {*map(module_of, self.parameters), *(self.flops or {})}
        return [path for path in self.kinds if path in own]

    def parameters_of(self, path: str) -> int | None:
        """How many a module has itself; None where there is no such module."""
        own = [name for name in self.parameters if module_of(name) == path]
        return sum(_count(self.shapes[name]) for name in own) if path in self.kinds else None

    def flops_of(self, path: str) -> int | None:
        """Those of a module's own code; None where they are not known, or there is no such module."""
        return self.flops.get(path, 0) if self.flops is not None and path in self.kinds else None

    def totals(self) -> tuple[int, int | None]:
        """Parameters and FLOPs of all."""
        counted = sum(_count(self.shapes[name]) for name in self.parameters)
        return counted, sum(self.flops.values()) if self.flops is not None else None


def _count(shape: Iterable[int]) -> int:
    number = 1
    for size in shape:
        number *= size
    return number


def _side(root: nn.Module, traced: Traced, graphs: Any, arguments: Mapping[str, Any]) -> _Side:
    """A model that was traced, or the student that was made of its trace."""
    mode: Mode = "eval" if "eval" in traced.tapes else "train"
    set_mode(root, mode)
    kinds = {path: type(module).__name__ for path, module in root.named_modules(remove_duplicate=False)}
    kinds.update({path: kind.__name__ for path, kind in traced.classes.items() if path in kinds})
    tensors = named_tensors(root)
    return _Side(
        {**kinds, "": traced.class_name},
        {name: tuple(tensor.shape) for name, tensor in tensors.items()},
        frozenset(name for name, tensor in tensors.items() if isinstance(tensor, nn.Parameter)),
        flops_by_module(root, graph_for(graphs, mode), arguments, real=traced.inputs.real),
    )


def _before(widths: WidthGraph) -> _Side:
    traced = widths.traced
    return _side(_root(traced), traced, traced.graphs, traced.arguments)


def _root(traced: Traced) -> nn.Module:
    """A tree of our own to run on, whose mode can be set."""
    return clone_to_run(traced.root, real=traced.inputs.real)


def _after(plan: Plan, traced: Traced) -> _Side:
    """The student that a plan makes, on meta tensors where the teacher's trace is."""
    root = _root(traced)
    student = assemble(root, traced.graphs, grown_tensors(plan, named_tensors(root)), plan, plan.model)
    if plan.next is None:
        return _side(student, traced, student.graphs, padded(plan, traced.arguments))
    inputs = padded_inputs([plan], student, traced.inputs)
    return _after(plan.next, trace_model(student, inputs, leaf_modules=plan.next.leaf_modules, output=plan.next.output))


def _undone(plan: Plan, after: _Side) -> _Side:
    """A student's teacher, as far as its plan tells."""
    new = tuple(f"{path}." for step in plan.steps for path in _new_layers(step))
    kinds = {path: kind for path, kind in after.kinds.items() if not f"{path}.".startswith(new)}
    shapes = {name: shape for name, shape in after.shapes.items() if module_of(name) in kinds}
    for step in reversed(plan.steps):
        for change in step.changes:
            weight = f"{getattr(change, 'path', '')}.weight"
            if isinstance(change, Enlarge) and weight in shapes:
                shapes[weight] = (*shapes[weight][: -len(change.old)], *change.old)
        for tensor in step.tensors:
            if tensor.name in shapes:
                shapes[tensor.name] = tuple(map(step.old_size, tensor.layouts))
    return _Side(kinds, shapes, after.parameters & shapes.keys(), None)


def _new_layers(plan: Plan) -> list[str]:
    inserts = [change.path for change in plan.changes if isinstance(change, Insert)]
    return [*inserts, *(path for change in plan.changes if isinstance(change, Repeat) for path in change.paths)]


# -- the kinds of summaries ----------------------------------------------------------------------------


def _of_widths(widths: WidthGraph) -> Summary:
    side = _before(widths)
    growing = sum(can_grow(group) for group in widths.groups)
    title = (
        f"{widths.traced.class_name}: {len(widths.groups)} widths, {growing} can grow; inputs {widths.traced.inputs}"
    )
    return _made(title, side, side, widths, lambda name: _why(widths.groups_by_name[name]), widths.traced.notes)


def _why(group: Group) -> str:
    if group.pinned:
        return "; ".join(group.pinned)
    if group.deferred_to:
        return f"{group.deferred_to} is the factor of the same dimension that grows"
    return f"by whole multiples only: {'; '.join(group.uniform)}" if group.uniform else ""


def _of_plan_and_teacher(plan: Plan, widths: WidthGraph) -> Summary:
    check_code(plan, widths.traced)
    return _compared(plan, widths, _before(widths), _after(plan, widths.traced))


def _of_student(
    student: nn.Module, plan: Plan, teacher: WidthGraph | None, example_inputs: ExampleInputs | None
) -> Summary:
    last = plan.steps[-1]
    args, kwargs = arguments_of(_example(plan, student, example_inputs))
    example = padded_inputs(plan.steps, student, ModelInputs(args, kwargs))
    grown = freeze(trace_model(student, example, leaf_modules=last.leaf_modules, output=last.output))
    after = _before(grown)
    if teacher is not None:
        return _compared(plan, teacher, _before(teacher), after)
    return _compared(plan, grown, _undone(plan, after), after, f"for the FLOPs before, {TEACHER_GIVES}")


def _compared(plan: Plan, widths: WidthGraph, before: _Side, after: _Side, *notes: str) -> Summary:
    left = {entry.name: entry.reason for step in plan.steps for entry in step.skipped}

    def why(name: str) -> str:
        return left.get(name, "") or "; ".join(widths.groups_by_name[name].pinned)

    return _made(_title(plan), before, after, widths, why, (*plan.notes, *notes), _twins(plan, after))


def _twins(plan: Plan, after: _Side) -> dict[str, str]:
    repeats = [change for step in plan.steps for change in step.changes if isinstance(change, Repeat)]
    clones = [(f"{path}.", f"{repeat.block}.") for repeat in repeats for path in repeat.paths]
    return {
        path: block + path.removeprefix(clone_of)
        for path in after.kinds
        for clone_of, block in clones
        if path.startswith(clone_of)
    }


def _title(plan: Plan) -> str:
    grown, changes = sum(len(step.grown_widths) for step in plan.steps), sum(len(step.changes) for step in plan.steps)
    more = f", {changes} other changes" if changes else ""
    return f"{plan.model}: {grown} widths grow{more}; inputs {plan.inputs}"


def _made(
    title: str,
    before: _Side,
    after: _Side,
    widths: WidthGraph,
    why: Callable[[str], str],
    notes: tuple[str, ...],
    twins: Mapping[str, str] = MappingProxyType({}),
) -> Summary:
    """The table; of what is in a clone `twins` tells what it is in the block."""
    rows = []
    own = _by_module(widths.tensors, lambda name: can_grow(widths.groups_by_name[name]))
    for path in after.layers():
        new = path not in before.kinds
        name, dim = (f"{path}.weight", own.get(twins.get(path, ""), ("", 0))[1]) if new else own.get(path, ("", 0))
        layout = widths.tensors[name].layouts[dim] if name in widths.tensors else ()
        width = (_size(before, name, dim), _size(after, name, dim))
        parts = [name for name in atoms(layout) if can_grow(widths.groups_by_name[name])] or list(atoms(layout))
        reasons = dict.fromkeys(filter(None, map(why, parts))) if width[0] == width[1] else ()
        parameters = (before.parameters_of(path), after.parameters_of(path))
        flops = (before.flops_of(path), after.flops_of(path))
        group = show(layout) if any(atoms(layout)) else ""
        kind = (after if new else before).kinds[path]
        rows.append(Row(path, kind, group, width, parameters, flops, "; ".join(reasons), new))
    (some, some_flops), (all_of_them, all_flops) = before.totals(), after.totals()
    return Summary(title, tuple(rows), (some, all_of_them), (some_flops, all_flops), tuple(dict.fromkeys(notes)))


def _by_module(
    tensors: Mapping[str, TensorWidths] | Mapping[str, TensorPlan], free: Callable[[str], bool]
) -> dict[str, tuple[str, int]]:
    """For each module with tensors the one that tells its width, and its dimension.

    It is the first that the module makes and that can grow (of an embedding (words, channels) the second), or else the
    first that it makes.
    """
    first: dict[str, tuple[str, int]] = {}
    growing: dict[str, tuple[str, int]] = {}
    for name, tensor in tensors.items():
        for dim, (layout, role) in enumerate(zip(tensor.layouts, tensor.roles, strict=True)):
            if role == CARRY and any(atoms(layout)):
                first.setdefault(module_of(name), (name, dim))
                if any(map(free, atoms(layout))):
                    growing.setdefault(module_of(name), (name, dim))
    return first | growing


def _size(side: _Side, tensor: str, dim: int) -> int | None:
    return side.shapes[tensor][dim] if tensor in side.shapes else None


def _of_plan(plan: Plan) -> Summary:
    """What a plan tells by itself: the widths of the tensors that change, and what is new."""
    first: dict[str, TensorPlan] = {}
    old: dict[str, tuple[int, ...]] = {}
    new: dict[str, tuple[int, ...]] = {}
    rows = []
    for step in plan.steps:
        for tensor in step.tensors:
            first.setdefault(tensor.name, tensor)
            old.setdefault(tensor.name, tuple(map(step.old_size, tensor.layouts)))
            new[tensor.name] = tuple(map(step.new_size, tensor.layouts))
    growing = {width.name for step in plan.steps for width in step.grown_widths}
    left = {entry.name: entry.reason for step in plan.steps for entry in step.skipped}
    for path, (name, dim) in _by_module(first, growing.__contains__).items():
        width, reason = (old[name][dim], new[name][dim]), left.pop(path, "")
        rows.append(Row(path, "", show(first[name].layouts[dim]), width, why=reason if width[0] == width[1] else ""))
    for step in plan.steps:
        rows += [Row(change.path, str(change), new=not isinstance(change, Enlarge)) for change in step.changes]
    rows += [Row(name, "", name, why=reason) for name, reason in left.items()]
    note = f"a plan holds no tensors: for parameters, FLOPs and the layers that stay, {TEACHER_GIVES}"
    return Summary(_title(plan), tuple(rows), notes=(*plan.notes, note))
