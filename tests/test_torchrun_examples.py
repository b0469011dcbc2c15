"""The examples for several processes start with torchrun, on CPUs, as their first lines say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

from tests.thinned import THOROUGH

EXAMPLES = Path(__file__).parent.parent / "examples"


@THOROUGH  # ten seconds each, of which most is the start of processes
@pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")
@pytest.mark.parametrize("name", ["grow_ddp.py", "grow_fsdp.py"])
def test_an_example_grows_and_trains_on(name: str) -> None:
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    assert f"torchrun --nproc_per_node 2 examples/{name}" in (EXAMPLES / name).read_text()
    env = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*run, str(EXAMPLES / name)], check=False, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in done.stdout.splitlines() if "loss " in line]
    assert losses[-1] < losses[2] < losses[0]
    assert "at the growth" in done.stdout
