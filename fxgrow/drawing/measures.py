"""Numbers of the user for the layers of a drawing, checked before anything is drawn."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping

from ..base.scalars import as_number
from ..base.wording import a_type
from ..errors import DrawError
from ..model.example_inputs import brief
from .source import Source


def checked_data(data: object, source: Source) -> Mapping[str, float]:
    """The user's numbers by the name of a module or a width.

    Args:
        data: `{"layer3.0": 0.25}`; None for none.
        source: What is drawn.

    Raises:
        DrawError: It is no such mapping, a name is none of the drawing, or a number is not finite.
    """
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise DrawError(f'data is {a_type(data)}; expected numbers by the names of layers: {{"layer3.0": 0.25}}')
    known = dict.fromkeys(_names(source))
    return {_name(name, known, source): _number(name, value) for name, value in data.items()}


def _names(source: Source) -> Iterable[str]:
    """The modules and the widths of the drawing."""
    yield from filter(None, source.widths.traced.classes)
    yield from source.legend
    for swatch in source.legend.values():
        yield from swatch.layers
    yield from source.new_paths


def _name(name: object, known: Mapping[str, None], source: Source) -> str:
    for one in (name, source.widths.named(name)) if isinstance(name, str) else ():
        if one in known:
            return one
    close = difflib.get_close_matches(str(name), known, 3, 0.5) or [*known][:3]
    raise DrawError(f"data names {brief(name)}, which is no layer or width of the drawing, as {', '.join(close)}")


def _number(name: object, value: object) -> float:
    number = as_number(value)
    if number is None or isinstance(value, bool) or not abs(number) <= sys.float_info.max:  # what JSON and JS hold
        raise DrawError(f"data[{name!r}] is {brief(value)}; expected a finite number")
    return number
