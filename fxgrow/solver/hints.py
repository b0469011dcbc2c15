"""What a user can do where a width that they ask for cannot grow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..infer.findings import IS_OUTPUT
from ..infer.names import INPUT_OF
from ..infer.width_graph import WidthGraph
from ..spec.parse import Widen
from .meant_widths import Meant, names_of

SHOWN = 4  # names and reasons in a message


def listed(refused: Mapping[str, str]) -> str:
    """Why each of some names is refused; those of one reason together."""
    names: dict[str, list[str]] = {}
    for name, reason in refused.items():
        names.setdefault(reason, []).append(name)
    said = [f"{_some(some, ', ')}: {reason}" for reason, some in names.items()]
    return _some(said, "; ")


def _some(entries: Sequence[str], between: str) -> str:
    more = f" and {len(entries) - SHOWN} more" if len(entries) > SHOWN else ""
    return f"{between.join(entries[:SHOWN])}{more}"


def hint(widths: WidthGraph, request: Widen, found: Iterable[Meant]) -> str:
    """The request to make instead, where one asks for outputs or for channels of an input; empty elsewhere."""
    names = {name for one in found for name in names_of(one)}
    groups = [widths.groups_by_name[name] for name in names]
    number = str(request.width) if isinstance(request.width, int) else "N"
    if any(IS_OUTPUT in group.pinned for group in groups):
        return f". For more outputs, which come after the old ones, ask for fxgrow.Outputs({number})"
    sizes = {layout for layouts in widths.inputs.values() for layout in layouts}
    if any(name.startswith(INPUT_OF) for name in names) and any(((group.size,),) in sizes for group in groups):
        return f". For more channels of an input of the model, ask for fxgrow.Inputs(ARGUMENT, {number})"
    return ""
