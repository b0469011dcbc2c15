"""The plan that turns a small model into the shape of a large one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .. import methods
from ..api import LeafModules, apply, plan, reasons, widths
from ..base.rng import named_generator
from ..base.structures import leaf_tensors
from ..base.torch_private import pytree
from ..base.wording import a_type
from ..checkpoints.outline import Info, outline
from ..errors import PlanError, in_words
from ..infer.findings import CARRY, CONTRACT
from ..infer.width_graph import WidthGraph
from ..layouts.layout import atoms, measure, of
from ..model.copies import clone_owned
from ..model.example_inputs import ExampleInputs, ModelInputs, arguments_of
from ..model.tree import Output
from ..plans.growth_plan import Plan
from ..report.compare import relative_error
from ..report.report import TOLERANCE
from ..report.run import run_module
from ..rewrite.student_inputs import padded_inputs
from ..solver.input_channels import find_input
from ..spec.parse import Widen
from ..spec.patterns import module_of
from ..spec.requests import Deepen, Inputs, Kernel, Outputs, Request
from .names import Correspondence, NewLayer, Shapes, correspond
from .settings import differing_settings, other_classes
from .sizes import Difference, Sizes, solve
from .target import Large, Target, has_values, shapes_of

SHOWN = 20  # differences in a message
FINEST = 1e-10  # the tolerance for dtypes that `report` names none for
SLACK = 10.0  # the large model may sum in another order
Requests = list[Widen | Request]


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What one form of the student comes to.

    Attributes:
        plan: The plan; None where nothing could be planned.
        differences: What is left.
    """

    plan: Plan
    differences: tuple[Difference, ...]


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
        for form in (output,) if output is not None else ("module", "graph"):
            graph = widths(small, example_inputs, output=form, leaf_modules=leaf_modules)
            attempts.append(_attempt(graph, example_inputs, small, target, found, seed, method, partial=partial))
            if not attempts[-1].differences:
                return _noted(attempts[-1].plan, [*_unproved(small, target), *_other_eps(attempts[-1].plan, target)])
        best = min(attempts, key=lambda one: len(one.differences)) if partial else attempts[0]
        if not partial:
            raise PlanError(_refusal(type(small).__name__, target, best.differences))
        return _noted(best.plan, [f"not as in {target.name}: {one}" for one in best.differences])


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
    lines = [f"\n  {difference}" for difference in differences[:SHOWN]]
    more = len(differences) - SHOWN
    rest = f"\n  and {more} more" if more > 0 else ""
    return (
        f"{name} does not become {target.name} by growth ({len(differences)} differences; partial=True plans the rest):"
        f"{''.join(lines)}{rest}"
    )


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
    differences = [*_unpaired(small, target, found), *sizes.differences]
    asked: Requests = [*_wider(graph, sizes, differences), *_deeper(found, target.shapes)]
    proposal = _planned(graph, asked, seed, method, differences, partial=partial)
    if partial or not differences:
        differences += _other_tensors(proposal, target, found, differences)
    if target.tree is not None:
        differences[:0] = differing_settings(small, target.tree, proposal, found)
        if differences:  # classes that differ explain other differences; alone they may be one function
            classes = [*other_classes(small, target.tree, found)]
            inside = tuple(f"{one.name}." for one in classes)
            differences = [*classes, *(one for one in differences if not one.name.startswith(inside))]
    if not differences and target.tree is not None and has_values(small) and has_values(target.tree):
        inputs = graph.traced.inputs if example is None else example
        differences += _other_results(inputs, small, target.tree, target.name, proposal)
    return _Attempt(proposal, tuple(dict.fromkeys(differences)))


# -- what is asked for -------------------------------------------------------------------------------


def _wider(graph: WidthGraph, sizes: Sizes, differences: list[Difference]) -> Iterator[Widen | Request]:
    """Requests for widths, inputs, outputs and kernels."""
    leaving = {n for many in graph.outputs.values() for layouts in many for layout in layouts for n in atoms(layout)}
    for name, new in sizes.new.items():
        group = graph.groups_by_name[name]
        made, read = _layers_of(graph, name, CARRY), _layers_of(graph, name, CONTRACT)
        if new <= group.size:
            continue  # one that would shrink is a difference of its tensors
        if not group.pinned:
            divisible = new % group.size == 0 or not group.uniform
            width = _named_size(graph, sizes, name)
            yield Widen(name, width) if divisible else Widen(name, width, indivisible="average")
        elif name in leaving and made:
            yield Outputs(new, pattern=made[0])
        elif read and _is_entered(graph, inputs := Inputs(read[0], new)):
            yield inputs
        else:
            place = next((f"{tensor}[{dim}]" for tensor, dim in group.members), name)
            differences.append(Difference(place, f"{group.size} -> {new}, and it {graph.state(name)}"))
    for path, kernel in sizes.kernels.items():
        yield Kernel(path, kernel)


def _is_entered(graph: WidthGraph, request: Inputs) -> bool:
    """Whether an input of the model enters a layer as it is."""
    try:
        find_input(graph, request)
    except PlanError:
        return False
    return True


def _named_size(graph: WidthGraph, sizes: Sizes, name: str) -> int:
    """The size to ask for by the name of a group: of a layer, that is the size of all that it makes."""
    inside = [tensor for tensor in graph.tensors if tensor == name or tensor.startswith(f"{name}.")]
    layout = graph.produced(inside[0]) if inside else of(name)
    return measure(layout, lambda part: sizes.new.get(part, graph.width(part)))


def _layers_of(graph: WidthGraph, name: str, role: object) -> list[str]:
    """The layers whose weight makes or reads a width."""
    tensors = [graph.tensors[tensor] for tensor, dim in graph.groups_by_name[name].members]
    return [
        module_of(t.name)
        for t in tensors
        if {CARRY, CONTRACT} <= set(t.roles)
        and any(r == role and name in atoms(la) for r, la in zip(t.roles, t.layouts, strict=True))
    ]


def _deeper(found: Correspondence, large: Shapes) -> Iterator[Request]:
    """Requests for blocks and layers."""
    for blocks in found.blocks:
        old, new = (_inside(large, path) for path in (found.path(blocks.behind) or "", blocks.paths[0]))
        alike = old.keys() == new.keys()
        others = {name: shape for name, shape in new.items() if alike and shape and shape != old[name]}
        yield Deepen(blocks.behind, blocks=len(blocks.paths), shapes=others or None)
    yield from map(_layer, found.layers)


def _inside(shapes: Shapes, path: str) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in a module, by their names in it."""
    return {name.removeprefix(f"{path}."): shape for name, shape in shapes.items() if name.startswith(f"{path}.")}


def _layer(new: NewLayer) -> Deepen:
    return Deepen(
        new.after, kind="identity", kernel=new.kernel or None, norm="batch" if new.normed else None, flat=True
    )


def _planned(
    graph: WidthGraph, asked: Requests, seed: int, method: str, differences: list[Difference], *, partial: bool
) -> Plan:
    """The plan of all requests; where some cannot be met, that of none, or, if wanted, of as many as can."""

    def tried(requests: Requests) -> Plan | PlanError:
        try:
            return plan(graph, requests, seed=seed, method=method)
        except PlanError as why:
            return why

    best = plan(graph, 1.0, seed=seed, method=method)
    accepted: Requests = []
    pending = [asked] if asked else []
    while pending:
        several = pending.pop()
        outcome = tried([*accepted, *several])
        if isinstance(outcome, Plan):
            accepted, best = [*accepted, *several], outcome
        elif len(several) == 1 or not partial:
            differences.append(Difference("", str(outcome)))
        else:
            half = len(several) // 2
            pending += [several[half:], several[:half]]
    return best


# -- what is left ------------------------------------------------------------------------------------


def _unpaired(small: nn.Module, target: Target, found: Correspondence) -> Iterator[Difference]:
    """Tensors that only one of the models has, by module."""
    mine, theirs = found.unpaired(shapes_of(small), target.shapes)
    for module, names in _by_module(theirs):
        yield Difference(module, f"only {target.name} has its {', '.join(names)}")
    for module, names in _by_module(mine):
        yield Difference(module, f"{target.name} has no {', '.join(names)} there")


def _other_tensors(
    proposal: Plan, target: Target, found: Correspondence, known: Sequence[Difference]
) -> Iterator[Difference]:
    """Tensors that the student lacks, has beside those of the large model, or has in another shape."""
    given = {one.name: Info(one.shape, getattr(torch, one.dtype or "float32")) for one in proposal.stored}
    made = {name: one.info.shape for name, one in outline(proposal, given).items()}
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


def _by_module(names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    modules: dict[str, list[str]] = {}
    for name in names:
        module, _, own = name.rpartition(".")
        modules.setdefault(module, []).append(own)
    return iter(modules.items())


def _other_results(
    example: ExampleInputs, small: nn.Module, tree: nn.Module, name: str, proposal: Plan
) -> Iterator[Difference]:
    """Whether the large model, given the student's weights, computes something else."""
    inputs = _with_numbers(example)
    student = apply(proposal, small, inputs)
    twin = clone_owned(tree)
    try:
        twin.load_state_dict(student.state_dict())
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
    pairs = [(a, b) for a, b in zip(theirs, ours, strict=True) if b.is_floating_point() or b.is_complex()]
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
        if tensor.is_floating_point():
            return torch.randn(tensor.shape, generator=draws, dtype=torch.float32).to(tensor.dtype)
        return torch.zeros(tensor.shape, dtype=tensor.dtype)

    args, kwargs = arguments_of(example)
    args, kwargs = pytree.tree_map_only(Tensor, filled, (args, dict(kwargs)))
    return ModelInputs(args, kwargs)
