"""Weights that are standardised before they are summed over: which moments of their rows have to stay the same.

A row is what the weight holds for one index of its other dimensions. Where it is used less its mean m, and over its
deviation, new entries can be such that mean and variance stay, and that those of the replicas of one channel, less m,
add up to what the channel had (rewrite/row_moments.py). Where a row is not summed over, its mean and variance are those
of channels, which equal replication keeps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ..layouts.layout import Layout, atoms, is_fixed
from ..layouts.unify import size
from .findings import CONTRACT, Findings, RowMoments
from .groups import Constraint

COUNTS = "an unbiased variance over channels depends on their number"


@dataclass(frozen=True, slots=True)
class KeptRows:
    """The rows of one weight.

    Attributes:
        over: The dimensions that a row consists of, sorted.
        correction: Of the variance that stays the same.
    """

    over: tuple[int, ...]
    correction: float


@dataclass(frozen=True, slots=True)
class Standardised:
    """All weights whose rows have to keep their moments, and what follows for channels.

    Attributes:
        rows: By the name of the weight.
        uniform: Dimensions that are averaged over, since they are not summed over, and where.
        replicas: Dimensions whose new channels must be replicas, and where.
    """

    rows: dict[str, KeptRows]
    uniform: tuple[Constraint, ...]
    replicas: tuple[Constraint, ...]


def decide_standardised(findings: Findings) -> Standardised:
    """Decide for each weight whose mean or variance is used what its channels need, and pin what nothing keeps."""
    by_origin: dict[str, list[RowMoments]] = {}
    for moments in findings.row_moments:
        by_origin.setdefault(moments.origin, []).append(moments)
    rows: dict[str, KeptRows] = {}
    uniform: list[Constraint] = []
    replicas: list[Constraint] = []
    for origin, stated in by_origin.items():
        over = sorted({dim for moments in stated for dim in moments.over})
        layouts = findings.tensors[origin]
        summed = [dim for dim in over if CONTRACT in findings.roles.get((origin, dim), ())]
        if not summed:
            averaged = [constraint for moments in stated for constraint in _averaged(findings, moments)]
            uniform.extend(averaged)
            replicas.extend(averaged)
            continue
        problem = _problem(findings, origin, stated, over)
        for dim in over:
            if problem or dim not in summed:
                _pin_free(findings, layouts[dim], problem or f"{stated[0].reason}, and it is not summed over")
        corrections = [m.correction for m in stated if m.correction is not None]
        rows[origin] = KeptRows(tuple(over), corrections[0] if corrections else 0.0)
        replicas.extend((layouts[dim], stated[0].reason) for dim in summed)
    return Standardised(rows, tuple(uniform), tuple(replicas))


def _averaged(findings: Findings, moments: RowMoments) -> Iterable[Constraint]:
    """The dimensions of rows that are not summed over; with Bessel's correction they stay."""
    for dim in sorted(moments.over):
        layout = findings.tensors[moments.origin][dim]
        if moments.correction:
            findings.unifier.pin(layout, f"{COUNTS} (in {moments.reason})")
        elif not is_fixed(layout):
            yield layout, moments.reason


def _problem(findings: Findings, origin: str, stated: list[RowMoments], over: list[int]) -> str:
    """Why no new entries keep all that is stated of a weight; "" if some do."""
    plain = [site for dim in over if (site := findings.plain_sums.get((origin, dim)))]
    if plain:
        return f"{stated[0].reason}, and {plain[0]} sums over it as it is"
    corrections = {moments.correction for moments in stated if moments.correction is not None}
    if len({moments.over for moments in stated}) > 1 or len(corrections) > 1:
        return f"{stated[0].reason}, in more than one way"
    entries = math.prod(size(findings.tensors[origin][dim]) for dim in over)
    if entries <= max(corrections, default=0) or any(correction < 0 for correction in corrections):
        return f"{stated[0].reason}, which has no variance"
    return ""


def _pin_free(findings: Findings, layout: Layout, reason: str) -> None:
    """Pin a dimension that nothing has pinned."""
    if any(not findings.unifier.reasons(var) for var in atoms(findings.unifier.resolve(layout))):
        findings.unifier.pin(layout, reason)
