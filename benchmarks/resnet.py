"""A ResNet of three stages for small images, and what one image costs it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiment.training import flops

STAGES = ("layer1", "layer2", "layer3")


class Block(nn.Module):
    """Two convolutions and a skip, with a 1x1 convolution on it where the shape changes."""

    def __init__(self, old: int, new: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(old, new, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(new)
        self.conv2 = nn.Conv2d(new, new, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(new)
        same = old == new and stride == 1
        self.skip = (
            nn.Identity() if same else nn.Sequential(nn.Conv2d(old, new, 1, stride, bias=False), nn.BatchNorm2d(new))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.skip(x))


class ResNet(nn.Module):
    """Three stages of blocks, for images (N, channels, H, W)."""

    def __init__(self, width: int, blocks: int, stride: int, channels: int = 1) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        widths = (width, width, 2 * width, 4 * width)
        for i, name in enumerate(STAGES):
            more = [Block(widths[i + 1], widths[i + 1], 1) for _ in range(blocks - 1)]
            setattr(self, name, nn.Sequential(Block(widths[i], widths[i + 1], 1 if i == 0 else 2), *more))
        self.fc = nn.Linear(4 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.fc(x.mean((2, 3)))


def flops_of(width: int, blocks: int, stride: int) -> float:
    """Forward and backward, for one image."""
    with torch.device("meta"):
        net, x, y = ResNet(width, blocks, stride), torch.randn(2, 1, 28, 28), torch.zeros(2, dtype=torch.int64)
    return flops(net, x, y)
