"""The result of `fxgrow.summary`: a table of layers before and after growth, as data, text and HTML."""

from __future__ import annotations

import csv
import html
import importlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..base.fitted import paragraph
from ..base.tables import COLUMNS, short, table
from ..base.tables import columns as width_of
from ..base.wording import first_of
from .fit import fit

Pair = tuple[int | None, int | None]  # before and after growth; None: the layer does not exist, or not known
UNKNOWN: Pair = (None, None)
WHEN = ("before", "after")

LISTED = 3  # layers that have one reason, and parts of a reason
HEADINGS = ("layer", "type", "width group", "width", "parameters", "FLOPs", "why it stays")


@dataclass(frozen=True, slots=True)
class Row:
    """A layer: a module with parameters or FLOPs that are not those of its submodules.

    Attributes:
        layer: Its path; "" for the model itself.
        kind: Its class.
        group: The layout of the dimension that it produces or carries, in width groups: "a + b", "heads*k"; "" if
            that is fixed.
        width: The size of that dimension before and after growth, channels.
        parameters: The number of its parameters, without submodules; a tied one counts at its first occurrence.
        flops: The FLOPs of its own code on the example inputs in eval mode, as torch counts them: 2 per multiply-add,
            of convolutions, matrix products and attention.
        why: The reason for which the width is fixed or grows by integer factors only; "" if it grows or can take any
            size.
        new: Whether the layer is new in the student.
    """

    layer: str
    kind: str
    group: str = ""
    width: Pair = UNKNOWN
    parameters: Pair = UNKNOWN
    flops: Pair = UNKNOWN
    why: str = ""
    new: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Summary:
    """A table of layers for terminals and notebooks, and for rich if that is installed.

    Attributes:
        title: The model, the number of widths and the example inputs, in one line.
        rows: One per layer, in the order of the model.
        parameters: The total number of parameters before and after growth; equal without a plan.
        flops: The total number of FLOPs before and after growth.
        notes: Notes of the trace or the plan, and on figures that are missing.
    """

    title: str
    rows: tuple[Row, ...]
    parameters: Pair = UNKNOWN
    flops: Pair = UNKNOWN
    notes: tuple[str, ...] = ()

    def data(self) -> dict[str, Any]:
        """The summary as plain data for JSON."""
        return {
            "title": self.title,
            "rows": [{name: getattr(row, name) for name in Row.__slots__} for row in self.rows],
            "total": {"parameters": self.parameters, "flops": self.flops},
            "notes": list(self.notes),
        }

    def cells(self, figure: Callable[[int], str] = "{:,}".format) -> list[tuple[str, ...]]:
        """The table as text, row by row, with the totals last.

        Args:
            figure: The format of a number of parameters or FLOPs.
        """
        every = [*self.rows, Row("total", "", parameters=self.parameters, flops=self.flops)]
        columns = [
            _column([getattr(row, name) for row in every], how)
            for name, how in (("width", "{:,}".format), ("parameters", figure), ("flops", figure))
        ]
        return [
            (row.layer or "(the model itself)", row.kind + " (new)" * row.new, row.group, *figures, row.why)
            for row, *figures in zip(every, *columns, strict=True)
        ]

    def __str__(self) -> str:
        return self.to_text(COLUMNS)

    def to_text(self, columns: int | None = None) -> str:
        """The summary as text.

        Args:
            columns: Of the terminal: a row takes one line, with shorter names and fewer columns where there is no room
                for all, and each reason that has no room stands below the table; None: as wide as it is.
        """
        cells = self.cells()
        used = [n for n in range(len(HEADINGS)) if n < 2 or any(row[n].strip() for row in cells)]
        shown = table([HEADINGS[n] for n in used], [[row[n] for n in used] for row in cells], limit=60)
        said = [self.title]
        if columns is not None and max(map(width_of, shown.splitlines())) > columns:
            headings, rows = fit(HEADINGS, self.cells(short), columns)
            shown = table(headings, rows, limit=60)
            said += self._reasons_left(headings, rows)
        said += [f"note: {note}" for note in self.notes]
        title, *notes = said if columns is None else [paragraph(text, columns) for text in said]
        return "\n\n".join([f"{title}\n{shown}", *notes])

    def _reasons_left(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
        """The reasons that a table with less room does not hold in full, each with its layers."""
        held = [row[-1] if headings[-1] == HEADINGS[-1] else "" for row in rows]
        layers: dict[str, list[str]] = {}
        for row, shown in zip(self.rows, held, strict=False):  # the totals are no row
            if row.why != shown:
                layers.setdefault(row.why, []).append(row.layer or "(the model itself)")
        return [
            f"{first_of(names, LISTED)}: {first_of(why.split('; '), LISTED, '; ')}" for why, names in layers.items()
        ]

    def to_markdown(self) -> str:
        """The table as Markdown."""
        rows = [[cell.strip().replace("|", "\\|") for cell in row] for row in self.cells()]
        lines = [HEADINGS, ["---", "---", "---", "---:", "---:", "---:", "---"], *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

    def to_csv(self) -> str:
        """The rows as comma-separated values, with the figures before and after growth in columns of their own."""
        text = io.StringIO()
        out = csv.writer(text, lineterminator="\n")
        figures = ("width", "parameters", "flops")
        out.writerow(["layer", "type", "width group", *(f"{f} {when}" for f in figures for when in WHEN), "why", "new"])
        for row in self.rows:
            numbers = [number for name in figures for number in getattr(row, name)]
            out.writerow([row.layer, row.kind, row.group, *numbers, row.why, row.new])
        return text.getvalue()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        style = "text-align:left;white-space:pre"
        head = "".join(f"<th style='{style}'>{heading}</th>" for heading in HEADINGS)
        rows = ("".join(f"<td style='{style}'>{html.escape(c)}</td>" for c in row) for row in self.cells())
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        notes = "".join(f"<p>note: {html.escape(note)}</p>" for note in self.notes)
        return f"<table><caption>{html.escape(self.title)}</caption><tr>{head}</tr>{body}</table>{notes}"

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:  # only rich calls it: it is installed
        """The table for `rich.print`, a row a line: widths that grow are bold, pinned ones dim."""
        text = importlib.import_module("rich.text").Text
        simple = importlib.import_module("rich.box").SIMPLE
        headings, shown = fit(HEADINGS, self.cells(short), options.max_width - 2, gap=2)
        made = importlib.import_module("rich.table").Table(title=text(self.title), title_justify="left", box=simple)
        for heading in headings:
            made.add_column(heading, no_wrap=True)
        *cells, total = shown
        for row, line in zip(self.rows, cells, strict=True):
            made.add_row(*map(text, line), style="bold" if row.width[0] != row.width[1] else "dim" if row.why else "")
        made.add_section()
        made.add_row(*map(text, total), style="bold")
        below = [*self._reasons_left(headings, shown), *(f"note: {note}" for note in self.notes)]
        made.caption = text("\n".join(below)) if below else None
        yield made


def _column(pairs: Sequence[Pair], how: Callable[[int], str]) -> list[str]:
    """A column of right-aligned figures: "old -> new" where they differ, blank where there are none."""
    text = [tuple("" if figure is None else how(figure) for figure in pair) for pair in pairs]
    wide = [max((len(pair[side]) for pair in text), default=0) for side in (0, 1)]
    if all(before == after for before, after in text):
        return [before.rjust(wide[0]) for before, _ in text]
    return [
        before.rjust(wide[0]) if before == after or not after else f"{before:>{wide[0]}} -> {after:>{wide[1]}}"
        for before, after in text
    ]
