"""A plan, or a chain of plans, applied to a model that has to be traced first."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import nn

from ..base.progress import step
from ..capture.ladder import trace_model
from ..errors import PlanError
from ..model.copies import named_tensors
from ..model.example_inputs import ExampleInputs, Forms, ModelInputs, arguments_of
from ..model.supported import check_supported
from ..plans.examples import examples_of
from ..plans.growth_plan import Plan
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
            forms = [padded_inputs([plan], student, form) for form in _forms(example)]
            example = Forms(*forms)
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
    planned = examples_of(plan, tensors.values())
    given = planned if example_inputs is None else [*_forms(example_inputs), *planned[len(_forms(example_inputs)) :]]
    if len(given) > len(planned):
        raise PlanError(f"example_inputs have {len(given)} forms; the plan was made with {len(planned)}")
    examples = [example for example in given if example is not None]
    if len(examples) < len(given):
        raise PlanError("the plan could not hold its example inputs, which are no plain data: give example_inputs")
    first, *others = [
        trace_model(model, example, leaf_modules=plan.leaf_modules, output=plan.output) for example in examples
    ]
    check_code(plan, first, others)
    return student_of(first, plan, model, calibration)


def _forms(example: ExampleInputs) -> tuple[ModelInputs, ...]:
    return example.examples if isinstance(example, Forms) else (ModelInputs(*arguments_of(example)),)
