"""The measurements of training run on a few images, keep what must hold, and go on where they were."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import fxgrow
from benchmarks import methods
from benchmarks.arguments import record_of
from benchmarks.resnet import flops_of
from benchmarks.runs import Record
from benchmarks.ways import DEFAULT, WAYS
from tests.check import randomise

X = torch.randn(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def _teacher(*, norm: bool) -> torch.nn.Module:
    return randomise(methods.Reader(2, norm=norm)).double().eval()


@torch.no_grad()
@pytest.mark.parametrize(("factor", "norm"), [(2.0, True), (2.5, False)], ids=["norms", "biases"])
def test_ways_that_claim_to_be_exact_are_and_the_others_are_not(factor: float, norm: bool) -> None:
    teacher, x = _teacher(norm=norm), X.double()
    for way in WAYS:
        student = way.grown(teacher, x[:2], factor, 0).eval()
        assert student.get_parameter("0.weight").shape[0] == round(2 * factor)
        expected, found = teacher(x), student(x)
        error = float((found - expected).abs().max() / expected.abs().max())
        assert (error < 1e-12) == way.exact, f"{way.name}: {error}"


def test_replicas_begin_as_copies_where_a_way_says_so() -> None:
    teacher, x = _teacher(norm=True), X.double()
    for way in WAYS:
        if way.name != "scratch":
            apart = methods.distance(way.grown(teacher, x[:2], 2.0, 0), x)
            assert (apart < 0.2) == way.replicas, f"{way.name}: {apart}"
            assert (apart < 1e-12) == (way.replicas and way.exact), f"{way.name}: {apart}"


def test_the_default_of_the_package_is_the_way_that_is_called_so() -> None:
    plan = fxgrow.plan_of(fxgrow.grow(_teacher(norm=True), 2.0, X[:2].double()))
    assert {width.method for width in plan.grown_widths} == {DEFAULT}
    assert DEFAULT in {way.name for way in WAYS if way.exact}


@torch.no_grad()
def test_a_scalar_share_is_one_for_all_weights_of_a_column() -> None:
    teacher = _teacher(norm=True)
    ways = {way.name: way.grown(teacher, X[:2].double(), 2.0, 0) for way in WAYS}
    old = teacher.get_parameter("3.weight")
    copies = fxgrow.plan_of(ways["scalar"]).width("0").copies
    shares = {name: ways[name].get_parameter("3.weight")[:4, 2:] / old[:, list(copies)] for name in ("scalar", "split")}
    by_column = {name: share.transpose(0, 1).flatten(1).std(1) for name, share in shares.items()}
    assert float(by_column["scalar"].max()) < 1e-12
    assert float(by_column["split"].min()) > 0.1
    assert shares["scalar"].flatten(2)[0, :, 0].tolist() != [0.5, 0.5]


def test_methods_are_measured_and_a_second_call_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, page = tmp_path / "runs" / "methods.json", tmp_path / "methods.md"
    monkeypatch.setattr(methods, "RATES", {"sgd": (5e-2, 1e-2)})
    call = ["--quick", "--seeds", "1", "--out", str(out), "--markdown", str(page)]
    assert methods.main(call) == 0
    record = json.loads(out.read_text())
    assert len(record["runs"]) == 2 * (len(WAYS) + 1)
    exact = {way.name for way in WAYS if way.exact}
    for name, run in record["runs"].items():
        _, _, way, seed = name.split(" ")
        teacher = record["runs"][f"sgd 0.01 teacher {seed}"]
        assert {"changed", "error", "before", "parameters", "evaluations", "windows"} <= set(run)
        assert [found["step"] for found in run["evaluations"]] == methods.QUICK.evaluated()
        if way in exact:
            assert run["changed"] == 0
            assert run["evaluations"][0]["accuracy"] == teacher["evaluations"][0]["accuracy"]
        elif way != "teacher":
            assert run["error"] > 1e-3
    assert (tmp_path / "pictures" / "methods.png").stat().st_size > 10_000
    assert "python benchmarks/methods.py --quick" in page.read_text()

    missing = "sgd 0.01 split 0"
    kept = record["runs"].pop(missing)
    out.write_text(json.dumps(record))
    called: list[Any] = []
    real = methods.trained_on
    monkeypatch.setattr(methods, "trained_on", lambda *args: called.append(args[1].name) or real(*args))
    assert methods.main(call) == 0
    assert called == ["split"]
    assert json.loads(out.read_text())["runs"][missing] == kept  # the same numbers again


def test_wrong_arguments_and_missing_data_are_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    for argument, reason in (("--seeds=0", "not a number of at least 1"), ("--device=cuda", "torch sees no GPU here")):
        with pytest.raises(SystemExit):
            methods.main(["--quick", argument, "--out", str(tmp_path / "record.json")])
        assert reason in capsys.readouterr().err
    with pytest.raises(SystemExit, match="error: MNIST is read by torchvision"):
        methods.main(["--quick", "--data", "mnist", "--out", str(tmp_path / "record.json")])
    assert not list(tmp_path.iterdir())


def test_a_quick_run_has_a_record_of_its_own() -> None:
    """A quick run's settings are others: in the place of the real record it would stop the real run."""
    places = [record_of("methods", methods.arguments(argv)) for argv in ([], ["--quick"], ["--quick", "--out", "a"])]
    assert places == [Path("runs/methods.json"), Path("runs/methods-quick.json"), Path("a")]


def test_flops_are_those_of_the_convolutions() -> None:
    """Forward is 2 per multiply-add; backward twice that, but for the first layer, whose input needs no gradient."""
    width, side = 4, 14
    stem = 2 * width * 9 * side**2
    body = 0
    for stage, channels in enumerate((width, 2 * width, 4 * width)):
        size, before = side // 2**stage, channels // 2 if stage else channels
        size += stage == 2  # 14 -> 7 -> 4
        body += 2 * channels * size**2 * (9 * before + 9 * channels + (before if stage else 0))
    fc = 2 * 4 * width * 10
    assert flops_of(width, 1, 2) == 2 * stem + 3 * (body + fc)


def test_a_record_refuses_other_settings(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    Record(path, {"steps": 5, "rates": (1, 2)}, "here").add("a", {"loss": 1.0})
    again = Record(path, {"steps": 5, "rates": (1, 2)}, "there")
    assert (again.runs, again.machine) == ({"a": {"loss": 1.0}}, "here")
    with pytest.raises(SystemExit, match="steps 5, not 6"):
        Record(path, {"steps": 6, "rates": (1, 2)}, "here")
