"""SVG, PNG and PDF by Graphviz: the one in the wheels of pygraphviz (the extra `viz`), or `dot` on the PATH.

Graphviz draws the names of modules below the arrows. In an SVG they are moved above them.
"""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import warnings
from importlib import import_module
from importlib.util import find_spec

from ..base.wording import first_of
from ..errors import DrawError
from .registry import Picture, output, writer
from .view import GROWS, Drawing

SAID = 40  # widths in the description of a picture


@output(".svg", ".png", ".pdf")
def write(picture: Picture) -> bytes:
    """The drawing after growth, with a legend.

    Raises:
        DrawError: Graphviz is missing or failed.
    """
    text, kind = writer(".dot")(picture).decode(), picture.suffix.removeprefix(".")
    drawn = _drawn(text, kind)
    return _described(_names_above(drawn.decode()), picture.drawing).encode() if kind == "svg" else drawn


def _described(svg: str, drawing: Drawing) -> str:
    """The SVG with a role, a title and a description, for those who cannot see it."""
    grow = [f"{one.name} {one.size[0]} to {one.size[1]}" for one in drawing.legend if one.state == GROWS]
    parts = [f"{len(drawing.nodes)} boxes and {len(drawing.edges)} arrows.", *["Widths that grow:"] * bool(grow)]
    text = " ".join([*parts, first_of(grow, SAID, "; ")])
    head = f"<title>{html.escape(drawing.title)}</title>\n<desc>{html.escape(text.strip())}</desc>"
    return re.sub(r"<svg\b([^>]*)>", lambda tag: f'<svg role="img"{tag[1]}>\n{head}', svg, count=1)


def _drawn(text: str, kind: str) -> bytes:
    if find_spec("pygraphviz") is not None:
        return _by_wheel(text, kind)
    program = shutil.which("dot")
    if program is None:
        raise DrawError(
            f"a .{kind} needs Graphviz: pip install 'fxgrow[viz]', or a dot on the PATH; "
            "without it, draw a .html, which the browser lays out, or a .dot, .mmd or .txt"
        )
    result = subprocess.run([program, f"-T{kind}"], input=text.encode(), capture_output=True, check=False)
    if result.returncode:
        raise DrawError(f"dot failed: {result.stderr.decode(errors='replace').strip()[:300]}")
    return result.stdout


def _by_wheel(text: str, kind: str) -> bytes:
    pygraphviz = import_module("pygraphviz")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # warnings of Graphviz about fonts
            drawn: bytes = pygraphviz.AGraph(string=text).draw(format=kind, prog="dot")
    except (OSError, ValueError) as error:
        raise DrawError(f"Graphviz failed: {str(error)[:300]}") from error
    return drawn


_MODULE = re.compile(r'(<g [^>]*class="cluster">(?:(?!</g>).)*?)(<text (?:(?!</g>).)*</text>\n)', re.DOTALL)
_HALO = '<g stroke="white" stroke-width="3" stroke-linejoin="round" paint-order="stroke">'  # for arrows behind a name


def _names_above(svg: str) -> str:
    """The SVG with the names of modules moved to its end, so that they are drawn last."""
    names = [match[2] for match in _MODULE.finditer(svg)]
    rest, end, _ = _MODULE.sub(r"\1", svg).rpartition("</g>\n</svg>")
    return f"{rest}{_HALO}\n{''.join(names)}</g>\n{end}\n" if names else svg
