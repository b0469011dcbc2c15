"""The example that grows any public model by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import auto_widen
import fxgrow
from benchmarks.torchvision_shim import import_torchvision
from tests.thinned import THOROUGH

NET = """
from torch import nn
def small(): return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
def large(): return nn.Sequential(nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 2))
def words(): return nn.Sequential(nn.Embedding(7, 8), nn.Linear(8, 2))
"""

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    import_torchvision()
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    return lambda *words: auto_widen.main([*words, "--out", "out"])


@pytest.mark.parametrize(
    ("words", "new"),
    [
        ((), 12),
        (("--factor", "2"), 16),
        (("--parameters", "121"), 17),
        (("--like", "net.py:large"), 20),
        (("--output", "module", "--double", "--input", "3,4"), 12),
    ],
)
def test_a_model_in_a_file_is_grown_compared_and_drawn(run: Run, words: tuple[str, ...], new: int) -> None:
    assert run("net.py:small", *words) == 0
    plan = fxgrow.Plan.from_json(Path("out/plan.json").read_text())
    assert [width.new for width in plan.grown_widths] == [new]
    assert "<svg" in Path("out/plan.html").read_text() or "<script" in Path("out/plan.html").read_text()


@pytest.mark.parametrize("words", [(), ("--double",)])
def test_a_model_in_a_file_may_take_whole_numbers(run: Run, words: tuple[str, ...]) -> None:
    assert run("net.py:words", *words) == 0
    assert [width.new for width in fxgrow.Plan.from_json(Path("out/plan.json").read_text()).grown_widths] == [12]


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", pytest.param("shufflenet_v2_x0_5", marks=THOROUGH), "bert"])
def test_a_public_model_is_grown_by_its_name(run: Run, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip({"bert": "transformers", "mobilenetv3_small_050": "timm"}.get(name, "torchvision"))
    assert run(name, "--factor", "2") == 0
    assert f"{name}: " in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    "words", [("nonsense",), ("net.py:none",), ("missing.py:Net",), ("net.py:large", "--like", "net.py:small")]
)
def test_what_cannot_be_grown_is_said_in_a_line(
    run: Run, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    assert capsys.readouterr().err.strip()


def test_a_model_of_a_module_in_this_folder_is_found(run: Run, tmp_path: Path) -> None:
    (tmp_path / "net_in_this_folder.py").write_text(NET)
    assert run("net_in_this_folder:small") == 0


def test_a_library_that_cannot_be_imported_is_named_with_its_reason(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(library: str) -> None:
        raise RuntimeError(f"no operator of {library} exists")

    monkeypatch.setattr(auto_widen, "_use_torchvision", lambda: None)
    monkeypatch.setattr(auto_widen.importlib, "import_module", fails)
    assert run("resnet18") == 2
    assert "; timm cannot be imported: no operator of timm exists" in capsys.readouterr().err
