"""What growth is worth: one budget of FLOPs, spent on a net of one size or on nets that grow.

    OMP_NUM_THREADS=1 python benchmarks/worth.py --track images --hours 8
    OMP_NUM_THREADS=1 python benchmarks/worth.py --track text --hours 8
    OMP_NUM_THREADS=1 python benchmarks/worth.py --markdown docs/worth.md --hours 0
    python benchmarks/worth.py --track images --size real --device cuda --amp --folder cifar-10-batches-bin

Two tracks: a ResNet-20 on images, a GPT on bytes. Every run is annealed over its own budget: B/4, B/2, B or 2B, in
FLOPs, forward and backward, as torch's counter has them. Each method has four rates and four seeds. A method
(worth_methods.py) is a sequence of nets; those of one net are the fixed sizes, and growth is compared with the lower
envelope of all of them. Batches are twice as large while a net is narrow, in all methods.

`--time-steps` times a step of each net, all side by side, which takes minutes. From then on the page's seconds are
those of a run's steps at these times, and of its growths. Runs are made on many days, so their own seconds do not
compare.

Each run writes a record to benchmarks/worth/<track>/, or to --out. Runs that have one are not made again, so a killed
run costs itself alone. Those that decide most come first.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import worth_clock
from benchmarks.page import command_of, device_of, machine
from benchmarks.worth_analysis import Part
from benchmarks.worth_data import Data, data_of
from benchmarks.worth_methods import Method, in_order, methods_of
from benchmarks.worth_page import write_markdown
from benchmarks.worth_records import Records, missing, summary
from benchmarks.worth_run import Run, budget_of
from benchmarks.worth_settings import BUDGETS, PROTOCOL, RATES, SEEDS, SIZES, Key, Settings
from experiment.arguments import count, device
from experiment.data import DataError

HERE = Path(__file__).resolve().parent


def keys_of(
    methods: dict[str, Method], budgets: Sequence[str], seeds: int, rates: Sequence[float] = RATES
) -> list[Key]:
    """All runs of the protocol."""
    return [
        Key(name, budget, rate, seed)
        for name in methods
        for budget in budgets
        for rate in rates
        for seed in range(seeds)
    ]


def measure(
    of: Settings, methods: dict[str, Method], keys: Sequence[Key], records: Records, data: Data, hours: float, name: str
) -> None:
    """Make runs that have no record, those that decide most first, until the time is over.

    No run is begun that would not be over in time, as far as earlier ones tell.
    """
    started, slowest = time.monotonic(), 0.0  # seconds for a FLOP
    while left := in_order(missing(keys, records), methods, records.best_rates()):
        key = left[0]
        begun = time.monotonic()
        if begun - started + slowest * budget_of(of, key.budget) >= 3600 * hours:
            break
        found = Run(of, methods[key.method], key, data).make()
        records.add(key, found, name)
        slowest = max(slowest, (time.monotonic() - begun) / budget_of(of, key.budget))
        print(f"{of.track}: {len(left) - 1} to go: {summary(key, found)}", file=sys.stderr, flush=True)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--track", choices=("images", "text"), help="default: both")
    parser.add_argument("--size", choices=tuple(SIZES), default="cpu", help="default: %(default)s")
    parser.add_argument("--hours", type=float, default=1e9, help="begin no run that takes longer; 0: only read records")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument("--budgets", nargs="+", choices=tuple(BUDGETS), default=PROTOCOL, help="default: from B/4 on")
    parser.add_argument("--rates", nargs="+", type=float, choices=RATES, default=RATES, help="default: all")
    parser.add_argument("--seeds", type=count, default=SEEDS, help="default: %(default)s")
    parser.add_argument("--order", action="store_true", help="print the runs that are missing, in their order, and end")
    parser.add_argument("--time-steps", action="store_true", help="also time a step of each net, side by side")
    parser.add_argument("--threads", type=count, default=1, help="default: %(default)s")
    parser.add_argument("--device", type=device, default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument(
        "--amp", action=argparse.BooleanOptionalAction, help="bfloat16 by autocast (default: as --size)"
    )
    parser.add_argument("--folder", type=Path, help="where the images or the text files are")
    parser.add_argument(
        "--out", type=Path, help="the folder of records (default: benchmarks/worth/, with --size in it)"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the page")
    options = parser.parse_args(argv)
    if options.folder and not options.track:
        parser.error("--folder is for one --track")
    return options


def part_of(track: str, options: argparse.Namespace) -> Part:
    """One track: what it lacks is measured, and the rest read."""
    of = SIZES[options.size][track]
    if options.amp is not None:
        of = replace(of, amp=options.amp)
    try:
        data = data_of(of, options.folder).to(device_of(options.device))
    except DataError as error:
        raise SystemExit(f"error: {error}") from None
    print(f"{track}: data {of.data}, digest {data.digest}", file=sys.stderr, flush=True)
    methods = methods_of(of)
    unknown = sorted(set(options.methods or ()) - methods.keys())
    if unknown:
        raise SystemExit(f"error: no method {', '.join(unknown)}; there are {', '.join(methods)}")
    name = track if options.size == "cpu" else f"{track}-{options.size}"
    out = options.out or HERE / "worth"
    folder, clocked = out / name, out / "steps" / f"{name}.json"
    records = Records(folder, of, methods, data.digest)
    chosen = {name: method for name, method in methods.items() if not options.methods or name in options.methods}
    keys = keys_of(chosen, options.budgets, options.seeds, options.rates)
    if options.order:
        for key in in_order(missing(keys, records), methods, records.best_rates()):
            print(track, key.method, key.budget, key.rate, key.seed)
    else:
        measure(of, methods, keys, records, data, options.hours, machine(options.device))
    if options.time_steps:
        worth_clock.write(clocked, of, worth_clock.timed(of, methods.values(), data), machine(options.device))
    whole = len(keys_of(methods, PROTOCOL, SEEDS))
    budgets = {budget: budget_of(of, budget) for budget in BUDGETS}
    return Part(of, methods, records, budgets, whole, data.digest, worth_clock.read(clocked, of))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing, and write the page; the exit status."""
    options = arguments(argv)
    torch.set_num_threads(options.threads)
    parts = [part_of(track, options) for track in ([options.track] if options.track else ["images", "text"])]
    if options.markdown and not options.order:
        write_markdown(options.markdown, parts, command_of("worth.py", argv))
    return 0


if __name__ == "__main__":
    sys.exit(main())
