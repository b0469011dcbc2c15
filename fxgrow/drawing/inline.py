"""A drawing that a notebook shows: the page of `html.py`, in a frame of its own."""

from __future__ import annotations

import html
from dataclasses import dataclass, field

HEIGHT = 640  # of the frame, in pixels


@dataclass(frozen=True, slots=True)
class Inline:
    """A page that shows itself in a notebook, without any extra and without the network.

    Attributes:
        title: Of the drawing.
        page: The HTML, whole.
    """

    title: str
    page: str = field(repr=False)

    def _repr_html_(self) -> str:
        """The page in a frame, whose styles and scripts keep to themselves."""
        style = f"width: 100%; height: {HEIGHT}px; border: 1px solid #c6ccd3"
        return f'<iframe title="{html.escape(self.title)}" style="{style}" srcdoc="{html.escape(self.page)}"></iframe>'
