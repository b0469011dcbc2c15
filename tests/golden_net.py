"""The network that the plan files in tests/golden were made for, and how they were made."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import fxgrow
from fxgrow import Deepen, Inputs, Kernel, Outputs, Plan, Widen


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.second = nn.Conv2d(5, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(torch.relu(self.norm(self.first(x))))


class GoldenNet(nn.Module):
    """Convolutions, a residual block, a literal split, and a stream with layer norms."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.block = Residual(6)
        self.halves = nn.Conv2d(6, 8, 1)
        self.embed = nn.Linear(4, 6)
        self.norm = nn.LayerNorm(6)
        self.inner = nn.Linear(6, 8)
        self.back = nn.Linear(8, 6)
        self.last = nn.LayerNorm(6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(torch.relu(self.stem(x)))
        a, b = torch.split(self.halves(x), 4, 1)
        x = self.embed((a * torch.sigmoid(b)).flatten(2).transpose(1, 2))  # (N, C, H, W) to (N, H*W, C)
        x = x + self.back(torch.relu(self.inner(self.norm(x))))
        return self.head(self.last(x)[:, 0])


def golden_net() -> nn.Module:
    torch.manual_seed(0)
    return GoldenNet()


def golden_inputs() -> Tensor:
    return torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(1))


def golden_plan() -> Plan:
    """A plan with every kind of entry, and a second one for its student."""
    net, x = golden_net(), golden_inputs()
    first = fxgrow.plan(
        fxgrow.widths(net, x),
        [
            Widen("embed", 7, indivisible="average"),
            Widen("block.first", 1.5),
            Widen("halves", 12),
            Deepen("block", blocks=1),
            Deepen("inner", activation="same"),
            Kernel("stem", 5),
        ],
    )
    student = fxgrow.apply(first, net, x)
    second = fxgrow.plan(fxgrow.widths(student, x), [Inputs("x", 4), Outputs(5, "mean")])
    return first.then(second)
