"""The result of `fxgrow.scores`: a number for each width, as a mapping, as text and as HTML."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..base.fitted import fitted_text, paragraph
from ..base.tables import html_table
from ..base.wording import first_of

_HEADINGS = ("width", "size", "score", "made by", "read by", "not counted")
_PLACES = ("new layer or block", "follows", "score")
_SHOWN = 3  # layers in a cell


@dataclass(frozen=True, slots=True)
class Score:
    """What one width is worth to grow.

    Attributes:
        name: The width.
        size: Its channels.
        value: The score, at least 0. It is compared with those of other widths of the same call only.
        makers: The layers whose new rows were considered, by their paths.
        readers: The layers whose new columns were considered.
        parts: Of what the value is the root of the sum of squares: for "gradmax" the largest singular values, for
            "firefly" the length of the gradient for each new channel, for "tiny" what new channels give each reader.
        not_counted: Pairs of layers that meet in the width, whose positions could not be told apart.
    """

    name: str
    size: int
    value: float
    makers: tuple[str, ...]
    readers: tuple[str, ...]
    parts: tuple[float, ...]
    not_counted: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """What one new layer or block would gain.

    Attributes:
        path: Where it is in a student that has all of them.
        follows: The layer that it follows, or the block that it is a clone of.
        value: The length of the loss's gradient with respect to its parameters, as they are when it is new. It is
            compared with those of other places of the same call only.
    """

    path: str
    follows: str
    value: float


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Scores(Mapping[str, float]):
    """What each width is worth to grow: a mapping from names to numbers, the largest first, as `Budget` takes it.

    Attributes:
        kind: What was measured.
        rows: One per width, the largest first.
        left_out: Widths that have none, each with its reason.
        places: What new layers and blocks would gain, the largest first, where these were asked for.
    """

    kind: str
    rows: tuple[Score, ...]
    left_out: Mapping[str, str]
    places: tuple[Place, ...] = ()

    def __getitem__(self, name: str) -> float:
        return self.row(name).value

    def __iter__(self) -> Iterator[str]:
        return iter([row.name for row in self.rows])

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, name: str) -> Score:
        """The details of a width.

        Raises:
            KeyError: It has no score; the message says why.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"{name!r:.80} has no score: {self.left_out.get(name, 'there is no such width')}")

    def __str__(self) -> str:
        notes = [paragraph(f"note: {name} has no score: {reason}") for name, reason in self.left_out.items()]
        shown = [fitted_text((_HEADINGS[: self._columns()], self._cells()))]
        shown += [f"\n{fitted_text((_PLACES, self._of_places()))}"] * bool(self.places)
        return "\n\n".join(["\n".join([self._title(), *shown]), *notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        notes = (f"<p>note: {html.escape(f'{n} has no score: {reason}')}</p>" for n, reason in self.left_out.items())
        shown = html_table(_HEADINGS[: self._columns()], self._cells())
        shown += html_table(_PLACES, self._of_places()) if self.places else ""
        return f"<p><b>{html.escape(self._title())}</b></p>{shown}{''.join(notes)}"

    def _of_places(self) -> list[tuple[str, ...]]:
        return [(place.path, place.follows, f"{place.value:.3g}") for place in self.places]

    def _title(self) -> str:
        return f"Scores ({self.kind}): {len(self.rows)} width{'s' * (len(self.rows) != 1)}"

    def _columns(self) -> int:
        return len(_HEADINGS) - (not any(row.not_counted for row in self.rows))

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (
                row.name,
                str(row.size),
                f"{row.value:.3g}",
                first_of(row.makers, _SHOWN),
                first_of(row.readers, _SHOWN),
                first_of([f"{maker} to {reader}" for maker, reader in row.not_counted], _SHOWN),
            )[: self._columns()]
            for row in self.rows
        ]
