"""Drawings of widths and of what a plan does to them. Importing this package registers the levels and the outputs.

In: a model, a width graph, a plan or a student. Out: a `Drawing` of boxes and edges at one of four levels, and a file
of the kind that its suffix names. What is drawn is decided without regard to the kind of file, and the other way round.
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
