"""Mermaid, which GitHub shows in Markdown.

Source: mermaid.js.org/syntax/flowchart.html; mermaid.js.org/config/schema-docs/config.html (maxEdges, maxTextSize).
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterator

from ..errors import DrawError
from .colours import colour
from .registry import LEGEND, Picture, output
from .view import PINNED, SIGNS, Drawing, Edge, Node, arrow, own

MOST_EDGES, MOST_TEXT = 500, 50_000  # Mermaid shows no more, unless its page is told to


@output(".mmd")
def write(picture: Picture) -> bytes:
    """The drawing after growth.

    Raises:
        DrawError: It is more than Mermaid shows.
    """
    drawing = picture.drawing
    text = mermaid(drawing)
    if len(drawing.edges) > MOST_EDGES or len(text) > MOST_TEXT:
        raise DrawError(
            f"Mermaid shows at most {MOST_EDGES} arrows and {MOST_TEXT:,} characters; level {drawing.level!r} has "
            f"{len(drawing.edges)} and {len(text):,}: take level 'blocks', or a .html or .svg"
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
    label = "<br/>".join(filter(None, [*lines, _escaped(own(node))])) or _escaped(node.key)
    return f'{number}(["{label}"])' if node.kind == "join" else f'{number}("{label}")'


def _arrow(edge: Edge) -> str:
    label = edge.label or edge.shapes[1]
    line = "-.->" if edge.skip or edge.back else "-->"
    return f'{line}|"{_escaped(label)}"|' if label else line


def _colours(drawing: Drawing, numbers: dict[str, str]) -> Iterator[str]:
    """A class for each width, for what is pinned and for what is new, with a box in the legend."""
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
    """What the legend explains, by class: signs that occur and, where boxes are no widths, the first widths."""
    yield from ((sign, SIGNS[sign]) for sign in ("pinned", "new") if sign in members)
    if drawing.level != "groups":
        shown = (swatch for swatch in drawing.legend if f"width {swatch.name}" in members)
        for swatch in itertools.islice(shown, LEGEND):
            yield f"width {swatch.name}", f"{arrow(swatch.size)} {swatch.name}"


def _escaped(text: str) -> str:
    return text.replace("#", "#35;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
