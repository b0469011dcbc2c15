"""Growth of sharded and of replicated models on GPUs, with NCCL: two of them where there are, else one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import fxgrow
from tests.ranks import TOGETHER, in_processes
from tests.sharded_nets import CASES, WHOLE
from tests.test_grow_sharded import assert_bits_of_memory, both_ways

GPUS = min(2, torch.cuda.device_count())
pytestmark = [
    *TOGETHER,
    pytest.mark.cuda,
    pytest.mark.skipif(not GPUS or not torch.distributed.is_nccl_available(), reason="no CUDA device, or no NCCL"),
]


@pytest.mark.parametrize("method", ["auto", "noise"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_sharded_model_grows_to_the_bits_of_growing_in_memory(
    method: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    names = [*CASES, *WHOLE]
    found = in_processes(both_ways, tmp_path, GPUS, names, method, (GPUS,), dtype, "cuda", backend="nccl")
    assert_bits_of_memory(found, names)


def replicated(rank: int, number: int) -> list[bool]:
    """Whether a replica on its GPU has the bits of growing alone, on that GPU, whichever device is the current one."""
    torch.manual_seed(0)
    device = torch.device("cuda", rank)
    net = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 4)).to(device)
    x = torch.linspace(-1, 1, 12, device=device).view(2, 6)
    wrapped = DistributedDataParallel(net, device_ids=[rank])
    torch.cuda.set_device(0)
    optimizer = torch.optim.AdamW(wrapped.parameters())
    student: Any = fxgrow.grow(wrapped, [2.0, fxgrow.Deepen("0")], x, optimizer=optimizer)
    torch.cuda.set_device(rank)
    alone = fxgrow.grow(net, [2.0, fxgrow.Deepen("0")], x).state_dict()
    same = all(torch.equal(t, alone[name]) for name, t in student.module.state_dict().items())
    student(x).square().mean().backward()
    optimizer.step()
    return [same, all(p.device == device for p in student.parameters()), len(list(student.parameters())) > 4]


def test_replicas_grow_on_their_own_gpus(tmp_path: Path) -> None:
    assert in_processes(replicated, tmp_path, GPUS, backend="nccl") == [[True] * 3] * GPUS
