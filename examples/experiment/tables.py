"""Tables as text for a terminal, and as markdown for a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells below a header; the first column is names, the others are figures."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        widths = [max(len(row[i]) for row in (self.header, *self.rows)) for i in range(len(self.header))]
        lines = [
            "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
            for row in (self.header, tuple("-" * w for w in widths), *self.rows)
        ]
        return "\n".join(line.rstrip() for line in lines)

    def markdown(self) -> str:
        """The same for a page."""
        rule = ("---", *("--:" for _ in self.header[1:]))
        return "\n".join("| " + " | ".join(row) + " |" for row in (self.header, rule, *self.rows))


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean ± standard deviation; the mean alone where there is one value, and a dash where there is none."""
    if not values:
        return "-"
    mean = f"{fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {stdev(values):.{digits}f}"
