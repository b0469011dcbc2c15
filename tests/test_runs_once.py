"""What a public call does once: a request is parsed once, and each model that is traced is inferred once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fxgrow
from fxgrow import Inputs, Outputs, Widen, api, infer, spec
from fxgrow.capture.traced import Traced
from fxgrow.plans import growth_plan
from fxgrow.report import compare
from tests.check import randomise

IMAGE = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
ASKED = [Inputs("x", 5), Outputs(7), Widen("*", 1.5)]


class Net(nn.Module):
    """A convolution and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.stem(x).relu().mean((2, 3)))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each step ran."""
    runs: Counter[str] = Counter()

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            runs[name] += 1
            return function(*args, **kwargs)

        return counted

    monkeypatch.setattr(infer.freeze, "infer", counting("infer", infer.freeze.infer))
    parse = counting("parse", spec.parse.parse)
    for module in (api, compare, growth_plan):
        monkeypatch.setattr(module, "parse", parse)
    return runs


def _made() -> tuple[nn.Module, Traced]:
    teacher = randomise(Net().double())
    return teacher, fxgrow.trace(teacher, IMAGE)


def test_widths_infer_once_and_plan_not_at_all(counted: Counter[str]) -> None:
    _, traced = _made()
    found = fxgrow.widths(traced)
    assert counted == {"infer": 1}
    plan = fxgrow.plan(found, ASKED)
    assert counted == {"infer": 1, "parse": 1}
    assert {end.kind for end in plan.io_dims} == {"input", "output"}


def test_a_refused_request_does_not_infer_again(counted: Counter[str]) -> None:
    """Every dimension of the input is tried for one that a layer sums over."""
    found = fxgrow.widths(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3)), IMAGE.float())
    with pytest.raises(fxgrow.PlanError):
        fxgrow.plan(found, [Inputs("0", 5)])
    assert counted == {"infer": 1, "parse": 1}


def test_grow_infers_once(counted: Counter[str]) -> None:
    teacher, _ = _made()
    student = fxgrow.grow(teacher, ASKED, IMAGE)
    assert counted == {"infer": 1, "parse": 1}
    assert fxgrow.plan_of(student).io_dims  # type: ignore[union-attr]


def test_verify_infers_once(counted: Counter[str]) -> None:
    teacher, _ = _made()
    student = fxgrow.grow(teacher, ASKED, IMAGE)
    counted.clear()
    fxgrow.verify(teacher, student, IMAGE).raise_if_different()
    assert counted == {"infer": 1, "parse": 1}


@pytest.mark.parametrize("given", ["model and plan", "widths and plan", "student"])
def test_draw_infers_a_model_once(counted: Counter[str], tmp_path: Path, given: str) -> None:
    teacher, _ = _made()
    found = fxgrow.widths(teacher, IMAGE)
    plan = fxgrow.plan(found, ASKED)
    drawn: dict[str, Any] = {
        "model and plan": (teacher, plan),
        "widths and plan": (found, plan),
        "student": fxgrow.apply(plan, teacher),
    }
    counted.clear()
    fxgrow.draw(drawn[given], tmp_path / "a.txt")
    assert counted["infer"] == (0 if given == "widths and plan" else 1)
    assert not counted["parse"]


def test_summary_infers_each_model_once(counted: Counter[str]) -> None:
    teacher, _ = _made()
    student = fxgrow.grow(teacher, ASKED, IMAGE)
    counted.clear()
    fxgrow.summary(student)
    assert counted == {"infer": 1}
    fxgrow.summary(student, teacher=teacher)
    assert counted == {"infer": 3}  # the student again, and the teacher


def test_lifting_a_pin_changes_nothing_of_the_graph_that_it_is_lifted_in() -> None:
    teacher, traced = _made()
    found = fxgrow.widths(traced)
    before = str(found)
    first = fxgrow.plan(found, ASKED).to_json()
    assert str(found) == before
    assert fxgrow.plan(found, ASKED).to_json() == first
    assert fxgrow.plan(found, 1.5).to_json() == fxgrow.plan(fxgrow.widths(teacher, IMAGE), 1.5).to_json()
