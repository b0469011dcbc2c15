"""DOT, the language of Graphviz. Has no dependencies; SVG, PNG and PDF are made from it.

Source: graphviz.org/doc/info/attrs.html (what the attributes mean).
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Iterator, Mapping

from ..plans.changes import KernelSize
from .colours import colour
from .registry import LEGEND, MANY, VERY_MANY, Picture, output
from .spine import ROW, loose, spine_of
from .view import GROWS, PINNED, Drawing, Edge, Node, Swatch, arrow, own, quiet

FONT = "Helvetica,Arial,sans-serif"
GRAPH = {"labelloc": "t", "labeljust": "l", "fontname": FONT, "fontsize": "14", "ranksep": "0.35", "nodesep": "0.25"}
NODE = {"shape": "box", "style": "rounded,filled", "fontname": FONT, "fontsize": "11"}
NODE |= {"margin": "0.12,0.06", "height": "0.3", "width": "0.5"}
GREY, LIGHT_GREY, NEW = "#59636e", "#8a929c", "#1a7f37"
LINE, WIDE = 64, 0.6  # letters in a line of the head; the width of one, of its height, in the widest usual font
WORDED, LEAST_PATH = 27, 14  # letters of a name that has words, and of the path in it at least
LEAST_STEP = 6  # letters of a step of a path that is shortened
SIGN = 20  # the side of the sign of a larger kernel, points
EDGE = {"fontname": FONT, "fontsize": "9", "color": GREY, "fontcolor": GREY, "arrowsize": "0.6"}


class Markup(str):
    """A label in Graphviz's HTML-like syntax, already escaped."""


@output(".dot", ".gv")
def write(picture: Picture) -> bytes:
    """The drawing after growth, with a legend."""
    return dot(picture.drawing).encode()


def dot(drawing: Drawing) -> str:
    """A drawing in DOT."""
    if drawing.level == "groups":
        drawing = spine_of(drawing)
    numbers = {node.key: f"n{i}" for i, node in enumerate(drawing.nodes)}
    swatches = {swatch.name: swatch for swatch in drawing.legend}
    lines = ["digraph fxgrow {", *(f"  {line}" for line in _head(drawing))]
    homes: dict[str, list[Node]] = {}
    for node in drawing.nodes:
        homes.setdefault(node.home, []).append(node)
    for i, (home, nodes) in enumerate(homes.items()):
        inside = [_node(node, numbers[node.key], swatches.get(node.group)) for node in nodes]
        lines += _cluster(f"cluster{i}", home, inside) if home else [f"  {line}" for line in inside]
    silent = frozenset(node.key for node in drawing.nodes if quiet(node))
    groups = {node.key: node.group for node in drawing.nodes}
    hanging, alone = loose(drawing.nodes, drawing.edges)
    lines += [f"  {numbers[a]} -> {numbers[b]} [style=invis]" for a, b in zip(alone, alone[ROW:], strict=False)]
    for edge in drawing.edges:
        if edge.spine:
            line = colour(swatches.get(groups[edge.source]))[1]
            shown = {"dir": "none", "penwidth": "5", "weight": "100", "color": f"{line}8c", "tooltip": edge.tip}
            lines.append(f"  {numbers[edge.source]} -> {numbers[edge.target]} [{_attributes(shown)}]")
        elif edge.when != "before":
            lines.append(f"  {_edge(edge, numbers, silent, hanging)}")
    return "\n".join([*lines, "}", ""])


def _head(drawing: Drawing) -> Iterator[str]:
    edges = len(drawing.edges)
    effort = {"nslimit": "2", "mclimit": "0.5"} if edges > MANY else {}
    if edges > VERY_MANY:
        effort |= {"nslimit": "0.5", "nslimit1": "0.5", "mclimit": "0.1", "splines": "polyline"}
    yield f"graph [{_attributes({'label': _title(drawing), **GRAPH, **effort})}]"
    yield f"node [{_attributes(NODE)}]"
    yield f"edge [{_attributes(EDGE)}]"


def _cluster(name: str, home: str, inside: Iterable[str]) -> list[str]:
    head = {"label": home, "labeljust": "l", "style": "rounded", "color": "#c6ccd3", "fontname": FONT, "fontsize": "10"}
    head |= {"fontcolor": GREY}
    return [f"  subgraph {name} {{", f"    graph [{_attributes(head)}]", *(f"    {line}" for line in inside), "  }"]


def _node(node: Node, name: str, swatch: Swatch | None) -> str:
    fill, line = colour(swatch)
    shown = {"label": _label(node), "tooltip": tip(node), "fillcolor": fill, "color": line}
    if node.state == PINNED:
        shown |= {"style": "rounded,filled,dashed"}
    elif node.kind in ("input", "output"):
        shown |= {"fillcolor": "#f7f8fa"}
    elif quiet(node):
        shown |= {"fillcolor": "#ffffff", "color": "#c6ccd3", "fontcolor": GREY, "fontsize": "9", "height": "0.2"}
    if node.kind == "join" and not own(node):
        shown |= {"shape": "ellipse", "margin": "0.02", "height": "0.2"}
    if node.new:
        shown |= {"peripheries": "2", "color": NEW, "style": "rounded,filled,bold"}
    elif node.state == GROWS:
        shown |= {"penwidth": "1.8"}
    return f"{name} [{_attributes(shown)}]"


def _label(node: Node) -> Markup:
    lines = [f"<B>{html.escape(arrow(node.size))}</B>"] if any(node.size) else []
    if node.what or node.new or node.times > 1:
        words = ["new:" if node.new else "", node.what, f"×{node.times}" if node.times > 1 else ""]
        lines.append(html.escape(" ".join(filter(None, words))))
    if own(node) and not node.segment:
        lines.append(f"<FONT POINT-SIZE='9'>{html.escape(short(own(node)))}</FONT>")
    text = "<BR/>".join(lines) or html.escape(node.key)
    return Markup(text if node.kernel is None else _beside(text, _kernel(*node.kernel)))


def _beside(text: str, sign: str) -> str:
    table = "<TABLE BORDER='0' CELLBORDER='0' CELLSPACING='0' CELLPADDING='2'>"
    return f"{table}<TR><TD>{text}</TD><TD>{sign}</TD></TR></TABLE>"


def _kernel(old: KernelSize, new: KernelSize) -> str:
    """A kernel before growth, filled, inside the outline of that after it, true to scale."""
    size = SIGN / max(new)
    (height, width), (high, wide) = ((*[1] * (2 - len(k)), *k)[-2:] for k in (old, new))
    table = "<TABLE CELLBORDER='0' CELLSPACING='0' CELLPADDING='0'"
    inner = f"{_sides(width * size, height * size)} BGCOLOR='{NEW}'"
    filled = f"{table} BORDER='0'><TR><TD {inner}></TD></TR></TABLE>"
    outline = f"BORDER='1' COLOR='{NEW}' {_sides(wide * size + 2, high * size + 2)}"
    return f"{table} {outline}><TR><TD {_sides(wide * size, high * size)}>{filled}</TD></TR></TABLE>"


def _sides(width: float, height: float) -> str:
    return f"FIXEDSIZE='TRUE' WIDTH='{width:.0f}' HEIGHT='{height:.0f}'"


def short(name: str, limit: int = 34) -> str:
    """A name in about `limit` characters: the words around a path ("heads of", "per head") and the end of the path."""
    before, of, rest = name.rpartition(" of ")
    path, _, after = rest.partition(" ")
    words = len(before + of) + len(after) + bool(after)
    if not words:
        return _short_path(name, limit)
    return f"{before}{of}{_short_path(path, max(min(limit, WORDED) - words, LEAST_PATH))}{' ' if after else ''}{after}"


def _short_path(path: str, limit: int) -> str:
    """The last steps of a long path; a number keeps the step before it."""
    if len(path) <= limit:
        return path
    steps = path.split(".")
    while len(steps) > 1 and len(".".join(steps)) >= limit and not steps[1].isdigit():
        del steps[0]
    first, rest = steps[0], "".join(f".{step}" for step in steps[1:])
    dropped = "…" * (path != ".".join(steps))
    room = max(2, limit - len(dropped) - len(rest))
    if len(first) > room < LEAST_STEP and 1 < len(rest) <= limit:
        return f"…{rest[1:]}"
    if len(first) > room:  # both its ends may tell it from others
        end = (room - 1) // 2
        first = f"{first[: room - 1 - end]}…{first[len(first) - end :]}"
    found = f"{dropped}{first}{rest}"
    return found if len(found) <= limit else f"…{path[1 - limit :]}"


def tip(node: Node) -> str:
    """The tooltip of a box: path, reason, parameters and the parts folded into it."""
    lines = [node.path or node.key, node.reason, f"{node.parameters[1]:,} parameters" if node.parameters[1] else ""]
    return "\n".join([*filter(None, lines), *(f"with {name}" for name in node.inside[:12])])


def _edge(edge: Edge, names: Mapping[str, str], silent: frozenset[str], hanging: frozenset[str]) -> str:
    label = edge.label or edge.shapes[1]
    shown = {"tooltip": edge.tip or label or " ", "label": f"  {label} "} if label else {"tooltip": edge.tip or " "}
    ends = names[edge.source], names[edge.target]
    if edge.skip or (not label and {edge.source, edge.target} & silent):
        shown |= {"color": LIGHT_GREY}
    else:
        shown |= {"weight": "40" if edge.main else "4"}
    if edge.back and edge.skip:
        shown |= {"style": "dashed", "arrowhead": "none"}
        if edge.source in hanging:
            ends = ends[::-1]
        else:
            shown["constraint"] = "false"
    elif edge.back and edge.source != edge.target:  # drawn from the upper box, so that it does not affect the ranks
        ends, shown["dir"] = ends[::-1], "back"
    if edge.when == "after" or "→" in edge.label:  # a new layer, or a larger kernel
        shown |= {"color": NEW, "fontcolor": NEW} | ({"penwidth": "2"} if "→" in edge.label else {})
    return f"{ends[0]} -> {ends[1]} [{_attributes(shown)}]"


def _title(drawing: Drawing) -> Markup:
    """The title, and below it the legend."""
    grey = f"<FONT COLOR='{GREY}' POINT-SIZE='10'>"
    signs = ["grey, dashed: pinned"] if any(node.state == PINNED for node in drawing.nodes) else []
    if any(node.new for node in drawing.nodes) or any(edge.when == "after" for edge in drawing.edges):
        signs.append("green outline: new")
    if any(node.kernel for node in drawing.nodes) or any("→" in edge.label for edge in drawing.edges):
        signs.append("green square or arrow: larger kernel")
    if any(edge.skip and not edge.back for edge in drawing.edges):
        signs.append("light: skip connection")
    if any(edge.skip and edge.back for edge in drawing.edges):
        signs.append("dashed line: factors of one dimension")
    shown = [swatch for swatch in drawing.legend if swatch.state != PINNED] if drawing.level != "groups" else []
    columns = 3 if all(len(swatch.name) <= 20 for swatch in shown) else 2
    row = "<TR><TD ALIGN='LEFT'>"
    rows = [_row(f"<B>{html.escape(drawing.title)}</B>", WIDE * 14 * len(drawing.title))]
    for line in textwrap.wrap("; ".join(["one colour, one width", *signs]), LINE):
        rows.append(_row(f"{grey}{html.escape(line)}</FONT>", WIDE * 10 * len(line)))
    cells = [_legend_cell(swatch, grey) for swatch in shown[:LEGEND]]
    if len(shown) > LEGEND:
        cells.append(f"<TD></TD><TD ALIGN='LEFT'>{grey}and {len(shown) - LEGEND} more</FONT></TD>")
    lines = [f"<TR>{''.join(cells[i : i + columns])}</TR>" for i in range(0, len(cells), columns)]
    if lines:  # a nested table, because a long title would stretch its columns
        rows.append(f"{row}<TABLE BORDER='0' CELLBORDER='0' CELLSPACING='3'>{''.join(lines)}</TABLE></TD></TR>")
    return Markup(f"<TABLE BORDER='0' CELLBORDER='0' CELLSPACING='3'>{''.join(rows)}</TABLE>")


def _row(text: str, width: float) -> str:
    return f"<TR><TD ALIGN='LEFT' BALIGN='LEFT' WIDTH='{width:.0f}'>{text}</TD></TR>"


def _legend_cell(swatch: Swatch, grey: str) -> str:
    text = f"{html.escape(arrow(swatch.size))} {html.escape(short(swatch.name, 40))}"
    box = f"<TD BGCOLOR='{colour(swatch)[0]}' FIXEDSIZE='TRUE' WIDTH='16' HEIGHT='12'></TD>"
    return f"{box}<TD ALIGN='LEFT'>{grey}{text}</FONT></TD>"


def _attributes(shown: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={_quoted(value)}" for key, value in shown.items())


def _quoted(value: str) -> str:
    if isinstance(value, Markup):
        return f"<{value}>"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
