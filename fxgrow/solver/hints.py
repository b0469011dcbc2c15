"""What a user can do where a width that they ask for cannot grow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..base.wording import first_of
from ..infer.findings import IS_OUTPUT, STATES, input_of
from ..infer.width_graph import WidthGraph
from ..model.tree import Output
from ..spec.parse import Widen
from .meant_widths import Meant, names_of

SHOWN = 4  # names and reasons in a message


def listed(refused: Mapping[str, str]) -> str:
    """Why each of some names is refused; those of one reason together."""
    names: dict[str, list[str]] = {}
    for name, reason in refused.items():
        names.setdefault(reason, []).append(name)
    return first_of([f"{first_of(some, SHOWN)}: {reason}" for reason, some in names.items()], SHOWN, "; ")


def hint(widths: WidthGraph, request: Widen, found: Iterable[Meant]) -> str:
    """The request to make instead, where one asks for inputs, outputs or what only a graph can change; else empty."""
    names = dict.fromkeys(name for one in found for name in names_of(one))
    groups = [widths.groups_by_name[name] for name in names]
    number = str(request.width) if isinstance(request.width, int) else "N"
    if any(IS_OUTPUT in group.pinned for group in groups):
        return f". For more outputs, which come after the old ones, ask for fxgrow.Outputs({number})"
    inputs = [name for group in groups for reason in group.pinned if (name := input_of(reason))]
    if inputs and isinstance(request.width, int):
        return f". For {request.width} channels of it, ask for fxgrow.Inputs({inputs[0]!r}, {request.width})"
    return as_graph_hint(widths.traced.output, [reason for group in groups for reason in group.pinned])


def as_graph_hint(output: Output, reasons: Iterable[str]) -> str:
    """The form of the student in which sizes that the code states can change, where they are in the way."""
    if output == "graph" or not any(STATES in reason for reason in reasons):
        return ""
    return ". A student with output='graph' can change sizes that code states"
