"""A drawing as a file, or as an object that a notebook shows."""

from __future__ import annotations

import errno
import os
from os import PathLike
from pathlib import Path

from ..base.progress import step
from ..base.wording import a_type
from ..errors import DrawError
from ..model.example_inputs import ExampleInputs
from .given import Drawable, source_of
from .registry import Picture, drawing, opening, writer
from .view import Level


def render(
    model: Drawable, suffix: str, level: Level | None, example_inputs: ExampleInputs | None
) -> tuple[str, bytes]:
    """Draw what is given.

    Args:
        model: What `source_of` takes.
        suffix: The format, as the suffix of a file.
        level: The level of detail; None: the one that `opening` chooses.
        example_inputs: Of a model or a student; None: the plan's, or guessed.

    Returns:
        The title and the content of the file.

    Raises:
        DrawError: There is nothing to draw, or no such level or suffix.
        GrowError: The model cannot be traced, or the plan is another model's.
    """
    write = writer(suffix)
    source = source_of(model, example_inputs)
    with step("drawing"):
        shown = opening(source) if level is None else drawing(source, level)
        return shown.title, write(Picture(shown, source, suffix))


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
