"""Drawings of width graphs and plans. Importing this package registers the levels and the file formats.

In: a model, a width graph, a plan or a student. Out: a `Drawing` of boxes and arrows at one of four levels, and a file
in the format of its suffix. Levels know no formats, and formats know no levels.
"""

from . import dot, flow, groups, html, image, mermaid, text
from .given import Drawable, source_of
from .inline import Inline
from .registry import Picture, drawing, opening, outputs, writer
from .source import Source
from .view import LEVELS, Drawing, Edge, Level, Node, Swatch

__all__ = [
    "LEVELS",
    "Drawable",
    "Drawing",
    "Edge",
    "Inline",
    "Level",
    "Node",
    "Picture",
    "Source",
    "Swatch",
    "dot",
    "drawing",
    "flow",
    "groups",
    "html",
    "image",
    "mermaid",
    "opening",
    "outputs",
    "source_of",
    "text",
    "writer",
]
