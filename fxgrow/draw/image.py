"""SVG and PNG by Graphviz: the one that pygraphviz's wheels hold (the extra `viz`), or a `dot` on the PATH."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from importlib import import_module
from importlib.util import find_spec

from ..errors import DrawError
from .registry import Picture, output, writer


@output(".svg", ".png", ".pdf")
def write(picture: Picture) -> bytes:
    """The drawing after growth, with a legend.

    Raises:
        DrawError: There is no Graphviz, or it failed.
    """
    text, kind = writer(".dot")(picture).decode(), picture.suffix.removeprefix(".")
    if find_spec("pygraphviz") is not None:
        return _by_wheel(text, kind)
    program = shutil.which("dot")
    if program is None:
        raise DrawError(
            f"a {picture.suffix} needs Graphviz: pip install 'fxgrow[viz]', or a dot on the PATH; "
            "without, draw a .html, which lays itself out in the browser, or a .dot, .mmd or .txt"
        )
    found = subprocess.run([program, f"-T{kind}"], input=text.encode(), capture_output=True, check=False)
    if found.returncode:
        raise DrawError(f"dot failed: {found.stderr.decode(errors='replace').strip()[:300]}")
    return found.stdout


def _by_wheel(text: str, kind: str) -> bytes:
    pygraphviz = import_module("pygraphviz")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # what Graphviz says of fonts
            drawn: bytes = pygraphviz.AGraph(string=text).draw(format=kind, prog="dot")
    except (OSError, ValueError) as error:
        raise DrawError(f"Graphviz failed: {str(error)[:300]}") from error
    return drawn
