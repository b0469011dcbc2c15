"""The tables of levels and of outputs: a decorated function for each, in a file of its own or beside its like."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from ..errors import DrawError
from .colours import recoloured
from .source import Source
from .view import LEVELS, Drawing, Level, Swatch

Build = Callable[[Source], Drawing]
Write = Callable[["Picture"], bytes]

READABLE = 60  # boxes that one can take in at once
LEGEND = 12  # widths in a legend that stands still; more than that nobody reads
MANY, VERY_MANY = 250, 800  # arrows from which on Graphviz is told to take less trouble

_BUILDERS: dict[Level, Build] = {}
_WRITERS: dict[str, Write] = {}


@dataclass(frozen=True, slots=True)
class Picture:
    """What an output is given.

    Attributes:
        drawing: At the level that was asked for.
        source: For outputs that show every level.
        suffix: The one that the file has.
    """

    drawing: Drawing
    source: Source
    suffix: str


def level(name: Level) -> Callable[[Build], Build]:
    """Register the function that draws a level."""

    def register(build: Build) -> Build:
        if name in _BUILDERS or name not in LEVELS:
            raise ValueError(f"level {name!r} is drawn already, or is none")
        _BUILDERS[name] = build
        return build

    return register


def output(*suffixes: str) -> Callable[[Write], Write]:
    """Register the function that writes files with some suffixes."""

    def register(write: Write) -> Write:
        for suffix in suffixes:
            if suffix in _WRITERS or not suffix.startswith("."):
                raise ValueError(f"suffix {suffix!r} is written already, or is none")
            _WRITERS[suffix] = write
        return write

    return register


def outputs() -> Mapping[str, Write]:
    """What writes files, by suffix."""
    return MappingProxyType(_WRITERS)


def writer(suffix: str) -> Write:
    """What writes files with a suffix.

    Raises:
        DrawError: Nothing does.
    """
    if suffix not in _WRITERS:
        raise DrawError(f"nothing draws {suffix or 'a file without a suffix'}; there are {', '.join(sorted(_WRITERS))}")
    return _WRITERS[suffix]


def drawing(source: Source, name: str) -> Drawing:
    """What a source looks like at a level.

    Raises:
        DrawError: There is no such level, or none of this source.
    """
    return next(drawings(source, name))


def drawings(source: Source, *names: str) -> Iterator[Drawing]:
    """The same at some levels. At each of them a width has one colour: the sparsest has the first choice."""
    for name in names:
        if name not in LEVELS:
            raise DrawError(f"no level {name!r}; there are {', '.join(LEVELS)}")
        if name not in source.levels:
            raise DrawError(f"a plan alone has no graph to draw {name} of: give (widths, plan), or the student")
    least = _BUILDERS[sparsest(source)](source)
    legend = palette(source, least)
    for name in source.levels:
        if name in names:
            found = least if name == least.level else _BUILDERS[name](source)
            yield replace(found, legend=tuple(legend[swatch.name] for swatch in found.legend))


def sparsest(source: Source) -> Level:
    """The level with the fewest boxes."""
    return "blocks" if "blocks" in source.levels else "groups"


def palette(source: Source, least: Drawing) -> dict[str, Swatch]:
    """All widths, in colours that differ most at the sparsest level."""
    return recoloured(source.legend, dict.fromkeys(node.group for node in least.nodes))


def opening(source: Source) -> Drawing:
    """The most telling level that reads at once: groups, or blocks where there are none of these, or too many."""
    levels = drawings(source, *source.levels)
    groups = next(levels)
    if 0 < len(groups.nodes) <= READABLE:
        return groups
    return next((one for one in levels if one.nodes), groups)
