"""Growing where several processes train one model: each makes the same student, and wrappers are named, not broken."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import fxgrow

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")

STEPS, GROWN_AT = 6, 3


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(6, 4)).double()


def batch(number: int, rank: int | None) -> Tensor:
    """The batch of a step; of one of two processes, its half."""
    whole = torch.randn(8, 3, 9, 9, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
    return whole if rank is None else whole[4 * rank : 4 * rank + 4]


def trained(rank: int | None) -> tuple[dict[str, Tensor], list[bool]]:
    """The parameters of a student that was grown in the middle; whether each wrapped model was refused before."""
    model = net()
    wrapped: nn.Module = model if rank is None else DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    refused = []
    for number in range(STEPS):
        if number == GROWN_AT:
            if rank is not None:
                refused = [says_why(wrapped, output) for output in ("graph", "module")]
            spec = [fxgrow.Widen("0", 1.5), fxgrow.Deepen("2")]
            model = fxgrow.grow(model, spec, batch(0, rank), optimizer=optimizer, output="module")
            wrapped = model if rank is None else DistributedDataParallel(model)
        optimizer.zero_grad()
        wrapped(batch(number, rank)).square().mean().backward()
        optimizer.step()
    return {name: p.detach() for name, p in model.named_parameters()}, refused


def says_why(wrapped: nn.Module, output: Any) -> bool:
    try:
        fxgrow.grow(wrapped, 1.5, batch(0, 0), output=output)
    except fxgrow.GrowError as error:
        return "grow model.module on every process" in str(error)
    return False


def one_rank(rank: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(trained(rank), f"{folder}/rank{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_grow_the_same_and_train_on_as_one(tmp_path: Path) -> None:
    """Without a word between them: each makes the same bits. In the wrapper it is refused, with the call to make."""
    alone, _ = trained(None)
    mp.spawn(one_rank, args=(str(tmp_path),), nprocs=2)
    (first, refused), (second, _) = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2))
    assert refused == [True, True]
    assert first.keys() == alone.keys()
    for name, parameter in alone.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], parameter, rtol=1e-9, atol=1e-12)
