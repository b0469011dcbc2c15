"""A plan for readers: a line that says what it is, and tables of what it changes and what it leaves."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Protocol

from ..base.fitted import page
from ..base.tables import Table, count, html_table, times
from .changes import StructuralChange
from .entries import Skipped, TensorPlan, Width
from .numbering import Numbering

MOST_LINES = 58  # of one printed plan


class Shown(Protocol):
    """What is shown of a plan."""

    @property
    def model(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def preserves_function(self) -> bool: ...
    @property
    def grown_widths(self) -> tuple[Width, ...]: ...
    @property
    def tensors(self) -> tuple[TensorPlan, ...]: ...
    @property
    def changes(self) -> tuple[StructuralChange, ...]: ...
    @property
    def other_changes(self) -> int: ...
    @property
    def skipped(self) -> tuple[Skipped, ...]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def numbering(self) -> Numbering: ...
    @property
    def next(self) -> Shown | None: ...


def title(plan: Shown) -> str:
    """What a plan changes, in numbers."""
    grow = "grows" if len(plan.grown_widths) == 1 else "grow"
    tensors = f"{count(len(plan.tensors), 'tensor')} {'changes' if len(plan.tensors) == 1 else 'change'}"
    changes = f"; {count(plan.other_changes, 'other change')}" if plan.changes else ""
    return f"Plan for {plan.model}: {count(len(plan.grown_widths), 'width')} {grow}, {tensors}{changes}"


def how(plan: Shown) -> str:
    """Whether the function stays the same, and how new entries are filled."""
    kind = "same function" if plan.preserves_function else "NOT function-preserving"
    if plan.preserves_function and not all("train" in one.exact_modes for step in _steps(plan) for one in step.changes):
        kind = "same function in eval mode"
    return f"{kind}; method {plan.method}, seed {plan.seed}"


def line(plan: Shown) -> str:
    """A plan, and how many follow it, in one line."""
    later = sum(1 for _ in _steps(plan.next))
    return f"{title(plan)}; {how(plan)}" + (f"; then {count(later, 'more plan')}" if later else "")


def _steps(plan: Shown | None) -> Iterator[Shown]:
    """A plan and those that follow it."""
    while plan is not None:
        yield plan
        plan = plan.next


def tables(plan: Shown) -> Iterator[Table]:
    """The widths that grow, the other changes, and what is left as it is."""
    rows = [(w.name, str(w.old), str(w.new), times(w.new / w.old), w.method) for w in plan.grown_widths]
    yield ("width", "old", "new", "factor", "method"), rows
    if plan.changes:
        changed = [
            (plan.numbering(change.path), str(change), " and ".join(change.exact_modes) or "no")
            for change in plan.changes
        ]
        yield ("changed", "how", "exact in"), changed
    if plan.skipped:
        yield ("left as it is", "why"), [(w.name, w.reason) for w in plan.skipped]


def as_text(plan: Shown, columns: int) -> str:
    """A plan and those that follow it as text, a page each; see `Plan.to_text`."""
    own = page(f"{title(plan)}\n{how(plan)}", tables(plan), plan.notes, MOST_LINES, columns)
    return f"{own}\n\nthen {as_text(plan.next, columns)}" if plan.next is not None else own


def as_html(plan: Shown) -> str:
    """The same as HTML."""
    parts = [
        f"<p><b>{html.escape(title(plan))}</b>; {html.escape(how(plan))}</p>",
        *(html_table(*found) for found in tables(plan)),
        *(f"<p>note: {html.escape(note)}</p>" for note in plan.notes),
    ]
    return "".join([*parts, f"<p>then</p>{as_html(plan.next)}"] if plan.next is not None else parts)
