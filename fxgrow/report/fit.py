"""A summary's table in so many columns: a row a line."""

from __future__ import annotations

from collections.abc import Sequence

from ..base.tables import columns, cut, shortened

GAP = 2  # spaces between columns
LEAST_NAME, LEAST_REASON, LEAST_TYPE = 12, 10, 16
DROPPED = ("width group", "type")  # in this order, where there is too little room


def fit(
    headings: Sequence[str], rows: Sequence[Sequence[str]], room: int, gap: int = GAP
) -> tuple[list[str], list[list[str]]]:
    """The columns of a table that fit, with shorter reasons and names.

    Args:
        headings: Of the columns; the first is the name, "why it stays" a reason.
        rows: Their cells.
        room: The columns of the terminal.
        gap: The columns between two cells.
    """
    kept = [n for n in range(len(headings)) if n < 2 or any(row[n].strip() for row in rows)]

    def widths() -> dict[int, int]:
        return {n: max(columns(text) for text in (headings[n], *(row[n] for row in rows))) for n in kept}

    def missing() -> int:
        return sum(widths().values()) + gap * (len(kept) - 1) - room

    why = len(headings) - 1
    cells = [list(row) for row in rows]
    for name in DROPPED:
        rest = missing() - (widths()[why] - LEAST_REASON if why in kept else 0)
        at = headings.index(name)
        if at not in kept or rest <= max(widths()[0] - LEAST_NAME * 2, 0):
            continue
        left = widths()[at] - rest
        if name == "type" and left >= LEAST_TYPE:  # that of a new layer is a sentence
            for row in cells:
                row[at] = cut(row[at], left)
            rows = cells
        else:
            kept.remove(at)
    if why in kept and missing() > 0:
        left = max(widths()[why] - missing(), LEAST_REASON)
        for row in cells:
            row[why] = cut(row[why], left)
        rows = cells
    if why in kept and missing() > max(widths()[0] - LEAST_NAME, 0):
        kept.remove(why)
    if missing() > 0:
        left = max(widths()[0] - missing(), LEAST_NAME)
        for row in cells:
            row[0] = shortened(row[0], left)
    return [headings[n] for n in kept], [[row[n] for n in kept] for row in cells]
