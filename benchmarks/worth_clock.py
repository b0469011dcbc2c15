"""How long a step of each net takes, timed side by side, for benchmarks/worth.py.

Runs are made on many days, on processors that other jobs use as well, so that their own seconds cannot be compared.
Their steps can: a run takes the time of its steps, as timed here, and that of its growths.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.worth_data import Data
from benchmarks.worth_methods import Method, fixed
from benchmarks.worth_records import Found
from benchmarks.worth_run import Run, batch_in
from benchmarks.worth_settings import Key, Net, Settings

Times = Mapping[tuple[Net, int], float]  # seconds of a step, by net and examples of a step
ROUNDS = 9
LEAST = 0.25  # seconds that the steps of one net last in a round


def pairs_of(of: Settings, methods: Iterable[Method]) -> list[tuple[Net, int]]:
    """All nets of some methods, with the examples of a step."""
    found = {(stage.net, batch_in(of, method, stage.net)) for method in methods for stage in method.stages}
    return sorted(found, key=lambda pair: (pair[0].width, pair[0].depth, pair[1]))


def timed(of: Settings, methods: Iterable[Method], data: Data, rounds: int = ROUNDS, least: float = LEAST) -> Times:
    """The least seconds of a step: a few steps of each net in turn, then again, so that all see the same machine."""
    runs = {}
    for net, batch in pairs_of(of, methods):
        runs[net, batch] = Run(of, fixed(net, "timed"), Key("timed", "B", 1.0, 0), data)
        runs[net, batch].seconds_of(batch, 3)  # the first steps allocate
    times = dict.fromkeys(runs, math.inf)
    for _ in range(rounds):
        for pair, run in runs.items():
            steps = max(1, math.ceil(least / run.seconds_of(pair[1], 1)))
            times[pair] = min(times[pair], run.seconds_of(pair[1], steps) / steps)
    return times


def seconds_of(of: Settings, method: Method, found: Found, times: Times) -> float | None:
    """What a run takes: its steps, without those of a free teacher, and its growths; None where a net is not timed."""
    total = found["growing"]
    for stage, steps in zip(method.stages, found["steps"], strict=True):
        one = times.get((stage.net, batch_in(of, method, stage.net)))
        if one is None:
            return None
        total += 0.0 if stage.free else one * steps
    return float(total)


# -- the file ------------------------------------------------------------------------------------------


def _settings(of: Settings) -> dict[str, Any]:
    return {name: value for name, value in asdict(of).items() if name != "examples"}


def write(path: Path, of: Settings, times: Times, machine: str) -> None:
    """Keep them; the file is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = [{**asdict(net), "batch": batch, "seconds": seconds} for (net, batch), seconds in times.items()]
    half = path.with_suffix(f".{os.getpid()}.part")
    whole = {"settings": _settings(of), "machine": machine, "steps": steps}
    half.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    os.replace(half, path)


def read(path: Path, of: Settings) -> Times:
    """Those of these settings; empty where there are none."""
    if not path.exists():
        return {}
    whole = json.loads(path.read_text(encoding="utf-8"))
    if whole["settings"] != _settings(of):
        return {}
    return {(Net(one["width"], one["depth"]), one["batch"]): one["seconds"] for one in whole["steps"]}
