"""torchvision's VGG with a classifier of few channels: its own has a hundred million weights."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.torchvision_shim import import_torchvision

WIDTH = 32


def small_vgg() -> nn.Module:
    """VGG-11 with batch norms, for images (N, 3, H, W) and 1000 classes; its convolutions are of the usual size."""
    vgg = import_torchvision().models.vgg
    with torch.device("meta"):
        net: nn.Module = vgg.vgg11_bn(init_weights=False)
    net.features = vgg.make_layers(vgg.cfgs["A"], batch_norm=True)
    hidden = [nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(WIDTH, WIDTH), nn.ReLU(inplace=True), nn.Dropout()]
    net.classifier = nn.Sequential(nn.Linear(512 * 7 * 7, WIDTH), *hidden, nn.Linear(WIDTH, 1000))
    return net
