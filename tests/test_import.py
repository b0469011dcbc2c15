"""`import fxgrow` imports what growing needs, and the rest of the public names when they are asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

import fxgrow

NOT_NEEDED = (
    "networkx", "rich", "torchvision", "matplotlib", "pygraphviz", "shtab", "safetensors", "tqdm", "sklearn", "triton",
    "torch.utils.flop_counter", "fxgrow.drawing", "fxgrow.report", "fxgrow.cli", "fxgrow.examine",
)  # fmt: skip


def _in_a_new_process(code: str) -> Any:
    """What a program leaves in `result`; it begins with all modules that `import torch` imports in `before`."""
    program = f"import gc, json, sys, torch\nbefore = set(sys.modules)\n{code}\nprint(json.dumps(result))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def _new(code: str) -> list[str]:
    """The modules that a program imports, beside those of torch."""
    imported: list[str] = _in_a_new_process(f"{code}\nresult = sorted(set(sys.modules) - before)")
    return imported


def test_nothing_is_imported_that_growing_does_not_need() -> None:
    new = _new("import fxgrow")
    assert "fxgrow.api" in new
    assert not [name for name in new if name.startswith(tuple(f"{one}." for one in NOT_NEEDED)) or name in NOT_NEEDED]
    outside = {name.partition(".")[0] for name in new} - sys.stdlib_module_names
    assert outside == {"fxgrow"}


def test_growing_imports_no_drawings_and_no_reports() -> None:
    new = _new("import fxgrow\nfxgrow.grow(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)), 2.0)")
    assert not [name for name in new if name.startswith(("fxgrow.drawing", "fxgrow.report", "networkx", "rich"))]


def test_what_draws_is_imported_when_it_is_asked_for() -> None:
    assert "fxgrow.drawing" in _new("import fxgrow\nfxgrow.draw")
    assert "fxgrow.report" in _new("from fxgrow import verify")


def test_all_public_names_are_there() -> None:
    names = "import fxgrow\nlisted = dir(fxgrow)\nfrom fxgrow import *\n"
    found = _in_a_new_process(f"{names}result = [n for n in fxgrow.__all__ if n in listed and n in globals()]")
    assert found == fxgrow.__all__


def test_each_late_name_can_be_the_first_that_is_asked_for() -> None:
    for name in fxgrow._LATE:
        made = _in_a_new_process(f"import fxgrow\nresult = fxgrow.{name}.__name__")
        assert made == name


@pytest.mark.parametrize("name", ["drawn", "_draw", "__wrapped__"])
def test_other_names_are_not_there(name: str) -> None:
    with pytest.raises(AttributeError, match=f"module 'fxgrow' has no attribute '{name}'"):
        getattr(fxgrow, name)


@pytest.mark.parametrize("set_to", ["enable", "disable"])
@pytest.mark.parametrize("code", ["import fxgrow", "import fxgrow; fxgrow.draw", "from fxgrow import *"])
def test_the_garbage_collector_is_as_before(code: str, set_to: str) -> None:
    enabled = _in_a_new_process(f"gc.{set_to}()\n{code}\nresult = gc.isenabled()")
    assert enabled is (set_to == "enable")
