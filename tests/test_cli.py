"""The command line says what the package says, and its exit status tells whether it went well."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import fxgrow
from fxgrow.cli.arguments import inputs_of, model_of
from fxgrow.cli.checkpoints import load, save
from fxgrow.cli.main import COMMANDS, main
from fxgrow.cli.usage import UsageError
from fxgrow.errors import GrowError
from fxgrow.methods import registry
from fxgrow.ops.page import entries, page
from tests.check import randomise
from tests.thinned import THOROUGH

ROOT = Path(__file__).parent.parent
NET = """
import sys
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


def leaves():
    sys.exit("bye")


def interrupted():
    raise KeyboardInterrupt


class LeavesLater(nn.Linear):
    def __init__(self):
        super().__init__(4, 4)

    def forward(self, x):
        raise SystemExit(3)


class Naïve(nn.Linear):
    def __init__(self):
        super().__init__(4, 4)


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
    (tmp_path / "net.py").write_text(NET, encoding="utf-8")

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
    assert [(width.name, width.old, width.new) for width in plan.grown_widths] == [("a", 8, 12)]
    assert fxgrow.Plan.from_json(planned(run, '{"a": 12}', "--json")[1]) == plan


def test_a_specification_can_be_a_factor_or_a_file(run: Run) -> None:
    Path("spec.json").write_text('[{"a": 10}, {"deepen": "b"}]')
    assert planned(run, "spec.json")[0] == 0
    plan = fxgrow.Plan.from_json(Path("plan.json").read_text())
    assert len(plan.changes) == 1
    assert "2x" in planned(run, "2.0")[1]
    status, _, error = planned(run, "none.json")
    assert (status, "cannot read none.json" in error) == (2, True)


def test_options_of_plan_reach_it(run: Run) -> None:
    planned(run, "1.5", "--seed", "7", "--method", "even", "--module", "--kwargs", '{"width": 10}')
    plan = fxgrow.Plan.from_json(Path("plan.json").read_text())
    assert (plan.seed, plan.method, plan.output, plan.width("a").old) == (7, "even", "module", 10)
    planned(run, "1.5", "--leaf", "b")
    assert fxgrow.Plan.from_json(Path("plan.json").read_text()).leaf_modules == ("b",)


HALVES = """
import torch

from fxgrow import methods


class Halves(methods.Method):
    name = "halves"
    preserves_function = True
    replicas = True
    source = "an example"

    def contract(self, weight, columns, generator):
        return methods.divide(weight, columns, lambda shape, parts: (torch.ones(()), 0.5))


if "halves" not in methods.names():
    methods.register(Halves)

from net import Net
"""


def test_a_method_that_the_models_file_registers_can_be_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """By every command, each of which starts with a registry that lacks it."""
    without = dict(registry._METHODS)
    monkeypatch.setattr(registry, "_METHODS", dict(without))  # also for the model that is made here
    Path("halves.py").write_text(HALVES)
    save(model_of("halves.py:Net"), "teacher.pt")
    by_option = ("plan", "halves.py:Net", "--spec", '{"a": 12}', "--method", "halves", "-o", "plan.json")
    in_spec = ("plan", "halves.py:Net", "--spec", '{"a": {"width": 12, "method": "halves"}}')
    for words in (
        by_option,
        in_spec,
        ("verify", "halves.py:Net", "plan.json", "--double"),
        ("apply", "halves.py:Net", "plan.json", "teacher.pt", "student.pt"),
        ("summary", "halves.py:Net", "--plan", "plan.json"),
        ("summary", "halves.py:Net", *in_spec[2:]),
        ("draw", "halves.py:Net", "--plan", "plan.json", "-o", "plan.txt"),
    ):
        monkeypatch.setattr(registry, "_METHODS", dict(without))
        status, _, error = run(*words)
        assert (status, error) == (0, ""), words
    assert fxgrow.Plan.from_json(Path("plan.json").read_text()).width("a").method == "halves"


@pytest.mark.parametrize("how", [(), ("--spec", '{"a": 12}'), ("--plan", "plan.json")])
def test_summary(run: Run, how: tuple[str, ...]) -> None:
    planned(run)
    status, text, _ = run("summary", "net.py:Net", *SHAPE, *how)
    assert status == 0
    assert ("8 -> 12" in text) is bool(how)
    data = json.loads(run("summary", "net.py:Net", *SHAPE, *how, "--json")[1])
    assert data["rows"][0]["layer"] == "a"
    assert data["rows"][0]["width"] == [8, 12 if how else 8]
    assert run("summary", "net.py:Net", "--spec", "2.0", "--plan", "plan.json")[0] == 2


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


def test_grow_writes_the_student_that_its_plan_makes(run: Run) -> None:
    teacher = randomise(model_of("net.py:Net")).double()
    save(teacher, "teacher.pt")
    words = ("grow", "net.py:Net", *SHAPE, "--weights", "teacher.pt", "--spec", '{"a": 12}', "--method", "split")
    status, text, _ = run(*words, "-o", "student.pt", "--plan-out", "grown.json")
    assert (status, "wrote student.pt: " in text) == (0, True)
    plan = fxgrow.Plan.from_json(Path("grown.json").read_text())
    student = load("student.pt", fxgrow.apply(plan, teacher))
    assert (student.get_submodule("a").out_channels, plan.method) == (12, "split")
    assert fxgrow.verify(teacher, student, torch.randn(2, 3, 8, 8, dtype=torch.float64)).exact
    data = json.loads(run(*words, "-o", "student.pt", "--json")[1])
    assert data["plan"]["model"] == "Net"
    assert data["parameters"][1] > data["parameters"][0]


@pytest.mark.parametrize("option", ["--weights", "--plan-out"])
def test_grow_writes_over_no_file_that_it_is_given(run: Run, option: str) -> None:
    save(model_of("net.py:Net"), "teacher.pt")
    before = Path("teacher.pt").read_bytes()
    status, _, error = run("grow", "net.py:Net", "--spec", "2.0", option, "teacher.pt", "-o", "./teacher.pt")
    assert (status, "would be lost" in error) == (2, True)
    assert Path("teacher.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "right"),
    [
        ("verify plan.json net.py:Net", "verify net.py:Net plan.json"),
        ("apply teacher.pt plan.json student.pt", "apply plan.json teacher.pt student.pt"),
        ("apply teacher.pt student.pt plan.json", "apply plan.json teacher.pt student.pt"),
        ("apply plan.json net.py:Net teacher.pt student.pt", "apply net.py:Net plan.json teacher.pt student.pt"),
        ("apply net.py:Net teacher.pt student.pt plan.json", "apply net.py:Net plan.json teacher.pt student.pt"),
    ],
)
def test_words_in_another_order_are_refused_with_the_command(run: Run, words: str, right: str) -> None:
    planned(run)
    save(model_of("net.py:Net"), "teacher.pt")
    status, _, error = run(*words.split())
    assert (status, f"fxgrow {right}" in error) == (2, True), error
    assert not Path("student.pt").exists()


WRONG_FILES = {
    "grow net.py:Net --weights plan.json --spec 1.5 -o grown.pt": "no weights in plan.json: it is a plan",
    "verify net.py:Net teacher.pt": "no plan in teacher.pt: it is a checkpoint",
    "summary net.py:Net --plan teacher.pt": "no plan in teacher.pt: it is a checkpoint",
    "draw net.py:Net --plan teacher.safetensors -o a.svg": "no plan in teacher.safetensors: it is a checkpoint",
    "grow net.py:Net --weights teacher.pt --spec plan.json -o grown.pt": "fxgrow apply MODEL PLAN TEACHER STUDENT",
}


@pytest.mark.parametrize("words", WRONG_FILES)
def test_a_file_of_another_kind_is_told_from_the_one_that_is_meant(run: Run, words: str) -> None:
    planned(run)
    for name in ("teacher.pt", "teacher.safetensors"):
        save(model_of("net.py:Net"), name)
    status, _, error = run(*words.split())
    assert (status, WRONG_FILES[words] in error) == (2, True), error
    assert not Path("grown.pt").exists()


def test_a_student_in_the_place_of_the_teacher_is_refused(run: Run) -> None:
    planned(run)
    save(model_of("net.py:Net"), "teacher.pt")
    status, _, error = run("apply", "plan.json", "student.pt", "teacher.pt")
    assert (status, "TEACHER, which is read, comes before STUDENT" in error) == (2, True)


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_apply_grows_a_checkpoint(run: Run, kind: str, dtype: torch.dtype) -> None:
    if kind == "safetensors":
        pytest.importorskip("safetensors", reason="safetensors is an extra")
    planned(run)
    teacher = randomise(model_of("net.py:Net")).to(dtype)
    save(teacher, f"teacher.{kind}")
    status, text, _ = run("apply", "net.py:Net", "plan.json", f"teacher.{kind}", f"student.{kind}")
    assert status == 0
    assert "-> " in text
    student = load(f"student.{kind}", fxgrow.apply(fxgrow.Plan.from_json(Path("plan.json").read_text()), teacher))
    assert next(student.parameters()).dtype is dtype
    assert student.get_submodule("a").out_channels == 12
    assert fxgrow.verify(teacher, student, torch.randn(2, 3, 8, 8, dtype=dtype)).exact
    checkpoints = ("--weights", f"teacher.{kind}", "--student", f"student.{kind}")
    assert run("verify", "net.py:Net", "plan.json", *checkpoints)[0] == 0
    assert run("verify", "net.py:Net", "plan.json", *checkpoints[2:])[0] == 1, "not the teacher that it was grown from"


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_apply_without_a_model_gives_the_same_file_to_file(run: Run, kind: str) -> None:
    planned(run)
    teacher = randomise(model_of("net.py:Net"))
    save(teacher, f"teacher.{kind}")
    assert run("apply", "net.py:Net", "plan.json", f"teacher.{kind}", f"student.{kind}")[0] == 0
    status, text, _ = run("apply", "plan.json", f"teacher.{kind}", f"apart.{kind}", "--threads", "2", "--json")
    assert status == 0
    assert json.loads(text)["tensors"] == len(teacher.state_dict())
    models = [
        load(f"{name}.{kind}", fxgrow.apply(fxgrow.Plan.from_json(Path("plan.json").read_text()), teacher))
        for name in ("student", "apart")
    ]
    for one, other in zip(*(model.state_dict().values() for model in models), strict=True):
        assert torch.equal(one, other)
    status, _, error = run("apply", "plan.json", f"teacher.{kind}", f"teacher.{kind}")
    assert (status, "would be lost" in error) == (1, True)
    status, _, error = run("apply", "plan.json", f"teacher.{kind}", f"s.{kind}", "--kwargs", "{}")
    assert (status, "--kwargs" in error) == (2, True)


def test_a_checkpoint_may_lie_in_a_larger_file(run: Run) -> None:
    teacher = model_of("net.py:Net")
    wrapped = {f"module.{name}": tensor for name, tensor in teacher.state_dict().items()}
    torch.save({"state_dict": teacher.state_dict(), "epoch": 3}, "teacher.pt")
    torch.save({"model": wrapped, "epoch": 3}, "parallel.pt")
    torch.save({"net": teacher.state_dict(), "model": {"depth": 2}}, "named.pt")
    planned(run)
    for name in ("teacher.pt", "parallel.pt", "named.pt"):
        assert run("apply", "net.py:Net", "plan.json", name, "student.pt")[0] == 0
        assert run("apply", "plan.json", name, "student.pt")[0] == 0
    torch.save({"params": teacher.state_dict(), "params_ema": teacher.state_dict()}, "two.pt")
    for model in (["net.py:Net"], []):
        status, _, error = run("apply", *model, "plan.json", "two.pt", "other.pt")
        assert (status, "several state_dicts, under 'params' and 'params_ema'" in error) == (1, True)


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
    assert json.loads(run("ops", "--markdown", "--json")[1]) == {"markdown": page()}
    assert run("ops", "--markdown", "conv*")[0] == 2
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


@pytest.mark.parametrize("words", ["draw pl", "draw exa", "plan net.py:Net --spec sp", "draw plan.json --plan pl"])
def test_files_are_completed(run: Run, words: str) -> None:
    pytest.importorskip("shtab")
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    Path("fxgrow.bash").write_text(run("--print-completion", "bash")[1], encoding="utf-8")
    files = ("plan.json", "example.py", "spec.json")
    for name in files:
        Path(name).touch()
    ask = f"""
        source fxgrow.bash; COMP_WORDS=(fxgrow {words}); COMP_CWORD={len(words.split())}
        $(complete -p fxgrow | sed 's/.* -F \\([^ ]*\\) .*/\\1/') fxgrow {words.split()[-1]}; echo "${{COMPREPLY[@]}}"
    """
    found = subprocess.run([bash, "-c", ask], capture_output=True, text=True, check=False)
    (file,) = [name for name in files if name.startswith(words.split()[-1])]
    assert file in found.stdout.split(), found.stderr


def test_without_shtab_completion_names_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for words in (["bash"], []):
        status, _, error = run("--print-completion", *words)
        assert (status, "needs shtab: pip install 'fxgrow[cli]'" in error) == (2, True)


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
    assert status == 2
    assert "a plan alone has no graph" in error
    assert "fxgrow draw MODEL --plan plan.json -o plan.html --level ops" in error
    assert run("draw", "none.py:Net", "-o", "plan.jpeg")[2].startswith("fxgrow draw: -o: cannot draw suffix '.jpeg'")


@pytest.mark.parametrize(
    "option", ["--spec 2.0", "--plan plan.json", "--kwargs {}", "--input 2,3,8,8", "--module", "--leaf b"]
)
def test_an_option_that_would_count_for_nothing_is_refused(run: Run, option: str) -> None:
    planned(run)
    name = option.split()[0]
    status, _, error = run("draw", "plan.json", "-o", "plan.html", *option.split())
    assert (status, f"give no {name} with it" in error) == (2, True), error
    assert not Path("plan.html").exists()
    if name in ("--spec", "--module", "--leaf"):
        for words in (["summary", "net.py:Net"], ["draw", "net.py:Net", "-o", "plan.html"]):
            status, _, error = run(*words, "--plan", "plan.json", *option.split())
            assert (status, f"give no {name} with it" in error) == (2, True), error


def test_a_plan_is_drawn_on_what_it_was_made_with(run: Run) -> None:
    run(
        "plan", "net.py:words", "--input", "int64:1,7:50", "--spec", "2.0", "--module", "--leaf", "1", "-o", "plan.json"
    )
    assert run("draw", "net.py:words", "--plan", "plan.json", "-o", "plan.txt")[0] == 0


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
    assert inputs_of(["uint8:9:256", "int64:9:9223372036854775807"], model)[0].dtype is torch.uint8


@pytest.mark.parametrize(
    "words",
    [
        *(
            ["2x3"],
            ["float:2,3", "x=2"],
            ["nn:1"],
            ["1,,2"],
            [""],
            ["2,0"],
            ["99999999999,4"],
            ["1" * 22],
            ["1" * 5000],
        ),
        *(
            ["int64:2,1,8,8:0"],
            ["uint8:2:257"],
            ["bool:2:3"],
            ["int64:2:9223372036854775808"],
            ["float32:2:5"],
            ["2:5"],
        ),
        *(["quint8:1,4"], ["bits8:1,4"], ["uint4:1,4"], ["float4_e2m1fn_x2:1,4"]),
    ],
)
def test_words_that_are_no_input_are_wrong_usage(words: list[str]) -> None:
    with pytest.raises(UsageError, match=r"^(--input|give all) [^\n]*$"):
        inputs_of(words, nn.Linear(2, 2))


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
        (["widths", "net.py:number"], 2, "is an int"),
        (["widths", "net.py:Sizes"], 2, "returns a Sizes"),
        (["widths", "net.py:broken"], 2, "no weights here"),
        (["widths", "net.py:Net", "--kwargs", "[3]"], 2, "JSON object"),
        (["widths", "net.py:Net", "--kwargs", '{"depth": 3}'], 2, "unexpected keyword"),
        (["widths", "net.py:Inside.net", "--kwargs", '{"width": 3}'], 2, "a module already"),
        (["widths", "net.py:Net", "--input", "2;3"], 2, "expected a shape"),
        (["widths", "net.py:Net", "--input", "2,5,8,8"], 1, "does not run"),
        (["why", "net.py:Net", "d"], 1, "no layer or parameter 'd'"),
        (["plan", "net.py:Net", "--spec", '{"c": 9}'], 1, "output of the model"),
        (["plan", "net.py:Net", "--spec", "wide"], 2, "is not JSON"),
        (["plan", "net.py:Net", "--spec", "a=1.5"], 2, 'write {"a": 1.5}'),
        (["plan", "net.py:Net", "--spec", "2"], 2, "write 2.0"),
        (["plan", "net.py:Net", "--spec", "[2]"], 2, "write 2.0"),
        (["plan", "net.py:Net", "--spec", '{"a": 2}'], 1, "write 2.0"),
        (["plan", "net.py:Net", "--spec", "{bad"], 2, "is not JSON"),
        (["plan", "net.py:Net", "--spec", "[" * 100_000], 2, "nested deeper than 128 levels"),
        (["plan", "net.py:Net", "--spec", "{" + " " * 700 + '"a": 9, "b": 0.5}'], 2, "would not grow"),
        (["plan", "net.py:Net", "--spec", '{"a": {"width": 2.0, "method": "magic"}}'], 2, "no method 'magic'"),
        (
            ["plan", "net.py:Net", "--spec", "2.0", "--method", "magic"],
            2,
            "--method: no method 'magic'; choose one of auto",
        ),
        (["plan", "net.py:Net", "--spec", "2.0", "--method", "zero_rows"], 2, "only for the new channels of Outputs"),
        (["plan", "net.py:Net", "--spec", "2", "--input", "2,5,8,8"], 2, "write 2.0"),
        (["summary", "net.py:Net", "--spec", "2", "--input", "2,5,8,8"], 2, "write 2.0"),
        (["draw", "net.py:Net", "--spec", "2", "--input", "2,5,8,8", "-o", "a.txt"], 2, "write 2.0"),
        (["plan", "net.py:Net", "--spec", "2.0", "-o", "no/such/folder.json"], 2, "folder.json"),
        (["plan", "net.py:Net"], 2, "--spec"),
        (["verify", "net.py:Net", "net.py"], 2, "no plan"),
        (["verify", "net.py:Net", "none.json"], 2, "cannot read"),
        (["verify", "net.py:Net", "spec.json"], 2, "this is no plan: it is other JSON"),
        (["draw", "list.json", "-o", "a.txt"], 2, "this is no plan: it is other JSON"),
        (["draw", "net.py:Net", "-o", "no/such/a.txt"], 2, "no/such/a.txt: No such file or directory"),
        (["apply", "net.py:Net", "plan.json", "net.pt", "./net.pt"], 2, "would be lost: give another name"),
        (["apply", "net.py:Net", "plan.json", "none.pt", "student.pt"], 2, "no file none.pt"),
        (["apply", "net.py:Net", "plan.json", "net.py", "student.pt"], 2, "reads no weights"),
        (["apply", "net.py:Net", "plan.json", "text.pt", "student.pt"], 2, "reads no weights from text.pt: KeyError"),
        (["apply", "net.py:Net", "plan.json", "text.safetensors", "student.pt"], 2, "reads no weights"),
        (["apply", "net.py:Net", "plan.json", "net.pt", "no/dir/student.pt"], 2, "cannot write no/dir/student.pt"),
        (
            ["apply", "net.py:Net", "plan.json", "net.pt", "no/dir/s.safetensors"],
            2,
            "cannot write no/dir/s.safetensors",
        ),
        (["apply", "net.py:Net", "plan.json", "words.pt", "student.pt"], 1, "no checkpoint of Net"),
        (["apply", "net.py:Net", "plan.json", "number.pt", "student.pt"], 2, "no state_dict"),
        (["apply", "net.py:Net", "plan.json", "numbered.pt", "student.pt"], 2, "no state_dict"),
        (["widths", "net.py:leaves"], 2, "net.py:leaves failed: SystemExit: bye"),
        (["widths", "leaves.py:Net"], 2, "cannot import leaves.py: SystemExit: 3"),
        (["widths", "net.py:LeavesLater", "--input", "1,4"], 2, "ends the program: SystemExit: 3"),
        (["widths", "net.py:Naïve", "--input", "0,4"], 2, "at least 1"),
        (["frobnicate"], 2, "invalid choice"),
        ([], 2, "required"),
    ],
)
def test_an_error_is_a_line_and_a_status(run: Run, words: list[str], status: int, message: str) -> None:
    planned(run)
    save(model_of("net.py:words"), "words.pt")
    save(model_of("net.py:Net"), "net.pt")
    Path("spec.json").write_text('{"a": 1.5}')
    Path("list.json").write_text("[]")
    torch.save(3, "number.pt")
    torch.save({1: torch.zeros(2)}, "numbered.pt")
    Path("leaves.py").write_text("raise SystemExit(3)")
    for name in ("text.pt", "text.safetensors"):
        Path(name).write_text("hello, this is no checkpoint at all")
    if any(word.endswith("safetensors") for word in words):
        pytest.importorskip("safetensors", reason="safetensors is an extra")
    found, printed, error = run(*words)
    assert (found, message in error) == (status, True), error
    assert printed == ""
    assert "Traceback" not in error
    assert error.startswith("usage:") or error.count("\n") == 1


def test_a_reason_of_many_lines_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        raise GrowError("one\ntwo\u2028three")

    monkeypatch.setattr("fxgrow.api.widths", failing)
    assert run("widths", "net.py:Net") == (1, "", "fxgrow widths: one two three\n")


def test_what_nobody_expected_is_named_and_shown_on_request(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        raise KeyError("no such key")

    monkeypatch.setattr("fxgrow.api.widths", failing)
    said = "fxgrow widths: internal error: KeyError: 'no such key' (--traceback shows where)\n"
    assert run("widths", "net.py:Net") == (1, "", said)
    status, _, error = run("widths", "net.py:Net", "--traceback")
    assert status == 1
    assert "in failing" in error


def test_an_interrupt_says_nothing(run: Run) -> None:
    assert run("widths", "net.py:interrupted") == (130, "", "")


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
        assert "the same, or" not in own
    assert "the plan's" not in " ".join(run("widths", "--help")[1].split())
    assert "the plan's" in " ".join(run("verify", "--help")[1].split())
    assert "no model is built" in run("apply", "--help")[1]
    assert run("--version")[1] == f"fxgrow {fxgrow.__version__}\n"


def test_every_command_of_a_model_takes_it_first() -> None:
    for command in COMMANDS:
        positional = [word.names[0] for word in command.words if not word.names[0].startswith("-")]
        assert positional[0] == ("pattern" if command.name == "ops" else "model"), command.name


def test_the_examples_of_the_help_run_in_a_clone(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="safetensors is an extra")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for kind in ("pt", "safetensors"):
        save(model_of("examples/quickstart.py:DigitNet"), f"teacher.{kind}")
    run("plan", "examples/quickstart.py:DigitNet", "--spec", "1.5", "-o", "plan.json")
    run("apply", "examples/quickstart.py:DigitNet", "plan.json", "teacher.pt", "student.pt")
    for own in (command.name for command in COMMANDS if command.name != "plan"):  # which would replace the plan
        examples = re.findall(rf"^  fxgrow ({own}.*)", "".join(run(*word, "--help")[1] for word in ([], [own])), re.M)
        assert len(examples) > 1
        for words in examples:
            assert run(*shlex.split(words))[::2] == (0, ""), words
    for words in re.findall(r"^  fxgrow (plan .*)", run("--help")[1] + run("plan", "--help")[1], re.M):
        assert run(*shlex.split(words))[::2] == (0, ""), words


# -- as a program ---------------------------------------------------------------------------------------


def test_python_m_fxgrow_is_the_command_line(run: Run) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "fxgrow", "plan", "net:Net", *SHAPE, "--spec", '{"c": 9}']
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"fxgrow plan: .*output of the model.*\n", done.stderr)


def test_names_that_the_terminal_has_no_characters_for_are_spelt(run: Run) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    words = [sys.executable, "-m", "fxgrow", "widths", "net.py:Naïve"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Na\\xefve: ")


@pytest.mark.parametrize(
    "words",
    [
        ["ops"],
        pytest.param(["--help"], marks=THOROUGH),
        pytest.param(["--print-completion", "bash"], marks=THOROUGH),
    ],
)
def test_a_reader_that_has_enough_is_no_error(run: Run, words: list[str]) -> None:
    if "--print-completion" in words:
        pytest.importorskip("shtab")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    given, taken = os.pipe()
    os.close(given)
    done = subprocess.run(
        [sys.executable, "-m", "fxgrow", *words], stdout=taken, stderr=subprocess.PIPE, env=environment, check=False
    )
    os.close(taken)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_commands_of_the_documentation_run(run: Run, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    (section,) = re.findall("<!-- commands -->\n```sh\n(.*?)```\n<!-- /commands -->", page, re.DOTALL)
    assert page.index(". .venv/bin/activate\n") < page.index("<!-- commands -->"), "so that there is a fxgrow"
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    lines = [shlex.split(line, comments=True) for line in section.strip().splitlines()]
    assert {words[0] for program, *words in lines if program == "fxgrow"} == {command.name for command in COMMANDS}
    for program, *words in lines:
        if program == "python":
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            subprocess.run([sys.executable, *words], env=environment, check=True)
            continue
        assert program == "fxgrow"
        status, text, error = run(*words)
        assert (status, error) == (0, ""), words
        assert text


def test_a_name_that_a_file_does_not_have_is_close_to_one_that_it_has(run: Run) -> None:
    status, _, error = run("widths", "net.py:Nett", *SHAPE)
    assert status == 2
    assert "net.py has no 'Nett'; close: " in error
    assert "Net" in error.rpartition("close: ")[2]


def test_a_file_whose_name_is_no_identifier_has_a_module_of_one_name_in_all_processes(run: Run) -> None:
    Path("my-net.py").write_text(NET, encoding="utf-8")
    name = type(model_of("my-net.py:Net")).__module__
    words = [sys.executable, "-c", "from fxgrow.cli.arguments import model_of; print(type(model_of('my-net.py:Net')))"]
    environment = {**os.environ, "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") == "0" else "0"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert name.startswith("_fxgrow_"), name
    assert done.stdout == f"<class '{name}.Net'>\n", done.stderr
