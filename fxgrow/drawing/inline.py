"""A drawing in a notebook: the page of `html.py` in an iframe."""

from __future__ import annotations

import html
from dataclasses import dataclass, field

HEIGHT = 640  # height of the iframe in pixels


@dataclass(frozen=True, slots=True)
class Inline:
    """A page that a notebook displays. Needs no extra packages and no network.

    Attributes:
        title: The title of the drawing.
        page: The complete HTML document.
    """

    title: str
    page: str = field(repr=False)

    def _repr_html_(self) -> str:
        """The page in an iframe, which isolates its styles and scripts."""
        style = f"width: 100%; height: {HEIGHT}px; border: 1px solid #c6ccd3"
        return f'<iframe title="{html.escape(self.title)}" style="{style}" srcdoc="{html.escape(self.page)}"></iframe>'
