"""The `Drawing` of a `Source` at one level: boxes and arrows, no picture yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["groups", "blocks", "layers", "ops"]
When = Literal["both", "before", "after"]
WidthChange = tuple[int, int]  # before and after growth

LEVELS: tuple[Level, ...] = ("groups", "blocks", "layers", "ops")  # from the fewest boxes to the most, usually

GROWS, STAYS, PINNED = "grows", "stays", "pinned"

SIGNS = {  # what a picture's signs mean, by the name of what they stand for
    "pinned": "pinned: its size has to stay",
    "new": "new: only there after growth",
    "grows": "its width grows",
    "join": "several tensors come together",
    "quiet": "a sum of the code around: a size, an index, a guard",
    "skip": "passes layers by",
    "factor": "two widths whose product is one dimension",
    "change": "before and after growth",
    "times": "so many alike in a row",
    "module": "a module that is collapsed",
}


@dataclass(frozen=True, slots=True)
class Node:
    """A box.

    Attributes:
        key: Unique in the drawing.
        kind: "input", "output", "layer", "op", "join", "block" or "group".
        what: Its type and kernel: "Conv2d 3×3 /2".
        path: The module that it is or stands in.
        home: The module whose box it is drawn in; "" for none.
        size: Its width before and after; (0, 0) where it has none.
        group: The width group that it makes; "" for none.
        groups: All that it touches.
        state: Whether that group grows, stays or is pinned; "" without one.
        reason: Why.
        new: Whether only the student has it.
        times: How many alike it stands for.
        parameters: Before and after.
        flops: Before and after, of one forward pass on the example inputs.
        inside: What was folded into it.
        paths: The modules of that, as deep as they go; it is found by their names.
        start: Where its path in `Source.ties` begins: a dimension of a parameter.
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


@dataclass(frozen=True, slots=True)
class Edge:
    """An arrow.

    Attributes:
        source: The key of the node that it leaves.
        target: The key of the node that it enters.
        shapes: What flows along it, without the batch, before and after: "64×56×56".
        label: What stands beside it instead.
        tip: More of the same.
        skip: Whether it passes other nodes by.
        main: Whether it is on the shortest way from where the model begins to where it ends; drawn straight.
        back: Whether it leads to where it came from; it has no say in what stands above what.
        when: Whether it is there before growth, after it, or both.
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


@dataclass(frozen=True, slots=True)
class Swatch:
    """A width group in the legend.

    Attributes:
        name: The group.
        hue: Of its colour, in degrees; -1 for grey.
        shade: 0, 1 or 2, where hues come close.
        size: Before and after.
        state: Whether it grows, stays or is pinned.
        reason: Why.
        layers: The modules that have it.
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
    """Boxes and arrows at one level, in the order of the model."""

    title: str
    level: Level
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    legend: tuple[Swatch, ...]
    notes: tuple[str, ...] = ()
    grows: bool = False


def arrow(change: WidthChange, *, sign: str = "→") -> str:
    """A size before and after: "64→96", or "96" where nothing changes or there was none."""
    old, new = change
    if not old or old == new:
        return str(new) if new else ""
    return f"{old}{sign}{new}"


def own(node: Node) -> str:
    """What a box is called inside the box of its module: the rest of its path, from a word on: "conv1", "stage2.0"."""
    if node.home and node.path == node.home:
        return ""
    path = node.path.removeprefix(f"{node.home}.") if node.home else node.path
    if path != node.path and path[0].isdigit():
        path = f"{node.home.rpartition('.')[2]}.{path}"
    return "" if path == node.what else path


def quiet(node: Node) -> bool:
    """Whether a box only does the sums of the code around it: a size, an index, a guard."""
    return node.kind in ("op", "join") and not any(node.size) and not node.new and not node.path.endswith(node.what)
