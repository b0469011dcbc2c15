"""The public functions: thin, with the work in `trace`, `widths`, `settle`, `rewrite` and `verify`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from . import settle as settling
from . import trace as tracing
from . import verify as verifying
from . import widths as inference
from .copies import named_tensors
from .errors import PlanError
from .grown import GrownModule
from .inputs import absent
from .plan import Plan
from .refuse import refuse_unknown_tensors
from .report import Report
from .rewrite import assemble, check_code, grown_tensors
from .spec import Spec
from .trace import Traced, graph_of
from .widths import WidthGraph


def trace(model: nn.Module, example_inputs: Any = None) -> Traced:
    """A model as graphs, one for each mode or one for both. The model is not touched.

    Args:
        model: Any module with real floating-point parameters, on any device, in either mode.
        example_inputs: A tensor, a tuple of positional arguments or a dict of keyword arguments; only shapes and
            dtypes count. None: guessed from the first layer, trying usual sizes.

    Raises:
        TraceError: It cannot be traced, or does not run on the inputs.

    Example:
        >>> import torch, fxgrow
        >>> print(fxgrow.trace(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))))
        Traced Sequential: 4 nodes, one graph for both modes, inputs float[2, 4]

    Source: torch.fx (Reed et al., arXiv 2112.08429).
    """
    with torch.inference_mode(False):
        return tracing.trace(model, example_inputs)


def widths(model: nn.Module | Traced, example_inputs: Any = None) -> WidthGraph:
    """Which dimensions of a model are one width, which can grow, and why the others cannot.

    Args:
        model: The model, or what `trace` made of it.
        example_inputs: As for `trace`.

    Raises:
        TraceError: As `trace`; also where the trace does not compute what the model computes.

    Example:
        >>> import torch, fxgrow
        >>> found = fxgrow.widths(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)))
        >>> [(group.name, group.size) for group in found.groups if not group.pinned]
        [('0', 8)]
        >>> print(found.why("1"))
        1 (2) must stay: it is an output of the model
    """
    with torch.inference_mode(False):
        traced = model if isinstance(model, Traced) else tracing.trace(model, example_inputs)
        return inference.widths(traced)


def plan(widths: WidthGraph, spec: Spec, *, seed: int = 0, method: str = "split") -> Plan:
    """New widths for a specification, checked on meta tensors to give the teacher's function.

    Args:
        widths: What `widths` found.
        spec: A number (a factor for every width that can grow), a mapping from names or globs to an int (new width,
            channels) or a float (factor), `Widen` objects, a list of these, or the same as JSON.
        seed: Of which channels are replicated, and of how consumers' weights are shared among replicas.
        method: How new channels are filled where a wish does not say: "split", "even", "zero_out", or one of
            the baselines "noise", "random_pad", "random_init", which do not preserve the function.

    Raises:
        PlanError: A wish cannot be met: nothing matches, two disagree, or the width must stay.

    Example:
        >>> import torch, fxgrow
        >>> found = fxgrow.widths(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)))
        >>> [(w.name, w.old, w.new) for w in fxgrow.plan(found, {"0": 12}).grown]
        [('0', 8, 12)]

    Source: Net2Net (Chen, Goodfellow, Shlens, arXiv 1511.05641), section 2.1.
    """
    if not isinstance(widths, WidthGraph):
        raise PlanError(f"plan takes what fxgrow.widths found, not a {type(widths).__name__}")
    with torch.inference_mode(False):
        return settling.settle(widths, spec, seed=seed, method=method)


def apply(plan: Plan, model: nn.Module) -> GrownModule:
    """The student that a plan makes of a model: the one it was made for, or another with the same shapes.

    Args:
        plan: From `plan`, or read from JSON.
        model: The teacher, or an average or a checkpoint of it. It is not touched; the student is on its device,
            in its dtypes.

    Raises:
        PlanError: The model has other parameters than the plan, or another forward.
        TraceError: It cannot be traced.

    Example:
        >>> import torch, fxgrow
        >>> teacher = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
        >>> student = fxgrow.apply(fxgrow.plan(fxgrow.widths(teacher), 2.0), teacher)
        >>> student.get_submodule("0")
        Linear(in_features=4, out_features=16, bias=True)
    """
    if not isinstance(plan, Plan):
        raise PlanError(f"apply takes a Plan (Plan.from_json reads one), not a {type(plan).__name__}")
    with torch.inference_mode(False):
        refuse_unknown_tensors(model)
        root, graphs = graph_of(model, absent(model, plan.given))
        grown = grown_tensors(plan, named_tensors(root))
        check_code(plan, graphs)
        return assemble(root, graphs, grown, plan, type(model).__name__)


def grow(
    model: nn.Module, spec: Spec, example_inputs: Any = None, *, seed: int = 0, method: str = "split"
) -> GrownModule:
    """A wider model that computes the same function and trains on.

    Args:
        model: The trained teacher; it is not touched.
        spec: What to widen, as for `plan`.
        example_inputs: As for `trace`.
        seed: As for `plan`.
        method: As for `plan`.

    Returns:
        A GraphModule with the teacher's `state_dict` keys, device and dtypes; `student.meta["fxgrow"]` is its `Plan`.

    Raises:
        GrowError: With the reason; nothing was changed.

    Example:
        >>> import torch, fxgrow
        >>> teacher = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> student = fxgrow.grow(teacher, {"0": 12})
        >>> x = torch.randn(5, 4)
        >>> torch.allclose(student(x), teacher(x), atol=1e-6)
        True

    Source: Net2Wider (arXiv 1511.05641), with shares per weight.
    """
    found = widths(model, example_inputs)
    return apply(plan(found, spec, seed=seed, method=method), model)


def verify(teacher: nn.Module, student: nn.Module, inputs: Any, *, tolerance: float | None = None) -> Report:
    """Teacher against student on real inputs: outputs and every node, in eval and in train mode, dropout off.

    Args:
        teacher: The model before growth.
        student: The model after it.
        inputs: A tensor, a tuple of positional arguments or a dict of keyword arguments, on the models' device.
        tolerance: Largest relative error, max |difference| / max |teacher|; None: 1e-10 for float64, 1e-5 for
            float32, 1e-2 for float16, 8e-2 for bfloat16.

    Raises:
        GrowError: The outputs have other structures or shapes.

    Example:
        >>> import torch, fxgrow
        >>> teacher = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> fxgrow.verify(teacher, fxgrow.grow(teacher, 2.0), torch.randn(5, 4)).exact
        True
    """
    with torch.inference_mode(False):
        return verifying.verify(teacher, student, inputs, tolerance=tolerance)
