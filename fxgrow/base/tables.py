"""Tables as text for terminals and as HTML for notebooks."""

from __future__ import annotations

import html
from collections.abc import Sequence


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, limit: int = 100) -> str:
    """A text table with aligned columns, numbers to the right; cells are cut to `limit` characters."""
    cells = [[c if len(c) <= limit else c[: limit - 1] + "…" for c in row] for row in rows]
    widths = [max(len(c) for c in column) for column in zip(headings, *cells, strict=True)]
    numeric = [bool(cells) and all(_is_number(c) for c in column) for column in zip(*cells, strict=True)]
    numeric = numeric or [False] * len(headings)

    def line(row: Sequence[str]) -> str:
        padded = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True)]
        return "  ".join(padded).rstrip()

    return "\n".join([line(headings), line(["-" * w for w in widths]), *(line(row) for row in cells)])


def html_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table with numbers to the right; the browser wraps long cells."""

    def line(row: Sequence[str], tag: str) -> str:
        cells = "".join(
            f"<{tag} style='text-align: {'right' if _is_number(cell) else 'left'}'>{html.escape(cell)}</{tag}>"
            for cell in row
        )
        return f"<tr>{cells}</tr>"

    return (
        f"<table><thead>{line(headings, 'th')}</thead><tbody>{''.join(line(row, 'td') for row in rows)}</tbody></table>"
    )


def short(figure: int) -> str:
    """A number with three significant digits: 594231296 as "594 M"."""
    for exponent, letter in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if figure >= 10**exponent:
            return f"{figure / 10**exponent:#.3g}".rstrip(".") + f" {letter}"
    return str(figure)


def _is_number(cell: str) -> bool:
    return cell.replace(",", "").replace(".", "").replace("-", "").replace("e", "").isdigit() or not cell
