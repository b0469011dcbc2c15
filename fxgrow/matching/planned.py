"""The plan that turns a small model into the shape of a large one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from .. import methods
from ..api import LeafModules, reasons, widths
from ..base.wording import a_type, first_of
from ..errors import PlanError
from ..infer.width_graph import WidthGraph
from ..model.example_inputs import ExampleInputs
from ..model.supported import leaf_references
from ..model.tree import Output
from ..plans.growth_plan import Plan
from ..solver.factors import with_factors
from .asked import Requests, as_planned, deeper, wider
from .left import other_results, other_tensors, other_ties, unpaired
from .names import Correspondence, correspond
from .settings import differing_settings, other_classes
from .sizes import Difference, solve
from .target import Large, Target, has_values, shapes_of

SHOWN = 20  # reasons in a message
NAMES = 6  # names of one reason


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What one form of the student comes to.

    Attributes:
        plan: The plan; None where nothing could be planned.
        differences: What is left.
    """

    plan: Plan
    differences: tuple[Difference, ...]


# Over 60 lines by the documentation of its arguments, which is public: its code has fewer than 30.
def match(
    small: nn.Module,
    large: Large,
    example_inputs: ExampleInputs | None = None,
    *,
    partial: bool = False,
    output: Output | None = None,
    seed: int = 0,
    method: str = methods.DEFAULT,
    leaf_modules: LeafModules = (),
    progress: bool | None = None,
) -> Plan:
    """A plan whose student has the names and shapes of a larger model, and loads into it.

    `large.load_state_dict(apply(match(small, large), small).state_dict())` gives the large model the small one's
    function. Widths, residual blocks, layers in chains, kernels, input channels and outputs follow from the names and
    shapes of the large model's tensors, numbers of heads and groups from its attributes.

    Args:
        small: The trained model; it is not touched.
        large: A larger one of the same kind, also on the meta device; or its `state_dict`, or the path of a
            checkpoint: these do not tell what layers compute, which is then not compared.
        example_inputs: The small model's, as for `trace`.
        partial: Give a plan for what can be reached, with a note for each difference that is left.
        output: As for `grow`; None: "module", or "graph" where only that reaches the large model.
        seed: As for `plan`.
        method: As for `plan`.
        leaf_modules: As for `trace`.
        progress: As for `trace`.

    Returns:
        The plan. Where both models have values, the large one was given the student's, in a copy, and computed the
        same on the example inputs.

    Raises:
        PlanError: Growth cannot bridge some differences, which are listed by parameter, each with its reason.
        TraceError: The small model does not run on the inputs.

    Example:
        >>> import torch, fxgrow
        >>> build = lambda width: torch.nn.Sequential(
        ...     torch.nn.Linear(4, width), torch.nn.ReLU(), torch.nn.Linear(width, 2)
        ... )
        >>> small, large = build(8), build(20)
        >>> plan = fxgrow.match(small, large, torch.randn(3, 4))
        >>> large.load_state_dict(fxgrow.apply(plan, small).state_dict())
        <All keys matched successfully>
        >>> x = torch.randn(5, 4)
        >>> torch.allclose(large(x), small(x), atol=1e-6)
        True

    Source: Net2Net (arXiv 1511.05641) for what is done; the alignment of blocks is that of sequences (Needleman and
        Wunsch, J. Mol. Biol. 48, 1970).
    """
    with reasons("match", progress):
        if not isinstance(small, nn.Module):
            raise PlanError(f"small is the trained model, whose code says which widths are one, not {a_type(small)}")
        target = Target.of(large)
        found = correspond(shapes_of(small), target.shapes)
        attempts: list[_Attempt] = []
        leaves = leaf_references(leaf_modules)
        for form in (output,) if output is not None else ("module", "graph"):
            graph = widths(small, example_inputs, output=form, leaf_modules=leaves)
            attempts.append(_attempt(graph, example_inputs, small, target, found, seed, method, partial=partial))
            if not attempts[-1].differences:
                return _noted(attempts[-1].plan, [*_unproved(small, target), *_other_eps(attempts[-1].plan, target)])
        best = min(attempts, key=lambda one: len(one.differences)) if partial else attempts[0]
        if not partial:
            raise PlanError(_refusal(type(small).__name__, target, best.differences) + _order_hint(small, target))
        return _noted(best.plan, [f"not as in {target.name}: {line}" for line in _by_reason(best.differences)])


def _noted(plan: Plan, notes: Sequence[str]) -> Plan:
    return replace(plan, notes=(*plan.notes, *notes))


def _unproved(small: nn.Module, target: Target) -> list[str]:
    if target.tree is None:
        return [f"only the shapes of {target.name} are known; whether its layers compute the same was not compared"]
    if not (has_values(small) and has_values(target.tree)):
        return [f"{target.name} was not run with the student's weights: one of the models has no values"]
    return []


def _other_eps(plan: Plan, target: Target) -> list[str]:
    norms = [one for one in plan.resizes if one.name == "eps"]
    if not norms:
        return []
    one = norms[0]
    return [
        f"{len(norms)} norms are to have another eps for the same function, {one.module} {one.new:.3g}; "
        f"{target.name} has its own, {one.old:.3g}, and computes the same up to that"
    ]


def _refusal(name: str, target: Target, differences: Sequence[Difference]) -> str:
    reasons = first_of(_by_reason(differences), SHOWN, "\n  ")
    number = f"{len(differences)} difference{'s' * (len(differences) > 1)}"
    return f"{name} does not become {target.name} by growth ({number}; partial=True plans the rest):\n  {reasons}"


def _order_hint(small: nn.Module, target: Target) -> str:
    """Where the model that is given as the small one is the larger: that comes first."""
    ours, theirs = (sum(map(math.prod, shapes.values())) for shapes in (shapes_of(small), target.shapes))
    if ours <= theirs:
        return ""
    said = f"The first model has {ours:,} numbers and the second {theirs:,}"
    return f"\n{said}; the smaller comes first: match(small, large)"


def _by_reason(differences: Sequence[Difference]) -> list[str]:
    """The differences, a line for each reason, with the first of the names that have it."""
    names: dict[str, list[str]] = {}
    for one in differences:
        names.setdefault(one.why, []).append(one.name)
    return [str(Difference(first_of(some, NAMES), why)) for why, some in names.items()]


def _attempt(
    graph: WidthGraph,
    example: ExampleInputs | None,
    small: nn.Module,
    target: Target,
    found: Correspondence,
    seed: int,
    method: str,
    *,
    partial: bool,
) -> _Attempt:
    """Plan for one form of the student, and compare what it makes with the large model."""
    sizes = solve(graph, found, target.shapes, target.tree)
    graph = with_factors(graph, [name for name, new in sizes.new.items() if new > graph.width(name)])
    differences = [*unpaired(small, target, found), *sizes.differences]
    asked: Requests = [*wider(graph, sizes, differences), *deeper(found, target.shapes)]
    proposal = as_planned(graph, asked, seed, method, differences, partial=partial)
    if partial or not differences:
        differences += other_tensors(proposal, target, found, differences)
    if target.tree is not None:
        classes = [*other_classes(small, target.tree, found)]
        differences[:0] = differing_settings(small, target.tree, proposal, found, classes)
        if differences:  # classes that differ explain other differences; alone they may be one function
            inside = tuple(f"{one.name}." for one in classes)
            differences = [*classes, *(one for one in differences if not one.name.startswith(inside))]
    inputs = graph.traced.inputs if example is None else example
    if not differences and target.tied:
        differences += other_ties(inputs, small, proposal, target, found)
    if not differences and target.tree is not None and has_values(small) and has_values(target.tree):
        differences += other_results(inputs, small, target.tree, target.name, proposal)
    return _Attempt(proposal, tuple(dict.fromkeys(differences)))
