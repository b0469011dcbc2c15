"""A drawing in a notebook: the page of `html.py` in an iframe, with a picture and a text for where no page may run.

JupyterLab shows the HTML of a cell that is not trusted, too, without its iframes and styles. So the picture stands in
the HTML as an image, which a style hides where styles are kept.
"""

from __future__ import annotations

import html
import re
import zlib
from collections.abc import Container
from dataclasses import dataclass, field

HEIGHT = 640  # height of the iframe in pixels


@dataclass(frozen=True, slots=True)
class Inline:
    """A page that a notebook displays. Needs no extra packages and no network.

    A notebook that is not trusted shows the picture instead of the page.

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
        """The page in an iframe, which isolates its styles and scripts, and the picture, hidden by a style."""
        style = f"width: 100%; height: {self.height}px; border: 1px solid #c6ccd3"
        title = html.escape(self.title)
        frame = f'<iframe title="{title}" style="{style}" srcdoc="{html.escape(self.page)}"></iframe>'
        if not self.svg:
            return frame
        name = f"fxgrow-still-{zlib.crc32(self.page.encode()):08x}"  # its own: the style holds for the whole notebook
        hidden = f"<style>.{name} {{ display: none !important; }}</style>"
        return f'{frame}{hidden}<img class="{name}" alt="{title}" src="{_data_url(self.svg)}">'

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


def _data_url(svg: str) -> str:
    """The picture as the value of an attribute in double quotes."""
    url = svg.replace("%", "%25").replace("#", "%23").replace("\n", " ").replace('"', "'")
    return f"data:image/svg+xml,{html.escape(url, quote=False)}"


_UNSEEN = re.compile(  # in an image: comments, tooltips, names of elements, spaces kept where there are none
    r"<!--.*?-->\n?|</?a\b[^>]*>\n?|(?<=>)\n<title>[^<]*</title>|(?<=<g) id=\"[^\"]*\"|(?<=<g) class=\"[^\"]*\""
    r"|(?<=<text) xml:space=\"preserve\"(?=[^>]*>[^ <]+(?: [^ <]+)*</text>)",
    re.DOTALL,
)
_NUMBERS = re.compile(r' (?:d|points|x|y)="[^"]*"')
_FONT = re.compile(r' font-family="[^"]*"')


def slim(svg: str) -> str:
    """A picture by Graphviz without what an image does not show: comments, tooltips, hundredths of a point."""
    head, end, rest = svg.partition("</desc>")
    rest = _NUMBERS.sub(lambda numbers: re.sub(r"(\.\d)\d+", r"\1", numbers[0]), _UNSEEN.sub("", rest))
    fonts = set(_FONT.findall(rest))
    if len(fonts) == 1:  # the root states it once
        head, rest = head.replace("<svg", f"<svg{fonts.pop()}", 1), _FONT.sub("", rest)
    return f"{head}{end}{rest}"
