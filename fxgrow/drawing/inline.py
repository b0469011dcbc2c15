"""A drawing in a notebook: the page of `html.py` in an iframe, with a picture and a text for where no page may run."""

from __future__ import annotations

import html
from collections.abc import Container
from dataclasses import dataclass, field

HEIGHT = 640  # height of the iframe in pixels


@dataclass(frozen=True, slots=True)
class Inline:
    """A page that a notebook displays. Needs no extra packages and no network.

    A notebook that is not trusted, GitHub and nbconvert show the picture or the text instead of the page.

    Attributes:
        title: The title of the drawing.
        page: The complete HTML document.
        text: The drawing as text.
        svg: The drawing as SVG; "" where there is no Graphviz, or where it is too large for one picture.
        height: The height of the page in a cell, pixels.
    """

    title: str
    page: str = field(repr=False)
    text: str = field(default="", repr=False)
    svg: str = field(default="", repr=False)
    height: int = HEIGHT

    def _repr_html_(self) -> str:
        """The page in an iframe, which isolates its styles and scripts."""
        style = f"width: 100%; height: {self.height}px; border: 1px solid #c6ccd3"
        return f'<iframe title="{html.escape(self.title)}" style="{style}" srcdoc="{html.escape(self.page)}"></iframe>'

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        """The page, the picture and the text; the notebook shows the richest that it may."""
        forms = {"text/html": self._repr_html_(), "image/svg+xml": self.svg, "text/plain": self.text or repr(self)}
        return {
            kind: form
            for kind, form in forms.items()
            if form and (include is None or kind in include) and (exclude is None or kind not in exclude)
        }
