"""Checkpoints of torch.distributed (DCP) and growth: grown on load by any number of processes, and resumed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import fxgrow
from tests.ranks import TOGETHER, in_processes
from tests.sharded_nets import CASES, IDS
from tests.test_grow_sharded import State, contents, sharded, trained
from tests.thinned import THOROUGH

pytestmark = TOGETHER

CASE = CASES["decoder"]
SPECS = [1.5, [fxgrow.Deepen("layers.1", blocks=1), {"layers.0*": 1.25}]]


def teacher(number: int, seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = sharded(CASE.make(), dist.init_device_mesh("cpu", (number,)), CASE)
    return model, torch.optim.Adam(model.parameters(), 1e-3, eps=1e-6)


def keep(model: nn.Module, optimizer: torch.optim.Optimizer, folder: str) -> None:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_state_dict

    weights, states = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": states}, checkpoint_id=folder)


def restore(model: nn.Module, optimizer: torch.optim.Optimizer, folder: str) -> None:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

    weights, states = get_state_dict(model, optimizer)
    held = {"model": weights, "optimizer": states}
    dcp.load(held, checkpoint_id=folder)
    set_state_dict(model, optimizer, model_state_dict=held["model"], optim_state_dict=held["optimizer"])


def grown(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], State]:
    student = fxgrow.grow(model, CASE.spec, IDS, optimizer=optimizer, output="module", seed=2)
    return contents(student, optimizer)


def written(rank: int, number: int, folder: str) -> tuple[dict[str, Tensor], State]:
    model, optimizer = teacher(number, 0)
    trained(model, optimizer, IDS, 3)
    keep(model, optimizer, folder)
    return grown(model, optimizer)


def loaded(rank: int, number: int, folder: str) -> tuple[dict[str, Tensor], State]:
    model, optimizer = teacher(number, 1)
    restore(model, optimizer, folder)
    return grown(model, optimizer)


def folder_of(tmp_path: Path, name: str) -> Path:
    made = tmp_path / name
    made.mkdir()
    return made


@pytest.mark.parametrize("readers", [(3,), pytest.param((1, 2), marks=THOROUGH)])
def test_a_checkpoint_of_four_processes_is_grown_on_load_by_fewer(readers: tuple[int, ...], tmp_path: Path) -> None:
    checkpoint = str(tmp_path / "teacher")
    tensors, states = in_processes(written, folder_of(tmp_path, "four"), 4, checkpoint)[0]
    for number in readers:
        found, of_found = in_processes(loaded, folder_of(tmp_path, str(number)), number, checkpoint)[0]
        assert [name for name in tensors if not torch.equal(tensors[name], found[name])] == []
        assert [
            (name, key)
            for name, state in states.items()
            for key, value in state.items()
            if not torch.equal(value, of_found[name][key])
        ] == []


def losses(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[float]:
    found = []
    for number in range(10):
        optimizer.zero_grad()
        loss = model(IDS.roll(number))["logits"].square().mean()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def grown_twice(rank: int, number: int, folder: str) -> list[float]:
    model, optimizer = teacher(number, 0)
    for seed, spec in enumerate(SPECS):
        trained(model, optimizer, IDS, 2)
        model = fxgrow.grow(model, spec, IDS, optimizer=optimizer, output="module", seed=seed)
    trained(model, optimizer, IDS, 2)
    keep(model, optimizer, f"{folder}/tensors")
    plan = fxgrow.plan_of(model)
    assert plan is not None
    if rank == 0:
        Path(folder, "plan.json").write_text(plan.to_json())
    return losses(model, optimizer)


def resumed(rank: int, number: int, folder: str) -> list[float]:
    from torch.distributed.fsdp import fully_shard

    plan = fxgrow.Plan.from_json(Path(folder, "plan.json").read_text())
    with torch.device("meta"):
        first = CASE.make()
    student: Any = fxgrow.apply(plan, first, IDS)
    mesh = dist.init_device_mesh("cpu", (number,))
    for layer in student.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(student, mesh=mesh)
    student.to_empty(device="cpu")
    optimizer = torch.optim.Adam(student.parameters(), 1e-3, eps=1e-6)
    restore(student, optimizer, f"{folder}/tensors")
    return losses(student, optimizer)


@pytest.mark.parametrize("number", [2, pytest.param(3, marks=THOROUGH)])
def test_a_run_that_was_grown_twice_is_resumed_on_any_number_of_processes(number: int, tmp_path: Path) -> None:
    """From a checkpoint of torch.distributed and the plan: on as many to the bit, on others up to rounding."""
    run = str(folder_of(tmp_path, "run"))
    before = in_processes(grown_twice, folder_of(tmp_path, "first"), 2, run)[0]
    after = in_processes(resumed, folder_of(tmp_path, "again"), number, run)[0]
    assert after == (before if number == 2 else pytest.approx(before, rel=1e-5))


KILLED = """
import os, sys, torch
import torch.distributed.checkpoint as dcp
from torch import nn
class Killed(dcp.FileSystemWriter):
    def {moment}(self, *args, **kwargs):
        os._exit(9)
dcp.save({{"model": nn.Linear(4, 4).state_dict()}}, storage_writer=Killed(sys.argv[1]))
"""


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")  # one process reads
@pytest.mark.parametrize("moment", ["write_data", "finish"])
def test_a_checkpoint_whose_writer_was_killed_does_not_load(moment: str, tmp_path: Path) -> None:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint import CheckpointException

    folder = str(tmp_path / "half")
    code = KILLED.format(moment=moment)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code, folder], check=False, env=dict(os.environ))
    assert done.returncode == 9
    with pytest.raises(CheckpointException, match=r"\.metadata"):
        dcp.load({"model": nn.Linear(4, 4).state_dict()}, checkpoint_id=folder, no_dist=True)


def refused(rank: int, number: int, folder: str) -> str:
    model, optimizer = teacher(number, 0)
    with pytest.raises(fxgrow.GrowError) as caught:
        fxgrow.save(model, Path(folder) / "student.safetensors", optimizer=optimizer)
    return str(caught.value)


def test_save_names_the_way_for_a_sharded_model(tmp_path: Path) -> None:
    said = in_processes(refused, folder_of(tmp_path, "one"), 1, str(tmp_path))
    assert "torch.distributed.checkpoint" in said[0]
