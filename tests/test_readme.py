"""The README, the CI script, the pins and the quickstart say and do the same."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def between(marker: str) -> str:
    found = re.findall(f"<!-- {marker} -->\n(.*?)<!-- /{marker} -->", README, re.DOTALL)
    assert len(found) == 1, f"README.md needs one section between {marker} comments"
    return found[0]


def fenced(language: str, text: str) -> str:
    found = re.findall(f"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(found) == 1, f"expected one {language} block"
    return found[0]


ROUNDING = 1e-9


def rounding_aside(text: str) -> list[str]:
    """Its lines, with what rounding alone decides (1.2e-16, 0.00e+00) replaced: processors differ in it."""

    def replaced(number: re.Match[str]) -> str:
        return "#" if float(number[0]) < ROUNDING else number[0]

    lines = [" ".join(line.split()) for line in text.strip().splitlines()]
    return [re.sub(r"\d+(?:\.\d+)?e[+-]\d+", replaced, line) for line in lines]


@pytest.mark.parametrize("marker", ["ci:quickstart", "ci:test"])
def test_each_setup_command_is_one_line(marker: str) -> None:
    command = fenced("sh", between(marker)).strip()
    assert "\n" not in command
    for part in command.split("&&"):
        assert "pip install" not in part or "-c constraints.txt" in part


def test_ci_runs_the_test_command_of_the_readme_and_repeats_none() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "ci:test" in script
    assert "pytest" not in script
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_pre_commit_runs_the_tools_that_ci_runs() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    tools = re.findall(r"^check \.venv/bin/(ruff \w+|mypy)", script, re.MULTILINE)
    assert len(tools) >= 3
    for tool in tools:
        assert f"entry: {tool}" in hooks


def test_every_declared_dependency_is_pinned() -> None:
    tomllib = pytest.importorskip("tomllib", reason="the standard library has it from Python 3.11 on")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    declared = [*project["dependencies"], *(text for extra in extras for text in extra)]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {Requirement(line).name: str(Requirement(line).specifier) for line in lines if line and line[0] != "#"}
    for name in {Requirement(text).name for text in declared}:
        assert pinned.get(name, "").startswith("=="), f"{name} has no pin in constraints.txt"


def test_what_rounding_decides_is_set_aside_and_nothing_else() -> None:
    assert rounding_aside("error  5.13e-16") == rounding_aside("error 0.00e+00") == ["error #"]
    assert rounding_aside("error 1.20e-03, 4.00e+00") == ["error 1.20e-03, 4.00e+00"]


def test_readme_example_prints_what_the_readme_says() -> None:
    section = between("example")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(fenced("python", section), "README.md", "exec"), {})
    assert rounding_aside(printed.getvalue()) == rounding_aside(fenced("text", section))


def test_quickstart_grows_a_student_that_beats_its_teacher(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "quickstart.py"), "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "plan.json").exists()


def test_the_tables_of_the_results_are_those_of_the_pages() -> None:
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    names = ("methods", "peers", "zoo", "worth", "worth_small")
    pages = {name: _rows_of((ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")) for name in names}
    rows = _rows_of(results)
    assert len(rows) > 50
    assert [row for row in rows if not any(row in page for page in pages.values())] == []
    assert [name for name, page in pages.items() if not set(rows) & set(page)] == []


def _rows_of(page: str) -> list[str]:
    """The rows of all its tables, indented ones as well, as they are read: without what only aligns their columns."""
    lines = [re.sub(" +", " ", line.strip()) for line in page.splitlines()]
    return [line for line in lines if line.startswith("|") and line.strip("|-: ")]


def test_the_readme_counts_the_models_that_the_zoo_counts() -> None:
    """Its rows add up to those of the page: models, passed, of so many, as a graph and as a module."""
    zoo = (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8").partition("\n## ")[0]
    cells = [
        [cell.strip() for cell in row.split("|")[1:-1]] for row in zoo.splitlines() if "/" in row and row[0] == "|"
    ]
    families = [(int(row[1]), *(tuple(map(int, row[at].split("/"))) for at in (3, 5))) for row in cells]
    models = sum(number for number, *_ in families)
    passed, of = (sum(both[at] for _, *outputs in families for both in outputs) for at in (0, 1))
    stated = re.findall(r"^\| torchvision: (\d+) .* \| (\d+) of (\d+) \|", README, re.MULTILINE)
    assert len(stated) == 5
    assert tuple(sum(int(row[at]) for row in stated) for at in range(3)) == (models, passed, of)


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 250
