"""One HTML file with all levels. The browser lays them out; the file loads nothing.

A file contains Graphviz, compiled to WebAssembly: vendor/graphviz.js, the minified module of @hpcc-js/wasm-graphviz. A
page in a notebook contains dagre instead, a layout engine of a twentieth of its size: vendor/dagre.js.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
import html
import json
import re
from pathlib import Path
from typing import Any

from .colours import DARK, LIGHT, colour, ramp
from .overview import Entry, entries, totals
from .registry import MANY, PAGES, VERY_MANY, Picture, drawings, output, palette, sparsest
from .source import Source
from .view import SIGNS, Drawing, Edge, Node, Swatch, quiet

PAGE = Path(__file__).with_name("page")
SCRIPTS = (
    "layout.js",
    "shown.js",
    "open.js",
    "only.js",
    "spine.js",
    "picture.js",
    "panel.js",
    "strip.js",
    "changes.js",
    "colour.js",
    "map.js",
    "print.js",
    "keep.js",
    "spec.js",
    "controls.js",
)  # joined to one module
GRAPHVIZ, DAGRE = (Path(__file__).with_name("vendor") / name for name in ("graphviz.js", "dagre.js"))
CONTAINS = {
    False: "@hpcc-js/wasm-graphviz\n(Apache License 2.0), which contains Graphviz (Eclipse Public License 2.0).",
    True: "dagre (MIT License).",
}


@output(*PAGES)
def write(picture: Picture) -> bytes:
    """All levels, opened at the one of the picture."""
    data = json.dumps(_data(picture), ensure_ascii=False, separators=(",", ":"))
    parts = {
        "title": html.escape(picture.drawing.title),
        "style": _read("page.css"),
        "data": _packed(data),
        "engine": "dagre" if picture.notebook else "graphviz",
        "contains": CONTAINS[picture.notebook],
        "graphviz": _dagre() if picture.notebook else _graphviz(),
        "script": "\n".join(map(_read, SCRIPTS)),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _read("page.html")).encode()


def data_of(page: str) -> Any:
    """The data in a page, as the browser reads it."""
    found = re.search(r'id="data">([^<]*)<', page)
    if found is None:
        raise ValueError("there is no data in this page")
    return json.loads(gzip.decompress(base64.b64decode(found[1])))


def _read(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


def _graphviz() -> str:
    """The module as a script for a worker: what it exports is a global, since no page can import from itself."""
    text = GRAPHVIZ.read_text(encoding="utf-8").rstrip()
    exported = re.search(r"export\{[^{}]*?([\w$]+) as Graphviz\b[^{}]*\};?$", text[-1000:])
    if exported is None or "</script" in text or "<!--" in text:
        raise ValueError(f"{GRAPHVIZ.name} is not a module that exports Graphviz")
    return f"{text[: -len(exported[0])]}\nglobalThis.fxgrowGraphviz = {exported[1]};"


def _packed(text: str) -> str:
    """Text for `unpacked` of layout.js: compressed by gzip, in base64."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _dagre() -> str:
    """The small layout engine, as a script for a worker."""
    text = DAGRE.read_text(encoding="utf-8")
    terms = DAGRE.with_name("LICENSE.dagre").read_text(encoding="utf-8")
    return _packed(f"/*\n{terms}*/\n{text}\n{_read('small.js')}")


def _data(picture: Picture) -> dict[str, Any]:
    source = picture.source
    levels = {one.level: one for one in drawings(source, *source.levels)}
    parameters, flops = totals(source)
    classes = {path: kind.__name__ for path, kind in source.widths.traced.classes.items()}
    return {
        "title": picture.drawing.title,
        "notes": picture.drawing.notes,
        "grows": picture.drawing.grows,
        "opening": picture.drawing.level,
        "many": [MANY, VERY_MANY],
        "blank": {"node": _blank(Node), "edge": _blank(Edge)},
        "levels": {name: _level(one) for name, one in levels.items()},
        "legend": [_swatch(swatch) for swatch in palette(source, levels[sparsest(source)]).values()],
        "ramp": [{"fill": fills, "line": lines} for fills, lines in ramp()],
        "classes": classes,
        "signs": SIGNS,
        "totals": {"parameters": parameters, "flops": flops},
        "alone": source.alone,
        "data": {"name": "data", "values": dict(picture.data)} if picture.data else None,
        "changes": [_filled(entry) for entry in entries(source, levels["groups"])],
        "ties": _ties(source, {node.start for one in levels.values() for node in one.nodes}),
    }


def _level(one: Drawing) -> dict[str, Any]:
    """The boxes and arrows of a drawing, and those it was folded from; another level only by its name."""
    level = {"nodes": [_brief(node) for node in one.nodes], "edges": [_brief(edge) for edge in one.edges]}
    if one.parts is None:
        return level
    same = {"level": one.parts.level} if one.parts.level != one.level else _level(one.parts)
    return level | {"parts": same | {"into": dict(one.into)}}


def _brief(one: Node | Edge) -> dict[str, Any]:
    """The attributes that differ from their defaults."""
    blank = _blank(type(one))
    changed = {
        field.name: value
        for field in dataclasses.fields(one)
        if blank.get(field.name) != (value := getattr(one, field.name))
    }
    return changed | ({"quiet": True} if isinstance(one, Node) and quiet(one) else {})


def _filled(entry: Entry) -> dict[str, Any]:
    """The attributes of an entry that are not empty."""
    return {name: value for name, value in dataclasses.asdict(entry).items() if value not in ("", (0, 0), 0, False)}


def _blank(kind: type[Node | Edge]) -> dict[str, Any]:
    fields = dataclasses.fields(kind)
    return {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}


def _swatch(swatch: Swatch) -> dict[str, Any]:
    """A swatch with its colours on a light and on a dark background."""
    light, dark = colour(swatch, LIGHT), colour(swatch, DARK)
    shown = dataclasses.asdict(swatch)
    return {name: shown[name] for name in ("name", "size", "state", "reason", "layers")} | {
        "fill": (light[0], dark[0]),
        "line": (light[1], dark[1]),
    }


def _ties(source: Source, wanted: set[str]) -> dict[str, tuple[str, str]]:
    """For each dimension the next one on its path to the first dimension of the width, and the operator between."""
    ties = source.widths.ties
    known: dict[str, tuple[str, str]] = {}
    for name in source.legend:
        members = source.widths.groups_by_name[name].members
        root = next((f"{t}[{d}]" for t, d in members if f"{t}[{d}]" in ties), "")
        if not root or root in known:
            continue
        towards = ties.towards(root)
        for start in sorted(wanted & towards.keys()):
            dim = start
            while dim in towards and dim not in known:
                known[dim] = towards[dim], ties.site(dim, towards[dim])
                dim = towards[dim]
    return known
