"""The nets of benchmarks/worth.py: the ResNet of benchmarks/resnet.py and a GPT, their FLOPs, and how they grow."""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import fxgrow
from benchmarks.resnet import STAGES, ResNet
from benchmarks.worth_methods import Fill, Method
from benchmarks.worth_settings import Net, Settings

BYTES = 256
SHRINK, NOISE = 0.6, 0.01  # of shrink-and-perturb


class Layer(nn.Module):
    """Pre-norm attention and a feed-forward net of four times the width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        N, L, C = x.shape
        q, k, v = (
            part.view(N, L, self.heads, C // self.heads).transpose(1, 2)  # (N, heads, L, C / heads)
            for part in self.qkv(self.norm1(x)).chunk(3, -1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(N, L, C))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    """A decoder of bytes, (N, L) to (N, L, 256)."""

    def __init__(self, width: int, depth: int, length: int, head: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(BYTES, width), nn.Embedding(length, width)
        for table in (self.tokens, self.positions):
            nn.init.normal_(table.weight, std=0.02)
        self.layers = nn.ModuleList(Layer(width, width // head) for _ in range(depth))
        self.norm, self.classes = nn.LayerNorm(width), nn.Linear(width, BYTES, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.tokens(x) + self.positions(torch.arange(x.shape[1], device=x.device))
        for layer in self.layers:
            y = layer(y)
        return self.classes(self.norm(y))


def built(of: Settings, net: Net) -> nn.Module:
    """A new net."""
    if of.track == "text":
        return GPT(net.width, net.depth, of.length, of.head)
    return ResNet(net.width, net.depth, of.stride, of.channels)


def side_of(of: Settings) -> int:
    """Pixels of an image's side."""
    return 32 if of.data == "cifar" else 28


def example(of: Settings, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Two inputs and their classes."""
    if of.track == "text":
        x = torch.zeros(2, of.length, dtype=torch.int64, device=device)
        return x, x
    images = torch.zeros(2, of.channels, side_of(of), side_of(of), device=device)
    return images, torch.zeros(2, dtype=torch.int64, device=device)


def loss_of(outputs: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy, the mean over images or bytes, in float32."""
    return F.cross_entropy(outputs.flatten(0, -2).float(), classes.flatten())


@functools.cache
def flops_of(of: Settings, net: Net) -> float:
    """Forward and backward for one example, as torch's counter has them.

    They are counted on meta tensors, where attention runs as products of matrices: its fused kernels for a CPU are not
    counted.
    """
    with torch.device("meta"):
        model, (x, y) = built(of, net), example(of, "meta")
    with FlopCounterMode(display=False) as counter:
        loss_of(model(x), y).backward()
    return counter.get_total_flops() / len(x)


def optimizer_of(of: Settings, model: nn.Module) -> torch.optim.Optimizer:
    """SGD with momentum for images, AdamW for text, where vectors do not decay; both fused, which is faster."""
    if of.track == "images":
        return torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9, weight_decay=5e-4, nesterov=True, fused=True)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups: list[dict[str, Any]] = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), fused=True)


# -- growth --------------------------------------------------------------------------------------------


def requests_of(of: Settings, method: Method, old: Net, new: Net) -> list[Any]:
    """What fxgrow is asked for."""
    requests: list[Any] = []
    if new.width > old.width:
        requests.append(fxgrow.Widen("*", new.width / old.width, method="split" if method.fill == "split" else "auto"))
    if more := new.depth - old.depth:
        for stage in ("layers",) if of.track == "text" else STAGES:
            last = f"{stage}.{old.depth - 1}"
            requests.append(fxgrow.Deepen(stage if method.between else last, blocks=more))
    return requests


def larger(
    of: Settings, method: Method, model: nn.Module, optimizer: torch.optim.Optimizer, old: Net, new: Net, seed: int
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The next net and the optimizer that trains it."""
    device = next(model.parameters()).device
    x, _ = example(of, device)
    carried: dict[str, Any] = {} if method.state == "new" else {"optimizer": optimizer}
    if method.state == "rewarmed":
        carried["warmup"] = of.rewarmed
    requests = requests_of(of, method, old, new)
    student = fxgrow.grow(model, requests, x, seed=seed, output="module", progress=False, **carried)
    if method.is_baseline:
        refill(of, method.fill, student, old, new, seed)
    return student, optimizer_of(of, student) if method.state == "new" else optimizer


@torch.no_grad()
def refill(of: Settings, fill: Fill, student: nn.Module, old: Net, new: Net, seed: int) -> None:
    """Change the function, as baselines do: fill the new blocks anew, or shrink and perturb the weights.

    "stacked" repeats the old blocks in turn; a tensor that has another shape there stays as fxgrow made it, random.
    "random" fills the new blocks as a new net's. "shrunk" is 0.6 of each weight and normal noise.

    Source: stacking, Gong et al. (ICML 2019); shrink and perturb, Ash and Adams (arXiv 1910.08475).
    """
    tensors = student.state_dict()  # they share memory with the student's
    if fill == "shrunk":
        draws = torch.Generator().manual_seed(seed)
        for p in student.parameters():
            if p.dim() > 1:
                p.mul_(SHRINK).add_(torch.randn(p.shape, generator=draws).to(p.device), alpha=NOISE)
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = built(of, new).state_dict()
    for name, tensor in tensors.items():
        block = block_of(of, name)
        if block is None or block < old.depth:
            continue
        copied = f".{block % old.depth}.".join(name.split(f".{block}.", 1))
        source = fresh[name] if fill == "random" else tensors.get(copied)
        if source is not None and source.shape == tensor.shape:
            tensor.copy_(source)


def block_of(of: Settings, name: str) -> int | None:
    """The number of the block that a tensor is in; None where it is in none."""
    stage, _, rest = name.partition(".")
    stages = ("layers",) if of.track == "text" else STAGES
    return int(rest.partition(".")[0]) if stage in stages else None
