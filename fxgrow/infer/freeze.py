"""Findings to `WidthGraph`: variables become names.

A width is named after the layer that makes it, or else after the place where it first occurs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from ..base.isolation import no_collection
from ..base.magnitude import is_inexact
from ..base.progress import step
from ..base.roles import Role, TensorKind
from ..capture.traced import Traced
from ..layouts.layout import Layout, Var, atoms, is_fixed, of, only_atom, substitute
from ..model.copies import named_tensors
from ..ops import KERNEL, Value
from .attributes import of_weights
from .findings import CARRY, CONTRACT, IS_OUTPUT, Findings, FixedDims, Flow, Lifted, Prediction, Trial
from .forms import settle_forms
from .groups import Constraint, Constraints, Group, constrain
from .inference import infer
from .row_moments import Standardised, decide_standardised
from .ties import Ties
from .unread import pin_unread
from .width_graph import OtherRun, TensorWidths, WidthGraph, layouts_of

INPUT_OF = "input of "  # before the name of a layer: the width that it reads


def freeze(traced: Traced) -> WidthGraph:
    """Infer every width of a traced model.

    Raises:
        TraceError: The trace does not compute what the model computes.
    """
    with nullcontext() if traced.inputs.real else no_collection():
        findings = infer(traced)
        with step("inference on other sizes"):
            settle_forms(traced, findings)
        return _frozen(findings, traced, Lifted())


def lift(widths: WidthGraph, lifted: Lifted) -> WidthGraph:
    """The width graph of the same model with some of its inputs and outputs as widths like all others.

    The model does not run again, and no rule is asked again: what they said of the inputs is solved for these.
    """
    return widths if widths.findings is None else _frozen(widths.findings, widths.traced, lifted)


def _frozen(inferred: Findings, traced: Traced, lifted: Lifted) -> WidthGraph:
    findings = replace(inferred, unifier=inferred.unifier.with_inputs(lifted.inputs))
    _pin_outputs(findings, lifted)
    pin_unread(findings)
    _decide_roles(findings, traced)
    standardised = decide_standardised(findings)
    _pin_where_zeros_are_no_choice(findings)
    names = _Names(findings)
    tensors = {
        name: TensorWidths(
            name,
            tuple(names.layout(la) for la in layouts),
            tuple(_role(findings, name, d) for d in range(len(layouts))),
            _kind(findings, name, len(layouts)),
            kept=standardised.rows.get(name),
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
    fixed_dims = tuple(names.fixed(one, lifted) for one in findings.fixed)
    trials = tuple(_frozen_trial(one, names, lifted) for one in findings.trials)
    forms = tuple(_frozen_form(form, own, names) for form, own in zip(traced.forms, findings.forms, strict=True))
    # last, when every width has a name
    groups = _groups(findings, names, tensors)
    groups = constrain(_pinned_without_bias(groups, required, tensors), required, layouts_of(tensors))
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
    )


def _frozen_form(traced: Traced, found: Findings, names: _Names) -> OtherRun:
    """What the calls on another form of inputs are."""
    predictions = {mode: [names.prediction(p) for p in called] for mode, called in found.predictions.items()}
    nodes = {key: _map_values(value, names) for key, value in found.nodes.items()}
    return OtherRun(traced, frozenset(), {}, found.calls, found.returned, predictions, nodes)


def _frozen_trial(trial: Trial, names: _Names, lifted: Lifted) -> OtherRun:
    """What the calls of a run on other sizes are, in terms of the same names."""
    theirs = names.in_terms_of(trial.findings.unifier.with_inputs(lifted.inputs).resolve)
    predictions = {mode: [theirs.prediction(p) for p in called] for mode, called in trial.findings.predictions.items()}
    sizes = {name: var.size for var, name in theirs.of.items()}
    found = trial.findings
    changed = trial.changed - lifted.inputs
    return OtherRun(trial.traced, changed, sizes, found.calls, found.returned, predictions)


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
            elif roles == {CONTRACT} and not is_inexact(kinds[name]):
                findings.unifier.pin(layout, f"{name} holds integers, which cannot be split")


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


def _constraints(findings: Findings, names: _Names, standardised: Standardised) -> Constraints:
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


class _Names:
    """The names of the variables."""

    def __init__(self, findings: Findings) -> None:
        self.resolve: Callable[[Layout], Layout] = findings.unifier.resolve
        self.of: dict[Var, str] = {}
        self._taken: set[str] = set()
        self._named: dict[Layout, Layout] = {}
        self._known: dict[int, tuple[Value, Value]] = {}  # by the id of what is named, which is kept
        for produced in (True, False):
            for tensor, layouts in findings.tensors.items():
                for dim, layout in enumerate(layouts):
                    var = only_atom(self.resolve(layout))
                    if isinstance(var, Var) and KERNEL in findings.unifier.reasons(var):
                        continue
                    makes = len(layouts) > 1 and CARRY in findings.roles.get((tensor, dim), set())
                    if isinstance(var, Var) and var not in self.of and makes is produced:
                        role = findings.roles.get((tensor, dim), set())
                        self.give(var, _name(tensor, dim, produced=produced, contracted=CONTRACT in role))

    def in_terms_of(self, resolve: Callable[[Layout], Layout]) -> _Names:
        """The same names for what another unifier makes of the same variables."""
        twin = copy.copy(self)
        twin.resolve, twin.of, twin._taken = resolve, dict(self.of), set(self._taken)
        twin._named, twin._known = {}, {}
        return twin

    def give(self, var: Var, name: str) -> str:
        unique = name
        number = 2
        while unique in self._taken:
            unique, number = f"{name} #{number}", number + 1
        self._taken.add(unique)
        self.of[var] = unique
        return unique

    def layout(self, layout: Layout) -> Layout:
        """The layout in terms of names."""
        named = self._named.get(layout)
        if named is None:
            named = self._named[layout] = substitute(self.resolve(layout), self._atom)
        return named

    def _atom(self, var: Var) -> Layout:
        return of(self.of.get(var) or self.give(var, var.name.replace(".weight[0]", "")))

    def fixed(self, one: FixedDims, lifted: Lifted) -> FixedDims:
        """In terms of names, without the dimensions that may grow."""
        dims = tuple([dim for dim in one.dims if dim not in lifted.inputs])
        return FixedDims(dims, tuple(map(self.layout, one.layouts)), one.reason)

    def constraints(self, stated: list[Constraint]) -> tuple[Constraint, ...]:
        named = dict.fromkeys((self.layout(layout), reason) for layout, reason in stated)
        return tuple((layout, reason) for layout, reason in named if not is_fixed(layout))

    def prediction(self, prediction: Prediction) -> Prediction:
        outs = tuple(tuple(self.layout(la) for la in layouts) for layouts in prediction.outs)
        expected = tuple(
            (arg, self.layout(front), back and self.layout(back)) for arg, front, back in prediction.expected
        )
        ins = tuple(layout for la in prediction.ins if not is_fixed(layout := self.layout(la)))
        flow = self._flow(prediction.flow)
        return Prediction(ins, outs, expected, prediction.sized, flow, decided=prediction.decided)

    def _flow(self, flow: Flow) -> Flow:
        ins, outs = (tuple([(key, self._value(v)) for key, v in known]) for known in (flow.ins, flow.outs))
        return Flow(flow.linear, ins, outs, flow.contracts, flow.norm, flow.mutates, flow.numbers, flow.floating)

    def _value(self, value: Value) -> Value:
        known = self._known.get(id(value))
        if known is None:
            layouts = tuple([self.layout(la) for la in value.layouts])
            named = replace(value, layouts=layouts)
            known = self._known[id(value)] = (value, named)
        return known[1]


def _name(tensor: str, dim: int, *, produced: bool, contracted: bool) -> str:
    layer = tensor.rpartition(".")[0] or tensor
    return layer if produced else f"{INPUT_OF}{layer}" if contracted else f"{tensor}[{dim}]"


def _map_values(known: Any, names: _Names) -> Any:
    if isinstance(known, Value):
        return Value(tuple(names.layout(la) for la in known.layouts))
    if isinstance(known, list | tuple):
        return tuple(_map_values(part, names) for part in known)
    return None


def _groups(findings: Findings, names: _Names, tensors: Mapping[str, TensorWidths]) -> dict[str, Group]:
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
            findings.unifier.reasons(var),
            count=findings.unifier.is_count(var),
            constant=findings.unifier.is_elastic(var),
        )
        for var, name in names.of.items()
    }
    first = {name: number for number, name in enumerate(members)}
    return dict(sorted(groups.items(), key=lambda item: first.get(item[0], len(first))))


def _named_ties(findings: Findings) -> Ties:
    return Ties.of((_tie_node(t.a, findings), _tie_node(t.b, findings), t.site) for t in findings.ties)


def _tie_node(var: Var, findings: Findings) -> str:
    tensor = var.name.partition("[")[0]
    return var.name if tensor in findings.tensors and var.name.count("[") == 1 else f"{var.name} #{var.index}"
