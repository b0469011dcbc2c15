"""Findings to `WidthGraph`: variables become names.

Which name each width has is said by `names`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..base.isolation import no_collection
from ..base.magnitude import has_arithmetic, is_inexact
from ..base.progress import step
from ..base.roles import Role, TensorKind
from ..base.wording import dtype_name
from ..capture.traced import Traced
from ..layouts.input_dims import OF_INPUT
from ..layouts.layout import Layout, Var, atoms, is_fixed, of
from ..model.copies import named_tensors
from ..ops import Value
from .attributes import of_weights
from .findings import CARRY, CONTRACT, IS_OUTPUT, REQUEST, Findings, FixedDims, Lifted, Trial
from .forms import settle_forms
from .groups import Constraint, Constraints, Group, constrain
from .inference import infer
from .names import Names
from .read_twice import ReadTwice, find_read_twice
from .row_moments import Standardised, decide_standardised
from .ties import Ties
from .unread import pin_unread
from .width_graph import OtherRun, TensorWidths, WidthGraph, layouts_of


def freeze(traced: Traced, *, other_sizes: bool = True) -> WidthGraph:
    """Infer every width of a traced model.

    Args:
        traced: The model.
        other_sizes: Whether to ask what holds on other sizes of inputs. Without it, layouts and names are the same, but
            no width is pinned by what was found there: enough for a model that is grown already.

    Raises:
        TraceError: The trace does not compute what the model computes.
    """
    with nullcontext() if traced.inputs.real else no_collection():
        findings = infer(traced)
        if other_sizes:
            with step("inference on other sizes"):
                settle_forms(traced, findings)
        return _frozen(findings, traced, Lifted())


def lift(widths: WidthGraph, lifted: Lifted) -> WidthGraph:
    """The width graph of the same model with some of its inputs and outputs as widths like all others.

    The model does not run again, and no rule is asked again: what they said of the inputs is solved for these.
    """
    if widths.findings is None:
        return widths
    return _frozen(widths.findings, widths.traced, lifted, widths.preferred)


def prefer(widths: WidthGraph, names: AbstractSet[str]) -> WidthGraph:
    """The width graph of the same model in which, where only one factor of a dimension may grow, it is one of these."""
    return widths if widths.findings is None else _frozen(widths.findings, widths.traced, Lifted(), frozenset(names))


def _frozen(inferred: Findings, traced: Traced, lifted: Lifted, preferred: frozenset[str] = frozenset()) -> WidthGraph:
    findings = replace(inferred, unifier=inferred.unifier.with_inputs(lifted.inputs))
    _pin_outputs(findings, lifted)
    pin_unread(findings)
    twice = find_read_twice(findings)
    findings = replace(findings, roles=twice.roles(findings.roles), notes=[*findings.notes, *_notes(findings, twice)])
    _decide_roles(findings, traced)
    standardised = decide_standardised(findings)
    _pin_where_zeros_are_no_choice(findings)
    names = Names(findings, traced.root, traced.classes)
    tensors = {
        name: TensorWidths(
            name,
            tuple(names.layout(la) for la in layouts),
            tuple(_role(findings, name, d) for d in range(len(layouts))),
            _kind(findings, name, len(layouts)),
            kept=standardised.rows.get(name),
            zeroed=twice.dims(name),
            zero=twice.values.get(name, 0.0),
        )
        for name, layouts in findings.tensors.items()
    }
    required = _constraints(findings, names, standardised)
    nodes = {key: _map_values(value, names) for key, value in findings.nodes.items()}
    predictions = {mode: [names.prediction(p) for p in called] for mode, called in findings.predictions.items()}
    literals = tuple(replace(li, layout=names.layout(li.layout)) for li in findings.literals)
    stated = [*findings.attributes, *of_weights(traced.root, findings.tensors)]
    attributes = tuple(
        dict.fromkeys(replace(at, layouts=tuple(names.layout(la) for la in at.layouts)) for at in stated)
    )
    inputs = {name: tuple(names.layout(la) for la in layouts) for name, layouts in findings.inputs.items()}
    outputs = {
        mode: tuple(tuple(names.layout(la) for la in layouts) for layouts in leaves)
        for mode, leaves in findings.outputs.items()
    }
    fixed_dims = _fixed_dims(findings, names, lifted)
    trials = tuple(_frozen_trial(one, names, lifted) for one in findings.trials)
    forms = tuple(_frozen_form(form, own, names) for form, own in zip(traced.forms, findings.forms, strict=True))
    # last, when every width has a name
    groups = _groups(findings, names, tensors)
    groups = constrain(_pinned_without_bias(groups, required, tensors), required, layouts_of(tensors), preferred)
    return WidthGraph(
        traced,
        groups,
        {name: replace(tensor, made=_made(tensor, groups)) for name, tensor in tensors.items()},
        nodes,
        findings.calls,
        findings.returned,
        predictions,
        literals,
        attributes,
        required,
        inputs,
        outputs,
        _named_ties(findings),
        fixed=fixed_dims,
        trials=trials,
        forms=forms,
        findings=inferred,
        preferred=preferred,
    )


def _fixed_dims(findings: Findings, names: Names, lifted: Lifted) -> tuple[FixedDims, ...]:
    """The sizes of inputs that a student keeps to, where something that is mixed with them may grow."""
    kept = (names.fixed(one, lifted) for one in findings.fixed)
    return tuple(one for one in kept if not all(map(is_fixed, one.layouts)))


def _frozen_form(traced: Traced, found: Findings, names: Names) -> OtherRun:
    """What the calls on another form of inputs are."""
    predictions = {mode: [names.prediction(p) for p in called] for mode, called in found.predictions.items()}
    nodes = {key: _map_values(value, names) for key, value in found.nodes.items()}
    return OtherRun(traced, frozenset(), {}, found.calls, found.returned, predictions, nodes)


def _frozen_trial(trial: Trial, names: Names, lifted: Lifted) -> OtherRun:
    """What the calls of a run on other sizes are, in terms of the same names."""
    theirs = names.in_terms_of(trial.findings.unifier.with_inputs(lifted.inputs).resolve)
    predictions = {mode: [theirs.prediction(p) for p in called] for mode, called in trial.findings.predictions.items()}
    sizes = {name: var.size for var, name in theirs.of.items()}
    found = trial.findings
    changed = trial.changed - lifted.inputs
    return OtherRun(trial.traced, changed, sizes, found.calls, found.returned, predictions, places=trial.places)


def _pin_outputs(findings: Findings, lifted: Lifted) -> None:
    """Pin what the model returns, but for the widths that some outputs are asked for by."""
    resolve = findings.unifier.resolve
    may_grow = {var for name, dim in lifted.outputs for var in atoms(resolve(findings.tensors[name][dim]))}
    leaves = [layouts for one in (findings, *findings.forms) for some in one.outputs.values() for layouts in some]
    for layout in (layout for layouts in leaves for layout in layouts):
        for var in atoms(resolve(layout)):
            if var not in may_grow:
                findings.unifier.pin(of(var), IS_OUTPUT)


def _decide_roles(findings: Findings, traced: Traced) -> None:
    """Pin dimensions of tensors that have no role or both, or whose entries cannot be split, such as integers."""
    kinds = named_tensors(traced.root)
    resolve = findings.unifier.resolve
    parts: dict[tuple[str, tuple[int, ...]], set[Var]] = {}  # a weight may be cut, and each part be summed over
    for layout, origin, dims, _ in findings.contractions:
        parts.setdefault((origin, dims), set()).update(atoms(resolve(layout)))
    for _, origin, dims, site in findings.contractions:
        own = {var for dim in dims for var in atoms(resolve(findings.tensors[origin][dim]))}
        summed = parts[origin, dims]
        for var in summed - own:  # expanded: the weight has no entries there to split
            findings.unifier.pin(of(var), f"{site} sums over it, but {origin} has one entry for all of it")
        for var in own - summed:  # another factor of that dimension: it has one role only
            findings.unifier.pin(of(var), f"{site} sums over a part of the dimension of {origin} that holds it")
    for name, layouts in findings.tensors.items():
        for dim, layout in enumerate(layouts):
            roles = findings.roles.get((name, dim), set())
            if not roles:
                findings.unifier.pin(layout, f"no operation uses {name}")
            elif len(roles) > 1:
                findings.unifier.pin(layout, f"{name} is summed over in one place and carried in another")
            elif roles == {CONTRACT} and not has_arithmetic(kinds[name]):
                findings.unifier.pin(layout, f"{name} holds {_held(kinds[name])}, which cannot be split")


def _held(tensor: Tensor) -> str:
    """What a tensor holds that torch does not compute with, in words."""
    return dtype_name(tensor.dtype) if is_inexact(tensor) else "integers"


def _pin_where_zeros_are_no_choice(findings: Findings) -> None:
    """Pin what new zeros would have to be in, where no method writes any, and rows of them where they must not be."""
    for layout, origin, dims, reason in findings.silent:
        weight = any(_role(findings, origin, d) == CONTRACT for d in range(len(findings.tensors[origin])))
        if not weight or not any(_own(findings, layout, origin, dim) for dim in dims):
            findings.unifier.pin(layout, reason)
    for layout, origin, reason in findings.nonzero:
        for dim in range(len(findings.tensors[origin])):
            for own in _own(findings, layout, origin, dim) if _role(findings, origin, dim) == CONTRACT else ():
                findings.unifier.pin(own, reason)


def _own(findings: Findings, layout: Layout, origin: str, dim: int) -> tuple[Layout, ...]:
    """The widths of a parameter's dimension that are in a layout."""
    here = set(atoms(findings.unifier.resolve(layout)))
    return tuple([of(var) for var in atoms(findings.unifier.resolve(findings.tensors[origin][dim])) if var in here])


def _notes(findings: Findings, twice: ReadTwice) -> list[tuple[Layout, str]]:
    """Which new channels are zero because of weights that are read twice."""
    by_weight: dict[tuple[str, int], list[str]] = {}
    for (name, _), at in twice.zeroed.items():
        by_weight.setdefault(at, []).append(name)
    return [
        (
            findings.tensors[name][dim],
            f"new entries of {' and '.join(gains)} are zero, because {name} is looked up and summed over",
        )
        for (name, dim), gains in by_weight.items()
    ]


def _constraints(findings: Findings, names: Names, standardised: Standardised) -> Constraints:
    """What has to be true of new channels, in terms of names."""
    columns: list[Constraint] = []
    rows: list[Constraint] = []
    for layout, origin, dims, reason in findings.silent:
        for dim in dims:
            zero = columns if _role(findings, origin, dim) == CONTRACT else rows
            zero.extend((own, reason) for own in _own(findings, layout, origin, dim))
    return Constraints(
        names.constraints([*findings.uniform, *standardised.uniform]),
        names.constraints([*findings.replicas, *standardised.replicas]),
        names.constraints(columns),
        names.constraints(rows),
        names.constraints([(layout, reason) for layout, _, reason in findings.nonzero]),
        names.constraints(findings.notes),
    )


def _pinned_without_bias(
    groups: dict[str, Group], stated: Constraints, tensors: Mapping[str, TensorWidths]
) -> dict[str, Group]:
    """The groups, with those pinned whose new rows must be zero and have no bias: these would never be trained."""
    rows = {name: reason for layout, reason in stated.zero_rows for name in atoms(layout)}
    for name, reason in rows.items():
        kinds = {tensors[tensor].kind for tensor, _ in groups[name].members}
        if not kinds & {"bias", "shift"}:
            why = f"{reason}: new rows would have to be zero, and there is no bias, so that they would never be trained"
            groups[name] = replace(groups[name], pinned=(*groups[name].pinned, why))
    return groups


def _role(findings: Findings, name: str, dim: int) -> Role:
    return CONTRACT if CONTRACT in findings.roles.get((name, dim), set()) else CARRY


def _kind(findings: Findings, name: str, dims: int) -> TensorKind:
    contracts = any(_role(findings, name, dim) == CONTRACT for dim in range(dims))
    return "weight" if contracts else findings.kinds.kind(name)


def _made(tensor: TensorWidths, groups: Mapping[str, Group]) -> int | None:
    """The dimension that a tensor's name means, if that is another than the first that is carried."""
    carried = [
        (dim, [groups[name] for name in atoms(layout)])
        for dim, (layout, role) in enumerate(zip(tensor.layouts, tensor.roles, strict=True))
        if role == CARRY and any(atoms(layout))
    ]
    for number, (dim, parts) in enumerate(carried):
        if CONTRACT in tensor.roles and any(IS_OUTPUT in part.pinned for part in parts):
            return None
        if not all(part.pinned for part in parts):
            return dim if number else None
    return None


def _map_values(known: Any, names: Names) -> Any:
    if isinstance(known, Value):
        return Value(tuple(names.layout(la) for la in known.layouts))
    if isinstance(known, list | tuple):
        return tuple(_map_values(part, names) for part in known)
    return None


def _groups(findings: Findings, names: Names, tensors: Mapping[str, TensorWidths]) -> dict[str, Group]:
    members: dict[str, list[tuple[str, int]]] = {}
    for tensor in tensors.values():
        for dim, layout in enumerate(tensor.layouts):
            for name in dict.fromkeys(atoms(layout)):
                members.setdefault(name, []).append((tensor.name, dim))
    groups = {
        name: Group(
            name,
            var.size,
            tuple(members.get(name, ())),
            _advised(findings.unifier.reasons(var), tensors, members.get(name, ())),
            count=findings.unifier.is_count(var),
            constant=findings.unifier.is_elastic(var),
            former=names.former[var] if names.former[var] != name else "",
        )
        for var, name in names.of.items()
    }
    first = {name: number for number, name in enumerate(members)}
    return dict(sorted(groups.items(), key=lambda item: first.get(item[0], len(first))))


def _advised(
    reasons: tuple[str, ...], tensors: Mapping[str, TensorWidths], members: Sequence[tuple[str, int]]
) -> tuple[str, ...]:
    """Why a group is pinned; of channels of an input, which weights sum over, with the request that lifts the pin."""
    if len(reasons) != 1 or not any(tensors[tensor].roles[dim] == CONTRACT for tensor, dim in members):
        return reasons
    _, of_input, label = reasons[0].partition(OF_INPUT)
    return (f"{reasons[0]}{REQUEST}{label!r}, ...) grows",) if of_input else reasons


def _named_ties(findings: Findings) -> Ties:
    return Ties.of((_tie_node(t.a, findings), _tie_node(t.b, findings), t.site) for t in findings.ties)


def _tie_node(var: Var, findings: Findings) -> str:
    tensor = var.name.partition("[")[0]
    return var.name if tensor in findings.tensors and var.name.count("[") == 1 else f"{var.name} #{var.index}"
