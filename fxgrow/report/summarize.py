"""A model layer by layer: width groups, parameters and FLOPs, before and after growth, and why a width stays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from torch import nn

from ..base.tables import count
from ..base.wording import a_type
from ..capture.ladder import trace_model
from ..errors import GrowError
from ..infer.findings import CARRY
from ..infer.freeze import freeze
from ..infer.groups import Group, can_grow
from ..infer.renamed import NamesIn
from ..infer.width_graph import TensorWidths, WidthGraph
from ..layouts.layout import atoms, show
from ..model.copies import named_tensors
from ..model.example_inputs import ExampleInputs, ModelInputs, arguments_of
from ..plans.chain_entries import ChainEntries, ChainTensor
from ..plans.examples import example_of
from ..plans.growth_plan import Plan
from ..rewrite.lineage import plan_between, plan_of
from ..rewrite.student import check_code
from ..rewrite.student_inputs import padded_inputs
from ..rewrite.tensors import check_tensors
from ..spec.patterns import module_of
from .figures import Figures, figures_after, figures_before, figures_of
from .summary_table import Row, Summary

PASS_TEACHER = "give summary the teacher, too"


def summarize(
    model: nn.Module | WidthGraph | Plan,
    example_inputs: ExampleInputs | None = None,
    *,
    teacher: nn.Module | WidthGraph | None = None,
) -> Summary:
    """Summarise a model, a width graph, a plan or a student by layer. Computes no values and changes nothing.

    Args:
        model: A model, a `WidthGraph`, a `Plan` or a student.
        example_inputs: Example inputs as for `trace`, of the teacher if there is one; not used for a `WidthGraph`.
            None: those of the plan, or a guess.
        teacher: The teacher of a plan or a student, or its `WidthGraph`. It adds the FLOPs before growth, and to a
            plan the figures of layers that do not change.

    Raises:
        GrowError: `model` is none of these, the teacher is not the plan's, or a model does not run.
    """
    plan = model if isinstance(model, Plan) else _plan(model, teacher) if isinstance(model, nn.Module) else None
    if plan is None:
        widths = freeze(trace_model(model, example_inputs)) if isinstance(model, nn.Module) else model
        if not isinstance(widths, WidthGraph):
            raise GrowError(f"summary got {a_type(model)}; expected a model, a WidthGraph or a Plan")
        return _of_widths(widths)
    if isinstance(teacher, nn.Module):
        check_tensors(plan, named_tensors(teacher))
        example = _example(plan, teacher, example_inputs)
        teacher = freeze(trace_model(teacher, example, leaf_modules=plan.leaf_modules, output=plan.output))
    elif teacher is not None and not isinstance(teacher, WidthGraph):
        raise GrowError(f"the teacher is {a_type(teacher)}; expected an nn.Module or a WidthGraph")
    if teacher is not None:
        example_inputs = teacher.traced.inputs
    if isinstance(model, nn.Module):
        return _of_student(model, plan, teacher, example_inputs)
    return _of_plan(plan) if teacher is None else _of_plan_and_teacher(plan, teacher)


def _plan(student: nn.Module, teacher: object) -> Plan | None:
    """The plans that made a student: since its first teacher, or since the one that is given."""
    model = teacher.traced.root if isinstance(teacher, WidthGraph) else teacher
    return plan_between(model, student) if isinstance(model, nn.Module) else plan_of(student)


def _example(plan: Plan, model: nn.Module, example_inputs: ExampleInputs | None) -> ExampleInputs:
    example = example_of(plan, named_tensors(model).values()) if example_inputs is None else example_inputs
    if example is None:
        raise GrowError("the plan has no example inputs, because they were no plain data: give example_inputs")
    return example


def _of_widths(widths: WidthGraph) -> Summary:
    figures = figures_of(widths.traced)
    growing = sum(can_grow(group) for group in widths.groups)
    title = (
        f"{widths.traced.class_name}: {len(widths.groups)} widths, {growing} can grow; inputs {widths.traced.inputs}"
    )
    return _table(title, figures, figures, widths, lambda name: _why(widths.groups_by_name[name]), widths.traced.notes)


def _why(group: Group) -> str:
    if group.pinned:
        return "; ".join(group.pinned)
    if group.deferred_to:
        return f"this dimension is a product with {group.deferred_to}, which grows instead"
    return f"by whole multiples only: {'; '.join(group.uniform)}" if group.uniform else ""


def _of_plan_and_teacher(plan: Plan, widths: WidthGraph) -> Summary:
    check_code(plan, widths.traced)
    return _compared(plan, widths, _before(plan, widths), figures_after(plan, widths.traced))


def _of_student(
    student: nn.Module, plan: Plan, teacher: WidthGraph | None, example_inputs: ExampleInputs | None
) -> Summary:
    last = plan.steps[-1]
    args, kwargs = arguments_of(_example(plan, student, example_inputs))
    example = padded_inputs(plan.steps, student, ModelInputs(args, kwargs))
    traced = trace_model(student, example, leaf_modules=last.leaf_modules, output=last.output)
    grown = freeze(traced, other_sizes=teacher is None)
    after = figures_of(traced)
    if teacher is not None:
        return _compared(plan, teacher, _before(plan, teacher), after)
    return _compared(
        plan, grown, figures_before(plan, after), after, f"for the FLOPs before, {PASS_TEACHER}", named=str
    )


def _before(plan: Plan, teacher: WidthGraph) -> Figures:
    """The figures of the teacher, under the names of the student."""
    return figures_of(teacher.traced).renamed(plan.student_name)


def _compared(
    plan: Plan,
    widths: WidthGraph,
    before: Figures,
    after: Figures,
    *notes: str,
    named: Callable[[str], str] | None = None,
) -> Summary:
    """The table of a student; `named` says how it calls a tensor of the width graph."""
    entries = ChainEntries(plan)
    names = NamesIn(widths, entries, of_student=named is not None)
    skipped = {names.width(name): reason for name, reason in entries.skipped.items()}

    def why(name: str) -> str:
        return skipped.get(name, "") or "; ".join(widths.groups_by_name[name].pinned)

    tensors = {(named or plan.student_name)(name): tensor for name, tensor in widths.tensors.items()}
    all_notes = (*entries.notes, *notes)
    return _table(
        _title(plan), before, after, replace(widths, tensors=tensors), why, all_notes, _originals(plan, after)
    )


def _originals(plan: Plan, after: Figures) -> dict[str, str]:
    """For each module in a clone the path of its original in the cloned block."""
    clones = [(f"{path}.", f"{plan.student_name(block)}.") for path, block in plan.new_modules.items() if block]
    return {
        path: block + path.removeprefix(clone_of)
        for path in after.kinds
        for clone_of, block in clones
        if path.startswith(clone_of)
    }


def _title(plan: Plan) -> str:
    grown, changes = len(ChainEntries(plan).grown), sum(step.other_changes for step in plan.steps)
    more = f", {count(changes, 'other change')}" if changes else ""
    return f"{plan.model}: {count(grown, 'width')} {'grows' if grown == 1 else 'grow'}{more}; inputs {plan.inputs}"


def _table(
    title: str,
    before: Figures,
    after: Figures,
    widths: WidthGraph,
    why: Callable[[str], str],
    notes: tuple[str, ...],
    originals: Mapping[str, str] = MappingProxyType({}),
) -> Summary:
    """The table of all layers; `originals` maps modules in clones to those in the cloned block."""
    rows = []
    own = _by_module(widths.tensors, lambda name: can_grow(widths.groups_by_name[name]))
    for path in after.layers():
        new = path not in before.kinds
        name, dim = (f"{path}.weight", own.get(originals.get(path, ""), ("", 0))[1]) if new else own.get(path, ("", 0))
        layout = widths.tensors[name].layouts[dim] if name in widths.tensors else ()
        width = (_size(before, name, dim), _size(after, name, dim))
        parts = [name for name in atoms(layout) if can_grow(widths.groups_by_name[name])] or list(atoms(layout))
        reasons = dict.fromkeys(filter(None, map(why, parts))) if width[0] == width[1] else ()
        parameters = (before.parameters_of(path), after.parameters_of(path))
        flops = (before.flops_of(path), after.flops_of(path))
        group = show(layout) if any(atoms(layout)) else ""
        kind = (after if new else before).kinds[path]
        rows.append(Row(path, kind, group, width, parameters, flops, "; ".join(reasons), new))
    parameters, flops = zip(before.totals(), after.totals(), strict=True)
    return Summary(title, tuple(rows), parameters, flops, tuple(dict.fromkeys(notes)))


def _by_module(
    tensors: Mapping[str, TensorWidths] | Mapping[str, ChainTensor], free: Callable[[str], bool]
) -> dict[str, tuple[str, int]]:
    """For each module the tensor and the dimension that its width is read from.

    It is the first dimension that the module produces and that can grow (for an embedding (words, channels) the second
    one), or else the first that it produces.
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


def _size(figures: Figures, tensor: str, dim: int) -> int | None:
    return figures.shapes[tensor][dim] if tensor in figures.shapes else None


def _of_plan(plan: Plan) -> Summary:
    """The summary of a plan without its model: the widths of the tensors that change, and new layers."""
    entries = ChainEntries(plan)
    skipped = {**entries.skipped}
    rows = []
    widths = {}
    for path, (name, dim) in _by_module(entries.tensors, entries.grown.__contains__).items():
        tensor = entries.tensors[name]
        width, group = (tensor.old[dim], tensor.new[dim]), show(tensor.layouts[dim])
        if entries.is_new(path):
            widths[path] = group, (None, width[1])
            continue
        reason = skipped.pop(path, "")
        rows.append(Row(path, "", group, width, why=reason if width[0] == width[1] else ""))
    for change in entries.changes:
        group, size = widths.pop(change.path, ("", (None, None)))
        rows.append(Row(change.path, change.text, group, size, new=bool(change.new_paths)))
    rows += [Row(path, "", group, width, new=True) for path, (group, width) in widths.items()]
    rows += [Row(name, "", name, why=reason) for name, reason in skipped.items()]
    note = f"a plan has no tensors: for parameters, FLOPs and the layers that stay, {PASS_TEACHER}"
    return Summary(_title(plan), tuple(rows), notes=(*entries.notes, note))
