"""Real models, a few small ones of each kind; `benchmarks/zoo.py` runs all of them."""

import csv
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import zoo
from benchmarks.torchvision_shim import import_torchvision
from benchmarks.zoos import ZOOS, Entry, images

pytestmark = pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed")
SOME = (
    "squeezenet1_1",
    "resnet18",
    "densenet121",
    "googlenet",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mnasnet0_5",
    "shufflenet_v2_x0_5",
    "efficientnet_b0",
    "regnet_y_400mf",
    "convnext_tiny",
)


@pytest.fixture(scope="module")
def entries() -> dict[str, Entry]:
    return {entry.name: entry for entry in ZOOS["torchvision"]()}


@pytest.mark.parametrize("name", SOME)
def test_real_model_grows_exactly(entries: dict[str, Entry], name: str) -> None:
    (row,) = zoo.grow_model("torchvision", entries[name], [1.5], limit=1e9, seed=0)
    assert not row.failure
    assert row.traced == "yes"
    assert row.error_eval is not None
    assert row.error_train is not None
    assert max(row.error_eval, row.error_train) <= zoo.TOLERANCE
    assert row.share >= zoo.SHARE, row.pins
    assert row.sensitivity is not None
    assert row.sensitivity > 1e-3, "the outputs do not depend on the inputs: nothing was tested"
    assert row.passed


def test_large_model_grows_on_meta(entries: dict[str, Entry]) -> None:
    (row,) = zoo.grow_model("torchvision", entries["resnet18"], [2.0], limit=1e6, seed=0)
    assert row.shapes == "equal", row.failure
    assert row.error_eval is None
    assert row.passed


def test_torchvision_imports_once() -> None:
    assert import_torchvision() is import_torchvision()


class Broken(nn.Module):
    """A model whose forward fails."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("broken | today")


def _failing_zoo() -> Iterator[Entry]:
    yield Entry("no_build", lambda: nn.Conv2d(3, 4, 3, groups=2), images(8))
    yield Entry("no_forward", Broken, images(8))
    yield Entry("fine", lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)), images(8))


def test_a_crash_does_not_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ZOOS, "failing", _failing_zoo)
    table, page = tmp_path / "zoo.csv", tmp_path / "zoo.md"
    threads = torch.get_num_threads()
    assert zoo.main(["--zoo", "failing", "--csv", str(table), "--markdown", str(page)]) == 1
    torch.set_num_threads(threads)
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == ["no_build"] * 2 + ["no_forward"] * 2 + ["fine"] * 2
    assert [row["passed"] for row in rows] == ["False"] * 4 + ["True"] * 2
    assert "in_channels must be divisible" in rows[0]["failure"]
    assert "broken" in rows[2]["failure"]
    families, models = page.read_text(encoding="utf-8").split("## Model by model")
    assert families.count("\n| fine") == 1
    assert models.count("\n| fine") == 2
    assert zoo.main(["--zoo", "failing", "--models", "fi*"]) == 0
    assert zoo.main(["--zoo", "failing", "--models", "none_such"]) == 1
