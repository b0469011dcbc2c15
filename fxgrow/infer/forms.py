"""Sizes of inputs, where a model takes several forms of them."""

from __future__ import annotations

from collections.abc import Mapping

from ..capture.traced import Traced
from ..layouts.layout import InputDim
from ..model.fixed_sizes import NUMBER_OF_DIMENSIONS
from ..recording.run import named_inputs
from .code_numbers import settle_code
from .findings import Findings
from .mixed_numbers import settle_numbers
from .other_sizes import settle_paths, settle_sizes, settle_unseen


def settle_forms(traced: Traced, findings: Findings) -> None:
    """Do for every form of inputs what `settle_sizes` does for one.

    Where a student would have to keep to a size that is another one in another form, the widths are pinned instead.
    """
    for form, own in zip((traced, *traced.forms), (findings, *findings.forms), strict=True):
        settle_numbers(form, own)
        shown, beyond = settle_code(form, own)
        settle_sizes(form, own)
        settle_paths(form, own, beyond)
        if not shown:
            settle_unseen(form, own)
    for own in findings.forms:
        findings.fixed += own.fixed
        findings.trials += own.trials
    apart = dims_apart(traced)
    for one in [one for one in findings.fixed if not apart.isdisjoint(one.dims)]:
        findings.fixed.remove(one)
        for layout in one.layouts:
            findings.unifier.pin(layout, f"{one.reason}, and the forms of inputs differ in it")


def dims_apart(traced: Traced) -> frozenset[InputDim]:
    """The dimensions of inputs that have one size in one form and another in another."""
    first, *others = [_sizes(form) for form in (traced, *traced.forms)]
    known = dict(first)
    apart: set[InputDim] = set()
    for sizes in others:
        apart |= {dim for dim, size in sizes.items() if known.setdefault(dim, size) != size}
    return frozenset(apart)


def _sizes(traced: Traced) -> Mapping[InputDim, int]:
    inputs = named_inputs(traced.arguments)
    sizes = {(name, dim): size for name, x in inputs.items() for dim, size in enumerate(x.shape)}
    return sizes | {(name, NUMBER_OF_DIMENSIONS): x.ndim for name, x in inputs.items()}
