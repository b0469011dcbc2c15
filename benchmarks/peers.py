"""fxgrow and its peers side by side: what each can handle, whether the result is exact, and how long it takes.

    OMP_NUM_THREADS=1 python benchmarks/peers.py --json peers.json --markdown docs/peers.md

The peers are Torch-Pruning, which solves the same problem in order to remove channels; gromo, which grows networks
that are made of its own classes; and Net2Net by pairs of consecutive layers, as notebooks do it
(net2net_pairs.py). What is not installed (`pip install -c constraints.txt --no-deps torch-pruning gromo torchmetrics
deprecated lightning-utilities wrapt`) is left out, with a message. All see the same models (peers_models.py),
unmodified and without settings that only one model needs.

Each model is a process of its own, with a limit in seconds for each peer, so that one that hangs costs itself alone.
"""

import argparse
import dataclasses
import fnmatch
import gc
import importlib
import importlib.util
import json
import math
import multiprocessing
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import fxgrow
from benchmarks import gromo_models, peers_models
from benchmarks.peers_measure import FACTOR, PEERS, Outcome, Peer, gromo_ways, outcomes_of
from benchmarks.peers_page import environment, page, summary_lines
from benchmarks.zoos import Entry

QUICK = ("mlp", "digits_net")


def installed(peers: dict[str, Peer]) -> dict[str, Peer]:
    """The peers whose packages are there; the others are named on stderr."""
    found = {}
    for key, peer in peers.items():
        if importlib.util.find_spec(peer.package) is None:
            print(f"{peer.title} is left out: {peer.package} is not installed", file=sys.stderr)
        else:
            found[key] = peer
    return found


def imported(peers: dict[str, Peer]) -> None:
    """Import here what every process would otherwise import for itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for peer in peers.values():
            if peer.package == "gromo":
                list(gromo_models.entries())
            else:
                importlib.import_module(peer.package)
    fxgrow.grow(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), FACTOR, torch.randn(1, 2))


def isolated(entry: Entry, peers: dict[str, Peer], repeats: int, limit: float, learning: bool) -> list[Outcome]:
    """`outcomes_of` in a process of its own; what it had sent when it died or hung is kept."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def work() -> None:
        warnings.simplefilter("ignore")  # the peers' own
        gc.freeze()  # else each collection, also in what is timed, walks all that was imported
        for outcomes in outcomes_of(entry, peers, repeats, limit, learning):
            theirs.send(outcomes)

    process = context.Process(target=work)
    process.start()
    theirs.close()
    found: list[Outcome] = []
    # The limit inside interrupts Python; this one is for what hangs in C.
    patience = 2 * limit * (1 + len(peers) * repeats)
    try:
        while ours.poll(patience):
            found = ours.recv()
    except EOFError:
        pass
    process.kill()
    process.join()
    known = {outcome.peer for outcome in found}
    return found + [Outcome(entry.name, key, "crash", "the process died or hung") for key in peers if key not in known]


def run(entry: Entry, peers: dict[str, Peer], repeats: int, limit: float, learning: bool) -> list[Outcome]:
    """The outcomes of a model, with a line of progress each."""
    start = time.perf_counter()
    found = isolated(entry, peers, repeats, limit, learning)
    for outcome in found:
        error = "" if math.isnan(outcome.error) else f"error {outcome.error:.1e}"
        cells = (outcome.model, outcome.peer, outcome.status, error, outcome.reason)
        print(" | ".join(cell for cell in cells if cell)[:160], flush=True)
    print(f"  {time.perf_counter() - start:.0f} s", flush=True)
    return found


def write_json(path: Path, tables: dict[str, list[Outcome]]) -> None:
    """Everything that was measured."""
    rows: dict[str, Any] = {name: [dataclasses.asdict(o) for o in found] for name, found in tables.items()}
    path.write_text(json.dumps({"environment": environment(), **rows}, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> tuple[dict[str, list[Outcome]], dict[str, str]]:
    """What `write_json` wrote: the tables, and where they were measured."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    where = rows.pop("environment")
    return {name: [Outcome(**row) for row in found] for name, found in rows.items()}, where


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["*"], metavar="GLOB", help="names of models (default: all)")
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=list(PEERS), help="default: all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit-seconds", type=float, default=60, help="of processor time, for one peer and model")
    parser.add_argument("--quick", action="store_true", help="two small models, once: shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--resume", action="store_true", help="keep what --json holds and do the models it lacks")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--render", type=Path, metavar="JSON", help="run nothing; make the page from this")
    options = parser.parse_args(argv)
    if options.render and not options.render.is_file():
        parser.error(f"--render: there is no file {options.render}")
    for path in (options.json, options.markdown):
        if path and not path.parent.is_dir():
            parser.error(f"there is no folder {path.parent}")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print and write; the exit status is 1 where fxgrow did not handle a model."""
    options = arguments(argv)
    if options.render:
        tables, where = read_json(options.render)
    else:
        torch.set_num_threads(1)
        tables, where = measure(options), environment()
    if options.markdown:
        options.markdown.write_text("\n".join(page(tables, where)) + "\n", encoding="utf-8")
    print("\n".join(summary_lines(tables["models"])))
    return 0 if all(o.handled for found in tables.values() for o in found if o.peer == "fxgrow") else 1


def measure(options: argparse.Namespace) -> dict[str, list[Outcome]]:
    """Run what the options ask for."""
    peers = installed({key: PEERS[key] for key in PEERS if key in options.peers})
    imported(peers)
    repeats = 1 if options.quick else options.repeats
    patterns = QUICK if options.quick else options.models
    chosen = [e for e in peers_models.entries() if any(fnmatch.fnmatch(e.name, p) for p in patterns)]
    own = (
        [e for e in gromo_models.entries() if any(fnmatch.fnmatch(e.name, p) for p in patterns)]
        if "gromo" in peers
        else []
    )
    if not chosen and not own:
        raise SystemExit(f"error: no model is named {' or '.join(patterns)}")
    resumed = options.resume and options.json and options.json.exists()
    tables: dict[str, list[Outcome]] = read_json(options.json)[0] if resumed else {"models": [], "gromo": []}
    for name, entries, those in (("models", chosen, peers), ("gromo", own, gromo_ways())):
        for entry in entries:
            if not any(o.model == entry.name for o in tables[name]):
                tables[name] += run(entry, those, repeats, options.limit_seconds, learning=name == "gromo")
            if options.json:  # after each model: a run that is stopped leaves what it has
                write_json(options.json, tables)
        order = [e.name for e in entries]
        tables[name].sort(key=lambda o: order.index(o.model) if o.model in order else len(order))
    if options.json:
        write_json(options.json, tables)
    return tables


if __name__ == "__main__":
    sys.exit(main())
