"""Grow a transformer that is sharded by `fully_shard` (FSDP2) in the middle of training, with its optimizer.

    torchrun --nproc_per_node 2 examples/grow_fsdp.py

It runs on CPUs as it is, and on GPUs unchanged, one for each process. No process ever holds a whole parameter: each
makes its part of the student from the rows that it copies. The script ends with an error if the growth changed what the
network computes.
"""

import os
import sys

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

import fxgrow

STEPS, GROWN_AFTER, BATCH, TOKENS, VOCABULARY = 60, 30, 16, 32, 24


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, 2))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """Next tokens from the ones before."""

    def __init__(self, width: int = 32, depth: int = 2) -> None:
        super().__init__()
        self.embed, self.positions = nn.Embedding(VOCABULARY, width), nn.Parameter(0.02 * torch.randn(TOKENS, width))
        self.blocks = nn.ModuleList([Block(width, 4) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, VOCABULARY, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def batch(step: int, rank: int, device: torch.device) -> Tensor:
    """Sequences in which each token follows from the two before; each process has its own."""
    draws = torch.Generator().manual_seed(1000 * step + rank)
    tokens = torch.randint(VOCABULARY, (BATCH, TOKENS), generator=draws)
    for place in range(2, TOKENS):
        tokens[:, place] = (tokens[:, place - 1] + tokens[:, place - 2]) % VOCABULARY
    return tokens.to(device)


def main() -> int:
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend)
    rank, kind = dist.get_rank(), "cuda" if backend == "nccl" else "cpu"
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if kind == "cuda" else torch.device("cpu")
    if kind == "cuda":
        torch.cuda.set_device(device)
    mesh = dist.init_device_mesh(kind, (dist.get_world_size(),))
    torch.manual_seed(0)
    model = Transformer().to(device)
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    changed = 0.0
    for step in range(STEPS):
        tokens = batch(step, rank, device)
        if step == GROWN_AFTER:
            with torch.no_grad():
                before = model(tokens)
                wider_and_deeper = [1.5, fxgrow.Deepen("blocks.1", blocks=2)]
                model = fxgrow.grow(model, wider_and_deeper, tokens, optimizer=optimizer, output="module")
                changed = (model(tokens) - before).abs().max().item()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(tokens)[:, 2:-1].flatten(0, 1), tokens[:, 3:].flatten())
        loss.backward()
        optimizer.step()
        if rank == 0 and (step + 1) % 10 == 0:
            parts = [p.to_local().numel() for p in model.parameters()]
            whole = sum(p.numel() for p in model.parameters())
            print(f"step {step + 1:>3}: loss {loss.item():.3f}, {whole:,} parameters, {sum(parts):,} of them here")
    if rank == 0:
        print(f"outputs changed by {changed:.1e} at the growth, to {len(model.blocks)} blocks")
    dist.destroy_process_group()
    return 0 if changed < 1e-3 else 1


if __name__ == "__main__":
    sys.exit(main())
