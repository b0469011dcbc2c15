"""Drawings of widths and of what a plan does to them. Importing this package registers the levels and the outputs."""

from . import dot, flow, groups, html, image, mermaid, text
from .given import source_of
from .inline import Inline
from .registry import Picture, drawing, opening, outputs, writer
from .source import Source
from .view import LEVELS, Drawing, Edge, Level, Node, Swatch

__all__ = [
    "LEVELS",
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
