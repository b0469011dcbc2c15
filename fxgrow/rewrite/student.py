"""Plan and model to student: new tensors, literals, attributes and layers, on a copy. Names no operator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from torch import fx, nn

from ..base.isolation import own_device
from ..base.wording import a_type
from ..capture.traced import Traced
from ..depth.calibrate import calibrate, check_batches
from ..depth.insert import make
from ..depth.owners import Owners
from ..errors import GrowError, PlanError, Unfit, in_words
from ..model.copies import named_tensors
from ..model.fixed_sizes import check_in_graph, check_in_module
from ..model.grown import GrownModule
from ..model.opaque import OPAQUE_MODEL
from ..model.tree import MODES, Mode
from ..plans.changes import Insert
from ..plans.entries import MadeWith
from ..plans.growth_plan import Plan
from .edits import edit, resize, restate
from .lineage import remember
from .memory import check_memory
from .student_inputs import padded
from .tensors import check_tensors, replacements


def check_code(plan: Plan, traced: Traced, forms: Sequence[Traced] | None = None) -> None:
    """Whether a model runs the code that a plan was made for.

    Args:
        plan: The plan.
        traced: The model on the first form of inputs.
        forms: The same on all further ones; None: these are not looked at.

    Raises:
        PlanError: It does not.
    """
    codes = [plan.code] if forms is None else [plan.code, *[form.code for form in plan.forms]]
    if [one.fingerprint() for one in (traced, *(forms or ()))] != codes:
        here, there = MadeWith().torch, plan.made_with.torch
        versions = f" (or torch {here} computes it by other calls than {there}, which the plan was made with)"
        raise PlanError(
            f"the plan was made for another forward of {plan.model} than this model's"
            f"{versions if here != there else ''}; plan again for it{_numbers_hint(traced)}"
        )
    if plan.layers and plan.made_with.torch == MadeWith().torch and traced.layers() != plan.layers:
        raise PlanError(
            f"the plan was made for a {plan.model} whose layers of torch.nn are of other classes, or were made with "
            "other arguments; plan again for this model"
        )


def _numbers_hint(traced: Traced) -> str:
    """What to do where the code of a mode needs the numbers in tensors, so that it was not seen."""
    if traced.inputs.real or len(traced.tapes) == len(MODES):
        return ""
    return f", or give example_inputs with numbers: without, it runs in {next(iter(traced.tapes))} mode only"


def check_calibration(plan: Plan, batches: Iterable[Any] | None) -> None:
    """Whether there are batches where new norms are to take their statistics from data.

    Raises:
        PlanError: There are none, or what was given is not iterable.
    """
    calibrated = calibrated_layers(plan)
    if batches is None and calibrated:
        raise PlanError(f"{calibrated[0].path} is to be calibrated: give batches of inputs as calibration")
    if batches is not None:
        check_batches(batches)


def calibrated_layers(plan: Plan) -> list[Insert]:
    """The new layers whose norms are to take their statistics from data."""
    return [one for one in plan.changes if isinstance(one, Insert) and one.calibrated]


def student_of(traced: Traced, plan: Plan, model: nn.Module, batches: Iterable[Any] | None = None) -> nn.Module:
    """The student of a model that was traced, or of a copy of it, in the form that the plan says.

    Args:
        traced: The model as graphs.
        plan: For the model.
        model: The teacher.
        batches: Of inputs, for the statistics of new norms; None: these start with mean 0 and variance 1.

    Raises:
        PlanError: The model has other parameters than the plan, there is no room for the student, or the batches do
            not run.
    """
    calibrated = calibrated_layers(plan)
    if batches is not None:
        check_batches(batches)
    tensors = named_tensors(model)
    check_tensors(plan, tensors)
    check_memory(plan, tensors)
    with own_device():
        root = traced.tree(model, replacements(plan, model))
        student = assemble(root, traced, plan, type(model).__name__)
    if calibrated and batches is not None:
        calibrate(student, [plan.numbering(one.path) for one in calibrated], batches)
    made: nn.Module = student if plan.output == "graph" else root.__dict__[OPAQUE_MODEL]
    if plan.output == "module":
        check_in_module(made, plan.sizes)
    remember(plan, made, model)
    return made


def call_resize(resize: object, student: nn.Module, plan: Plan) -> None:
    """Let the user set what a plan left.

    Raises:
        GrowError: It is no function, or it fails.
    """
    if resize is None:
        return
    if not callable(resize):
        raise GrowError(f"resize is to be a function of the student and its plan, not {a_type(resize)}")
    try:
        resize(student, plan)
    except Exception as error:
        raise GrowError(f"resize fails: {in_words(error)}") from error


def rebuild(root: nn.Module, traced: Traced, plan: Plan) -> dict[Mode, fx.Graph]:
    """Make a module tree of our own, which has the student's tensors, the student's; and give the student's graphs."""
    resize(root, plan.resizes)
    restate(root, plan.stated)
    edited = edit(traced.graphs, plan.edits)
    if plan.output == "graph":
        for graph in edited.values():
            check_in_graph(graph, plan.sizes)
    make(root, edited, plan.changes, plan.seed, plan.recounts, _owners(root, traced, plan))
    return edited


def _owners(root: nn.Module, traced: Traced, plan: Plan) -> dict[str, Traced]:
    """The modules of the user's own class whose code becomes a graph, traced, with graphs of our own.

    Raises:
        PlanError: One cannot be traced.
    """
    paths = dict.fromkeys(change.owner for change in plan.changes if isinstance(change, Insert) and change.owner)
    if not paths:
        return {}
    found = Owners(traced, root, padded(plan, traced.arguments))
    try:
        alone = {path: found.trace(path) for path in paths}
    except Unfit as reason:
        raise PlanError(f"{reason}; the plan was made for another model") from None
    return {path: replace(one, graphs=edit(one.graphs, ())) for path, one in alone.items()}


def assemble(root: nn.Module, traced: Traced, plan: Plan, class_name: str) -> GrownModule:
    """The student from a module tree of our own with the student's tensors, which is changed and used up."""
    return GrownModule(root, rebuild(root, traced, plan), class_name)
