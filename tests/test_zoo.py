"""Real models, a few small ones of each kind; `benchmarks/zoo.py` runs all of them."""

import csv
import importlib.util
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks import measure, zoo
from benchmarks.measure import Row
from benchmarks.torchvision_shim import import_torchvision
from benchmarks.zoo_tiny import shrunk
from benchmarks.zoos import ZOOS, Entry, first_that_runs, images, noise
from tests.thinned import thinned

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed"),
    pytest.mark.usefixtures("quick_collections"),
]
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


@thinned("real models")
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


@pytest.mark.parametrize(("output", "number"), [("layers", 21), ("blocks", 4)])
def test_models_are_deepened(entries: dict[str, Entry], output: str, number: int) -> None:
    (row,) = zoo.grow_model("torchvision", entries["resnet18"], [1.0], limit=1e9, seed=0, outputs=(output,))
    assert row.status == "grown"
    assert row.passed
    assert (row.weights_grown, row.weights) == (number, number)
    assert row.parameters_grown > row.parameters


def test_torchvision_imports_once() -> None:
    assert import_torchvision() is import_torchvision()


def test_boxes_that_overlap_a_better_one_are_dropped() -> None:
    ops = import_torchvision().ops
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(40, 2, generator=generator, dtype=torch.float64)
    boxes = torch.cat([corners, corners + torch.rand(40, 2, generator=generator, dtype=torch.float64)], 1)
    scores = torch.rand(40, generator=generator, dtype=torch.float64)
    keep = ops.nms(boxes, scores, 0.3)
    expected: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        if all(float(ops.box_iou(boxes[i, None], boxes[j, None])) <= 0.3 for j in expected):
            expected.append(i)
    assert keep.tolist() == expected
    assert ops.nms(boxes[:0], scores[:0], 0.3).shape == (0,)


def test_aligned_regions_average_what_lies_below_them() -> None:
    ops = import_torchvision().ops
    ramp = torch.arange(16, dtype=torch.float64).expand(1, 2, 16, 16)
    pooled = ops.roi_align(ramp, [torch.tensor([[2.0, 2.0, 10.0, 10.0]], dtype=torch.float64)], 2, sampling_ratio=2)
    assert pooled.shape == (1, 2, 2, 2)
    assert pooled[0, 0, 0].tolist() == [4, 8]
    on_meta = ops.roi_align(ramp.to("meta"), torch.empty(3, 5, dtype=torch.float64, device="meta"), 2)
    assert on_meta.shape == (3, 2, 2, 2)


@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large"])
def test_detectors_run_in_both_modes(name: str) -> None:
    entry = next(e for e in ZOOS["torchvision-dense"]() if e.name == name)
    teacher = measure.prepared(entry, limit=1e9, skip=1e9, seed=0)
    assert len(teacher.outputs["train"]) == (4 if "rcnn" in name else 2), "one tensor a loss"
    assert len(teacher.outputs["eval"]) == 6, "boxes, scores and labels of two images"
    assert all(len(t) for t in teacher.outputs["eval"]), "nothing was found: nothing is compared"


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
    assert zoo.main(["--zoo", "failing", "--csv", str(table), "--markdown", str(page)]) == 0, "skipped, not failed"
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


def _one_of_each() -> Iterator[Entry]:
    yield Entry("Grows", lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)), images(8))
    yield Entry("Stays", lambda: nn.Sequential(nn.Conv2d(3, 2, 3)), images(8))
    yield Entry("Refused", Counts, images(8))
    yield Entry("Skipped", Broken, images(8))
    yield Entry("Sleeps", Sleeps, images(8), family="slow")
    yield Entry("Sleeps2", Sleeps, images(8), family="slow")


class Counts(nn.Module):
    """Writes into a tensor that is neither a parameter nor a buffer, which fxgrow refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)
        self.calls = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.second(self.first(x))


class Sleeps(Counts):
    def forward(self, x: Tensor) -> Tensor:
        try:
            time.sleep(10)
        except Exception:  # noqa: BLE001 (what a model may do)
            return x
        return x


def _statuses(path: Path) -> list[tuple[str, str, str]]:
    with path.open(encoding="utf-8") as file:
        return [(row["model"], row["factor"], row["status"]) for row in csv.DictReader(file)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a time limit in a callback
def test_each_row_says_how_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ZOOS, "each", _one_of_each)
    table, found = tmp_path / "zoo.csv", tmp_path / "found.md"
    before = signal.getsignal(signal.SIGALRM)
    options = ["--zoo", "each", "--factors", "2", "--csv", str(table), "--limit-seconds", "2", "--per-family", "0"]
    enough = ["--limit-seconds", "60"]  # also where the first model has torch import its compiler
    assert zoo.main([*options, "--models", "[!S]*", "--threads", str(torch.get_num_threads()), *enough]) == 1
    assert _statuses(table) == [("Grows", "2.0", "grown"), ("Refused", "2.0", "refused")]
    options += ["--resume", "--findings", str(found), "--threads", str(torch.get_num_threads())]
    assert zoo.main([*options, "--models", "[!S]*", "S[!l]*", "Sleeps"]) == 1
    assert signal.getsignal(signal.SIGALRM) is before
    assert _statuses(table)[2:] == [
        ("Stays", "2.0", "unchanged"),
        ("Skipped", "2.0", "skipped"),
        ("Sleeps", "2.0", "timeout"),
    ]
    text = found.read_text(encoding="utf-8")
    assert "### refused\n\n- 1 models: TraceError" in text
    assert "### timeout" in text


def test_a_run_takes_part_of_a_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ZOOS, "each", _one_of_each)

    def names(*options: str) -> list[str]:
        return [e.name for e in zoo.chosen(zoo.arguments(["--zoo", "each", *options]))]

    assert names("--per-family", "1") == ["Grows", "Sleeps"]
    shards = [names("--shard", f"{i}/4") for i in range(4)]
    assert sorted(name for shard in shards for name in shard) == sorted(names())
    assert max(map(len, shards)) == 2


class Targets(nn.Module):
    """Like a detector, it needs targets in train mode and takes lists."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> dict[str, Any]:
        out = [self.second(self.first(x).relu()) for x in images]
        if not self.training:
            return {"out": out, "note": "text"}
        assert targets is not None
        return {"loss": sum((o - t["y"]).square().mean() for o, t in zip(out, targets, strict=True))}


def test_a_mode_has_its_own_inputs() -> None:
    def photographs() -> tuple[Any, ...]:
        return ([torch.ones(2, 4), torch.zeros(3, 4)],)

    def targets() -> tuple[Any, ...]:
        return *photographs(), [{"y": torch.ones(2, 3)}, {"y": torch.ones(3, 3)}]

    teacher = measure.prepared(Entry("targets", Targets, photographs, targets), limit=1e9, skip=1e9, seed=0)
    assert [tuple(t.shape) for t in teacher.outputs["eval"]] == [(2, 3), (3, 3)]
    assert [tuple(t.shape) for t in teacher.outputs["train"]] == [()]
    assert teacher.outputs["eval"][0].dtype == torch.float64


def test_another_size_is_tried_where_one_does_not_run() -> None:
    small = Entry("pool", lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(8)), images(8))
    entry = first_that_runs([small, replace(small, inputs=images(16))])
    assert measure.prepared(entry, limit=1e9, skip=1e9, seed=0).outputs["eval"][0].shape == (2, 4, 1, 1)


def test_a_wrong_student_is_called_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = measure.fxgrow.grow

    def mutant(*args: Any, **kwargs: Any) -> nn.Module:
        student = real(*args, **kwargs)
        next(student.parameters()).data[0] += 1e-6
        return student

    monkeypatch.setitem(ZOOS, "each", _one_of_each)
    monkeypatch.setattr(measure.fxgrow, "grow", mutant)
    assert zoo.main(["--zoo", "each", "--models", "Grows", "--threads", str(torch.get_num_threads())]) == 1
    assert "!!! WRONG: Grows" in capsys.readouterr().out


def test_a_network_that_amplifies_rounding_is_called_unstable() -> None:
    row = measure.Row("zoo", "model", 2.0, error_eval=1e-9, error_train=0.0, noise=1e-10)
    assert row.status == "unstable"
    row.noise = 1e-13
    assert row.status == "WRONG"
    row.error_eval = float("nan")
    assert row.status == "WRONG"
    row.error_eval, row.sensitivity = 0.0, 0.0
    assert row.status == "blind", "equal outputs that do not depend on the inputs show nothing"


@pytest.mark.parametrize(
    ("package", "name", "model"),
    [
        ("timm", "timm", "test_resnet.r160_in1k"),
        ("pytorchcv", "pytorchcv", "resnet10"),
        ("segmentation_models_pytorch", "smp", "unet-resnet18"),
        ("transformers", "transformers", "ViTForImageClassification"),
    ],
)
def test_the_models_of_other_packages_run(package: str, name: str, model: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    entry = next(e for e in ZOOS[name]() if e.name == model.split(".")[0])
    assert measure.prepared(entry, limit=1e9, skip=1e9, seed=0).outputs["eval"][0].isfinite().all()


def test_what_is_kept_as_a_call_is_grouped_by_reason_and_place() -> None:
    row = measure.Row(
        "zoo", "model", 2.0, kept="a.0: it asks for 3 'x' (at /lib/pkg/models/net.py:12: if x > 3:)\nb: no place"
    )
    assert row.reasons_kept == [("it asks for … …", "models/net.py:12: if x > 3:"), ("no place", "")]
    text = "\n".join(zoo.findings([row]))
    assert "### Kept as calls" in text
    assert "models/net.py:12" in text


def test_what_takes_longer_than_20_forward_passes_and_5_seconds_is_found() -> None:
    times = {"long": (30.0, 2.0), "few passes": (30.0, 4.0), "short": (4.0, 0.01), "not measured": (30.0, 0.0)}
    rows = [measure.Row("zoo", name, 2.0, seconds=grow, forward=both) for name, (grow, both) in times.items()]
    text = "\n".join(zoo.findings(rows))
    slow = text.split("### Slower than 20 forward passes and 5 s\n\n")[1].split("\n###")[0]
    assert "| long | 2 |" in slow
    assert "| 1.00 | 30.0 | 30 |" in slow
    assert "few passes" not in slow
    assert "short" not in slow
    assert "More than 5 s, on meta, where no forward pass computes: not measured x2 (30 s)." in slow


def test_what_does_not_come_to_an_end_is_named_beside_what_is_slow() -> None:
    row = measure.Row("zoo", "endless", 1.5, output="module", failure="more than 60 s", kind="timeout")
    assert zoo.long_section([row]) == ["None.", "", "Stopped by the limit of time: endless x1.5 module."]


def test_the_page_of_a_zoo_has_a_table_of_what_grows_slowly(tmp_path: Path) -> None:
    rows = [measure.Row("zoo", "long", 2.0, seconds=30.0, forward=2.0), measure.Row("zoo", "short", 2.0, seconds=1.0)]
    page = tmp_path / "page.md"
    zoo.write_markdown(page, rows, "the command")
    table = page.read_text(encoding="utf-8").split("## Slower than 20 forward passes and 5 s\n\n")[1].split("\n\n")[0]
    assert "| long | 2 |" in table
    assert table.rstrip().endswith("| 1.00 | 30.0 | 30 |")
    assert "short" not in table
    zoo.write_markdown(page, rows[1:], "the command")
    assert "## Slower than 20 forward passes and 5 s\n\nNone.\n" in page.read_text(encoding="utf-8")


def test_a_model_whose_process_dies_is_a_row() -> None:
    def build() -> nn.Module:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    rows = zoo.isolated("zoo", Entry("deadly", build, lambda: (torch.zeros(2, 3),)), [1.5, 2.0], 1e9, 0)
    assert [row.status for row in rows] == ["crash", "crash"]
    assert "died" in rows[0].failure


class Part:
    """A configuration inside another one, as those of transformers are."""

    def __init__(self) -> None:
        self.num_heads, self.depths, self.drop_path_rate = 12, [2, 2, 6], 0.3

    def to_dict(self) -> dict[str, object]:
        return dict(vars(self))


class Config(Part):
    def __init__(self) -> None:
        super().__init__()
        self.hidden_size, self.num_hidden_layers, self.intermediate_size = 768, 12, 3072
        self.eos_token_id, self.attention_dropout, self.tie_word_embeddings = 50256, 0.1, True
        self.layer_types = ["full", "sliding", "full", "sliding"]
        self.vision_config = Part()


def test_a_configuration_is_made_tiny_with_its_parts() -> None:
    found = shrunk(Config())
    assert (found.hidden_size, found.num_hidden_layers, found.intermediate_size) == (32, 2, 48)
    assert (found.eos_token_id, found.attention_dropout, found.tie_word_embeddings) == (60, 0.0, True)
    assert found.layer_types == ["full", "sliding"]
    assert (found.vision_config.num_heads, found.vision_config.depths) == (4, [1, 1, 1])
    assert found.vision_config.drop_path_rate == 0.0


def test_the_page_of_a_zoo_names_the_command_that_makes_it() -> None:
    rows = [Row("transformers-tiny", "gpt2", 2.0)]
    assert "--zoo transformers-tiny" in zoo.command_for(rows)
    assert zoo.command_for([*rows, Row("timm", "resnet18", 2.0)]) == zoo.TORCHVISION


class LayerInFloat32(nn.Module):
    """Computes in float32 whatever dtype it is in, as parts of many language models do."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 101), nn.Linear(101, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.up(x).float()
        return self.down((h * h.pow(2).mean(-1, keepdim=True).add(1e-6).rsqrt()).to(x.dtype))


def test_a_model_that_computes_in_float32_itself_is_compared_as_one_in_float32() -> None:
    entry = Entry("in float32", LayerInFloat32, noise((4, 6)))
    (row,) = measure.grow_model("own", entry, [3.0], 1e9, 0)
    assert row.tolerance == measure.TOLERANCES[torch.float32]
    assert 1e-12 < max(row.errors) < 1e-6
    assert row.status == "grown"
