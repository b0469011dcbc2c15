"""One HTML file with every level, which lays itself out in the browser and loads nothing.

Graphviz comes along, compiled to WebAssembly: vendor/graphviz.js, the module of @hpcc-js/wasm-graphviz as its authors
minified it.
"""

from __future__ import annotations

import dataclasses
import html
import json
import re
from pathlib import Path
from typing import Any

import networkx as nx

from .registry import MANY, VERY_MANY, Picture, drawing, output
from .source import Source
from .view import Drawing

PAGE = Path(__file__).with_name("page")
GRAPHVIZ = Path(__file__).with_name("vendor") / "graphviz.js"


@output(".html", ".htm")
def write(picture: Picture) -> bytes:
    """Every level, opened at the one that was asked for."""
    page = {name: (PAGE / f"page.{name}").read_text(encoding="utf-8") for name in ("html", "css", "js")}
    data = json.dumps(_data(picture), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "title": html.escape(picture.drawing.title),
        "style": page["css"],
        "data": data,
        "graphviz": _graphviz(),
        "script": page["js"],
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], page["html"]).encode()


def _graphviz() -> str:
    """The module, which an inline script cannot import from, with what it exports for all to see."""
    text = GRAPHVIZ.read_text(encoding="utf-8")
    exported = re.search(r"([\w$]+) as Graphviz\b", text[-1000:])
    if exported is None or "</script" in text:
        raise ValueError(f"{GRAPHVIZ.name} is no module that exports Graphviz")
    return f"{text}\nglobalThis.fxgrowGraphviz = {exported[1]};"


def _data(picture: Picture) -> dict[str, Any]:
    source = picture.source
    drawings = [picture.drawing if name == picture.drawing.level else drawing(source, name) for name in source.levels]
    classes = {path: kind.__name__ for path, kind in source.widths.traced.classes.items()}
    return {
        "title": picture.drawing.title,
        "notes": picture.drawing.notes,
        "grows": picture.drawing.grows,
        "opening": picture.drawing.level,
        "many": [MANY, VERY_MANY],
        "levels": {one.level: _level(one) for one in drawings},
        "legend": [dataclasses.asdict(swatch) for swatch in source.legend.values()],
        "classes": classes,
        "ties": _ties(source, {node.start for one in drawings for node in one.nodes}),
    }


def _level(one: Drawing) -> dict[str, Any]:
    return {
        "nodes": [dataclasses.asdict(node) for node in one.nodes],
        "edges": [dataclasses.asdict(e) for e in one.edges],
    }


def _ties(source: Source, wanted: set[str]) -> dict[str, tuple[str, str]]:
    """From each dimension the next one on the way to the first of its width, and the operator that ties the two."""
    graph = source.widths.ties
    known: dict[str, tuple[str, str]] = {}
    for name in source.legend:
        members = source.widths.named[name].members
        root = next((f"{t}[{d}]" for t, d in members if f"{t}[{d}]" in graph), "")
        if not root or root in known:
            continue
        towards = dict(nx.bfs_predecessors(graph, root))
        for start in sorted(wanted & towards.keys()):
            at = start
            while at in towards and at not in known:
                known[at] = towards[at], graph.edges[at, towards[at]]["site"]
                at = towards[at]
    return known
