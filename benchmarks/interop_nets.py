"""Six small nets of different kinds, for `interop.py`: each in a function that gives the model and an input."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.torchvision_shim import import_torchvision

Made = tuple[nn.Module, Tensor]


class TwoModes(nn.Module):
    """A graph for each mode: stochastic depth by hand, and functional dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 5)."""
        x = F.relu(self.norm(self.stem(x)))
        if not self.training:
            x = x + self.body(x)
        return self.head(F.dropout(x.mean((2, 3)), 0.1, self.training))


class Words(nn.Module):
    """An embedding, a recurrent layer and a classifier of the last state."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.read, self.head = nn.Embedding(20, 8), nn.LSTM(8, 12, batch_first=True), nn.Linear(12, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T) of word numbers -> (N, 5)."""
        states, _ = self.read(self.words(tokens))
        return self.head(states[:, -1])


class Blocks(nn.Module):
    """Transformer blocks with layer norms and attention, over patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        layer = [nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, norm_first=True) for _ in "ab"]
        self.layers, self.head = nn.ModuleList(layer), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 5)."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)  # (N, T, 16)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.head(tokens.mean(1))


def images(size: int) -> Tensor:
    return torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))


def chain() -> Made:
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(48, 5)), images(16)


def resnet18() -> Made:
    return import_torchvision().models.resnet18(num_classes=5), images(32)


def mobilenet() -> Made:
    return import_torchvision().models.mobilenet_v3_small(num_classes=5), images(32)


def words() -> Made:
    return Words(), torch.randint(20, (4, 6), generator=torch.Generator().manual_seed(0))


NETS: dict[str, Callable[[], Made]] = {
    "chain": chain,
    "ResNet-18": resnet18,
    "MobileNet v3": mobilenet,
    "two modes": lambda: (TwoModes(), images(16)),
    "transformer": lambda: (Blocks(), images(16)),
    "LSTM": words,
}
