"""The public functions: thin, with the stages in `trace`, `widths`, `plan`, `rewrite` and `verify`."""

from __future__ import annotations

from typing import Any

from torch import nn

from . import settle as settling
from . import trace as tracing
from . import verify as verifying
from . import widths as inference
from .grown import GrownModule
from .inputs import absent
from .plan import Plan
from .report import Report
from .rewrite import assemble, grown_tensors
from .spec import Spec
from .trace import Traced, graph_of, named_tensors
from .widths import WidthGraph


def trace(model: nn.Module, example_inputs: Any = None) -> Traced:
    return tracing.trace(model, example_inputs)


def widths(model: nn.Module | Traced, example_inputs: Any = None) -> WidthGraph:
    traced = model if isinstance(model, Traced) else tracing.trace(model, example_inputs)
    return inference.widths(traced)


def plan(widths: WidthGraph, spec: Spec, *, seed: int = 0, method: str = "split") -> Plan:
    return settling.settle(widths, spec, seed=seed, method=method)


def apply(plan: Plan, model: nn.Module) -> GrownModule:
    tracing.refuse_unknown_tensors(model)
    root, graphs = graph_of(model, absent(model, plan.given))
    return assemble(root, graphs, grown_tensors(plan, named_tensors(root)), plan, type(model).__name__)


def grow(model: nn.Module, spec: Spec, example_inputs: Any = None, *, seed: int = 0, method: str = "split") -> GrownModule:
    found = widths(model, example_inputs)
    return apply(plan(found, spec, seed=seed, method=method), model)


def verify(teacher: nn.Module, student: nn.Module, inputs: Any) -> Report:
    return verifying.verify(teacher, student, inputs)
