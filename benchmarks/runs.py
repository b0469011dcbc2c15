"""A record of runs, a JSON file that is written after each of them, so that what was interrupted goes on."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Record:
    """Runs by name, all made with the same settings.

    Attributes:
        settings: What all runs have in common.
        machine: What the first of them was measured on.
        runs: What was measured, by the name of the run.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], machine: str) -> None:
        self._path = path
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))  # tuples are lists there
        self.machine, self.runs = machine, {}
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            self.machine, self.runs = found["machine"], found["runs"]
            _check(path, found["settings"], self.settings)

    def add(self, name: str, found: Mapping[str, Any]) -> None:
        """Keep what was measured under a name, at once."""
        self.runs[name] = dict(found)
        self._write()

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        half = self._path.with_suffix(".part")  # so that an interruption never leaves half a record
        data = {"machine": self.machine, "settings": self.settings, "runs": self.runs}
        half.write_text(json.dumps(data, indent=1), encoding="utf-8")
        os.replace(half, self._path)


def _check(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    if names:
        other = "; ".join(f"{name} {old.get(name)!r}, not {new.get(name)!r}" for name in names)
        raise SystemExit(f"{path} holds runs with {other}: give the same options, or another --out")
