"""Entries of parameters and buffers that no run reads: a table of 16 positions of which the example takes 7.

They are no channels, and nothing shows what new ones would have to be. So they stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..layouts.layout import Layout, Var, atoms, of
from .findings import Findings

UNREAD = "no run on the example inputs reads these entries"


def pin_unread(findings: Findings) -> None:
    """Pin the widths of parameters and buffers that every call passes on or leaves out, and that are not returned."""
    read = _read(findings)
    for name, layouts in findings.tensors.items():
        for var in _of(findings, layouts):
            passed_on = any(findings.roles.get((name, dim)) for dim in range(len(layouts)))
            if var not in read and passed_on and not findings.unifier.reasons(var):
                findings.unifier.pin(of(var), UNREAD)


def _read(findings: Findings) -> set[Var]:
    """The widths that some call takes and does not pass on, which it sums over or looks at, or that are returned."""
    known: dict[Layout, frozenset[Var]] = {}  # most layouts are in many calls

    def of_all(layouts: Sequence[Layout]) -> set[Var]:
        found: set[Var] = set()
        for layout in layouts:
            own = known.get(layout)
            if own is None:
                own = known[layout] = frozenset(_of(findings, [layout]))
            found |= own
        return found

    forms = (findings, *findings.forms)
    read = of_all([la for one in forms for leaves in one.outputs.values() for leaf in leaves for la in leaf])
    for prediction in [p for one in forms for called in one.predictions.values() for p in called]:
        given = of_all(prediction.ins)
        if prediction.flow.mutates:
            read |= given
        elif given:
            passed_on = of_all([la for out in prediction.outs for la in out])
            read |= given - passed_on - of_all(prediction.unread)
    return read


def _of(findings: Findings, layouts: Sequence[Layout]) -> set[Var]:
    resolve = findings.unifier.resolve
    return {var for layout in layouts for var in atoms(resolve(layout)) if isinstance(var, Var)}
