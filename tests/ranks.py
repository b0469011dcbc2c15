"""Processes of torch.distributed for tests, forked from a server that has imported torch once."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

TOGETHER = [  # the marks of a file that starts processes: one after another, so that one server is enough
    pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed"),
    pytest.mark.xdist_group("processes"),
]
PRELOADED = [  # torch._dynamo is what the first `fully_shard` of each process would import
    "torch._dynamo", "numpy.random",
    "torch.distributed.checkpoint", "torch.distributed.device_mesh", "torch.distributed.fsdp",
    "torch.distributed.optim", "torch.distributed.tensor", "fxgrow", "fxgrow.api", "fxgrow.shards.growth",
]  # fmt: skip


def in_processes(work: Callable[..., Any], folder: Path, number: int, *given: Any, backend: str = "gloo") -> list[Any]:
    """What `work(rank, number, *given)` returns in each of some processes, which are one group.

    Args:
        work: A function of a module, of which each process imports its own.
        folder: An empty one, for what the processes tell one another.
        number: How many processes.
        given: More arguments, which can be pickled.
        backend: "gloo", or "nccl", with which each process has a GPU of its own.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    arguments = (work, backend, str(folder), number, *given)
    mp.start_processes(_run, args=arguments, nprocs=number, start_method="forkserver")
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(number)]


def _run(rank: int, work: Callable[..., Any], backend: str, folder: str, number: int, *given: Any) -> None:
    import torch.distributed.fsdp

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    if backend == "nccl":
        torch.cuda.set_device(rank)
    dist.init_process_group(backend, f"file://{folder}/store", rank=rank, world_size=number)
    torch.save(work(rank, number, *given), f"{folder}/rank{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
