"""What inference says must hold for every size of the inputs that the model takes, not for the example's alone.

`v.t().reshape(len(v), -1)` cuts the channels into as many rows as there are samples. No layout can say so: it would
hold the example's batch as a number. So where sizes are mixed with widths, the model runs on other sizes under the same
rules, with the same variables for its parameters. What such a run says of a width that the example's did not say
depends on the sizes. Where the batch decides, the width is pinned. Where another size does, the student refuses others
once the width has grown; and so where the model takes no other size that is tried.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import replace
from functools import partial

from ..base.isolation import silent
from ..capture.traced import Traced
from ..layouts.layout import InputDim, Layout, Var, atoms, blocks_of, of
from ..layouts.unify import Unifier
from ..recording.run import named_inputs
from .attribute_sizes import AttributeSizes
from .findings import Findings, FixedDims, Trial
from .inference import Inference
from .input_layouts import input_layouts
from .size_variants import Variant, all_at_once, at_widths, batches, each_alone, others, ranks, resized

LARGE = 2**24  # entries of all results of calls, beyond which no model runs for real
MOST_PATHS = 4  # sizes of which each leads to another path
MOST = 3  # sizes of widths that sizes of inputs are tried at


def settle_sizes(traced: Traced, findings: Findings) -> None:
    """Pin the widths whose layouts depend on the batch, and note the sizes that others depend on."""
    for variant in ranks(traced.arguments):
        _look(traced, findings, variant)
    if not findings.mixed:
        return
    taken: Counter[str] = Counter()
    confirmed: set[InputDim] = set()
    stated = findings.unifier.inputs_with_a_width()
    avoided = _sizes(findings)
    variants = [one for dims in _kept(findings) for one in all_at_once(traced.arguments, avoided, dims)]
    if all(_agrees(traced, findings, one) for one in variants if any(variant.changed for variant in one)):
        return
    given = (traced.arguments, avoided, stated)
    for variant in itertools.chain(batches(*given), others(*given)):
        wanted = taken[variant.kind] < variant.enough and variant.changed and not variant.changed <= stated
        if wanted and _look(traced, findings, variant):
            taken[variant.kind] += 1
            confirmed |= variant.changed
    shapes = {name: x.shape for name, x in named_inputs(traced.arguments).items()}
    unknown = {(name, d) for name, shape in shapes.items() for d in range(len(shape))} - confirmed - stated
    for variant in each_alone(traced.arguments, avoided, {(name, d) for name, d in unknown if shapes[name][d]}):
        if variant.changed <= unknown and _look(traced, findings, variant):
            unknown -= variant.changed
    if unknown:
        reason = "no other size was found that the model takes"
        findings.fixed.append(FixedDims(tuple(sorted(unknown)), tuple(findings.mixed), reason))


def settle_unseen(traced: Traced, findings: Findings) -> None:
    """Run on sizes that are those of widths too, where code stays a call that no graph shows.

    The check of a student compares the numbers that reach its calls there. A model that runs for real is run on large
    inputs only if it makes few entries of them, to judge by the example.
    """
    unifier = findings.unifier
    found = {var for shape in findings.tensors.values() for layout in shape for var in atoms(unifier.resolve(layout))}
    widths = Counter(var.size for var in found if unifier.is_free(var) and var.size > 1)
    sizes = sorted(widths, key=lambda size: (-widths[size], -size))[:MOST]
    most = _most(traced)
    for variants in itertools.chain(*[at_widths(traced.arguments, sizes, dims, most) for dims in _kept(findings)]):
        for variant in variants:
            if variant.changed and _look(traced, findings, variant):
                break


def settle_paths(traced: Traced, findings: Findings, beyond: Sequence[tuple[InputDim, int]]) -> None:
    """Run on sizes at which code that stays a call takes another path than at the example's.

    Args:
        traced: The model.
        findings: Of it.
        beyond: Dimensions of inputs, and a size of each.
    """
    stated, most = findings.unifier.inputs_with_a_width(), _most(traced)
    for (name, dim), size in beyond[:MOST_PATHS]:
        old = named_inputs(traced.arguments)[name].shape[dim]
        if (name, dim) not in stated and size <= most * max(old, 1):
            _look(traced, findings, resized(traced.arguments, dim, old, size))


def _most(traced: Traced) -> float:
    """How many times the example's entries a model is run on at most; one that runs for real by what its calls make."""
    if not traced.inputs.real:
        return math.inf
    made = sum(math.prod(shape) for call in next(iter(traced.tapes.values())).calls for shape in call.shapes)
    return LARGE / max(made, 1)


def _kept(findings: Findings) -> Iterable[frozenset[InputDim]]:
    """The dimensions of inputs that have a width; and, if these are more, those that a student may have to keep to."""
    stated = findings.unifier.inputs_with_a_width()
    of_widths = [f.dims for f in findings.fixed if any(v.input is None for la in f.layouts for v in atoms(la))]
    return dict.fromkeys((stated, stated.union(*of_widths)))


def _agrees(traced: Traced, findings: Findings, variants: Iterable[Variant]) -> bool:
    """Whether the model takes other sizes, and nothing new is found for the first of them that it takes."""
    for variant in variants:
        trial = _trial(traced, findings, variant)
        if trial is not None:
            told = _told(findings, trial)
            if any(var.input is None for var in told):
                return False
            _keep_inputs(findings, told, variant)
            findings.trials.append(_accepted(traced, variant, trial))
            return True
    return False


def _look(traced: Traced, findings: Findings, variant: Variant) -> bool:
    """Run on other sizes, and act on what is new; whether the model takes them."""
    if _is_known(findings, variant):
        return True
    trial = _trial(traced, findings, variant)
    if trial is None:
        return False
    told = _told(findings, trial)
    _keep_inputs(findings, told, variant)
    news = {var: site for var, site in told.items() if var.input is None}
    if news and variant.kind == "batch":
        for var, site in news.items():
            findings.unifier.pin(of(var), f"what happens to it depends on the size of the batch{site}")
    elif news:
        reason = f"the code mixes it with widths{next(iter(news.values()))}"
        findings.fixed.append(FixedDims(tuple(sorted(variant.changed)), tuple(map(of, news)), reason))
    else:
        findings.trials.append(_accepted(traced, variant, trial))
    return True


def _is_known(findings: Findings, variant: Variant) -> bool:
    """Whether a run on the same sizes said nothing new."""
    sizes = [x.shape for x in named_inputs(variant.arguments).values()]
    return any(
        one.places == variant.places and [x.shape for x in named_inputs(one.traced.arguments).values()] == sizes
        for one in findings.trials
    )


def _keep_inputs(findings: Findings, told: Mapping[Var, str], variant: Variant) -> None:
    """Where a request makes channels of inputs widths, keep to the sizes at which other things are said of them."""
    inputs = [var for var in told if var.input is not None]
    if inputs:
        reason = f"the code mixes it with channels of inputs{told[inputs[0]]}"
        findings.fixed.append(FixedDims(tuple(sorted(variant.changed)), tuple(map(of, inputs)), reason))


def _accepted(traced: Traced, variant: Variant, trial: Findings) -> Trial:
    return Trial(replace(traced, arguments=variant.arguments), variant.changed, trial, variant.places)


def _trial(traced: Traced, findings: Findings, variant: Variant) -> Findings | None:
    """What the rules say for other sizes; None where the model does not take them."""
    unifier = findings.unifier.branch()
    inputs = input_layouts(unifier, variant.arguments, findings.inputs, variant.places)
    trial = Findings(unifier, findings.tensors, inputs)
    for mode in traced.modes:
        with suppress(Exception), silent():  # whatever the model raises where it does not take them
            inference = Inference(traced, mode, trial, AttributeSizes(unifier), variant.arguments)
            inference.run_graph(inference.start())
            continue
        return None
    return trial


def _told(findings: Findings, trial: Findings) -> dict[Var, str]:
    """The free widths and dimensions of inputs of which the trial says what was not known, each with the place."""
    base, other = findings.unifier, trial.unifier
    found = {var: f", in {site}" for var, site in other.told_since(base).items()}
    for layout in _unlike(findings, trial):
        found.update((var, "") for var in atoms(other.resolve(layout)) if base.is_open(var) and var not in found)
    return found


def _unlike(findings: Findings, trial: Findings) -> Iterator[Layout]:
    """The layouts that the trial returns, sums over, averages or needs replicas of, and the example's run does not."""
    resolve = trial.unifier.resolve

    def widths(layouts: Iterable[Layout]) -> set[Var]:
        return {var for layout in layouts for var in atoms(resolve(layout))}

    def returned(one: Findings) -> set[Var]:
        return widths(layout for leaves in one.outputs.values() for layouts in leaves for layout in layouts)

    yield from map(of, returned(trial) - returned(findings))
    yield from map(of, widths(la for la, _ in trial.replicas) - widths(la for la, _ in findings.replicas))
    for kind in ("silent", "nonzero"):
        both = [widths(one[0] for one in getattr(side, kind)) for side in (trial, findings)]
        yield from map(of, both[0] - both[1])
    given = [widths(la for layouts in side.inputs.values() for la in layouts) for side in (findings, trial)]
    averaged = partial(_averaged, trial.unifier, common=given[0] & given[1])
    known = [averaged(layout) for layout, _ in findings.uniform]
    yield from (layout for layout, _ in trial.uniform if averaged(layout) not in known)
    for key, roles in trial.roles.items():
        if not roles <= findings.roles.get(key, set()):
            yield trial.tensors[key[0]][key[1]]
    parts: list[dict[tuple[str, tuple[int, ...]], set[Var]]] = [{}, {}]
    for one, summed in zip((findings, trial), parts, strict=True):
        for layout, origin, dims, _ in one.contractions:
            summed.setdefault((origin, dims), set()).update(atoms(resolve(layout)))
    for at, own in parts[1].items():
        yield from map(of, own ^ parts[0].get(at, set()))


def _averaged(unifier: Unifier, layout: Layout, common: AbstractSet[Var]) -> tuple[set[Var], bool]:
    """The widths that are averaged over together, and whether this is beside a part that holds none of them.

    Dimensions of inputs and of constants that are not common to both runs are left out: each run has its own.
    """
    layout = unifier.resolve(layout)
    own = {v for v in atoms(layout) if v in common or (v.input is None and not unifier.is_elastic(v))}
    return own, any(own.isdisjoint(atoms((block,))) for block in blocks_of([layout]))


def _sizes(findings: Findings) -> frozenset[int]:
    layouts = itertools.chain(findings.tensors.values(), findings.inputs.values())
    return frozenset(var.size for shape in layouts for layout in shape for var in atoms(layout))
