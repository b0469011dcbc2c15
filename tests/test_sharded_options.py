"""`warmup=` and `calibration=` for sharded models, and models that are divided along two dimensions of a mesh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import fxgrow
from fxgrow import Deepen
from fxgrow.state.warmup import warmup_of
from tests.ranks import TOGETHER, in_processes
from tests.sharded_nets import CASES, FIVE, IMAGES, ROWS, Case
from tests.test_grow_sharded import contents, full, plain_twin, sharded, take_over, trained
from tests.thinned import THOROUGH

pytestmark = TOGETHER

STEPS = 4
NUMBERS = [2, pytest.param(3, marks=THOROUGH), pytest.param(4, marks=THOROUGH)]


def warmed_up(rank: int, number: int, name: str) -> Any:
    """Which entries are new and what the parameters are in and after a warm-up, in memory and shard by shard."""
    case, found = CASES[name], []
    alone, its_optimizer = plain_twin(case, torch.float64)
    model = sharded(case.make().double(), dist.init_device_mesh("cpu", (number,)), case)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    take_over(model, optimizer, alone, its_optimizer)
    example = case.example.double() if case.example.is_floating_point() else case.example
    for one, its in ((alone, its_optimizer), (model, optimizer)):
        student = fxgrow.grow(one, case.spec, example, optimizer=its, warmup=STEPS, output="module", seed=3)
        warmup = warmup_of(its)
        assert warmup is not None
        names = {id(p): n for n, p in student.named_parameters()}
        masks = {n: full(mask) for n, mask in warmup.state(names)["new"].items()}
        begun = {n: full(p) for n, p in student.named_parameters()}
        trained(student, its, example, 1)
        first = {n: full(p) for n, p in student.named_parameters()}
        trained(student, its, example, STEPS)
        found.append([masks, begun, first, {n: full(p) for n, p in student.named_parameters()}, warmup.over])
    return found


@pytest.mark.parametrize("number", NUMBERS)
def test_a_warm_up_of_a_sharded_model_is_that_of_the_model(number: int, tmp_path: Path) -> None:
    for at, name in enumerate(["decoder", "odd sizes", "stage of one block"]):
        folder = tmp_path / str(at)
        folder.mkdir()
        parts = in_processes(warmed_up, folder, number, name)
        (expected, begun, first, last, over), *_ = parts[0]
        for _, (masks, of_begun, of_first, of_last, is_over) in parts:
            assert over
            assert is_over
            assert masks.keys() == expected.keys()
            assert [n for n, mask in masks.items() if not torch.equal(mask, expected[n])] == []
            for n in begun:
                assert torch.equal(of_begun[n], begun[n]), n
                torch.testing.assert_close(of_first[n], first[n], rtol=1e-12, atol=1e-12)
                torch.testing.assert_close(of_last[n], last[n], rtol=1e-12, atol=1e-12)
        moved = [(first[n] - begun[n]).abs() for n in expected]
        new = torch.cat([m[expected[n]] for m, n in zip(moved, expected, strict=True)])
        assert 0 < float(new.max()) < 1.001e-3 / STEPS  # Adam's first steps have the size of the rate


CALIBRATED: dict[str, Case] = {
    "flat": Case(
        lambda: nn.Sequential(nn.Linear(7, 9), nn.Tanh(), nn.Linear(9, 3)), ROWS,
        [1.4, Deepen("0", norm="batch", calibrated=True)], ("0",),
    ),
    "images": Case(
        lambda: nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 7, 3), nn.ReLU(), nn.Conv2d(7, 3, 1)), IMAGES,
        [1.4, Deepen("0", norm="batch", calibrated=True), Deepen("2", norm="batch", calibrated=True)], ("2",),
        lambda model: {"reshard_after_forward": False},
    ),
}  # fmt: skip


def calibrated(rank: int, number: int) -> list[Any]:
    """Whether the bits are those of calibrating in memory, of `grow` and of `apply`; and what other batches give."""
    mesh, found = dist.init_device_mesh("cpu", (number,)), []
    for case in CALIBRATED.values():
        torch.manual_seed(0)
        plain = case.make()
        batches = [(case.example * scale, torch.zeros(2)) for scale in (1.0, -0.5, 2.0)]  # with labels
        plan = fxgrow.plan(fxgrow.widths(plain, case.example, output="module"), case.spec)
        expected = fxgrow.apply(plan, plain, case.example, calibration=batches).state_dict()
        without = fxgrow.apply(plan, plain, case.example).state_dict()
        model = sharded(plain, mesh, case)
        students = [
            fxgrow.grow(model, case.spec, case.example, calibration=iter(batches)),
            fxgrow.apply(plan, model, case.example, calibration=batches),
        ]
        found += [
            all(torch.equal(full(t), expected[n]) for n, t in student.state_dict().items()) for student in students
        ]
        found.append(sum(not torch.equal(expected[n], without[n]) for n in expected) >= 4)
        found += [students[0].training, len(students[0].state_dict()) == len(expected)]
    for wrong in (batches[: 1 + rank], [batches[rank % 2]], [3.0], None if rank else batches, []):
        try:
            fxgrow.grow(model, case.spec, case.example, calibration=wrong)  # type: ignore[arg-type]
            found.append("grown")
        except fxgrow.FxgrowError as error:
            found.append(str(error))
    return found


@pytest.mark.parametrize("number", NUMBERS)
def test_norms_of_a_sharded_model_are_calibrated_as_those_of_the_model(number: int, tmp_path: Path) -> None:
    for found in in_processes(calibrated, tmp_path, number):
        assert found[:10] == [True] * 10
        different, other, strange, none, empty = found[10:]
        assert "different batches" in different
        assert "different batches" in other
        assert "does not run on a batch" in strange
        assert "give batches of inputs as calibration" in none
        assert "no batches" in empty


CHAINED = Case(
    lambda: nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)),
    IMAGES, [1.4, fxgrow.Inputs("input", 5), fxgrow.Outputs(5, new="mean")], ("2",),
)  # fmt: skip
NEXT = [1.2, fxgrow.Outputs(9, new="random"), Deepen("2", norm="group", calibrated=True)]


def a_chain(rank: int, number: int) -> list[bool]:
    """Whether a chain of plans with everything at once, on a mesh that replicates as well, is that of memory."""
    mesh = dist.init_device_mesh("cpu", (number // 2, 2), mesh_dim_names=("replicate", "shard"))
    alone, its_optimizer = plain_twin(CHAINED, torch.float32)
    once = fxgrow.grow(alone, CHAINED.spec, IMAGES, output="module")
    chain = fxgrow.plan_of(fxgrow.grow(once, NEXT, FIVE, output="module", calibration=[FIVE]))
    assert chain is not None
    model = sharded(CHAINED.make(), mesh, CHAINED)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    take_over(model, optimizer, alone, its_optimizer)
    options: dict[str, Any] = {"warmup": 3, "calibration": [FIVE, 2 * FIVE]}
    expected = fxgrow.apply(chain, alone, IMAGES, optimizer=its_optimizer, **options)
    student = fxgrow.apply(chain, model, IMAGES, optimizer=optimizer, **options)
    found = []
    for steps in (0, 2):
        trained(expected, its_optimizer, FIVE, steps)
        trained(student, optimizer, FIVE, steps)
        (tensors, states), (mine, of_mine) = contents(expected, its_optimizer), contents(student, optimizer)
        found.append([n for n in tensors if not torch.equal(tensors[n], mine[n])] == [])
        found.append(all(torch.equal(v, of_mine[n][k]) for n, state in states.items() for k, v in state.items()))
    return [*found, len(chain.steps) == 2, warmup_of(optimizer) is not None]


@pytest.mark.parametrize("number", [2, pytest.param(4, marks=THOROUGH)])
def test_a_chain_with_new_ends_calibration_and_a_warm_up(number: int, tmp_path: Path) -> None:
    assert in_processes(a_chain, tmp_path, number) == [[True] * 6] * number


class Parallel(nn.Module):
    """A layer that is divided by columns, and one by rows."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(torch.relu(self.up(x)))


def over_two_dimensions(rank: int, number: int) -> list[Any]:
    """What a model of both `fully_shard` and `parallelize_module` is told, and whether it is as before."""
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    mesh = dist.init_device_mesh("cpu", (2, number // 2), mesh_dim_names=("data", "model"))
    torch.manual_seed(0)
    plain, x = Parallel(), torch.linspace(-1, 1, 16).view(2, 8)
    plan = fxgrow.plan(fxgrow.widths(plain, x, output="module"), {"up": 16})
    model = parallelize_module(plain, mesh["model"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
    fully_shard(model, mesh=mesh["data"])
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    model(x).square().mean().backward()
    optimizer.step()
    before = {name: full(p) for name, p in model.named_parameters()}
    held = [id(p) for p in optimizer.param_groups[0]["params"]]
    said: list[Any] = []
    for attempt in (
        lambda: fxgrow.grow(model, {"up": 16}, x, optimizer=optimizer),
        lambda: fxgrow.apply(plan, model, x, optimizer=optimizer),
    ):
        try:
            attempt()
            said.append("grown")
        except fxgrow.FxgrowError as error:
            said.append(str(error))
    same = all(torch.equal(full(p), before[name]) for name, p in model.named_parameters())
    model(x).square().mean().backward()
    optimizer.step()
    return [*said, same and held == [id(p) for p in optimizer.param_groups[0]["params"]]]


def test_a_model_that_is_divided_along_two_dimensions_is_refused_on_every_process(tmp_path: Path) -> None:
    for *said, same in in_processes(over_two_dimensions, tmp_path, 4):
        assert same
        for one in said:
            assert "is placed as" in one
            assert "tensor parallelism" in one
            assert "before" in one
