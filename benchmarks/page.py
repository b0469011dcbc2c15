"""What the benchmarks write: Markdown tables, means with their spread, and the name of the machine."""

import platform
import shlex
import statistics
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch


@dataclass(slots=True)
class Table:
    """What one question gave."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """As Markdown, with columns aligned so that a terminal shows them well too."""
        widths = [max(len(cell) for cell in column) for column in zip(self.head, *self.rows, strict=True)]
        rule = tuple("-" * max(3, width) for width in widths)
        table = [
            "| " + " | ".join(cell.ljust(max(3, width)) for cell, width in zip(row, widths, strict=True)) + " |"
            for row in (self.head, rule, *self.rows)
        ]
        return [f"## {self.title}", "", *table, *(line for remark in self.remarks for line in ("", remark))]


def spread(figures: Sequence[float], form: str = ".3f") -> str:
    """Mean ± standard deviation of one sample; the mean alone of one figure; "-" of none."""
    if not figures:
        return "-"
    mean = format(statistics.fmean(figures), form)
    return f"{mean} ± {format(statistics.stdev(figures), form.lstrip('+'))}" if len(figures) > 1 else mean


def wrapped(paragraph: str) -> list[str]:
    """A paragraph in lines of a page."""
    return textwrap.wrap(" ".join(paragraph.split()), 118, break_long_words=False, break_on_hyphens=False)


def command_of(script: str, argv: Sequence[str] | None) -> str:
    """The command that was given, for its page; None: the one that this process was started with."""
    return f"OMP_NUM_THREADS=1 python benchmarks/{script} {shlex.join(sys.argv[1:] if argv is None else argv)}".rstrip()


def device_of(name: str) -> torch.device:
    """The device of a name, with float32 products that are not rounded to TF32: growing must change no prediction."""
    device = torch.device(name)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return device


def picture_of(page: Path | None, record: Path) -> Path:
    """Where a picture goes that is given no name: to the pages' pictures, or else beside the record."""
    return record.with_suffix(".png") if page is None else page.parent / "pictures" / f"{page.stem}.png"


def machine(device: str = "cpu") -> str:
    """What the figures were measured with and on."""
    where = torch.cuda.get_device_name(device) if device.startswith("cuda") else processor()
    threads = "" if device.startswith("cuda") else f", {torch.get_num_threads()} thread(s)"
    return f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()} ({where}){threads}"


def processor() -> str:
    """The name of the processor, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"
