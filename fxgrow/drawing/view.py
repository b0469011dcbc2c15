"""Drawings as data: boxes, arrows and a legend, independent of the file format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..plans.changes import KernelSize

Level = Literal["groups", "blocks", "layers", "ops"]
When = Literal["both", "before", "after"]
WidthChange = tuple[int, int]  # before and after growth

LEVELS: tuple[Level, ...] = ("groups", "blocks", "layers", "ops")  # usually from the fewest boxes to the most

GROWS, STAYS, PINNED = "grows", "stays", "pinned"

SIGNS = {  # the meaning of each sign in the pictures
    "pinned": "pinned: its width is fixed",
    "new": "new: only after growth",
    "grows": "its width grows",
    "join": "joins several tensors",
    "quiet": "bookkeeping (sizes, indices, guards)",
    "skip": "skip connection",
    "factor": "two widths whose product is one dimension",
    "change": "before and after growth",
    "times": "n that are alike",
    "kernel": "its kernel gets larger",
    "spine": "one width, drawn again for every few layers",
    "module": "a collapsed module",
}


@dataclass(frozen=True, slots=True)
class Node:
    """A box.

    Attributes:
        key: Unique in the drawing.
        kind: "input", "output", "layer", "op", "join", "block" or "group".
        what: Its type and kernel: "Conv2d 3×3 /2".
        path: The path of its module, or of the module that contains it.
        home: The path of the module whose frame it is drawn in; "" for none.
        size: Its width before and after growth, channels; (0, 0) if it has none.
        group: The width group of its result; "" for none.
        groups: All width groups of its result and its parameters.
        state: GROWS, STAYS or PINNED, of `group`; "" without one.
        reason: The reason for the state.
        new: Whether only the student has it.
        times: The number of equal boxes that it stands for.
        parameters: The number of parameters before and after growth.
        flops: FLOPs of one forward pass on the example inputs, before and after growth.
        inside: The types and names of the boxes that were folded into it.
        paths: The paths of these, for the search.
        start: The node of the tie graph that explains its width: a dimension of a parameter, "conv.weight[0]".
        kernel: Its kernel before and after growth, where that gets larger.
        segment: Of a spine, the number of its box; see `spine.py`.
    """

    key: str
    kind: str
    what: str
    path: str = ""
    home: str = ""
    size: WidthChange = (0, 0)
    group: str = ""
    groups: tuple[str, ...] = ()
    state: str = ""
    reason: str = ""
    new: bool = False
    times: int = 1
    parameters: WidthChange = (0, 0)
    flops: WidthChange = (0, 0)
    inside: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    start: str = ""
    kernel: tuple[KernelSize, KernelSize] | None = None
    segment: int = 0


@dataclass(frozen=True, slots=True)
class Edge:
    """An arrow.

    Attributes:
        source: The key of its start node.
        target: The key of its end node.
        shapes: The shape of the tensor without the batch, before and after growth: "64×56×56".
        label: A label to show instead of the shape.
        tip: The tooltip.
        skip: Whether it is a skip connection.
        main: Whether it is on the shortest path from the first node to the farthest output; drawn straight.
        back: Whether it leads back to an earlier node; such an arrow does not affect the ranks.
        when: Whether it exists before growth, after growth, or both.
        spine: Whether it joins two boxes of one width, which is drawn as a spine.
    """

    source: str
    target: str
    shapes: tuple[str, str] = ("", "")
    label: str = ""
    tip: str = ""
    skip: bool = False
    main: bool = False
    back: bool = False
    when: When = "both"
    spine: bool = False


@dataclass(frozen=True, slots=True)
class Swatch:
    """A width group in the legend.

    Attributes:
        name: The name of the group.
        hue: The hue of its colour, in degrees; -1 for grey.
        shade: 0, 1 or 2; distinguishes similar hues.
        size: The width before and after growth, channels.
        state: GROWS, STAYS or PINNED.
        reason: The reason for the state.
        layers: The paths of the modules with parameters of this width.
    """

    name: str
    hue: int
    shade: int
    size: WidthChange
    state: str
    reason: str
    layers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """Boxes and arrows at one level, in the order of the model.

    Attributes:
        title: The class of the model and the number of widths that grow.
        level: The level.
        nodes: The boxes.
        edges: The arrows.
        legend: The width groups in the drawing.
        notes: Notes of the plan and of a report.
        grows: Whether there is a plan, so that sizes before and after growth may differ.
        parts: The drawing from which this one was folded, for formats that open a box in place.
        into: The box here of each box of `parts`.
    """

    title: str
    level: Level
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    legend: tuple[Swatch, ...]
    notes: tuple[str, ...] = ()
    grows: bool = False
    parts: Drawing | None = None
    into: Mapping[str, str] = field(default_factory=dict)


def finest(drawing: Drawing) -> Drawing:
    """The drawing with nothing folded."""
    while drawing.parts is not None:
        drawing = drawing.parts
    return drawing


def arrow(change: WidthChange, *, sign: str = "→") -> str:
    """A size before and after growth: "64→96", or "96" if it does not change or is new."""
    old, new = change
    if not old or old == new:
        return str(new) if new else ""
    return f"{old}{sign}{new}"


def own(node: Node) -> str:
    """The name of a box inside the frame of its module: the path below the module, "conv1"; for a number "stage2.0"."""
    if node.home and node.path == node.home:
        return ""
    path = node.path.removeprefix(f"{node.home}.") if node.home else node.path
    if path != node.path and path[0].isdigit():
        path = f"{node.home.rpartition('.')[2]}.{path}"
    return "" if path == node.what else path


def quiet(node: Node) -> bool:
    """Whether a box is bookkeeping: an operation without a width, on sizes, indices or guards."""
    return node.kind in ("op", "join") and not any(node.size) and not node.new and not node.path.endswith(node.what)
