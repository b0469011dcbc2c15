"""The examples for several processes start with torchrun, on CPUs, as their first lines say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from tests.thinned import THOROUGH

EXAMPLES = Path(__file__).parent.parent / "examples"


def started(name: str, number: int, devices: dict[str, str]) -> subprocess.CompletedProcess[str]:
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(number)]
    env = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", **devices}
    return subprocess.run([*run, str(EXAMPLES / name)], check=False, env=env, capture_output=True, text=True)


def assert_trains(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in done.stdout.splitlines() if "loss " in line]
    assert losses[-1] < losses[2] < losses[0]
    assert "at the growth" in done.stdout


@THOROUGH  # ten seconds each, of which most is the start of processes
@pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")
@pytest.mark.parametrize("name", ["grow_ddp.py", "grow_fsdp.py"])
def test_an_example_grows_and_trains_on(name: str) -> None:
    assert f"torchrun --nproc_per_node 2 examples/{name}" in (EXAMPLES / name).read_text()
    assert_trains(started(name, 2, {"CUDA_VISIBLE_DEVICES": ""}))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["grow_ddp.py", "grow_fsdp.py"])
def test_an_example_grows_and_trains_on_gpus(name: str) -> None:
    assert_trains(started(name, min(2, torch.cuda.device_count()), {}))
