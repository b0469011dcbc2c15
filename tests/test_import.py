"""`import fxgrow` imports what growing needs, and the rest of the public names when they are asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import IO, Any

import pytest

import fxgrow

NOT_NEEDED = (
    "networkx", "rich", "torchvision", "matplotlib", "pygraphviz", "shtab", "safetensors", "tqdm", "sklearn", "triton",
    "fxgrow.drawing", "fxgrow.report", "fxgrow.matching", "fxgrow.cli", "fxgrow.examine",
)  # fmt: skip
pytestmark = pytest.mark.xdist_group("import")

# Has imported torch, and forks for each program: importing torch takes seconds.
SERVER = """
import gc, json, os, sys, torch, traceback
before = set(sys.modules)
for line in sys.stdin:
    if not (child := os.fork()):
        scope = {"before": before, "gc": gc, "sys": sys, "torch": torch}
        try:
            exec(json.loads(line), scope)
            answer = {"result": scope["result"]}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


class NewProcesses:
    """Runs programs, each in a process of its own."""

    def __init__(self, write: IO[str], read: IO[str]) -> None:
        self._write, self._read = write, read

    def result(self, code: str) -> Any:
        """What a program leaves in `result`; it begins with all modules that `import torch` imports in `before`."""
        print(json.dumps(code), file=self._write, flush=True)
        answer = json.loads(self._read.readline())
        assert "result" in answer, answer["error"]
        return answer["result"]

    def new(self, code: str) -> list[str]:
        """The modules that a program imports, beside those of torch."""
        imported: list[str] = self.result(f"{code}\nresult = sorted(set(sys.modules) - before)")
        return imported


@pytest.fixture(scope="module")
def processes() -> Iterator[NewProcesses]:
    run = subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert run.stdin is not None
    assert run.stdout is not None
    with run:
        yield NewProcesses(run.stdin, run.stdout)


def test_nothing_is_imported_that_growing_does_not_need(processes: NewProcesses) -> None:
    new = processes.new("import fxgrow")
    assert "fxgrow.api" in new
    assert not [name for name in new if name.startswith(tuple(f"{one}." for one in NOT_NEEDED)) or name in NOT_NEEDED]
    outside = {name.partition(".")[0] for name in new} - sys.stdlib_module_names
    assert outside == {"fxgrow"}


def test_growing_imports_no_drawings_and_no_reports(processes: NewProcesses) -> None:
    new = processes.new(
        "import fxgrow\nfxgrow.grow(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)), 2.0)"
    )
    assert not [name for name in new if name.startswith(("fxgrow.drawing", "fxgrow.report", "networkx", "rich"))]


def test_what_draws_is_imported_when_it_is_asked_for(processes: NewProcesses) -> None:
    assert "fxgrow.drawing" in processes.new("import fxgrow\nfxgrow.draw")
    assert "fxgrow.report" in processes.new("from fxgrow import verify")


def test_all_public_names_are_there(processes: NewProcesses) -> None:
    names = "import fxgrow\nlisted = dir(fxgrow)\nfrom fxgrow import *\n"
    found = processes.result(f"{names}result = [n for n in fxgrow.__all__ if n in listed and n in globals()]")
    assert found == fxgrow.__all__


def test_each_late_name_can_be_the_first_that_is_asked_for(processes: NewProcesses) -> None:
    for name in fxgrow._LATE:
        made = processes.result(f"import fxgrow\nresult = fxgrow.{name}.__name__")
        assert made == name


@pytest.mark.parametrize("name", ["drawn", "_draw", "__wrapped__"])
def test_other_names_are_not_there(name: str) -> None:
    with pytest.raises(AttributeError, match=f"module 'fxgrow' has no attribute '{name}'"):
        getattr(fxgrow, name)


@pytest.mark.parametrize(
    ("code", "set_to"),
    [("import fxgrow", "enable"), ("import fxgrow; fxgrow.draw", "disable"), ("from fxgrow import *", "enable")],
)
def test_the_garbage_collector_is_as_before(processes: NewProcesses, code: str, set_to: str) -> None:
    enabled = processes.result(f"gc.{set_to}()\n{code}\nresult = gc.isenabled()")
    assert enabled is (set_to == "enable")
