"""A drawing as a file, or as an object that a notebook shows."""

from __future__ import annotations

import errno
import os
from os import PathLike
from pathlib import Path

from ..base.progress import step
from ..base.scalars import as_int
from ..base.wording import a_type
from ..errors import DrawError
from ..model.example_inputs import ExampleInputs
from .given import Drawable, source_of
from .inline import Inline, slim
from .measures import checked_data
from .registry import MANY, PAGES, Picture, drawing, opening, shows_data, writer
from .source import Source
from .view import Drawing, Level

LOWEST, HIGHEST = 100, 10_000  # the height of a page in a cell, pixels


def render(
    model: Drawable, suffix: str, level: Level | None, example_inputs: ExampleInputs | None, data: object = None
) -> tuple[str, bytes]:
    """Draw what is given.

    Args:
        model: What `source_of` takes.
        suffix: The format, as the suffix of a file.
        level: The level of detail; None: the one that `opening` chooses.
        example_inputs: Of a model or a student; None: the plan's, or guessed.
        data: Numbers of the user by the name of a module or a width; None for none.

    Returns:
        The title and the content of the file.

    Raises:
        DrawError: There is nothing to draw, no such level or suffix, or `data` is not of this model or this format.
        GrowError: The model cannot be traced, or the plan is another model's.
    """
    write = writer(suffix)
    if data is not None and not shows_data(suffix):
        raise DrawError(f"{suffix} does not show data; draw {' or '.join(PAGES)}")
    source = source_of(model, example_inputs)
    numbers = checked_data(data, source)
    with step("drawing"):
        shown = opening(source) if level is None else drawing(source, level)
        return shown.title, write(Picture(shown, source, suffix, numbers))


def inline(
    model: Drawable, level: Level | None, example_inputs: ExampleInputs | None, height: object, data: object = None
) -> Inline:
    """Draw what is given for a notebook: as a page, as text, and as a picture where that is possible.

    Args:
        model: What `source_of` takes.
        level: As for `render`.
        example_inputs: As for `render`.
        height: The height of the page in a cell, pixels.
        data: As for `render`; the page shows it.

    Raises:
        DrawError: As `render`, or the height is no number of pixels.
        GrowError: As `render`.
    """
    pixels = as_int(height)
    if pixels is None or not LOWEST <= pixels <= HIGHEST:
        raise DrawError(f"height is {height!r:.60}; expected an int from {LOWEST} to {HIGHEST:,}, in pixels")
    source = source_of(model, example_inputs)
    numbers = checked_data(data, source)
    with step("drawing"):
        shown = opening(source) if level is None else drawing(source, level)
        page = writer(".html")(Picture(shown, source, ".html", numbers, notebook=True)).decode()
        text = writer(".txt")(Picture(shown, source, ".txt")).decode()
        return Inline(shown.title, page, text, _picture(shown, source), pixels)


def _picture(shown: Drawing, source: Source) -> str:
    """The drawing as SVG; "" where it is large, or where there is no Graphviz."""
    if len(shown.edges) > MANY:
        return ""
    try:
        drawn = writer(".svg")(Picture(shown, source, ".svg")).decode()
    except DrawError:
        return ""
    return slim(drawn[drawn.index("<svg") :])


def target_of(path: object) -> Path:
    """The file that a path names, in a folder that exists, with a suffix of a format.

    Raises:
        DrawError: It is no path, or no format has the suffix.
        FileNotFoundError: There is no such folder.
    """
    name = os.fspath(path) if isinstance(path, str | PathLike) else path
    if not isinstance(name, str):
        raise DrawError(f"path is {a_type(path)}; expected a str or a path")
    target = Path(name)
    writer(target.suffix.lower())
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(target))
    return target
