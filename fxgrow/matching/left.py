"""What a plan leaves: tensors that are not as in the large model, and results that are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ..api import apply
from ..base.magnitude import is_inexact
from ..base.rng import dtype_drawn, named_generator
from ..base.structures import leaf_tensors
from ..base.torch_private import pytree
from ..checkpoints.outline import shapes_of_student
from ..errors import in_words
from ..model.copies import clone_owned
from ..model.example_inputs import ExampleInputs, ModelInputs, arguments_of
from ..plans.growth_plan import Plan
from ..report.report import TOLERANCE
from ..report.results import relative_error
from ..report.run import run_module
from ..rewrite.student_inputs import padded_inputs
from .names import Correspondence
from .sizes import Difference
from .target import Target, shapes_of, ties_of

FINEST = 1e-10  # the tolerance for dtypes that `report` names none for
SLACK = 10.0  # the large model may sum in another order


def unpaired(small: nn.Module, target: Target, found: Correspondence) -> Iterator[Difference]:
    """Tensors that only one of the models has, by module."""
    mine, theirs = found.unpaired(shapes_of(small), target.shapes)
    for module, names in _by_module(theirs):
        yield Difference(module, f"only {target.name} has its {', '.join(names)}")
    for module, names in _by_module(mine):
        yield Difference(module, f"{target.name} has no {', '.join(names)} there")


def other_tensors(
    proposal: Plan, target: Target, found: Correspondence, known: Sequence[Difference]
) -> Iterator[Difference]:
    """Tensors that the student lacks, has beside those of the large model, or has in another shape."""
    made = shapes_of_student(proposal)
    explained = {difference.name.partition("[")[0] for difference in known}
    for module, names in _by_module([name for name in target.shapes if name not in made]):
        if module not in explained:
            yield Difference(module, f"only {target.name} has its {', '.join(names)}")
    for module, names in _by_module([name for name in made if name not in target.shapes]):
        if module not in explained:
            yield Difference(module, f"{target.name} has no {', '.join(names)} there")
    its = {other: own for own, other in found.tensors.items()}
    for name, shape in made.items():
        wanted = target.shapes.get(name, shape)
        if wanted != shape and its.get(name, name) not in explained:
            yield Difference(its.get(name, name), f"would be {shape}, and is to be {wanted}")


def other_ties(
    example: ExampleInputs, small: nn.Module, proposal: Plan, target: Target, found: Correspondence
) -> Iterator[Difference]:
    """Tensors that are one in the large model and two in the student, of which the second one loaded would stay."""
    ours = ties_of(small)
    its = {other: own for own, other in found.tensors.items()}
    pairs = list(target.tied.items())
    if not all(name in its and first in its for name, first in pairs):  # in new blocks
        student = apply(proposal, small, _with_numbers(example))
        ours, its = ties_of(student), {name: name for name in student.state_dict()}
    for name, first in pairs:
        if name in its and first in its and len({ours.get(its[one], its[one]) for one in (name, first)}) > 1:
            yield Difference(its[name], f"{target.name} has one tensor for it and {first}")


def _by_module(names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    modules: dict[str, list[str]] = {}
    for name in names:
        module, _, own = name.rpartition(".")
        modules.setdefault(module, []).append(own)
    return iter(modules.items())


def other_results(
    example: ExampleInputs, small: nn.Module, tree: nn.Module, name: str, proposal: Plan
) -> Iterator[Difference]:
    """Whether the large model, given the student's weights, computes something else."""
    inputs = _with_numbers(example)
    student = apply(proposal, small, inputs)
    twin = clone_owned(tree)
    try:
        state = student.state_dict()
        dtypes = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
        if len(dtypes) == 1:  # a large model in another dtype is compared in the student's
            twin.to(dtypes.pop())
        twin.load_state_dict(state)
    except RuntimeError as error:
        yield Difference("", f"{name} does not load the student's state_dict: {in_words(error)}")
        return
    larger = padded_inputs([proposal], small, inputs)
    try:
        ours, theirs = (leaf_tensors(run_module(model, larger, "eval")) for model in (student, twin))
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything
        yield Difference("", f"{name} does not run on the example inputs: {in_words(error)}")
        return
    if [tensor.shape for tensor in ours] != [tensor.shape for tensor in theirs]:
        yield Difference("", f"{name} returns other tensors than the student")
        return
    pairs = [(a, b) for a, b in zip(theirs, ours, strict=True) if is_inexact(b)]
    worst = max((relative_error(a, b) / TOLERANCE.get(b.dtype, FINEST) for a, b in pairs), default=0.0)
    if worst > SLACK:
        apart = max(relative_error(a, b) for a, b in pairs)
        yield Difference("", f"with the student's weights {name} computes something else (relative error {apart:.2g})")


def _with_numbers(example: ExampleInputs) -> ModelInputs:
    """The example inputs, with random numbers where they have no values; zeros where these are integers."""
    draws = named_generator(0, "match")

    def filled(tensor: Tensor) -> Tensor:
        if not tensor.is_meta:
            return tensor
        if is_inexact(tensor):
            return torch.randn(tensor.shape, generator=draws, dtype=dtype_drawn(tensor)).to(tensor.dtype)
        return torch.zeros(tensor.shape, dtype=tensor.dtype)

    args, kwargs = arguments_of(example)
    args, kwargs = pytree.tree_map_only(Tensor, filled, (args, dict(kwargs)))
    return ModelInputs(args, kwargs)
