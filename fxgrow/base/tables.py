"""Tables as text for terminals and as HTML for notebooks."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Sequence

Table = tuple[Sequence[str], Sequence[Sequence[str]]]  # headings, rows
COLUMNS = 80  # of a terminal of which nothing is known


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, limit: int = 100) -> str:
    """A text table with aligned columns, numbers to the right; cells are cut to `limit` characters."""
    cells = [[cut(c, limit) for c in row] for row in rows]
    widths = [max(columns(c) for c in column) for column in zip(headings, *cells, strict=True)]
    numeric = [bool(cells) and all(is_number(c) for c in column) for column in zip(*cells, strict=True)]
    numeric = numeric or [False] * len(headings)

    def line(row: Sequence[str]) -> str:
        return "  ".join(padded(c, w, right=n) for c, w, n in zip(row, widths, numeric, strict=True)).rstrip()

    return "\n".join([line(headings), line(["-" * w for w in widths]), *(line(row) for row in cells)])


def columns(text: str) -> int:
    """The columns of a terminal that a line takes: two for a wide character, none for an accent on the one before."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def padded(text: str, width: int, *, right: bool = False) -> str:
    """A cell with spaces up to so many columns."""
    spaces = " " * (width - columns(text))
    return spaces + text if right else text + spaces


def cut(text: str, limit: int) -> str:
    """A text of at most so many columns, with "…" for what is cut at its end."""
    if columns(text) <= limit:
        return text
    while columns(text) > limit - 1:
        text = text[: min(limit, len(text)) - 1] if len(text) > limit else text[:-1]
    return f"{text}…"


def shortened(text: str, limit: int) -> str:
    """A name of at most so many columns, with "…" in its middle: both ends tell names apart."""
    if columns(text) <= limit:
        return text
    head, tail = text[: (limit - 1) // 3], text[(limit - 1) // 3 :]
    while tail and columns(head) + columns(tail) > limit - 1:
        tail = tail[1:]
    return f"{head}…{tail}"


def count(number: int, what: str) -> str:
    """A number of things: "1 width", "2 widths"."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def html_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table with numbers to the right; the browser wraps long cells."""

    def line(row: Sequence[str], tag: str) -> str:
        cells = "".join(
            f"<{tag} style='text-align: {'right' if is_number(cell) else 'left'}'>{html.escape(cell)}</{tag}>"
            for cell in row
        )
        return f"<tr>{cells}</tr>"

    return (
        f"<table><thead>{line(headings, 'th')}</thead><tbody>{''.join(line(row, 'td') for row in rows)}</tbody></table>"
    )


def short(figure: int) -> str:
    """A number with three significant digits: 594231296 as "594 M"."""
    for exponent, letter in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if figure >= 0.9995 * 10**exponent:  # what rounds to it as well
            return f"{figure / 10**exponent:#.3g}".rstrip(".") + f" {letter}"
    return str(figure)


def times(ratio: float, *, digits: int = 0) -> str:
    """A ratio with three significant digits and never in powers of ten: 1.5 as "1.5x", 2000.4 as "2,000x".

    Args:
        ratio: The ratio.
        digits: How many significant digits stand there at least.
    """
    if ratio >= 999.5:
        return f"{ratio:,.0f}x"
    return (f"{ratio:#.{digits}g}".rstrip(".") if digits else f"{ratio:.3g}") + "x"


def is_number(cell: str) -> bool:
    """Whether a cell holds a number, or nothing."""
    return cell.replace(",", "").replace(".", "").replace("-", "").replace("e", "").isdigit() or not cell
