"""Which rows of a summary are shown: those that change, or the modules down to a depth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..base.tables import count
from .summary_table import Pair, Row


def select(rows: Sequence[Row], *, changed_only: bool, depth: int | None) -> tuple[Row, ...]:
    """The rows to show.

    Args:
        rows: All of them, in the order of the model.
        changed_only: Leave out those with the same figures before and after.
        depth: Add up what is deeper than so many steps of a path, under the module at that depth; None: nothing.
    """
    if depth is not None:
        rows = _added_up(rows, depth)
    return tuple(row for row in rows if not changed_only or _changes(row))


def _changes(row: Row) -> bool:
    return row.new or any(pair[0] != pair[1] for pair in (row.width, row.parameters, row.flops))


def _added_up(rows: Sequence[Row], depth: int) -> list[Row]:
    inside: dict[str, list[Row]] = {}
    for row in rows:
        steps = row.layer.split(".") if row.layer else []
        inside.setdefault(".".join(steps[:depth]), []).append(row)
    return [_sum(path, some) if len(some) > 1 or some[0].layer != path else some[0] for path, some in inside.items()]


def _sum(path: str, rows: Sequence[Row]) -> Row:
    parameters, flops = _total(row.parameters for row in rows), _total(row.flops for row in rows)
    return Row(path, count(len(rows), "layer"), parameters=parameters, flops=flops, new=all(row.new for row in rows))


def _total(pairs: Iterable[Pair]) -> Pair:
    """The sum of what is known; None where nothing is."""
    sides = zip(*pairs, strict=True)
    sums = [[number for number in side if number is not None] for side in sides]
    return (sum(sums[0]) if sums[0] else None, sum(sums[1]) if sums[1] else None)
