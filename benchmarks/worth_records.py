"""The records of benchmarks/worth.py: a small JSON file for each run, written under another name and renamed."""

import json
import math
import os
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.worth_methods import Method
from benchmarks.worth_settings import BUDGETS, Key, Settings, digest

Found = dict[str, Any]


class Records:
    """The runs of one track with one group of settings, on one set of data.

    Files of other settings, data or definitions may lie in the same folder; they are other runs, and are not read.

    Attributes:
        runs: What was measured, by key.
        machines: What they were measured on.
        others: How many files belong to other settings, data or definitions.
    """

    def __init__(self, folder: Path, of: Settings, methods: Mapping[str, Method], data: str) -> None:
        self._folder, self._of, self._methods, self._data = folder, of, methods, data
        self.runs: dict[Key, Found] = {}
        self.machines: set[str] = set()
        self.others = 0
        for path in sorted(folder.glob("*.json")):
            read = json.loads(path.read_text(encoding="utf-8"))
            key = self._key(read)
            if key is None:
                self.others += 1
            else:
                self.runs[key] = read["found"]
                self.machines.add(read["machine"])

    def _key(self, read: Mapping[str, Any]) -> Key | None:
        """The run that a record is of; None where it is of other settings, of other data, or of no budget of these."""
        for budget, part in BUDGETS.items():
            key = Key(read["method"], budget, read["rate"], read["seed"])
            if round(part * self._of.examples) == read.get("examples") and key.method in self._methods:
                same = all(read.get(name) == value for name, value in self._identity(key).items())
                return key if same else None
        return None

    def _identity(self, key: Key) -> dict[str, Any]:
        return key.identity(self._of, self._methods[key.method].definition(), self._data)

    def path(self, key: Key) -> Path:
        """Where the record of a run is."""
        identity = self._identity(key)
        name = f"{key.method}_{identity['examples']}_r{key.rate:g}_s{key.seed}_{digest(identity)}.json"
        return self._folder / name

    def add(self, key: Key, found: Mapping[str, Any], machine: str) -> None:
        """Keep what was measured, at once: the file is whole or not there."""
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(f".{os.getpid()}.part")
        whole = {**self._identity(key), "machine": machine, "found": dict(found)}
        half.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        os.replace(half, path)
        self.runs[key] = dict(found)
        self.machines.add(machine)

    def loss(self, key: Key) -> float:
        """The test loss at the end; infinite where the run has diverged."""
        found: float | None = self.runs[key]["loss"]
        return math.inf if found is None else found

    def best_rates(self) -> dict[tuple[str, str], float]:
        """The rate with the lowest mean loss over the seeds that all tried rates have, by method and budget."""
        seeds: dict[tuple[str, str], dict[float, set[int]]] = {}
        for key in self.runs:
            seeds.setdefault((key.method, key.budget), {}).setdefault(key.rate, set()).add(key.seed)
        found = {}
        for (method, budget), by_rate in seeds.items():
            common = set.intersection(*by_rate.values())
            if common:
                found[method, budget] = min(
                    sorted(by_rate),
                    key=lambda rate: statistics.fmean(self.loss(Key(method, budget, rate, s)) for s in common),
                )
            else:  # a rate was tried with other seeds only: the one with the most
                found[method, budget] = max(sorted(by_rate), key=lambda rate: len(by_rate[rate]))
        return found

    def tried(self, method: str, budget: str) -> int:
        """How many rates were tried."""
        return len({key.rate for key in self.runs if (key.method, key.budget) == (method, budget)})

    def at_best_rate(self, method: str, budget: str, best: Mapping[tuple[str, str], float]) -> dict[int, Key]:
        """The runs with the best rate, by seed."""
        rate = best.get((method, budget))
        keys = [key for key in self.runs if (key.method, key.budget, key.rate) == (method, budget, rate)]
        return {key.seed: key for key in sorted(keys, key=lambda key: key.seed)}


def missing(keys: Iterable[Key], records: Records) -> list[Key]:
    """The runs that have no record."""
    return [key for key in keys if key not in records.runs]


def summary(key: Key, found: Mapping[str, Any]) -> str:
    """A line for a run."""
    growths = found["growths"]
    changed = f", predictions changed {[growth['changed'] for growth in growths]}" if growths else ""
    loss = "diverged" if found["loss"] is None else f"loss {found['loss']:.4f}"
    name = ", ".join(f"{field} {value}" for field, value in asdict(key).items() if field != "method")
    return f"{key.method}, {name}: {loss}, accuracy {found['accuracy']:.2f}, {found['seconds']:.0f} s{changed}"
