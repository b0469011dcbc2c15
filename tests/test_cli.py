"""The command line says what the package says, and its exit status tells whether it went well."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import fxgrow
from fxgrow.arguments import UsageError, inputs_of, load, model_of, save
from fxgrow.cli import COMMANDS, main
from fxgrow.ops.page import entries, page
from tests.check import randomise

ROOT = Path(__file__).parent.parent
NET = """
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Sizes:
    width: int = 8


class Net(nn.Module):
    def __init__(self, width=Sizes().width, dtype=None):
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, width, 3), nn.BatchNorm2d(width)
        self.b, self.c = nn.Conv2d(width, width, 1), nn.Linear(width, 4)

    def forward(self, x, mask=None):
        x = torch.relu(self.norm(self.a(x)))
        return self.c((x + self.b(x)).mean((2, 3)))


def words():
    return nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 3))


def broken():
    raise RuntimeError("no weights here")


class Inside:
    net = Net(6)


number = 3
"""
Ran = tuple[int, str, str]
Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in a folder that holds net.py, and give its status, its output and its errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "net.py").write_text(NET)

    def ran(*words: str) -> Ran:
        status = main(words)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return ran


SHAPE = ("--input", "2,3,8,8")


def planned(run: Run, spec: str = '{"a": 12}', *more: str) -> Ran:
    return run("plan", "net.py:Net", *SHAPE, "--spec", spec, "-o", "plan.json", *more)


# -- what each command says -----------------------------------------------------------------------------


def test_widths(run: Run) -> None:
    status, text, _ = run("widths", "net.py:Net", *SHAPE)
    assert status == 0
    assert re.search("c +4 +c +must stay: it is an output of the model", text)
    status, text, _ = run("widths", "net.py:Net", *SHAPE, "--json")
    data = json.loads(text)
    groups = {group["name"]: group for group in data["widths"]}
    assert groups["a"]["size"] == 8
    assert "b.weight[0]" in groups["a"]["members"]
    assert "output of the model" in groups["c"]["state"]


def test_why(run: Run) -> None:
    assert "share one width" in run("why", "net.py:Net", "a", "b", *SHAPE)[1]
    assert "must stay" in run("why", "net.py:Net", "c", *SHAPE)[1]
    data = json.loads(run("why", "net.py:Net", "a", "b", *SHAPE, "--json")[1])
    assert data["asked"] == ["a", "b"]
    assert run("why", "net.py:Net", *SHAPE, "a", "b")[0] == 0
    assert run("why", "net.py:Net", "a", "b", "c")[0] == 2


def test_plan_writes_what_apply_reads(run: Run) -> None:
    status, text, _ = planned(run)
    assert status == 0
    assert "1.5x" in text
    plan = fxgrow.Plan.from_json(Path("plan.json").read_text())
    assert [(width.name, width.old, width.new) for width in plan.grown] == [("a", 8, 12)]
    assert fxgrow.Plan.from_json(planned(run, '{"a": 12}', "--json")[1]) == plan


def test_a_specification_can_be_a_number_or_a_file(run: Run) -> None:
    Path("spec.json").write_text('[{"a": 10}, {"deepen": "b"}]')
    assert planned(run, "spec.json")[0] == 0
    plan = fxgrow.Plan.from_json(Path("plan.json").read_text())
    assert len(plan.changes) == 1
    assert "2x" in planned(run, "2")[1]
    status, _, error = planned(run, "none.json")
    assert (status, "cannot read none.json" in error) == (2, True)


def test_options_of_plan_reach_it(run: Run) -> None:
    planned(run, "1.5", "--seed", "7", "--method", "even", "--module", "--kwargs", '{"width": 10}')
    plan = fxgrow.Plan.from_json(Path("plan.json").read_text())
    assert (plan.seed, plan.method, plan.output, plan.width("a").old) == (7, "even", "module", 10)
    planned(run, "1.5", "--leaf", "b")
    assert fxgrow.Plan.from_json(Path("plan.json").read_text()).leaves == ("b",)


@pytest.mark.parametrize("how", [(), ("--spec", '{"a": 12}'), ("--plan", "plan.json")])
def test_summary(run: Run, how: tuple[str, ...]) -> None:
    planned(run)
    status, text, _ = run("summary", "net.py:Net", *SHAPE, *how)
    assert status == 0
    assert ("8 -> 12" in text) is bool(how)
    data = json.loads(run("summary", "net.py:Net", *SHAPE, *how, "--json")[1])
    assert data["rows"][0]["layer"] == "a"
    assert data["rows"][0]["width"] == [8, 12 if how else 8]
    assert run("summary", "net.py:Net", "--spec", "2", "--plan", "plan.json")[0] == 2


def test_summary_has_colours_in_a_terminal_where_rich_is_installed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich", reason="rich is an extra")
    monkeypatch.setenv("COLUMNS", "140")
    with monkeypatch.context() as patched:
        patched.setattr(sys.stdout, "isatty", lambda: True)
        rich = run("summary", "net.py:Net", *SHAPE)[1]
        patched.setattr("importlib.util.find_spec", lambda name: None)
        without = run("summary", "net.py:Net", *SHAPE)[1]
    assert rich != without
    assert without == run("summary", "net.py:Net", *SHAPE)[1]


def test_verify_tells_by_its_status_whether_the_student_is_exact(run: Run) -> None:
    planned(run)
    status, text, _ = run("verify", "net.py:Net", "plan.json", "--double")
    assert status == 0
    assert "the same function" in text
    data = json.loads(run("verify", "net.py:Net", "plan.json", *SHAPE, "--json")[1])
    assert data["exact"]
    assert data["parameters"][1] > data["parameters"][0]
    planned(run, '{"a": 12}', "--method", "random_pad")
    status, text, _ = run("verify", "net.py:Net", "plan.json", "--double")
    assert status == 1
    assert "NOT the same function" in text


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_apply_grows_a_checkpoint(run: Run, kind: str, dtype: torch.dtype) -> None:
    if kind == "safetensors":
        pytest.importorskip("safetensors", reason="safetensors is an extra")
    planned(run)
    teacher = randomise(model_of("net.py:Net")).to(dtype)
    save(teacher, f"teacher.{kind}")
    status, text, _ = run("apply", "plan.json", f"teacher.{kind}", f"student.{kind}", "net.py:Net")
    assert status == 0
    assert "-> " in text
    student = load(f"student.{kind}", fxgrow.apply(fxgrow.Plan.from_json(Path("plan.json").read_text()), teacher))
    assert next(student.parameters()).dtype is dtype
    assert student.get_submodule("a").out_channels == 12
    assert fxgrow.verify(teacher, student, torch.randn(2, 3, 8, 8, dtype=dtype)).exact
    checkpoints = ("--weights", f"teacher.{kind}", "--student", f"student.{kind}")
    assert run("verify", "net.py:Net", "plan.json", *checkpoints)[0] == 0
    assert run("verify", "net.py:Net", "plan.json", *checkpoints[2:])[0] == 1, "not the teacher that it was grown from"


def test_a_checkpoint_may_lie_in_a_larger_file(run: Run) -> None:
    teacher = model_of("net.py:Net")
    wrapped = {f"module.{name}": tensor for name, tensor in teacher.state_dict().items()}
    torch.save({"state_dict": teacher.state_dict(), "epoch": 3}, "teacher.pt")
    torch.save({"model": wrapped, "epoch": 3}, "parallel.pt")
    planned(run)
    for name in ("teacher.pt", "parallel.pt"):
        assert run("apply", "plan.json", name, "student.pt", "net.py:Net")[0] == 0


def test_without_safetensors_its_files_are_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("net.py:Net")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install"):
        save(model, "teacher.safetensors")


def test_tied_weights_are_written_to_safetensors(run: Run) -> None:
    pytest.importorskip("safetensors", reason="safetensors is an extra")
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    save(tied, "tied.safetensors")
    fresh = load("tied.safetensors", nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)))
    assert torch.equal(fresh[1].weight, tied[0].weight)


def test_ops_lists_the_rules(run: Run) -> None:
    assert len(json.loads(run("ops", "--json")[1])) == len(entries())
    status, text, _ = run("ops", "batch_norm")
    assert status == 0
    assert "normalization" in text
    assert "pooling" not in text
    assert run("ops", "--markdown")[1] == page()
    status, _, error = run("ops", "matrix_exp")
    assert status == 1
    assert "pins" in error


def test_ops_says_all_of_a_rule_however_narrow_the_terminal_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in ("50", "300"):
        monkeypatch.setenv("COLUMNS", columns)
        _, text, _ = run("ops")
        assert max(map(len, text.splitlines())) <= int(columns)
        told = " ".join(text.split())
        assert all(entry.what in told and all(which in told for _, which in entry.exact) for entry in entries())


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_shells_can_complete_the_words(run: Run, shell: str) -> None:
    pytest.importorskip("shtab")
    status, text, _ = run("--print-completion", shell)
    assert status == 0
    assert all(command.name in text for command in COMMANDS)
    assert "double" in text


def test_draw_writes_pictures_of_models_plans_and_specs(run: Run) -> None:
    planned(run)
    for words in ([*SHAPE], ["--plan", "plan.json", *SHAPE], ["--spec", "2.0", *SHAPE, "--level", "ops"]):
        status, text, _ = run("draw", "net.py:Net", *words, "-o", "plan.html")
        assert (status, text.strip()) == (0, "wrote plan.html")
        assert "<html" in Path("plan.html").read_text(encoding="utf-8")
    status, text, _ = run("draw", "plan.json", "-o", "plan.txt")
    assert (status, text.strip()) == (0, "wrote plan.txt")
    assert "drawn from the plan alone" in Path("plan.txt").read_text(encoding="utf-8")
    status, _, error = run("draw", "plan.json", "-o", "plan.html", "--level", "ops")
    assert status == 1
    assert "a plan alone has no graph" in error
    assert run("draw", "net.py:Net", *SHAPE, "-o", "plan.jpeg")[0] == 1


# -- models and inputs ----------------------------------------------------------------------------------


def test_models_come_from_modules_files_and_attributes(run: Run) -> None:
    assert type(model_of("net:Net")).__name__ == "Net"
    assert model_of("net.py:Inside.net").a.out_channels == 6
    assert model_of("net.py:Net", '{"width": 5}').a.out_channels == 5
    assert model_of("torch.nn:Linear", '{"in_features": 2, "out_features": 3}').in_features == 2
    first, again = model_of("net.py:Net"), model_of("net.py:Net")
    assert torch.equal(first.a.weight, again.a.weight), "the same weights each time"


def test_inputs_are_random_tensors_of_that_shape_and_dtype() -> None:
    model = nn.Linear(2, 2).double()
    (x,) = inputs_of(["2,3"], model)
    assert (x.shape, x.dtype) == ((2, 3), torch.float64)
    assert torch.equal(x, inputs_of(["2,3"], model)[0])
    ids, half = inputs_of(["int64:1,400:50", "float16:4"], model)
    assert (ids.dtype, half.dtype) == (torch.int64, torch.float16)
    assert 10 < int(ids.max()) < 50
    named = inputs_of(["x=1,2", "mask=bool:1,2"], model)
    assert (list(named), named["mask"].dtype) == (["x", "mask"], torch.bool)
    assert inputs_of([], model) is None
    for words in (["2x3"], ["float:2,3", "x=2"], ["nn:1"], ["1,,2"], [""]):
        with pytest.raises(UsageError):
            inputs_of(words, model)


def test_named_and_integer_inputs_reach_the_model(run: Run) -> None:
    assert "int64[1, 7]" in run("widths", "net.py:words", "--input", "int64:1,7:50")[1]
    assert "x=" in run("widths", "net.py:Net", "--input", "x=2,3,8,8", "--input", "mask=bool:2,8")[1]


# -- errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["widths", "net.py"], 2, "expected MODULE:FACTORY"),
        (["widths", "none.py:Net"], 2, "no file none.py"),
        (["widths", "no_such_package:Net"], 2, "ModuleNotFoundError"),
        (["widths", "net.py:Other"], 2, "no 'Other'"),
        (["widths", "net.py:number"], 2, "is a int"),
        (["widths", "net.py:Sizes"], 2, "gives a Sizes"),
        (["widths", "net.py:broken"], 2, "no weights here"),
        (["widths", "net.py:Net", "--kwargs", "[3]"], 2, "JSON object"),
        (["widths", "net.py:Net", "--kwargs", '{"depth": 3}'], 2, "unexpected keyword"),
        (["widths", "net.py:Inside.net", "--kwargs", '{"width": 3}'], 2, "a module already"),
        (["widths", "net.py:Net", "--input", "2;3"], 2, "expected a shape"),
        (["widths", "net.py:Net", "--input", "2,5,8,8"], 1, "does not run"),
        (["why", "net.py:Net", "d"], 1, "no layer or parameter 'd'"),
        (["plan", "net.py:Net", "--spec", '{"c": 9}'], 1, "output of the model"),
        (["plan", "net.py:Net", "--spec", "wide"], 1, "is not JSON"),
        (["plan", "net.py:Net", "--spec", "2", "-o", "no/such/folder.json"], 2, "folder.json"),
        (["plan", "net.py:Net"], 2, "--spec"),
        (["verify", "net.py:Net", "net.py"], 1, "no plan"),
        (["verify", "net.py:Net", "none.json"], 2, "cannot read"),
        (["apply", "plan.json", "none.pt", "student.pt", "net.py:Net"], 2, "no file none.pt"),
        (["apply", "plan.json", "net.py", "student.pt", "net.py:Net"], 1, "reads no weights"),
        (["apply", "plan.json", "words.pt", "student.pt", "net.py:Net"], 1, "no checkpoint of Net"),
        (["apply", "plan.json", "number.pt", "student.pt", "net.py:Net"], 1, "no state_dict"),
        (["frobnicate"], 2, "invalid choice"),
        ([], 2, "required"),
    ],
)
def test_an_error_is_a_line_and_a_status(run: Run, words: list[str], status: int, message: str) -> None:
    planned(run)
    save(model_of("net.py:words"), "words.pt")
    torch.save(3, "number.pt")
    found, _, error = run(*words)
    assert (found, message in error) == (status, True), error
    assert "Traceback" not in error


def test_a_traceback_is_shown_on_request(run: Run) -> None:
    status, _, error = run("widths", "net.py:broken", "--traceback")
    assert status == 2
    assert "Traceback" in error
    assert 'raise RuntimeError("no weights here")' in error


def test_help_of_every_command_has_examples(run: Run) -> None:
    status, text, _ = run("--help")
    assert status == 0
    for command in COMMANDS:
        assert command.name in text
        status, own, _ = run(command.name, "--help")
        assert status == 0
        assert f"examples:\n  fxgrow {command.name}" in own
        assert "--json" in own
    assert "without\nbuilding the model" in run("apply", "--help")[1]
    assert run("--version")[1] == f"fxgrow {fxgrow.__version__}\n"


# -- as a program ---------------------------------------------------------------------------------------


def test_python_m_fxgrow_is_the_command_line(run: Run) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "fxgrow", "plan", "net:Net", *SHAPE, "--spec", '{"c": 9}']
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"fxgrow plan: .*output of the model.*\n", done.stderr)


def test_the_commands_of_the_readme_run(run: Run, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (section,) = re.findall("<!-- commands -->\n```sh\n(.*?)```\n<!-- /commands -->", readme, re.DOTALL)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    save(model_of("examples/quickstart.py:DigitNet"), "teacher.pt")
    lines = section.strip().splitlines()
    assert {line.split()[1] for line in lines} == {command.name for command in COMMANDS}
    for line in lines:
        program, *words = shlex.split(line, comments=True)
        assert program == "fxgrow"
        status, text, error = run(*words)
        assert (status, error) == (0, ""), line
        assert text
