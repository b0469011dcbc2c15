"""The `Source` for each kind of argument of `fxgrow.draw`."""

from __future__ import annotations

from typing import TypeAlias

from torch import nn

from ..capture.ladder import trace_model
from ..errors import DrawError
from ..infer.freeze import freeze
from ..infer.width_graph import WidthGraph
from ..model.copies import named_tensors
from ..model.example_inputs import ExampleInputs, Forms, ModelInputs, arguments_of
from ..model.walk import named_modules
from ..plans.examples import example_of
from ..plans.growth_plan import Plan
from ..report.report import Report
from ..rewrite.lineage import plan_of
from ..rewrite.student import check_code
from ..rewrite.student_inputs import padded_inputs
from ..solver.io_widths import free_grown
from .alone import widths_of
from .source import Source

Drawable: TypeAlias = nn.Module | WidthGraph | Plan | tuple[nn.Module | WidthGraph | Plan | Report, ...]

EXPECTED = "a model, a student, a WidthGraph, a plan, (widths, plan) or (model, plan), optionally with a report"


def source_of(model: Drawable, example_inputs: ExampleInputs | None = None) -> Source:
    """The source of a drawing.

    Args:
        model: A `WidthGraph`, a model, a student, a `Plan`, or a tuple of one of the first two with a plan, a
            `Report` or both.
        example_inputs: The example inputs of a model or a student; None: those of the plan, or a guess.

    Raises:
        DrawError: `model` is none of these.
        PlanError: The plan was made for another model.
    """
    parts = list(model) if isinstance(model, tuple) else [model]
    graph = next((part for part in parts if isinstance(part, WidthGraph | nn.Module)), None)
    plan = next((part for part in parts if isinstance(part, Plan)), None)
    report = next((part for part in parts if isinstance(part, Report)), None)
    if graph is None and plan is not None and len(parts) == 1 + (report is not None):
        return Source(widths_of(plan), plan, report=report, alone=True)
    if graph is None or len(parts) > 1 + (plan is not None) + (report is not None):
        kinds = ", ".join(type(part).__name__ for part in parts)
        raise DrawError(f"cannot draw {kinds or 'nothing'}; give {EXPECTED}")
    if isinstance(graph, nn.Module):
        own = plan_of(graph) if plan is None else None
        if own is not None:
            return Source(_of_student(graph, own, example_inputs), own, of_student=True, report=report)
        graph = _of_model(graph, plan, example_inputs)
    elif plan is not None:
        check_code(plan, graph.traced)
    return Source(_with_free_ends(graph, plan), plan, report=report)


def _with_free_ends(graph: WidthGraph, plan: Plan | None) -> WidthGraph:
    """The width graph in which the inputs and outputs that any step of a plan grows are widths."""
    return graph if plan is None else free_grown(graph, [dim for step in plan.steps for dim in step.io_dims])


def _of_model(model: nn.Module, plan: Plan | None, example: ExampleInputs | None) -> WidthGraph:
    if plan is None:
        return freeze(trace_model(model, example))
    if example is None:
        example = example_of(plan, named_tensors(model).values())
    traced = trace_model(model, example, leaf_modules=plan.leaf_modules, output=plan.output)
    check_code(plan, traced)
    if plan.output == "module":  # this trace is one call; draw the graph if the model has one
        traced = trace_model(model, example, leaf_modules=plan.leaf_modules)
    return freeze(traced)


def _of_student(student: nn.Module, plan: Plan, example: ExampleInputs | None) -> WidthGraph:
    """The width graph of a student, on inputs padded to its channels."""
    if example is None:
        example = example_of(plan, named_tensors(student).values())
    if example is not None and not isinstance(example, Forms):
        example = padded_inputs(plan.steps, student, ModelInputs(*arguments_of(example)))
    leaves = [leaf for leaf in plan.leaf_modules if _has(student, leaf)]
    return _with_free_ends(freeze(trace_model(student, example, leaf_modules=leaves)), plan)


def _has(model: nn.Module, path: str) -> bool:
    return path in dict(named_modules(model))
