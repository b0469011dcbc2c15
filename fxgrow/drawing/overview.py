"""What a reader wants first: what growth costs in all, and the list of what changes and of what stays, with reasons."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

from ..errors import PlanError
from ..model.copies import named_tensors
from ..plans.changes import StructuralChange
from .source import Source
from .view import GROWS, PINNED, Drawing, Node, WidthChange, arrow, finest

Kind = Literal["width", "input", "output", "layer", "block", "kernel", "pinned", "left"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the list: a change, or something that stays.

    Attributes:
        kind: "width", "input" or "output": a width that grows, of an inner dimension, an input or an output; "layer" or
            "block": a new module; "kernel": a larger one; "pinned": a width that cannot grow; "left": what the
            requests name and the plan leaves.
        name: The name of the width, or the path of the module as the drawing has it.
        group: The width; "" for a module.
        text: The sizes before and after; "" for a new module.
        factor: After / before, of the width in channels or of the kernel in entries; 0 where nothing was before.
        parameters: Of its layers before and after.
        flops: Of these, on the example inputs.
        reason: Why it is as it is; "" for a width that grows.
        layers: The number of layers that share the width.
        new: Whether only the student has it.
    """

    kind: Kind
    name: str
    group: str = ""
    text: str = ""
    factor: float = 1.0
    parameters: WidthChange = (0, 0)
    flops: WidthChange = (0, 0)
    reason: str = ""
    layers: int = 0
    new: bool = False


def totals(source: Source) -> tuple[WidthChange | None, WidthChange | None]:
    """The parameters and the FLOPs of the whole model before and after growth; None where they are not known."""
    if source.plan is not None:
        try:
            cost = source.plan.cost()
        except PlanError:  # a file of a version without costs
            return None, None
        flops = cost.flops
        return (cost.parameters.before, cost.parameters.after), None if flops is None else (flops.before, flops.after)
    tensors = named_tensors(source.widths.traced.root).values()
    number = sum(tensor.numel() for tensor in tensors if isinstance(tensor, nn.Parameter))
    work = sum(now for _, now in source.flops.values())
    return (number, number), (work, work)


def entries(source: Source, groups: Drawing) -> tuple[Entry, ...]:
    """The widths that grow, the structural changes, what is pinned and what is left, each in the order of the model.

    Args:
        source: What is drawn.
        groups: Its drawing at the level `groups`, with the figures of each width.
    """
    boxes = {node.key: node for node in finest(groups).nodes}
    return (*_grown(source, boxes), *_changes(source), *_pinned(source, boxes), *_left(source))


def _grown(source: Source, boxes: Mapping[str, Node]) -> Iterator[Entry]:
    kinds: dict[str, Literal["input", "output"]] = {name: dim.kind for name, dim in reversed(source.io_dims)}
    for swatch in source.grown:
        box, (old, new) = boxes[swatch.name], swatch.size
        yield Entry(
            kind=kinds.get(swatch.name, "width"),
            name=swatch.name,
            group=swatch.name,
            text=arrow(swatch.size),
            factor=new / old,
            parameters=box.parameters,
            flops=box.flops,
            layers=len(swatch.layers),
        )


def _changes(source: Source) -> Iterator[Entry]:
    """An entry for each new module and each larger kernel: as many as `Plan.other_changes` counts."""
    for change in source.changes:
        for path, student in zip(change.new_paths or (change.path,), change.in_student, strict=True):
            parameters, flops = source.below(student)
            yield Entry(
                kind=_kind(change.change),
                name=path,
                text=_text(change.change),
                factor=_factor(change.change),
                parameters=parameters,
                flops=flops,
                reason=change.text,
                new=bool(change.new_paths),
            )


def _kind(change: StructuralChange) -> Kind:
    return "kernel" if change.kernels else "block" if change.original else "layer"


def _text(change: StructuralChange) -> str:
    return ", ".join("→".join("×".join(map(str, size)) for size in sizes) for sizes in change.kernels.values())


def _factor(change: StructuralChange) -> float:
    return max((math.prod(new) / math.prod(old) for old, new in change.kernels.values()), default=0.0)


def _pinned(source: Source, boxes: Mapping[str, Node]) -> Iterator[Entry]:
    for swatch in source.legend.values():
        if swatch.state == PINNED and not (source.alone and not swatch.reason):  # a plan alone knows no reasons
            box = boxes[swatch.name]
            yield Entry(
                kind="pinned",
                name=swatch.name,
                group=swatch.name,
                text=arrow(swatch.size),
                parameters=box.parameters,
                flops=box.flops,
                reason=swatch.reason,
                layers=len(swatch.layers),
            )


def _left(source: Source) -> Iterator[Entry]:
    """What the plan leaves as it is, but for pinned widths, which have entries of their own."""
    seen = {name for name, swatch in source.legend.items() if swatch.state in (PINNED, GROWS)}
    for name, reason in source.skipped.items():
        if name not in seen or source.alone:
            group = name if name in source.legend else ""
            text = arrow(source.legend[group].size) if group else ""
            yield Entry(kind="left", name=name, group=group, text=text, reason=reason)
