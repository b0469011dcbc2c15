"""The scripts in benchmarks/ run; what they measure is no test."""

import importlib.util
from pathlib import Path

import pytest

from benchmarks import grow_speed

pytestmark = pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed")


def test_speed_benchmark_runs_and_writes_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "speed.md"
    assert grow_speed.main(["--quick", "--only", "stages", "nodes", "memory", "--markdown", str(page)]) == 0
    text = page.read_text()
    assert grow_speed.COMMAND in text
    assert "## Stages" in capsys.readouterr().out
    for kind in ("chain", "residual", "dense"):
        assert f"| {kind} " in text


def test_memory_is_the_student_and_one_tensor() -> None:
    (row,) = grow_speed.memory(["squeezenet1_1"]).rows
    assert float(row[-1]) < 1
