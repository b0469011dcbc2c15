"""A plan, or a chain of plans, applied to a model that has to be traced first."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import nn

from ..base.progress import step
from ..capture.ladder import trace_model
from ..errors import PlanError
from ..model.copies import named_tensors
from ..model.example_inputs import ExampleInputs, ModelInputs, arguments_of
from ..model.supported import check_supported
from ..plans.growth_plan import Plan, example_of
from .student import check_code, student_of
from .student_inputs import padded_inputs
from .tensors import check_tensors

ApplyOne = Callable[
    [Plan, nn.Module, ExampleInputs | None, Iterable[ExampleInputs] | None], nn.Module
]  # (plan, model, example_inputs, calibration) -> student


def apply_plans(
    chain: Plan,
    model: nn.Module,
    example_inputs: ExampleInputs | None = None,
    calibration: Iterable[ExampleInputs] | None = None,
    one: ApplyOne | None = None,
) -> nn.Module:
    """The student of a chain of plans, applied plan by plan.

    Args:
        chain: A plan, with those that follow it.
        model: The teacher of the first plan.
        example_inputs: The teacher's; None: those that each plan was made with.
        calibration: Batches of inputs for new norms; None: these start with mean 0 and variance 1.
        one: Applies one plan; None: `apply_one`.

    Raises:
        PlanError: The model has other parameters than the plan, or another forward.
        TraceError: It cannot be traced.
    """
    student, example = model, example_inputs
    for number, plan in enumerate(chain.steps, 1):
        with step(f"plan {number} of {len(chain.steps)}" if chain.next is not None else "applying"):
            larger = (one or apply_one)(plan, student, example, calibration)
        if example is not None and plan.io_dims:
            example = padded_inputs([plan], student, ModelInputs(*arguments_of(example)))
        student = larger
    return student


def apply_one(
    plan: Plan,
    model: nn.Module,
    example_inputs: ExampleInputs | None,
    calibration: Iterable[ExampleInputs] | None,
) -> nn.Module:
    """The student of one plan; arguments and errors as for `apply_plans`."""
    check_supported(model)
    tensors = named_tensors(model)
    check_tensors(plan, tensors)
    example = example_inputs if example_inputs is not None else example_of(plan, tensors.values())
    if example is None:
        raise PlanError("the plan could not hold its example inputs, which are no plain data: give example_inputs")
    traced = trace_model(model, example, leaf_modules=plan.leaf_modules, output=plan.output)
    check_code(plan, traced)
    return student_of(traced, plan, model, calibration)
