"""A drawing as a file, or as an object that a notebook shows."""

from __future__ import annotations

import errno
import os
from os import PathLike
from pathlib import Path

from ..base.wording import a_type
from ..errors import DrawError
from ..model.example_inputs import ExampleInputs
from .given import Drawable, source_of
from .inline import Inline
from .registry import Picture, drawing, opening, writer
from .view import Level


def render(
    model: Drawable,
    path: str | PathLike[str] | None = None,
    level: Level | None = None,
    example_inputs: ExampleInputs | None = None,
) -> Path | Inline:
    """Draw what is given, and write it. What is wrong with the path shows before the work.

    Args:
        model: What `source_of` takes.
        path: The file, whose suffix says the format; None: no file, and HTML.
        level: The level of detail; None: the one that `opening` chooses.
        example_inputs: Of a model or a student; None: the plan's, or guessed.

    Returns:
        The path, or without one the page as an object.

    Raises:
        DrawError: There is nothing to draw, or no such level or suffix.
        GrowError: The model cannot be traced, or the plan is another model's.
        FileNotFoundError: There is no such folder.
    """
    target = None if path is None else _target(path)
    suffix = ".html" if target is None else target.suffix.lower()
    write = writer(suffix)
    source = source_of(model, example_inputs)
    shown = opening(source) if level is None else drawing(source, level)
    drawn = write(Picture(shown, source, suffix))
    if target is None:
        return Inline(shown.title, drawn.decode())
    target.write_bytes(drawn)
    return target


def _target(path: object) -> Path:
    """The file that a path names, in a folder that exists."""
    name = os.fspath(path) if isinstance(path, str | PathLike) else path
    if not isinstance(name, str):
        raise DrawError(f"path is {a_type(path)}; expected a str or a path")
    target = Path(name)
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(target))
    return target
