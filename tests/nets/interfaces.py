"""What goes in and comes out: several inputs, numbers, defaults, tuples, dictionaries, dataclasses."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.registry import IMAGE, ROWS, net


class Body(nn.Module):
    """Two layers with a width to grow between, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 5, 1), nn.Conv2d(5, 4, 1)

    def features(self, x: Tensor) -> Tensor:
        return torch.tanh(self.b(torch.tanh(self.a(x))))


@net(IMAGE, ROWS)
class TwoTowers(nn.Module):
    """An image and a table, of other batch sizes, meet in an outer sum."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 1))
        self.table = nn.Sequential(nn.Linear(7, 8), nn.ReLU(), nn.Linear(8, 5))
        self.head = nn.Linear(5, 4)

    def forward(self, image: Tensor, table: Tensor) -> Tensor:
        a = self.image(image).mean((2, 3))  # (N, 5)
        return self.head(torch.tanh(a[:, None] + self.table(table)[None]))  # (N, M, 4)


@net(IMAGE, IMAGE)
class Siamese(nn.Module):
    """One encoder reads both inputs as one batch."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        a, b = self.encoder(torch.cat([x, y])).chunk(2)
        return self.head(torch.cat([a * b, (a - b).abs()], dim=1))


@net(IMAGE, 2)
class RepeatCount(Body):
    """An int says how often a layer is called."""

    def __init__(self) -> None:
        super().__init__()
        self.again = nn.Conv2d(5, 5, 1)

    def forward(self, x: Tensor, times: int, scale: float = 1.0) -> Tensor:
        x = self.features(x)
        for _ in range(2):
            x = torch.tanh(self.again(x)) * scale * times
        return self.c(x)


@net(IMAGE)
class OptionalMask(Body):
    """An argument that is None unless given."""

    def forward(self, x: Tensor, mask: Tensor | None = None, *, shift: float = 0.5) -> Tensor:
        x = self.features(x)
        if mask is not None:
            x = x * mask
        return self.c(x + shift)


@net(IMAGE, lambda g: torch.rand((2, 1, 4, 6), generator=g))
class GivenMask(Body):
    """The same argument, given."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.features(x)
        return self.c(x if mask is None else x * mask)


@net(kwargs={"pixels": IMAGE, "table": (2, 7)})
class KeywordInputs(nn.Module):
    """All inputs by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc, self.head = nn.Conv2d(3, 6, 3), nn.Linear(7, 6), nn.Linear(6, 4)

    def forward(self, *, table: Tensor, pixels: Tensor) -> Tensor:
        return self.head(self.conv(pixels).mean((2, 3)) * torch.sigmoid(self.fc(table)))


@net(IMAGE)
class PairOut(Body):
    """A tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.d = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.tanh(self.a(x))
        return self.d(x), self.c(self.b(x))


@net(IMAGE)
class NestedOut(Body):
    """A dictionary with a list and None inside."""

    def forward(self, x: Tensor) -> dict[str, object]:
        x = self.features(x)
        return {"logits": self.c(x), "all": [self.c(x.sin()), (x.mean(), None)][:1], "size": x.size(2)}


@dataclass
class Detection:
    """What the network below gives back."""

    scores: Tensor
    sizes: Tensor


class Scores(NamedTuple):
    """What the network after it gives back."""

    scores: Tensor
    sizes: Tensor


@net(IMAGE)
class DataclassOut(Body):
    def forward(self, x: Tensor) -> Detection:
        x = self.features(x)
        return Detection(scores=self.c(x), sizes=self.c(x.relu()).exp())


@net(IMAGE)
class NamedTupleOut(Body):
    def forward(self, x: Tensor) -> Scores:
        x = self.features(x)
        return Scores(self.c(x), self.c(x.relu()).exp())


# b's width is an output: it stays. a's is inside.
@net(IMAGE, grows=("a.weight", "b.weight"))
class FeaturesOut(Body):
    """Features are given out besides what is computed from them."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.features(x)
        return x, self.c(x)


@net(lambda g: torch.randint(256, IMAGE, generator=g).to(torch.uint8))
class ByteImages(Body):
    """Integers in, scaled in the forward pass."""

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.features(x.to(self.a.weight.dtype) / 255 - 0.5))


@net(IMAGE, grows=("a.weight", "b.weight", "c.weight"))
class ClassesOut(Body):
    """Integers out."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.c(self.features(x)).mean((2, 3))
        return y.softmax(1), y.argmax(dim=1)


@net(IMAGE)
class SizeDependent(Body):
    """Control flow on shapes; no control flow on values."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 3:
            x = x.unsqueeze(0)
        if x.size(-1) % 4 == 0 and x.shape[2] < 100:
            x = F.pad(x, (0, 1))
        assert x.ndim == 4, "images, please"
        x = self.features(x)
        return self.c(x[..., : x.size(3) // 2])
