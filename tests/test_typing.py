"""What a type checker makes of the public functions, and where the version stands."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import fxgrow
from fxgrow.cli.main import main

ROOT = Path(__file__).parent.parent

USE = '''
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from typing_extensions import assert_type

import fxgrow
from fxgrow import ops


class Net(nn.Module):
    """A model of the user's own."""


def users(model: Net, x: Tensor, spec: fxgrow.Spec, output: Literal["graph", "module"]) -> Iterator[object]:
    assert_type(fxgrow.grow(model, 2.0, x), fx.GraphModule)
    assert_type(fxgrow.grow(model, spec, {"x": x}, output="graph", seed=3), fx.GraphModule)
    assert_type(fxgrow.grow(model, spec, (x, True), output="module", method="split"), Net)
    assert_type(fxgrow.grow(model, spec, [x], output=output, leaf_modules=["a", nn.Linear]), fx.GraphModule | Net)
    assert_type(fxgrow.trace(model, x), fxgrow.Traced)
    assert_type(fxgrow.widths(fxgrow.trace(model)), fxgrow.WidthGraph)
    widths = fxgrow.widths(model, x, output="module")
    assert_type(widths.why("a", "b"), str)
    plan = fxgrow.plan(widths, spec)
    assert_type(plan, fxgrow.Plan)
    assert_type(plan.parameters.ratio + plan.cost().bytes.after, float)
    assert_type(fxgrow.apply([plan, plan.then(plan)], model, calibration=[x, (x, x), {"x": x}]), fx.GraphModule | Net)
    assert_type(fxgrow.plan_of(model), fxgrow.Plan | None)
    report = fxgrow.verify(model, fxgrow.apply(plan, model), x, tolerance=1e-3)
    matched: fxgrow.Plan = fxgrow.match(model, model, x, partial=True, output="module")
    assert_type(report.raise_if_different(), fxgrow.Report)
    assert_type(report.exact, bool)
    assert_type(fxgrow.summary(plan, teacher=widths), fxgrow.Summary)
    assert_type(fxgrow.draw((widths, plan, report), "a.html", level="ops"), Path)
    assert_type(fxgrow.draw(model, example_inputs=x), fxgrow.Inline)
    batches = [(x, x)]
    found = fxgrow.scores(model, batches, lambda model, batch: F.mse_loss(model(batch[0]), batch[1]), kind="tiny")
    assert_type(found, fxgrow.Scores)
    assert_type(found["a"] + found.row("a").value + sum(found.values()), float)
    yield fxgrow.Budget(parameters=2.0, scores=found)
    example: fxgrow.ExampleInputs = widths.traced.inputs
    yield example


def specifications() -> Iterator[fxgrow.Spec]:
    yield 1.5
    yield '{"a": 1.5}'
    yield {"layer3.*": 1.5, "stem.conv": 96, "fc": {"width": 1.5, "multiple_of": 8}}
    yield fxgrow.Widen("layer3.*", 1.5, multiple_of=8)
    yield [fxgrow.Deepen("a", kernel=3), {"deepen": "b", "kernel": [3, 3]}, fxgrow.Outputs(20), [1.5, {"a": 2.0}]]
    yield (fxgrow.Inputs("x", 6), fxgrow.Kernel("a", 5))
    yield [fxgrow.Budget(parameters=2.0, multiple_of=8), fxgrow.Outputs(20)]
    yield {"budget": {"flops": 500e6, "exclude": ["a"]}}
    yield fxgrow.Budget(latency=0.1, measure=lambda student: float(len(list(student.parameters()))))


@ops.rule(torch.ops.aten.erfc.default, samples=[ops.Sample(lambda: torch.erfc)], exact=ops.Exactness(any="all"))
def rule(env: ops.Env, x: ops.Value) -> ops.Outcome:
    """Elementwise."""
    return x.layouts
'''
BEFORE = ["import fxgrow", "from torch import Tensor, nn", "def f(model: nn.Module, x: Tensor) -> None:"]
MISUSE = {
    "fxgrow.grow(model, None)": "call-overload",
    "fxgrow.grow(model, {1: 2.0})": "call-overload|dict-item",
    "fxgrow.grow(model, 2.0, 3)": "call-overload",
    'fxgrow.grow(model, 2.0, output="picture")': "call-overload",
    "fxgrow.verify(model, model)": "call-arg",
    "fxgrow.verify(model, model, inputs=x)": "call-arg",
    "fxgrow.draw(3)": "call-overload",
    "fxgrow.summary(of=model)": "call-arg",
    'fxgrow.plan(model, 2.0)': "arg-type",
    "fxgrow.grow(model, 2.0).layer3.conv.weight.nothing.at.all()": "operator|union-attr|attr-defined",
}  # fmt: skip


@pytest.fixture(scope="session")
def complaints() -> str:
    """What mypy says of both programs; it reads torch once for them, and its cache wants them where they were."""
    pytest.importorskip("mypy", reason="mypy is an extra")
    assert "strict = true" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    folder = ROOT / ".mypy_cache" / "programs"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "use.py").write_text(USE, encoding="utf-8")
    (folder / "misuse.py").write_text(
        "\n".join([*BEFORE, *(f"    {call}" for call in MISUSE)]) + "\n", encoding="utf-8"
    )
    words = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(folder)]
    cache = ["--cache-dir", str(ROOT / ".mypy_cache")]
    done = subprocess.run([*words, *cache], capture_output=True, text=True, cwd=ROOT, check=False)
    return done.stdout + done.stderr


@pytest.mark.xdist_group("mypy")
def test_a_type_checker_knows_what_public_calls_take_and_return(complaints: str) -> None:
    assert "misuse.py" in complaints
    assert not [line for line in complaints.splitlines() if "use.py" in line.replace("misuse.py", "")]
    assert f"Found {complaints.count('error:')} errors in 1 file (checked 2 source files)" in complaints


@pytest.mark.xdist_group("mypy")
def test_a_type_checker_refuses_wrong_calls(complaints: str) -> None:
    for number, (call, code) in enumerate(MISUSE.items(), len(BEFORE) + 1):
        assert re.search(rf"misuse\.py:{number}: error: .*\[({code})\]", complaints), f"{call}\n{complaints}"


FUNCTIONS = [getattr(fxgrow, name) for name in fxgrow.__all__ if inspect.isfunction(getattr(fxgrow, name))]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_public_signatures_have_no_any(function: object) -> None:
    signature = inspect.signature(function)
    for annotation in (*(p.annotation for p in signature.parameters.values()), signature.return_annotation):
        assert annotation is not inspect.Signature.empty
        assert not re.search(r"\b(Any|object)\b", str(annotation)), f"{function.__name__}: {annotation}"
    assert "Any" not in repr(fxgrow.Spec) + repr(fxgrow.ExampleInputs)


def test_one_thing_has_one_name_in_all_functions() -> None:
    names = {name for function in FUNCTIONS for name in inspect.signature(function).parameters}
    assert names == {
        "model", "example_inputs", "output", "leaf_modules", "spec", "seed", "method", "calibration", "plan", "widths",
        "teacher", "student", "tolerance", "path", "level", "progress", "optimizer", "reset", "factory",
        "device", "extra", "warmup", "resize", "release", "source", "target", "threads", "changed_only", "depth",
        "small", "large", "partial", "height", "batches", "loss", "kind", "data", "groups", "deeper",
    }  # fmt: skip


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_public_functions_say_what_goes_in_and_comes_out(function: object) -> None:
    text = inspect.getdoc(function) or ""
    if function is not fxgrow.plan_of:
        assert all(f"\n{section}:" in text for section in ("Args", "Returns", "Raises", "Example")), function
        documented = set(re.findall(r"^    (\w+): ", text, re.M))
        assert documented >= set(inspect.signature(function).parameters)


def test_what_is_returned_is_exported() -> None:
    for function in FUNCTIONS:
        for name in re.findall(r"\w+", str(inspect.signature(function).return_annotation)):
            assert name in {*fxgrow.__all__, "fx", "GraphModule", "Model", "Made", "Path", "None", "drawing"}, function


def test_errors_of_drawing_and_of_growth_are_apart() -> None:
    assert not issubclass(fxgrow.DrawError, fxgrow.GrowError)
    assert not issubclass(fxgrow.GrowError, fxgrow.DrawError)
    for error in (fxgrow.TraceError, fxgrow.WidthError, fxgrow.PlanError, fxgrow.EquivalenceError):
        assert issubclass(error, fxgrow.GrowError)
    for error in (fxgrow.DrawError, fxgrow.GrowError):
        assert issubclass(error, fxgrow.FxgrowError)
        assert issubclass(error, ValueError)


def test_the_version_stands_in_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    tomllib = pytest.importorskip("tomllib", reason="the standard library has it from Python 3.11 on")
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in data["project"]
    assert data["project"]["dynamic"] == ["version"]
    source = (ROOT / data["tool"]["hatch"]["version"]["path"]).read_text(encoding="utf-8")
    (version,) = re.findall(r'^__version__ = "([^"]+)"', source, re.M)
    assert version == fxgrow.__version__
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fxgrow {version}\n"


def test_types_can_be_resolved_at_run_time() -> None:
    for function in FUNCTIONS:
        assert "return" in typing.get_type_hints(function)
