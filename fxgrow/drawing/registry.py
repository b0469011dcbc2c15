"""The tables of levels and of file formats; each entry is a decorated function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from ..errors import DrawError
from .colours import recoloured
from .shape import shape_of
from .source import Source
from .view import LEVELS, Drawing, Level, Swatch

Build = Callable[[Source], Drawing]
Write = Callable[["Picture"], bytes]

LEGEND = 12  # the largest number of widths in the legend of a static picture
MANY, VERY_MANY = 250, 800  # above these numbers of arrows Graphviz gets lower iteration limits

PAGES = (".html", ".htm")

_BUILDERS: dict[Level, Build] = {}
_WRITERS: dict[str, Write] = {}


@dataclass(frozen=True, slots=True)
class Picture:
    """The input of a file format.

    Attributes:
        drawing: The drawing at the requested level.
        source: What is drawn, for formats that contain all levels.
        suffix: The suffix of the file, with its dot.
        data: Numbers of the user by the name of a module or a width, to colour by.
        notebook: Whether it is for a notebook, which keeps all of its outputs: so it has to be small.
    """

    drawing: Drawing
    source: Source
    suffix: str
    data: Mapping[str, float] = field(default_factory=dict)
    notebook: bool = False


def level(name: Level) -> Callable[[Build], Build]:
    """Register the function that draws a level."""

    def register(build: Build) -> Build:
        if name in _BUILDERS or name not in LEVELS:
            raise ValueError(f"level {name!r} is already registered or not in LEVELS")
        _BUILDERS[name] = build
        return build

    return register


def output(*suffixes: str) -> Callable[[Write], Write]:
    """Register the function that writes files with these suffixes."""

    def register(write: Write) -> Write:
        for suffix in suffixes:
            if suffix in _WRITERS or not suffix.startswith("."):
                raise ValueError(f"suffix {suffix!r} is already registered or has no dot")
            _WRITERS[suffix] = write
        return write

    return register


def shows_data(suffix: str) -> bool:
    """Whether a format shows the user's numbers: the page does."""
    return suffix in PAGES


def outputs() -> Mapping[str, Write]:
    """The writers by suffix, as a read-only view."""
    return MappingProxyType(_WRITERS)


def writer(suffix: str) -> Write:
    """The writer for a suffix.

    Raises:
        DrawError: The suffix is unknown.
    """
    if suffix not in _WRITERS:
        what = f"suffix {suffix!r}" if suffix else "a file without a suffix"
        raise DrawError(f"cannot draw {what}; use one of {', '.join(sorted(_WRITERS))}")
    return _WRITERS[suffix]


def drawing(source: Source, name: str) -> Drawing:
    """The drawing of a source at a level.

    Raises:
        DrawError: The level is unknown, or the source is a plan without its model and has no graph.
    """
    return next(drawings(source, name))


def drawings(source: Source, *names: str) -> Iterator[Drawing]:
    """The drawings at some levels. A width has the same colour at all levels; see `palette`."""
    for name in names:
        if name not in LEVELS:
            raise DrawError(f"no level {name!r}; use one of {', '.join(LEVELS)}")
        if name not in source.levels:
            raise DrawError(f"level {name!r} needs a graph, and a plan has none: give (widths, plan) or the student")
    least = _BUILDERS[sparsest(source)](source)
    legend = palette(source, least)
    for name in source.levels:
        if name in names:
            drawn = least if name == least.level else _BUILDERS[name](source)
            yield replace(drawn, legend=tuple(legend[swatch.name] for swatch in drawn.legend))


def sparsest(source: Source) -> Level:
    """The level with the fewest boxes."""
    return "blocks" if "blocks" in source.levels else "groups"


def palette(source: Source, least: Drawing) -> dict[str, Swatch]:
    """The swatches of all widths by name, with the most distinct colours for those at the sparsest level."""
    return recoloured(source.legend, dict.fromkeys(node.group for node in least.nodes))


def opening(source: Source) -> Drawing:
    """The first drawing that reads at a glance, by its shape; if none does, the one that takes the least effort."""
    drawn: list[Drawing] = []
    for one in drawings(source, *source.levels):
        if one.nodes and shape_of(one).reads:
            return one
        drawn.append(one)
    return min((one for one in drawn if one.nodes), key=lambda one: shape_of(one).effort, default=drawn[0])
