"""Sizes that a student keeps to, because its code mixes them with widths that have grown."""

import copy
import io
import json
import pickle
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.model.fixed_sizes import FixedSize
from tests.check import assert_exact, randomise, relative_error, run

X = torch.randn(2, 3, 6, 8, dtype=torch.float64)
LARGER = X.repeat(1, 1, 2, 2)
OUTPUTS: tuple[Literal["graph", "module"], ...] = ("graph", "module")


class Rows(nn.Module):
    """Views maps as rows of a literal length: four times the image is four times the samples."""

    def __init__(self, view: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.view = view
        self.conv, self.pool, self.fc1 = nn.Conv2d(3, 6, 3, padding=1), nn.MaxPool2d(2), nn.Linear(72, 5)
        self.fc2 = nn.Linear(5, 4)

    def forward(self, image: Tensor) -> Tensor:
        return self.fc2(torch.tanh(self.fc1(self.view(self.pool(torch.tanh(self.conv(image)))))))


def literal(x: Tensor) -> Tensor:
    return x.view(-1, 72)


def by_sample(x: Tensor) -> Tensor:
    return x.view(x.size(0), -1)


def teacher(view: Callable[[Tensor], Tensor] = literal) -> nn.Module:
    torch.manual_seed(0)
    return randomise(Rows(view).double()).eval()


def refuses(student: nn.Module, x: Tensor) -> None:
    with pytest.raises(fxgrow.GrowError, match="another path"):
        student(x)


def saved(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


COPIES: dict[str, Callable[[Any], Any]] = {
    "itself": lambda model: model,
    "a deepcopy": copy.deepcopy,
    "a pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "a file": saved,
}


@pytest.mark.parametrize("kind", COPIES)
def test_every_copy_of_a_graph_refuses_other_sizes(kind: str) -> None:
    model = teacher()
    student = COPIES[kind](fxgrow.grow(model, {"fc1": 9, "conv": 9}, X))
    assert_exact(model, student, X, 1e-10)
    assert len(model(LARGER)) == 8
    refuses(student, LARGER)
    refuses(student.train(), LARGER)


def test_a_graph_with_literals_grows_and_keeps_to_the_size_of_its_images() -> None:
    plan = fxgrow.plan(fxgrow.widths(teacher(), X), {"conv": 9})
    assert set(plan.sizes) == {FixedSize("image", 2, 6), FixedSize("image", 3, 8)}
    assert any("refuses inputs of other sizes in dimension " in note for note in plan.notes)


@pytest.mark.parametrize("output", OUTPUTS)
def test_sizes_are_free_where_no_width_grows_that_meets_them(output: Literal["graph", "module"]) -> None:
    model = teacher()
    student = fxgrow.grow(model, {"fc1": 9}, X, output=output)
    assert student.get_parameter("fc1.weight").shape[0] == 9
    assert relative_error(run(model, LARGER), run(student, LARGER)) <= 1e-10


@pytest.mark.parametrize("output", OUTPUTS)
def test_code_that_keeps_samples_apart_takes_other_batches(output: Literal["graph", "module"]) -> None:
    model = teacher(by_sample)
    student = fxgrow.grow(model, 2.0, X, output=output)
    assert student.get_parameter("conv.weight").shape[0] == 12
    for n in (1, 3, 7):
        x = torch.randn(n, 3, 6, 8, dtype=torch.float64)
        assert relative_error(run(model, x), run(student, x)) <= 1e-10


class OwnCode(nn.Module):
    """Rows of the size of a map: at some sizes of the image each holds parts of two channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.space, self.head = nn.Conv2d(3, 6, 1), nn.Linear(48, 48), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        x = self.conv(x)
        return self.head(torch.tanh(self.space(x.reshape(-1, 48))).view(x.shape)) * scale


@pytest.mark.parametrize("kind", COPIES)
def test_every_copy_of_a_module_of_the_users_class_refuses_other_sizes(kind: str) -> None:
    torch.manual_seed(0)
    model = randomise(OwnCode().double()).eval()
    student = COPIES[kind](fxgrow.grow(model, {"conv": 9}, X, output="module"))
    assert type(student) is OwnCode
    assert not model._forward_pre_hooks, "the teacher has no hook"
    assert_exact(model, student, X, 1e-10)
    assert relative_error(model(X, scale=2.0), student(x=X, scale=2.0)) <= 1e-10
    taller = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    assert model(taller).shape == (2, 4, 8, 8)
    refuses(student, taller)
    with pytest.raises(TypeError):  # `forward` says itself what it does not take
        student(X, colour="red")


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_plan_from_a_file_keeps_the_sizes(output: Literal["graph", "module"]) -> None:
    torch.manual_seed(0)
    model = randomise(OwnCode().double()).eval()
    plan = fxgrow.plan(fxgrow.widths(model, X, output=output), {"conv": 9})
    read = fxgrow.Plan.from_json(plan.to_json())
    assert read == plan
    assert read.sizes
    student = fxgrow.apply(read, model, X)
    assert_exact(model, student, X, 1e-10)
    refuses(student, torch.randn(2, 3, 8, 8, dtype=torch.float64))


@pytest.mark.parametrize(
    "wrong",
    [
        {"input": "", "dim": 2, "size": 6},
        {"input": "x" * 2000, "dim": 2, "size": 6},
        {"input": "x\n", "dim": 2, "size": 6},
        {"input": "x", "dim": -2, "size": 6},
        {"input": "x", "dim": 64, "size": 6},
        {"input": "x", "dim": 2, "size": -1},
        {"input": "x", "dim": "2", "size": 6},
    ],
)
def test_a_size_that_no_tensor_has_is_refused(wrong: dict[str, Any]) -> None:
    data = json.loads(fxgrow.plan(fxgrow.widths(teacher(), X), {"conv": 9}).to_json())
    with pytest.raises(fxgrow.PlanError):
        fxgrow.Plan.from_json(json.dumps({**data, "sizes": [wrong]}))


def test_a_label_with_quotes_is_text_in_the_student() -> None:
    model = teacher()
    data = json.loads(fxgrow.plan(fxgrow.widths(model, X), {"conv": 9}).to_json())
    label = "image'], __import__('os').abort(), ['"
    plan = fxgrow.Plan.from_json(json.dumps({**data, "sizes": [{"input": label, "dim": 2, "size": 6}]}))
    student = fxgrow.apply(plan, model, X)
    assert_exact(model, pickle.loads(pickle.dumps(student)), X, 1e-10)


def test_a_second_growth_keeps_the_sizes() -> None:
    model = teacher()
    first = fxgrow.grow(model, {"conv": 9}, X)
    second = fxgrow.grow(first, {"fc1": 9}, X)
    assert second.get_parameter("fc1.weight").shape == (9, 108)
    assert_exact(model, second, X, 1e-10)
    refuses(second, LARGER)


class NumbersInCode(nn.Module):
    """A number that follows the width at the example's batch, and the batch at small ones; no layout holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        torch.Tensor.dim(x)  # takes no proxy, so that no graph shows what follows
        x = torch.tanh(self.a(x))
        batch = int(str(len(x)))  # so that no graph shows what is done with it
        return self.b(x) * min(x.shape[1], 5 + batch // 9)


def test_the_student_is_checked_on_other_sizes_too() -> None:
    torch.manual_seed(0)
    model = randomise(NumbersInCode().double()).eval()
    x = torch.randn(2, 5, dtype=torch.float64)
    student = fxgrow.grow(model, {"a": 9}, x, output="module")
    assert student.a.out_features == 9
    assert_exact(model, student, x, 1e-10)
    for n in (1, 3, 8, 18, 40):
        x = torch.randn(n, 5, dtype=torch.float64)
        try:
            found = student(x)
        except fxgrow.GrowError:
            continue
        assert relative_error(model(x), found) <= 1e-10


def test_inputs_of_other_ranks_are_looked_at_where_the_model_takes_them() -> None:
    found = fxgrow.widths(nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)), torch.randn(4, 5))
    assert [tuple(trial.traced.arguments["input"].shape) for trial in found.trials] == [(5,), (1, 4, 5), (4, 5, 5)]
