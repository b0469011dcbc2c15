"""The shape of a drawing before it is laid out: how large its text is in a window, and how far one has to scroll.

Boxes stand in ranks, as Graphviz sets them: a box below all that it reads. A rank is as wide as its boxes, its labels
and the arrows that pass by. These are estimates; tests compare them with what Graphviz makes of the same drawing.
"""

from __future__ import annotations

from dataclasses import dataclass

from .spine import ROW, loose, spine_of
from .view import Drawing, Node, arrow, own

WINDOW = 930.0, 640.0  # of the page in a window of 1300 by 800 pixels, beside the lists
TEXT = 11 * 4 / 3  # the height of the text of a box, pixels, in a picture that is not zoomed
LEAST = 9.0  # pixels of text that read at a glance
SCREENS = 5.0  # so much of scrolling is a picture still seen as one
BOLD, PLAIN, SMALL = 6.7, 5.9, 4.9  # the mean width of a letter, points
GAP, RANK = 18.0, 25.0  # between boxes of a rank, and between ranks, points


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a drawing, in pixels."""

    width: float
    height: float

    @property
    def zoom(self) -> float:
        """The scale at which all of its width is in the window."""
        return min(1.0, WINDOW[0] / self.width)

    @property
    def text(self) -> float:
        """The height of the text of boxes, fitted to the window, in pixels."""
        return TEXT * self.zoom

    @property
    def screens(self) -> float:
        """How many windows high it is, fitted to the width of one."""
        return self.height * self.zoom / WINDOW[1]

    @property
    def reads(self) -> bool:
        """Whether it reads at a glance when it opens."""
        return self.text >= LEAST and self.screens <= SCREENS

    @property
    def effort(self) -> float:
        """How much of it is out of sight, or too small to read."""
        return max(1.0, LEAST / self.text) * max(1.0, self.screens / SCREENS)


def shape_of(drawing: Drawing) -> Shape:
    """The estimated shape of a drawing."""
    if drawing.level == "groups":
        drawing = spine_of(drawing)
    ranks = _ranks(drawing)
    number = 1 + max(ranks.values(), default=0)
    widths, heights = [0.0] * number, [0.0] * number
    labels = [0.0] * number  # between a rank and the one before
    for node in drawing.nodes:
        width, height = _size(node)
        widths[ranks[node.key]] += width + GAP
        heights[ranks[node.key]] = max(heights[ranks[node.key]], height)
    for edge in drawing.edges:
        low, high = sorted((ranks[edge.source], ranks[edge.target]))
        for rank in range(low + 1, high):
            widths[rank] += GAP / 2
        if high > low and (edge.label or edge.shapes[1]):
            labels[high] += SMALL * len(edge.label or edge.shapes[1]) + 2 * GAP
    between = sum(RANK + (12.0 if label else 0.0) for label in labels[1:])
    scale = 4 / 3  # points to pixels
    return Shape(scale * max(1.0, *widths, *labels), scale * (sum(heights) + between + 8))


def _ranks(drawing: Drawing) -> dict[str, int]:
    """The rank of each box: one more than the largest of what it reads; without any, one less than its first reader."""
    places = {node.key: i for i, node in enumerate(drawing.nodes)}
    reads: dict[str, list[str]] = {}
    readers: dict[str, list[str]] = {}
    hanging, alone = loose(drawing.nodes, drawing.edges)
    factors = [(e.target, e.source) for e in drawing.edges if e.skip and e.back and e.source in hanging]
    arrows = [(e.source, e.target) for e in drawing.edges if not (e.skip and e.back) and e.when != "before"]
    for start, end in (*zip(alone, alone[ROW:], strict=False), *arrows):
        if places[start] < places[end]:
            reads.setdefault(end, []).append(start)
            readers.setdefault(start, []).append(end)
    on = {factor: partner for partner, factor in factors}
    ranks: dict[str, int] = {}
    for node in drawing.nodes:
        ranks[node.key] = 1 + max((ranks[one] for one in reads.get(node.key, ())), default=-1)
    for key, partner in on.items():
        ranks[key] = ranks[partner] + 1
    for node in reversed(drawing.nodes):
        if node.key not in reads and node.key in readers and node.key not in on:
            ranks[node.key] = min(ranks[one] for one in readers[node.key]) - 1
    least = min(ranks.values(), default=0)
    return {key: rank - least for key, rank in ranks.items()}


def _size(node: Node) -> tuple[float, float]:
    """The width and the height of a box, in points."""
    what = " ".join(filter(None, ["new:" * node.new, node.what, f"×{node.times}" * (node.times > 1)]))
    name = "" if node.segment else own(node)
    lines = [(BOLD, arrow(node.size)), (PLAIN, what), (SMALL, name[: 30 if " " in name else 34])]
    shown = [(letter, text) for letter, text in lines if text] or [(PLAIN, node.key)]
    return max(letter * len(text) for letter, text in shown) + GAP, 14.0 * len(shown) + 6
