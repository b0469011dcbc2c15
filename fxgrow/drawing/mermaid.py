"""Mermaid, which GitHub renders in Markdown.

Source: mermaid.js.org/syntax/flowchart.html; mermaid.js.org/config/schema-docs/config.html (maxEdges, maxTextSize).
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterator

from ..errors import DrawError
from .colours import colour
from .registry import LEGEND, Picture, output
from .spine import spine_of
from .view import PINNED, SIGNS, Drawing, Edge, Node, arrow, own

MAX_EDGES, MAX_TEXT = 500, 50_000  # the default limits of Mermaid: arrows, characters


@output(".mmd")
def write(picture: Picture) -> bytes:
    """The drawing after growth.

    Raises:
        DrawError: The drawing exceeds the limits of Mermaid.
    """
    drawing = picture.drawing if picture.drawing.level != "groups" else spine_of(picture.drawing)
    text = mermaid(drawing)
    if len(drawing.edges) > MAX_EDGES or len(text) > MAX_TEXT:
        raise DrawError(
            f"Mermaid shows at most {MAX_EDGES} arrows and {MAX_TEXT:,} characters; level {drawing.level!r} has "
            f"{len(drawing.edges)} and {len(text):,}: use level 'blocks', or draw a .html or .svg"
        )
    return text.encode()


def mermaid(drawing: Drawing) -> str:
    """A drawing as a Mermaid flowchart."""
    numbers = {node.key: f"n{i}" for i, node in enumerate(drawing.nodes)}
    lines = ["---", f"title: {drawing.title.replace(': ', ', ')}", "---", "flowchart TD"]
    homes: dict[str, list[Node]] = {}
    for node in drawing.nodes:
        homes.setdefault(node.home, []).append(node)
    for i, (home, nodes) in enumerate(homes.items()):
        boxes = [f"  {_node(node, numbers[node.key])}" for node in nodes]
        lines += [f'  subgraph s{i}["{_escaped(home)}"]', *(f"  {box}" for box in boxes), "  end"] if home else boxes
    edges = [edge for edge in drawing.edges if edge.when != "before"]
    lines += [f"  {numbers[e.source]} {_arrow(e)} {numbers[e.target]}" for e in edges]
    return "\n".join([*lines, *_colours(drawing, numbers), ""])


def _node(node: Node, number: str) -> str:
    words = ["new:" if node.new else "", node.what, f"×{node.times}" if node.times > 1 else ""]
    lines = [f"<b>{arrow(node.size)}</b>" if any(node.size) else "", _escaped(" ".join(filter(None, words)))]
    label = "<br/>".join(filter(None, [*lines, "" if node.segment else _escaped(own(node))])) or _escaped(node.key)
    return f'{number}(["{label}"])' if node.kind == "join" else f'{number}("{label}")'


def _arrow(edge: Edge) -> str:
    if edge.spine:
        return "==="
    label = edge.label or edge.shapes[1]
    line = "-.->" if edge.skip or edge.back else "-->"
    return f'{line}|"{_escaped(label)}"|' if label else line


def _colours(drawing: Drawing, numbers: dict[str, str]) -> Iterator[str]:
    """A style class for each width, for pinned boxes and for new ones, each with a box in the legend."""
    swatches = {swatch.name: swatch for swatch in drawing.legend}
    members: dict[str, list[str]] = {}
    for node in drawing.nodes:
        name = "new" if node.new else "pinned" if node.state == PINNED else f"width {node.group}"
        members.setdefault(name, []).append(numbers[node.key])
    legend = dict(_legend(drawing, members))
    if legend:
        yield '  subgraph legend["one colour, one width"]'
    for i, (name, text) in enumerate(legend.items()):
        yield f'    l{i}("{_escaped(text)}")'
        members[name].append(f"l{i}")
    if legend:
        yield "  end"
    for i, (name, boxes) in enumerate(members.items()):
        fill, line = colour(swatches.get(name.removeprefix("width ")))
        style = {"pinned": "stroke:#8a929c,stroke-dasharray:4 3", "new": "stroke:#1a7f37,stroke-width:3px"}.get(
            name, f"fill:{fill},stroke:{line},color:#16191d"
        )
        yield f"  classDef c{i} {style}"
        yield f"  class {','.join(boxes)} c{i}"


def _legend(drawing: Drawing, members: Container[str]) -> Iterator[tuple[str, str]]:
    """(class, text) of the legend: the signs in the drawing and, except at level groups, the first widths."""
    yield from ((sign, SIGNS[sign]) for sign in ("pinned", "new") if sign in members)
    if drawing.level != "groups":
        shown = (swatch for swatch in drawing.legend if f"width {swatch.name}" in members)
        for swatch in itertools.islice(shown, LEGEND):
            yield f"width {swatch.name}", f"{arrow(swatch.size)} {swatch.name}"


def _escaped(text: str) -> str:
    return text.replace("#", "#35;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
