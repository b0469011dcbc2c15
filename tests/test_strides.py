"""State lies in memory as its parameter does: torch's fused kernels pair entries by their places, not by strides."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import fxgrow
from fxgrow.model.strides import grown_order, laid_as, order_of, strides_in

Make = Callable[[Iterable[Any], bool], Optimizer]
MAKERS: dict[str, Make] = {
    "AdamW": lambda p, fused: torch.optim.AdamW(p, 1e-2, amsgrad=True, fused=fused, foreach=False),
    "SGD": lambda p, fused: torch.optim.SGD(p, 0.1, momentum=0.9, fused=fused, foreach=False),
    "Adagrad": lambda p, fused: torch.optim.Adagrad(p, 1e-2, fused=fused, foreach=False),
}
SPECS: dict[str, Any] = {
    "wider": 1.5,
    "deeper": [fxgrow.Deepen("2"), fxgrow.Widen("0", 12)],
    "a larger kernel": [fxgrow.Kernel("0", 5), fxgrow.Kernel("4", 3)],
    "more outputs": fxgrow.Outputs(6),
}


def images(rank: int = 4) -> Tensor:
    x = torch.randn(2, 3, *(6,) * (rank - 2), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return x.to(memory_format=formats(rank))


def formats(rank: int) -> torch.memory_format:
    return torch.channels_last if rank == 4 else torch.channels_last_3d


def net(rank: int = 4) -> nn.Module:
    torch.manual_seed(0)
    conv: Any = nn.Conv2d if rank == 4 else nn.Conv3d
    layers = [conv(3, 8, 3), nn.ReLU(), conv(8, 8, 3), nn.ReLU(), conv(8, 4, 1)]
    return nn.Sequential(*layers).double().to(memory_format=formats(rank))  # type: ignore[call-overload, no-any-return]


class Transposed(nn.Module):
    """A weight that lies column by column, and one that does not grow."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(4, 8)
        self.weight = nn.Parameter(torch.randn(8, 6).t())
        self.last = nn.Linear(6, 3)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.nn.functional.linear(torch.tanh(self.first(x)), self.weight)
        result: Tensor = self.last(torch.tanh(hidden))
        return result


def train(model: nn.Module, optimizer: Optimizer, x: Tensor, steps: int = 1) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


def assert_laid_alike(model: nn.Module, optimizer: Optimizer) -> None:
    for name, p in model.named_parameters():
        for key, value in optimizer.state[p].items():
            if value is not None and value.ndim:
                assert value.stride() == p.stride(), (name, key, value.stride(), p.stride())


Next = Callable[[nn.Module, Optimizer, bool], tuple[nn.Module, Optimizer]]


def assert_trains_as_without_fusion(make: Make, build: Callable[[], nn.Module], x: Tensor, grow: Next) -> None:
    trained = []
    for fused in (True, False):
        model = build()
        optimizer = make(model.parameters(), fused)
        train(model, optimizer, x, 3)
        student, optimizer = grow(model, optimizer, fused)
        assert_laid_alike(student, optimizer)
        train(student, optimizer, x, 2)
        trained.append(list(student.parameters()))
    for one, other in zip(*trained, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("name", MAKERS)
def test_a_fused_optimizer_trains_a_student_channels_last_as_a_plain_one_does(name: str, spec: str) -> None:
    def grown(model: nn.Module, optimizer: Optimizer, fused: bool) -> tuple[nn.Module, Optimizer]:
        return fxgrow.grow(model, SPECS[spec], images(), optimizer=optimizer), optimizer

    assert_trains_as_without_fusion(MAKERS[name], net, images(), grown)


@pytest.mark.parametrize("name", MAKERS)
def test_so_it_does_with_volumes_and_transposed_weights(name: str) -> None:
    def assert_trains(build: Callable[[], nn.Module], x: Tensor, spec: Any) -> None:
        def grown(model: nn.Module, optimizer: Optimizer, fused: bool) -> tuple[nn.Module, Optimizer]:
            return fxgrow.grow(model, spec, x, optimizer=optimizer), optimizer

        assert_trains_as_without_fusion(MAKERS[name], build, x, grown)

    assert_trains(lambda: net(5), images(5), 1.5)
    assert_trains(Transposed, torch.randn(5, 4).double(), 1.5)
    assert_trains(Transposed, torch.randn(5, 4).double(), fxgrow.Outputs(5))


def test_a_state_that_lies_otherwise_than_its_teacher_is_laid_as_the_student() -> None:
    """A model that is moved to channels last after its first steps leaves the state behind."""
    model = net().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    optimizer = MAKERS["AdamW"](model.parameters(), False)
    train(model, optimizer, images(), 2)
    model.to(memory_format=torch.channels_last)
    student = fxgrow.grow(model, {"0": 12}, images(), optimizer=optimizer)
    assert_laid_alike(student, optimizer)


@pytest.mark.parametrize("name", MAKERS)
def test_a_loaded_state_lies_as_its_parameter(name: str, tmp_path: Path) -> None:
    def reloaded(model: nn.Module, optimizer: Optimizer, fused: bool) -> tuple[nn.Module, Optimizer]:
        student = fxgrow.grow(model, 1.5, images(), optimizer=optimizer)
        fxgrow.save(student, tmp_path / "a.safetensors", optimizer=optimizer)
        made = fxgrow.load(
            tmp_path / "a.safetensors", net, optimizer=lambda model: MAKERS[name](model.parameters(), fused)
        )
        return made.model, made.optimizer

    assert_trains_as_without_fusion(MAKERS[name], net, images(), reloaded)


def load(
    path: Path, plan: fxgrow.Plan, build: Callable[[], nn.Module], make: Make, fused: bool, *, assign: bool = False
) -> tuple[nn.Module, Optimizer]:
    """What a training script makes of a grown file of `torch.save`."""
    student, whole = fxgrow.apply(plan, build()), torch.load(path)
    student.load_state_dict(whole["model"], assign=assign)
    optimizer = make(student.parameters(), fused)
    optimizer.load_state_dict(whole["optimizer"])
    return student, optimizer


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("name", MAKERS)
def test_the_state_in_a_grown_file_lies_as_the_parameters_that_load_it(
    name: str, spec: str, assign: bool, tmp_path: Path
) -> None:
    plan = fxgrow.plan(fxgrow.widths(net(), images()), SPECS[spec])

    def through_a_file(model: nn.Module, optimizer: Optimizer, fused: bool) -> tuple[nn.Module, Optimizer]:
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / f"{fused}.pt")
        fxgrow.grow_checkpoint(plan, tmp_path / f"{fused}.pt", tmp_path / f"grown {fused}.pt")
        path = tmp_path / f"grown {fused}.pt"
        student, grown = load(path, plan, net, MAKERS[name], fused, assign=assign)
        expected = fxgrow.apply(plan, model, optimizer=optimizer)
        for one, other in zip(student.parameters(), expected.parameters(), strict=True):
            assert torch.equal(one, other)
            assert one.stride() == other.stride()
            mine, theirs = grown.state[one], optimizer.state[other]
            assert mine.keys() == theirs.keys()
            assert all(torch.equal(mine[key], theirs[key]) for key in mine if mine[key] is not None)
        return student, grown

    assert_trains_as_without_fusion(MAKERS[name], net, images(), through_a_file)


@pytest.mark.parametrize("method", ["even", "zero_out"])
def test_so_it_does_in_a_file_of_the_optimizer_alone_in_a_chain_and_part_by_part(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("optimizers.PART", "fill_file.PART"):
        monkeypatch.setattr(f"fxgrow.checkpoints.{name}", 100)
    model = net()
    optimizer = MAKERS["AdamW"](model.parameters(), True)
    train(model, optimizer, images(), 3)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    torch.save(optimizer.state_dict(), tmp_path / "alone.pt")
    first = fxgrow.grow(model, {"0": 12}, images(), optimizer=optimizer, method=method)
    plans = [fxgrow.plan_of(first)]
    second = fxgrow.grow(first, [fxgrow.Kernel("4", 3)], images(), optimizer=optimizer)
    plans.append(fxgrow.plan_of(second))
    for plan in plans:
        fxgrow.grow_checkpoint(plan, tmp_path / "a.pt", tmp_path / "b.pt")
        fxgrow.grow_checkpoint(plan, tmp_path / "alone.pt", tmp_path / "b_alone.pt")
        student, loaded = load(tmp_path / "b.pt", plan, net, MAKERS["AdamW"], True)
        assert_laid_alike(student, loaded)
        loaded.load_state_dict(torch.load(tmp_path / "b_alone.pt"))
        assert_laid_alike(student, loaded)
    for one, other in zip(student.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
        assert all(torch.equal(loaded.state[one][key], value) for key, value in optimizer.state[other].items())


def test_so_it_does_for_weights_that_lie_column_by_column(tmp_path: Path) -> None:
    x = torch.randn(5, 4).double()
    for number, spec in enumerate((1.5, fxgrow.Outputs(5))):
        plan = fxgrow.plan(fxgrow.widths(Transposed(), x), spec)
        model = Transposed()
        optimizer = MAKERS["AdamW"](model.parameters(), True)
        train(model, optimizer, x, 3)
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / f"{number}.pt")
        fxgrow.grow_checkpoint(plan, tmp_path / f"{number}.pt", tmp_path / f"grown {number}.pt")
        student, loaded = load(tmp_path / f"grown {number}.pt", plan, Transposed, MAKERS["AdamW"], True)
        assert_laid_alike(student, loaded)
        expected = fxgrow.apply(plan, model, optimizer=optimizer)
        for one, other in zip(student.parameters(), expected.parameters(), strict=True):
            assert torch.equal(one, other)
            assert all(torch.equal(loaded.state[one][key], value) for key, value in optimizer.state[other].items())


@pytest.mark.parametrize("shape", [(4, 3, 2, 5), (4, 1, 3, 3), (4, 3, 1, 1), (0, 3, 2, 2), (2, 3, 4, 5, 6)])
def test_an_order_gives_the_strides_that_torch_gives(shape: tuple[int, ...]) -> None:
    last = torch.empty(shape).to(memory_format=formats(len(shape)))
    plain = torch.empty(shape)
    assert strides_in((), shape) == plain.stride()
    assert order_of(plain) == ()
    assert laid_as(plain, plain) is plain
    if plain.numel():
        assert laid_as(torch.ones(shape), last).stride() == strides_in(order_of(last), shape)
    grown = grown_order(order_of(last), shape)
    assert (grown != ()) == (not last.is_contiguous())
