"""New parameters join the group of the layer that they follow, or one of their kind, or growth is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow

X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
Split = Callable[[nn.Module], list[list[str]]]  # the names in each group


def linear(inputs: int, outputs: int, *, bias: bool = False) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=bias)


def plain() -> nn.Sequential:
    """Layers without biases, but for the first."""
    layers = [linear(4, 8, bias=True), nn.ReLU(), linear(8, 8), nn.ReLU(), linear(8, 8), nn.ReLU(), linear(8, 3)]
    return nn.Sequential(*layers)


class Block(nn.Module):
    """A layer without a bias, whose nearest parameter of one dimension is a gain."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.n, self.b = linear(4, 4), nn.BatchNorm1d(4), linear(4, 4, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.b(torch.relu(self.n(self.a(x))))
        return y


def normed() -> nn.Sequential:
    return nn.Sequential(Block(), nn.ReLU(), linear(4, 3, bias=True))


def by(*tests: Callable[[str, Tensor], bool]) -> Split:
    """Groups by the first test that a name and its parameter pass."""

    def split(model: nn.Module) -> list[list[str]]:
        found = [next(n for n, test in enumerate(tests) if test(name, p)) for name, p in model.named_parameters()]
        names = [name for name, _ in model.named_parameters()]
        return [[name for name, at in zip(names, found, strict=True) if at == n] for n in range(len(tests))]

    return split


def is_bias(name: str, _: Tensor) -> bool:
    return name.endswith("bias")


def is_vector(_: str, parameter: Tensor) -> bool:
    return parameter.ndim < 2


def of(prefix: str) -> Callable[[str, Tensor], bool]:
    return lambda name, _: name.startswith(prefix)


def of_norm(name: str, _: Tensor) -> bool:
    return "norm" in name or ".n." in name


def rest(*_: Any) -> bool:
    return True


CASES: dict[str, tuple[Callable[[], nn.Module], Split, Any]] = {
    "a frozen first layer with a bias": (plain, by(of("0."), of("2."), of("4"), rest), fxgrow.Deepen("4")),
    "layers": (plain, by(of("0"), of("2"), of("4"), of("6")), [fxgrow.Deepen("2"), fxgrow.Deepen("4")]),
    "biases": (normed, by(is_bias, rest), fxgrow.Deepen("0.a")),
    "biases, and new norms": (normed, by(is_bias, rest), fxgrow.Deepen("0.a", norm="batch")),
    "vectors": (normed, by(is_vector, rest), fxgrow.Deepen("0.a", norm="batch")),
    "norms": (normed, by(of_norm, rest), fxgrow.Deepen("0.a", norm="batch")),
    "norms, biases and weights": (normed, by(of_norm, is_bias, rest), fxgrow.Deepen("0.a", norm="batch")),
    "the head apart": (normed, by(of("2."), rest), fxgrow.Deepen("0.a", norm="batch")),
    "one group": (plain, by(rest), [fxgrow.Deepen("2"), fxgrow.Deepen("4")]),
}


def grouped(model: nn.Module, names: Sequence[Sequence[str]]) -> torch.optim.Optimizer:
    parameters = dict(model.named_parameters())
    groups = [{"params": [(name, parameters[name]) for name in some], "lr": 0.01 * n} for n, some in enumerate(names)]
    return torch.optim.AdamW(groups, 0.01)


def step(model: nn.Module, *optimizers: torch.optim.Optimizer) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad()
    model(X).square().mean().backward()
    for optimizer in optimizers:
        optimizer.step()


@pytest.mark.parametrize("case", CASES)
def test_new_parameters_are_in_the_groups_in_which_the_script_would_put_them(case: str, tmp_path: Path) -> None:
    """Also in a grown file."""
    build, split, spec = CASES[case]
    teacher = build()
    optimizer = grouped(teacher, split(teacher))
    step(teacher, optimizer)
    torch.save({"model": teacher.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    student = fxgrow.grow(teacher, spec, X, optimizer=optimizer, calibration=[torch.randn(64, 4)])
    assert len(list(student.parameters())) > len(list(teacher.parameters()))
    expected = split(student)
    assert [group["param_names"] for group in optimizer.param_groups] == expected
    fxgrow.grow_checkpoint(fxgrow.plan_of(student), tmp_path / "a.pt", tmp_path / "b.pt")
    stated = torch.load(tmp_path / "b.pt")["optimizer"]["param_groups"]
    assert [group["param_names"] for group in stated] == expected
    step(student, optimizer)


def bare() -> nn.Sequential:
    return nn.Sequential(linear(4, 8), nn.ReLU(), linear(8, 8), nn.ReLU(), linear(8, 3))


@pytest.mark.parametrize("reset", [False, True])
def test_a_bias_that_muon_cannot_train_is_refused_where_no_other_optimizer_is_given(
    reset: bool, tmp_path: Path
) -> None:
    teacher = bare()
    optimizer = torch.optim.Muon(teacher.parameters(), 1e-2)
    step(teacher, optimizer)
    torch.save({"model": teacher.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    before = [id(p) for p in optimizer.param_groups[0]["params"]]
    with pytest.raises(fxgrow.GrowError, match=r"no optimizer that is given can train the new '2_deeper1\.\w+\.bias'"):
        fxgrow.grow(teacher, fxgrow.Deepen("2"), X, optimizer=optimizer, reset=reset)
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == before
    plan = fxgrow.plan(fxgrow.widths(teacher, X), fxgrow.Deepen("2"))
    with pytest.raises(fxgrow.GrowError, match=r"no optimizer that is given can train the new"):
        fxgrow.grow_checkpoint(plan, tmp_path / "a.pt", tmp_path / "b.pt")
    assert not (tmp_path / "b.pt").exists()
    student = fxgrow.grow(teacher, 1.5, X, optimizer=optimizer, reset=reset)  # no new parameters
    step(student, optimizer)


def test_a_bias_that_muon_cannot_train_joins_another_optimizer() -> None:
    teacher = bare()
    muon = torch.optim.Muon([teacher.get_parameter("2.weight")], 1e-2)
    adam = torch.optim.AdamW([teacher.get_parameter(f"{n}.weight") for n in (0, 4)])
    step(teacher, muon, adam)
    student = fxgrow.grow(teacher, fxgrow.Deepen("2"), X, optimizer=[muon, adam])
    assert [p.ndim for p in muon.param_groups[0]["params"]] == [2, 2]
    assert [p.ndim for p in adam.param_groups[0]["params"]] == [2, 1, 2]
    step(student, muon, adam)


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.hidden, self.head = nn.Embedding(9, 8, sparse=True), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, words: Tensor) -> Tensor:
        scores: Tensor = self.head(torch.relu(self.hidden(self.embedding(words))))
        return scores


def test_a_new_layer_does_not_join_sparse_adam() -> None:
    words, teacher = torch.randint(9, (4,)), Words()
    sparse = torch.optim.SparseAdam([teacher.embedding.weight])
    with pytest.raises(fxgrow.GrowError, match=r"no optimizer that is given can train the new"):
        fxgrow.grow(teacher, fxgrow.Deepen("hidden"), words, optimizer=sparse)
    others = torch.optim.AdamW([*teacher.hidden.parameters(), *teacher.head.parameters()])
    student = fxgrow.grow(teacher, fxgrow.Deepen("hidden"), words, optimizer=[sparse, others])
    assert len(sparse.param_groups[0]["params"]) == 1
    assert len(others.param_groups[0]["params"]) == 6
    student(words).square().mean().backward()
    sparse.step()
    others.step()
