"""Tied parameters, modules called several times, weights in two roles."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.registry import IMAGE, ROWS, net, param


@net(IMAGE)
class TiedConvolutions(nn.Module):
    """Two layers, one weight, own biases."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 4, 1)
        self.a, self.b = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.stem(x))
        return self.head(torch.tanh(self.b(torch.tanh(self.a(x)))))


@net(IMAGE)
class TiedSideBySide(nn.Module):
    """Two branches of other dilation, one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 1), nn.Conv2d(10, 4, 1)
        self.a, self.b = nn.Conv2d(6, 5, 3, padding=1), nn.Conv2d(6, 5, 3, padding=2, dilation=2)
        self.b.weight, self.b.bias = self.a.weight, self.a.bias

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.stem(x))
        return self.head(torch.tanh(torch.cat([self.a(x), self.b(x)], 1)))


@net(IMAGE)
class TiedNorms(nn.Module):
    """One affine and one set of statistics in two batch norms; one slope for two activations."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 4, 1)
        self.bn1, self.bn2 = nn.BatchNorm2d(6), nn.BatchNorm2d(6)
        self.bn2.weight, self.bn2.bias = self.bn1.weight, self.bn1.bias
        self.act1, self.act2 = nn.PReLU(6), nn.PReLU(6)
        self.act2.weight = self.act1.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.a(x)))
        return self.c(self.act2(self.bn2(self.b(x))))


@net(IMAGE)
class SharedModule(nn.Module):
    """One module under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1)
        self.first = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Tanh())
        self.second = self.first

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(self.stem(x))))


@net(IMAGE)
class ResidualLoop(nn.Module):
    """One convolution, called three times."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1)
        self.conv, self.bn = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(3):
            x = x + torch.relu(self.bn(self.conv(x)))
        return self.head(x)


@net(IMAGE)
class CalledOnTwoInputs(nn.Module):
    """One convolution reads two different activations; its outputs are added."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 6, 3, padding=1)
        self.shared, self.head = nn.Conv2d(6, 5, 3), nn.Conv2d(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.shared(self.a(x).tanh()) + self.shared(self.b(x).sigmoid())))


@net(IMAGE)
class SharedHead(nn.Module):
    """A detector's head, called on each level of a pyramid."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.la, self.lb = nn.Conv2d(6, 5, 1), nn.Conv2d(8, 5, 1)
        self.head = nn.Sequential(nn.Conv2d(5, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 4, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        p1 = torch.relu(self.a(x))
        p2 = torch.relu(self.b(p1))
        top = self.lb(p2)
        side = self.la(p1) + F.interpolate(top, size=p1.shape[-2:])
        return [self.head(level) for level in (side, top)]


# w's rows are produced by the first product and contracted by the second: no entry can be both copied
# and split, so w stays.
@net(ROWS, grows=("pre.0.weight", "pre.2.weight", "dec.weight", "out.weight"))
class TiedAutoencoder(nn.Module):
    """An autoencoder with one weight, as W and as its transpose."""

    def __init__(self) -> None:
        super().__init__()
        self.pre = nn.Sequential(nn.Linear(7, 9), nn.Tanh(), nn.Linear(9, 12))
        self.w, self.b = param(5, 12), param(5)
        self.dec, self.out = nn.Linear(12, 8), nn.Linear(8, 7)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(F.linear(self.pre(x), self.w, self.b))
        return self.out(torch.tanh(self.dec(h @ self.w)))


# The table's features are copied by the look-up and contracted by the classifier: they stay.
@net(
    lambda g: torch.randint(10, (2, 5), generator=g),
    grows=("mlp.0.weight", "mlp.2.weight"),
)
class TiedEmbedding(nn.Module):
    """A language model's classifier is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 6)
        self.mlp = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 6))
        self.classifier = nn.Linear(6, 10, bias=False)
        self.classifier.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x)
        return self.classifier(x + self.mlp(x))


@net(ROWS)
class RecurrentCell(nn.Module):
    """An Elman network, unrolled over features; its state begins at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.outside, self.head = nn.Linear(1, 6), nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.tanh(self.inside(x[:, :1]))
        for i in range(1, 4):
            state = torch.tanh(self.inside(x[:, i : i + 1]) + self.outside(state))
        return self.head(state)


@net(IMAGE, grows=("a.weight", "b.weight", "c.weight"))
class UnusedParts(nn.Module):
    """A layer that is never called, and a parameter that is never read."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 5, 1), nn.Conv2d(5, 4, 1)
        self.unused = nn.Conv2d(6, 5, 1)
        self.spare = nn.Parameter(torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        unread = self.b(torch.relu(self.a(x)))  # noqa: F841 (dead code on purpose)
        return self.c(torch.tanh(self.b(torch.relu(self.a(x)))))
