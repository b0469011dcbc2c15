"""Compares the student that has new layers and larger kernels with the one that has not, on meta tensors.

It must run in every mode, return tensors of the same shapes, and use each layer that was used and each new one.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from torch import fx, nn

from ..base.structures import leaf_tensors
from ..errors import PlanError
from ..infer.width_graph import WidthGraph
from ..model.copies import clone_to_run
from ..model.tree import Mode, graph_for
from ..plans.changes import StructuralChange
from ..plans.growth_plan import Plan
from ..recording.call import Call, Shape
from ..recording.model_run import explain
from ..recording.run import TapedRun
from ..recording.tape import Tape
from ..rewrite.student_inputs import padded

Student = tuple[nn.Module, Mapping[Mode, fx.Graph]]  # a tree of our own, and the graphs that run on it


def check_changes(student: Student, changed: Student, widths: WidthGraph, plan: Plan) -> None:
    """Check that a student with new layers runs and returns tensors of the same shapes as the one without them.

    Args:
        student: The student without new layers.
        changed: The student with them.
        widths: The teacher's.
        plan: The student's, with its changes.

    Raises:
        PlanError: It does not.
    """
    for mode in widths.traced.modes:
        if mode not in widths.traced.tapes:
            continue
        before, after = (_shapes(model, widths, plan, mode) for model in (student, changed))
        _check_calls(before[1], after[1], plan.changes, mode)
        _check_all_used(graph_for(student[1], mode), graph_for(changed[1], mode))
        if before[0] != after[0]:
            raise PlanError(f"with the new layers the model would give {after[0]} in {mode} mode, and not {before[0]}")


def _check_all_used(before: fx.Graph, after: fx.Graph) -> None:
    """Check that every layer that was used still is, and every new one."""
    idle = {str(node.target) for node in before.nodes if node.op == "call_module" and not node.users}
    for node in after.nodes:
        if node.op == "call_module" and not node.users and str(node.target) not in idle:
            raise PlanError(f"with the new layers nothing would use {node.target}; please report this")


def _shapes(student: Student, widths: WidthGraph, plan: Plan, mode: Mode) -> tuple[list[Shape], list[Call]]:
    root, graphs = student
    real = widths.traced.inputs.real
    run = TapedRun(clone_to_run(root, real=real), padded(plan, widths.traced.arguments), Tape, mode=mode, real=real)
    try:
        result = run.graph(graph_for(graphs, mode))
    except Exception as error:
        raise PlanError(f"with the new layers the model does not run in {mode} mode: {explain(error)}") from error
    return [tuple(leaf.shape) for leaf in leaf_tensors(result)], run.tape.calls


def _check_calls(
    before: Sequence[Call], after: Sequence[Call], changes: Sequence[StructuralChange], mode: Mode
) -> None:
    """Check that larger kernels change nothing but their own calls, because code may read a kernel's size."""
    larger = {path for change in changes for path in change.kernels}
    if any(change.new_paths for change in changes):  # new layers have calls of their own
        return
    for old, new in itertools.zip_longest(before, after):
        same = old and new and (old.op, old.shapes) == (new.op, new.shapes)
        if not same or (old.module not in larger and repr(old.constants) != repr(new.constants)):
            where = (new or old).site
            raise PlanError(f"with the larger kernel {where} does something else in {mode} mode: code reads its size")
