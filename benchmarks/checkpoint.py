"""What growing a checkpoint file to file costs: processor time, wall time, memory, for decoders of several sizes.

    OMP_NUM_THREADS=1 python benchmarks/checkpoint.py --markdown docs/scale.md

The teachers are pre-norm decoders in bfloat16 with random weights, made on the spot; the plan makes every width half as
large again, or twice as large. Each run is a process of its own, because the most memory that it held is what is
measured. A plain copy of the student's file, with fsync, is the floor for the wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

import fxgrow  # noqa: E402 - the path must be set first
from benchmarks.page import Table, command_of, machine  # noqa: E402

GB = 1e9
SIZES = (0.5, 1.5, 4.0)  # GB of the student


class Block(nn.Module):
    """A layer of a decoder without attention's arithmetic: its weights have the shapes of one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.out(torch.sigmoid(q) * k * v)
        result: Tensor = x + self.down(torch.nn.functional.silu(self.up(self.norm2(x))))
        return result


class Decoder(nn.Module):
    """Words, layers, words."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(32000, width)
        self.layers = nn.ModuleList([Block(width) for _ in range(layers)])
        self.norm, self.head = nn.RMSNorm(width), nn.Linear(width, 32000, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        result: Tensor = self.head(self.norm(x))
        return result


def made(folder: Path, size: float, method: str, width: int) -> tuple[Path, Path, int]:
    """A teacher's checkpoint and a plan whose student takes about that many GB."""
    with torch.device("meta"):
        one, two = (sum(p.numel() for p in Decoder(width, n).parameters()) for n in (1, 2))
    factor, per_layer = 4, two - one
    layers = max(1, round((size * GB / 2 / factor - (one - per_layer)) / per_layer))
    with torch.device("meta"):
        model = Decoder(width, layers).to(torch.bfloat16)
    plan = fxgrow.plan(fxgrow.widths(model, torch.zeros(1, 4, dtype=torch.int64)), 2.0, method=method)
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    state = {
        name: torch.empty(p.shape, dtype=torch.bfloat16).normal_(generator=generator)
        for name, p in model.state_dict().items()
    }
    source, text = folder / "teacher.safetensors", folder / "plan.json"
    save_file(state, source)
    text.write_text(plan.to_json())
    return source, text, sum(t.numel() for t in state.values())


def resident() -> int:
    """The memory of this process that is in use now, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def grow(source: str, text: str, target: str, threads: int) -> None:
    """In a process of its own: grow, and print what it cost as JSON."""
    torch.set_num_threads(1)
    plan = fxgrow.Plan.from_json(Path(text).read_text())
    most, over = [resident()], threading.Event()
    start = most[0]

    def watch() -> None:
        while not over.wait(0.005):
            most[0] = max(most[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    before, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    fxgrow.grow_checkpoint(plan, source, target, threads=threads)
    wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_SELF)
    over.set()
    watcher.join()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"cpu": cpu, "wall": wall, "memory": most[0] - start}))


def copied(path: Path) -> float:
    """The seconds that a copy of a file takes until it is on the disk."""
    target = path.with_name("copy")
    begin = time.perf_counter()
    shutil.copyfile(path, target)
    with target.open("rb+") as file:
        os.fsync(file.fileno())
    seconds = time.perf_counter() - begin
    target.unlink()
    return seconds


def measured(folder: Path, size: float, method: str, width: int, threads: int) -> tuple[str, ...]:
    """A row of the table."""
    source, text, parameters = made(folder, size, method, width)
    target = folder / "student.safetensors"
    argv = [sys.executable, __file__, "--one", str(source), str(text), str(target), str(threads)]
    found = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    out, floor = target.stat().st_size / GB, copied(target)
    target.unlink()
    return (
        method, f"{parameters / 1e9:.2f}", f"{out:.2f}", str(threads), f"{found['cpu'] / out:.2f}",
        f"{found['wall'] / out:.2f}", f"{floor / out:.2f}", f"{found['wall'] / floor:.2f}",
        f"{found['memory'] / 2**20:.0f}",
    )  # fmt: skip


HEAD = (
    "method", "teacher, 1e9 parameters", "output GB", "threads", "processor s / GB", "wall s / GB", "copy s / GB",
    "wall / copy", "memory MiB",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=4, metavar=("SOURCE", "PLAN", "TARGET", "THREADS"), help=argparse.SUPPRESS)
    parser.add_argument("--sizes", type=float, nargs="+", default=SIZES, help="GB of the student (default: .5 1.5 4)")
    parser.add_argument("--methods", nargs="+", default=("split", "zero_out", "even"))
    parser.add_argument("--threads", type=int, nargs="+", default=(1, 2))
    parser.add_argument("--width", type=int, default=1024, help="of the teacher (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where the files lie for a while")
    parser.add_argument("--markdown", type=Path, help="the page whose table is replaced")
    options = parser.parse_args(argv)
    if options.one:
        grow(*options.one[:3], int(options.one[3]))
        return
    table = Table("Seconds and memory", HEAD)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for size in options.sizes:
            for method in options.methods:
                for threads in options.threads:
                    table.rows.append(measured(Path(folder), size, method, options.width, threads))
                    print(*table.rows[-1], sep="  ", flush=True)
    print("\n".join(table.lines()))
    if options.markdown:
        write(options.markdown, table, argv)


BEGIN, END = "<!-- benchmark:checkpoint -->", "<!-- /benchmark:checkpoint -->"


def write(page: Path, table: Table, argv: Sequence[str] | None) -> None:
    """Put the table in its place on a page, with what follows for a checkpoint of any size."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    head = ["", f"    {command_of('checkpoint.py', argv)}", "", f"{machine('cpu')}.", ""]
    text = "\n".join([BEGIN, *head, *table.lines()[2:], "", *formula(table), "", END])
    page.write_text(before + text + after, encoding="utf-8")


def formula(table: Table) -> list[str]:
    """The costs of a student of G GB, as the sizes that were measured agree on them."""
    lines = []
    for method in dict.fromkeys(row[0] for row in table.rows):
        rows = [row for row in table.rows if row[0] == method and row[3] == "1"]
        cpu, memory = [float(row[4]) for row in rows], max(float(row[8]) for row in rows)
        mean = sum(cpu) / len(cpu)
        apart = max(abs(one - mean) for one in cpu) / mean
        large = 800  # GB: twice as wide makes about four times as many
        lines.append(
            f"- `{method}`: {mean:.2f} s of processor time for each GB of the student's file, within {apart:.0%} at "
            f"the {len(rows)} sizes, and {memory:.0f} MiB at most. A checkpoint of 100e9 parameters in bfloat16 "
            f"(200 GB) that becomes {large} GB: {mean * large / 3600:.1f} h on one thread."
        )
    return lines


if __name__ == "__main__":
    main()
