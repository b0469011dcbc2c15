"""Grow a network in DistributedDataParallel in the middle of training, with its optimizer.

    torchrun --nproc_per_node 2 examples/grow_ddp.py

It runs on CPUs as it is, and on GPUs unchanged, one for each process. `fxgrow.grow` takes the wrapper: every process
makes the same student, nothing of it is sent, and the student gets a wrapper with the same options. The script ends
with an error if the growth changed what the network computes, or if two processes have different parameters at the end.
"""

import os
import sys

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import fxgrow

STEPS, GROWN_AFTER, BATCH = 60, 30, 32


def network() -> nn.Module:
    stem = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)]
    body = [nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*stem, *body, nn.Flatten(), nn.Linear(16, 4))


def batch(step: int, rank: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images whose class is which quarter is brightest; each process has its own."""
    draws = torch.Generator().manual_seed(1000 * step + rank)
    images = torch.rand(BATCH, 3, 16, 16, generator=draws)
    classes = torch.randint(4, (BATCH,), generator=draws)
    for image, number in zip(images, classes.tolist(), strict=True):
        image[:, 8 * (number // 2) :, 8 * (number % 2) :][:, :8, :8] += 0.5
    return images.to(device), classes.to(device)


def main() -> int:
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend)
    rank = dist.get_rank()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if backend == "nccl" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.manual_seed(0)
    model = DistributedDataParallel(network().to(device))
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    changed = 0.0
    for step in range(STEPS):
        images, classes = batch(step, rank, device)
        if step == GROWN_AFTER:
            with torch.no_grad():
                before = model.eval()(images)
                model = fxgrow.grow(model.train(), [2.0, fxgrow.Deepen("4")], images, optimizer=optimizer)
                changed = (model.eval()(images) - before).abs().max().item()
            model.train()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), classes)
        loss.backward()
        optimizer.step()
        if rank == 0 and (step + 1) % 10 == 0:
            print(
                f"step {step + 1:>3}: loss {loss.item():.3f}, {sum(p.numel() for p in model.parameters()):,} parameters"
            )
    largest = torch.stack([p.detach().abs().sum() for p in model.parameters()])
    smallest = largest.clone()
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    dist.all_reduce(smallest, dist.ReduceOp.MIN)
    alike = torch.equal(largest, smallest)
    if rank == 0:
        print(f"outputs changed by {changed:.1e} at the growth; all processes have the same parameters: {alike}")
    dist.destroy_process_group()
    return 0 if alike and changed < 1e-3 else 1


if __name__ == "__main__":
    sys.exit(main())
