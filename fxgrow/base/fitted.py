"""Text in so many columns of a terminal: sentences are wrapped, names are shortened in their middle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from .tables import COLUMNS, Table, columns, cut, is_number, padded, shortened

GAP = "  "  # between two columns of a table
LEAST_NAME, LEAST_TEXT = 20, 12  # columns that are left of a name, and of a text that is wrapped
MOST = 240  # columns of a cell, in all its lines
LEAST = 4  # lines of a table that is cut


def wrapped(text: str, room: int = COLUMNS, indent: str = "  ") -> list[str]:
    """A text in lines of at most so many columns; all but the first are indented."""
    lines = [""]
    for word in text.split(" "):
        rest = shortened(word, room - len(indent))
        joined = f"{lines[-1]} {rest}" if lines[-1].strip() else lines[-1] + rest
        if columns(joined) <= room:
            lines[-1] = joined
        else:
            lines.append(indent + rest)
    return [line.rstrip() for line in lines]


def paragraph(text: str, room: int = COLUMNS) -> str:
    """The same as one text, line by line."""
    return "\n".join(line for one in text.splitlines() for line in wrapped(one, room))


def fitted_table(table: Table, room: int = COLUMNS) -> tuple[list[str], list[list[str]]]:
    """The lines of a table's head, and those of each row; texts are wrapped in their column."""
    headings, rows = table[0], [[cut(cell, MOST) for cell in row] for row in table[1]]
    widths = _widths(headings, rows, room)
    right = [bool(rows) and all(is_number(row[i]) for row in rows) for i in range(len(headings))]

    def lines(row: Sequence[str]) -> list[str]:
        cells = [
            wrapped(cell, width, indent="") if i else [shortened(cell, width)]
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        height = max(map(len, cells))
        filled = [[*cell, *[""] * (height - len(cell))] for cell in cells]
        return [
            GAP.join(padded(c, w, right=r) for c, w, r in zip(line, widths, right, strict=True)).rstrip()
            for line in zip(*filled, strict=True)
        ]

    return [*lines(headings), GAP.join("-" * width for width in widths)], [lines(row) for row in rows]


def fitted_text(table: Table, room: int = COLUMNS) -> str:
    """A table as text of at most so many columns."""
    head, rows = fitted_table(table, room)
    return "\n".join([*head, *(line for row in rows for line in row)])


def _widths(headings: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """The widths of the columns: the widest become narrower until all fit."""
    widths = [max(columns(cell) for cell in column) for column in zip(headings, *rows, strict=True)]
    least = [LEAST_NAME, *[LEAST_TEXT] * (len(widths) - 1)]
    over = sum(widths) + len(GAP) * (len(widths) - 1) - room
    while over > 0 and any(width > low for width, low in zip(widths, least, strict=True)):
        widest = max((i for i, low in enumerate(least) if widths[i] > low), key=widths.__getitem__)
        widths[widest] -= 1
        over -= 1
    return widths


def page(title: str, tables: Iterable[Table], notes: Iterable[str], lines: int, room: int = COLUMNS) -> str:
    """A title, tables and notes in about so many lines; what is left out is counted.

    Args:
        title: A sentence.
        tables: Their headings and rows.
        notes: A sentence each; one that is said twice stands once.
        lines: How many there may be. Each table and the notes keep a few, also where that is more.
        room: The columns of each.
    """
    heads, bodies = [], []
    for table in tables:
        head, rows = fitted_table(table, room)
        heads.append(head)
        bodies.append(rows)
    told = [wrapped(f"note: {note}", room) for note in dict.fromkeys(notes)]
    wanted = [sum(map(len, rows)) for rows in bodies] + [sum(map(len, told)) + len(told)]
    shares = _shares(wanted, lines - 3 - sum(len(head) + 2 for head in heads))
    parts = [paragraph(title, room)]
    for head, rows, share in zip(heads, bodies, shares, strict=False):
        shown = list(_first(rows, share))
        more = [f"... and {len(rows) - len(shown)} more"] * (len(shown) < len(rows))
        parts.append("\n".join([*head, *(line for row in shown for line in row), *more]))
    said = list(_first(told, shares[-1], apart=1))
    parts += ["\n".join(note) for note in said]
    parts += [f"... and {len(told) - len(said)} more notes"] * (len(said) < len(told))
    return "\n\n".join(parts)


def _first(texts: Sequence[list[str]], lines: int, apart: int = 0) -> Iterator[list[str]]:
    """The first of some texts that take so many lines; the very first in any case."""
    for i, text in enumerate(texts):
        lines -= len(text) + apart
        if lines < 0 and i:
            return
        yield text


def _shares(wanted: Sequence[int], room: int) -> list[int]:
    """How many lines each part gets: as many as it wants, or its share of the room, at least a few."""
    shares = list(wanted)
    while sum(shares) > room and max(shares) > LEAST:
        largest = shares.index(max(shares))
        shares[largest] -= 1
    return shares
