"""A table for the terminal: a row for each box, indented below its module."""

from __future__ import annotations

from ..base.tables import table
from ..base.wording import first_of
from .registry import Picture, output
from .view import PINNED, SIGNS, Drawing, Edge, Node, arrow, own

MARKS = {"+": "new", "·": PINNED}  # the mark before a row, by the name in SIGNS
READS = 3  # the largest number of inputs listed per box


@output(".txt")
def write(picture: Picture) -> bytes:
    """The drawing after growth."""
    return f"{text(picture.drawing)}\n".encode()


def text(drawing: Drawing) -> str:
    """A drawing as a table, followed by the reasons for pinned widths."""
    names = {node.key: _name(node) for node in drawing.nodes}
    into: dict[str, list[Edge]] = {}
    for edge in drawing.edges:
        if edge.when != "before":
            into.setdefault(edge.target, []).append(edge)
    rows: list[tuple[str, ...]] = []
    home = ""
    for node in drawing.nodes:
        if node.home and node.home != home:  # the rows below have paths relative to it
            rows.append((f"  {node.home}", "", "", "", ""))
        home = node.home
        rows.append(_row(node, into.get(node.key, []), names))
    parts = [f"{drawing.title} ({drawing.level})", table(("", "width", "what", "reads", "parameters"), rows)]
    signs = [f"{sign} {SIGNS[name]}" for sign, name in MARKS.items() if any(row[0].startswith(sign) for row in rows)]
    parts += ["\n".join(signs)] if signs else []
    pinned = {swatch.name: swatch.reason for swatch in drawing.legend if swatch.state == PINNED and swatch.reason}
    if pinned:
        parts.append(table(("pinned", "why"), list(pinned.items()), limit=140))
    return "\n\n".join([*parts, *(f"note: {note}" for note in drawing.notes)])


def _name(node: Node) -> str:
    """The name of a box in the rows of its readers; operators of one module get their type, too."""
    return f"{node.path} {node.what}" if node.home and node.path == node.home else node.path or node.what or node.key


def _row(node: Node, edges: list[Edge], names: dict[str, str]) -> tuple[str, ...]:
    known = "new" if node.new else node.state
    sign = next((f"{sign} " for sign, name in MARKS.items() if name == known), "  ")
    words = [node.what, f"×{node.times}" if node.times > 1 else ""]
    reads = [f"{names[e.source]}{f' ({e.label or e.shapes[1]})' if e.label or e.shapes[1] else ''}" for e in edges]
    old, new = node.parameters
    count = f"{new:,}" if old == new or not old else f"{old:,}→{new:,}"
    return (
        f"{sign}{'  ' if node.home else ''}{own(node) or node.what or node.key}",
        arrow(node.size),
        " ".join(filter(None, words)),
        first_of(reads, READS),
        count if new else "",
    )
