"""The scripts in benchmarks/ run; what they measure is no test."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import (
    grow_speed,
    mutants,
    net2net_pairs,
    peers,
    peers_models,
    peers_page,
    student_speed,
    worth_page,
)
from benchmarks.mutations import Mutation, mutations
from benchmarks.speed_findings import FINDINGS
from tests.check import randomise, relative_error, run

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed"),
    pytest.mark.usefixtures("quick_collections"),
]


def test_speed_benchmark_runs_and_writes_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "speed.md"
    only = ["stages", "calls", "fill", "floors", "nodes", "memory", "import"]
    assert grow_speed.main(["--quick", "--only", *only, "--markdown", str(page)]) == 0
    text = page.read_text()
    assert grow_speed.COMMAND in text
    printed = capsys.readouterr().out
    assert "## Stages" in printed
    assert "| import fxgrow " in printed
    for kind in ("chain", "residual", "dense"):
        assert f"| {kind} " in text


def test_memory_is_the_student_and_one_tensor() -> None:
    rows = grow_speed.memory(["squeezenet1_1"], decoders=False).rows
    assert len(rows) == 1 + len(grow_speed.MEANS)
    assert all(float(row[-1]) < 0.5 for row in rows)


def test_peers_benchmark_runs_and_writes_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, data = tmp_path / "peers.md", tmp_path / "peers.json"
    assert peers.main(["--quick", "--json", str(data), "--markdown", str(page)]) == 0
    text = page.read_text()
    skipped = capsys.readouterr().err
    for package, title in (("torch_pruning", "Torch-Pruning"), ("gromo", "gromo, rebuilt by hand")):
        if importlib.util.find_spec(package) is None:
            assert f"{title} is left out" in skipped
        else:
            assert f"| {title} |" in text
    assert "| fxgrow | 2/2 | 2/2 |" in text
    assert peers.main(["--render", str(data), "--markdown", str(tmp_path / "again.md")]) == 0
    assert (tmp_path / "again.md").read_text() == text


@pytest.mark.parametrize(
    "argv", [["--render", "none.json"], ["--json", "none/a.json"], ["--markdown", "none/a.md"], ["--models", "none"]]
)
def test_peers_benchmark_refuses_what_it_cannot_do_before_it_runs(argv: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as refused:
        peers.main([argv[0], str(tmp_path / argv[1]) if "." in argv[1] else argv[1]])
    assert refused.value.code not in (0, None)


def test_the_prose_of_pages_is_that_of_their_scripts() -> None:
    docs = Path(__file__).parent.parent / "docs"
    prose = (peers_page.INTRODUCTION, peers_page.REMARKS, peers_page.CELLS, peers_page.WAYS_REMARK)
    for name, parts in (
        ("peers", prose),
        ("worth", (worth_page.LIMITS.splitlines(), worth_page.EARLIER.splitlines())),
        ("speed", (FINDINGS.rstrip().splitlines(),)),
    ):
        page = (docs / f"{name}.md").read_text(encoding="utf-8")
        assert [part[0] for part in parts if "\n".join(part) not in page] == []


def test_net2net_by_pairs_is_exact_on_a_chain_and_refuses_what_is_none() -> None:
    layers = (nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.Flatten(), nn.Linear(80, 4))
    chain = randomise(nn.Sequential(*layers).double())
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = {mode: run(chain, x, mode) for mode in ("eval", "train")}
    net2net_pairs.widen_all(chain, 1.5, noise=0)
    assert [chain[i].weight.shape[0] for i in (0, 1, 3, 5)] == [9, 9, 8, 4]
    for mode, outputs in before.items():
        assert relative_error(outputs, run(chain, x, mode)) < 1e-10
    net2net_pairs.widen_all(chain, 1.5, noise=5e-2)
    assert relative_error(before["eval"], run(chain, x, "eval")) > 1e-4
    with pytest.raises(net2net_pairs.NotAPairError, match="transposed"):
        net2net_pairs.widen_all(peers_models.UNet(), 1.5)


def test_the_speed_of_students_is_measured_against_the_same_shapes(tmp_path: Path) -> None:
    page = tmp_path / "student_speed.md"
    student_speed.main(
        ["--nets", "ResNet-8, 8 channels", "--backends", "eager", "--repeats", "2", "--markdown", str(page)]
    )
    assert "The largest ratio is " in page.read_text()


SOURCE = """
def inside(low, high):
    \"\"\"Documentation stays.\"\"\"
    if not low < high:
        raise ValueError(f"{low + 1}")
    return [low + 1, high - 1] if high > 3 else None


class Counter:
    def __repr__(self):
        return "1" + "2"

    def next(self, step: int = 1) -> int:
        self.at += step
        return self.at
"""


def _of(source: str, tmp_path: Path) -> list[Mutation]:
    path = tmp_path / "module.py"
    path.write_text(source)
    return list(mutations(path))


def test_mutations_change_what_code_does_and_not_what_it_says(tmp_path: Path) -> None:
    changes = [f"{mutant.function}: {mutant.change}" for mutant in _of(SOURCE, tmp_path)]
    assert "inside: low < high -> low <= high" in changes
    assert "inside: low + 1 -> low - 1" in changes
    assert "Counter.next: self.at += step -> pass" in changes
    assert len(changes) == len(set(changes)) + 1  # the 1 of two sums
    assert not [change for change in changes if "__repr__" in change or "Documentation" in change or "raise" in change]


def test_a_mutation_is_one_change_of_the_function_in_place(tmp_path: Path) -> None:
    space: dict[str, object] = {}
    mutants_of_file = _of(SOURCE, tmp_path)
    exec(compile(SOURCE, str(tmp_path / "module.py"), "exec"), space)
    inside = space["inside"]
    before = inside(1, 5)  # type: ignore[operator]
    (changed,) = [m for m in mutants_of_file if m.change == "high - 1 -> high + 1"]
    mutants.replace_code(changed.code())
    assert (before, inside(1, 5)) == ([2, 4], [2, 6])  # type: ignore[operator]


def test_tests_are_tried_in_turn_until_their_time_is_used() -> None:
    seconds = {"a[1]": 3.0, "a[2]": 1.0, "a[3]": 2.0, "b": 2.0, "c": 9.0}
    assert mutants.in_turn(seconds, seconds, 6.0) == ["a[2]", "b", "a[3]"]
