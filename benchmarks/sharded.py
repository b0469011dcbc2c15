"""What growing a model sharded by `fully_shard` costs each process: memory, bytes that it receives, processor time.

    OMP_NUM_THREADS=1 python benchmarks/sharded.py --markdown docs/scale.md

The teachers are the decoders of benchmarks/checkpoint.py in float32 with the state of Adam; each becomes twice as wide.
The processes speak through gloo on one machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

import fxgrow  # noqa: E402 - the path must be set first
from benchmarks.checkpoint import Decoder, resident  # noqa: E402
from benchmarks.page import Table, command_of, machine  # noqa: E402

MIB = 1 << 20
IDS = torch.zeros(1, 4, dtype=torch.int64)
HEAD = (
    "layers", "processes", "student and Adam, GB", "teacher's part, MiB", "new part, MiB", "largest new shard, MiB",
    "received, MiB", "received / new", "more memory, MiB", "memory / new", "processor s",
)  # fmt: skip
BEGIN, END = "<!-- benchmark:sharded -->", "<!-- /benchmark:sharded -->"


def of_parts(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, int]:
    """Bytes of this process's parts of parameters and states, and of the largest."""
    tensors: list[Any] = [*model.parameters()]
    tensors += [value for state in optimizer.state.values() for value in state.values() if value.ndim]
    sizes = [tensor.to_local().nbytes for tensor in tensors]
    return sum(sizes), max(sizes)


def sharded(width: int, layers: int, number: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A teacher that has trained one step."""
    from torch.distributed.fsdp import fully_shard

    mesh = dist.init_device_mesh("cpu", (number,))
    with torch.device("meta"):
        model = Decoder(width, layers)
    for layer in model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        nn.init.normal_(parameter.to_local())  # type: ignore[operator]
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def measure(rank: int, number: int, width: int, layers: int, folder: str) -> None:
    """In each process: grow, and keep what it cost."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=number)
    with torch.device("meta"):
        plan = fxgrow.plan(fxgrow.widths(Decoder(width, layers), IDS, output="module"), 2.0)
    model, optimizer = sharded(width, layers, number)
    old, _ = of_parts(model, optimizer)
    received, exchange = [0], dist.all_to_all_single

    def counted(output: torch.Tensor, *rest: Any, **options: Any) -> Any:
        received[0] += output.nbytes
        return exchange(output, *rest, **options)

    dist.all_to_all_single = counted  # type: ignore[assignment]
    over, start = threading.Event(), resident()
    most = [start]

    def watch() -> None:
        while not over.wait(0.002):
            most[0] = max(most[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    before = resource.getrusage(resource.RUSAGE_SELF)
    student = fxgrow.apply(plan, model, IDS, optimizer=optimizer)
    after = resource.getrusage(resource.RUSAGE_SELF)
    over.set()
    watcher.join()
    new, largest = of_parts(student, optimizer)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = {"old": old, "new": new, "largest": largest, "received": received[0], "memory": most[0] - start}
    torch.save({**found, "cpu": cpu}, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def measured(number: int, width: int, layers: int) -> tuple[str, ...]:
    """A row of the table: the most of all processes."""
    with tempfile.TemporaryDirectory() as folder:
        mp.start_processes(measure, args=(number, width, layers, folder), nprocs=number, start_method="spawn")
        all_of = [torch.load(Path(folder, f"{rank}.pt")) for rank in range(number)]
    most = {key: max(one[key] for one in all_of) for key in all_of[0]}
    whole = sum(one["new"] for one in all_of) / 1e9
    return (
        str(layers), str(number), f"{whole:.2f}", f"{most['old'] / MIB:.0f}", f"{most['new'] / MIB:.0f}",
        f"{most['largest'] / MIB:.0f}", f"{most['received'] / MIB:.0f}", f"{most['received'] / most['new']:.2f}",
        f"{most['memory'] / MIB:.0f}", f"{most['memory'] / most['new']:.2f}",
        f"{most['cpu']:.2f}",
    )  # fmt: skip


def formula(table: Table) -> list[str]:
    """What the sizes that were measured say of one of any size."""
    memory = max(float(row[9]) for row in table.rows)
    each = torch.tensor([[1.0, float(row[0]), float(row[4]) * MIB / 1e9] for row in table.rows])  # (rows, 3)
    seconds = torch.tensor([[float(row[10])] for row in table.rows])
    found = torch.linalg.lstsq(each, seconds).solution
    apart = float(((each @ found - seconds) / seconds).abs().max())
    start, layer, gb = found.flatten().tolist()
    teacher, student, number, layers = 1200, 4800, 256, 80  # GB: 12 bytes for each of 100e9 and 400e9 weights
    new = student / number
    return [
        f"- A process that gets N bytes of the student and its optimizer holds at most {memory:.2f} N more than "
        "before. It receives less than N.",
        f"- It takes {start:.2f} s of processor time, {layer:.3f} s more for each layer, because each process analyses "
        f"the whole model, and {gb:.2f} s for each GB that it gets. That is within {apart:.0%} of each row.",
        f"- A teacher of 100e9 parameters in {layers} layers, in float32 with Adam ({teacher} GB), that becomes "
        f"{student} GB on {number} processes: {new:.1f} GB new on each, beside {teacher / number:.1f} GB of the "
        f"teacher, {memory * new:.1f} GB more while it grows, and {start + layer * layers + gb * new:.0f} s of "
        "processor time.",
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=(2, 8, 20), help="of the teachers (default: 2 8 20)")
    parser.add_argument("--processes", type=int, nargs="+", default=(2, 4), help="(default: 2 4)")
    parser.add_argument("--width", type=int, default=512, help="of the teachers (default: %(default)s)")
    parser.add_argument("--markdown", type=Path, help="the page whose table is replaced")
    options = parser.parse_args(argv)
    table = Table("Seconds and memory", HEAD)
    for layers in options.layers:
        for number in options.processes:
            table.rows.append(measured(number, options.width, layers))
            print(*table.rows[-1], sep="  ", flush=True)
    text = [f"    {command_of('sharded.py', argv)}", "", f"{machine('cpu')}.", "", *table.lines()[2:], ""]
    text += formula(table)
    print("\n".join(text))
    if options.markdown:
        before, _, rest = options.markdown.read_text(encoding="utf-8").partition(BEGIN)
        page = "\n".join([before + BEGIN, "", *text, "", END]) + rest.partition(END)[2]
        options.markdown.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
