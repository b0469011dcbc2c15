"""Networks, and how they are sharded, for the tests of growth shard by shard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from tests.decoders import Config, Decoder

IDS = torch.arange(24).view(2, 12) % 32
IMAGES = torch.linspace(-1, 1, 384).sin().view(2, 3, 8, 8)  # the same in each process
FIVE = torch.cat([IMAGES, IMAGES[:, :2]], 1)
ROWS, EIGHT = torch.linspace(-1, 1, 14).cos().view(2, 7), torch.linspace(-1, 1, 16).cos().view(2, 8)


class Odd(nn.Module):
    """Convolutions, norms with buffers, sizes that no number of processes divides, and two rows at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.body, self.up = nn.Conv2d(5, 7, 3, bias=False), nn.ConvTranspose2d(7, 6, 2)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        return self.head(torch.relu(self.up(torch.relu(self.body(x)))).mean((2, 3)))


class Tied(nn.Module):
    """An output layer that is the embedding, learned positions, and a scale that does not grow."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.positions = nn.Embedding(19, 10), nn.Parameter(torch.randn(12, 10))
        self.inner, self.outer = nn.Linear(10, 13), nn.Linear(13, 10)
        self.norm, self.head = nn.LayerNorm(10), nn.Linear(10, 19, bias=False)
        self.scale = nn.Parameter(torch.ones(1))
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids % 19) + self.positions
        x = x + self.outer(torch.relu(self.inner(x)))
        return self.scale * self.head(self.norm(x))


class Inner(nn.Module):
    """A block whose own code calls its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(9, 11), nn.Linear(11, 9)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x)))


class Nested(nn.Module):
    """New layers become entries of its Sequential, and a graph in the place of its block."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(7, 9), nn.BatchNorm1d(9), nn.ReLU())
        self.inner, self.head = Inner(), nn.Linear(9, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(self.body(x)))


class Down(nn.Module):
    """A residual block that down-samples, so that its clone has another shortcut and another first weight."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(5, 7, 3, 2, 1), nn.Conv2d(7, 7, 3, padding=1)
        self.shortcut: Any = nn.Conv2d(5, 7, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(torch.relu(self.conv1(x)))
        return y + (x if self.shortcut is None else self.shortcut(x))


class Staged(nn.Module):
    """A stage of one block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stage, self.head = nn.Conv2d(3, 5, 3), nn.Sequential(Down()), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stage(self.stem(x)).mean((2, 3)))


def _ended() -> nn.Module:
    """Outputs that are batch-normed."""
    return nn.Sequential(nn.Linear(7, 9), nn.ReLU(), nn.Linear(9, 5), nn.BatchNorm1d(5))


def _transposed() -> nn.Module:
    """Outputs that are columns of a weight."""
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.ConvTranspose2d(5, 4, 2))


class Stream(nn.Module):
    """A residual stream, and the layers behind its norms that read it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(19, width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 11), nn.Linear(11, width)
        self.last, self.head = nn.LayerNorm(width), nn.Linear(width, 6)
        for norm in (self.norm, self.last):
            nn.init.uniform_(norm.weight, 0.5, 1.5)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids % 19)
        x = x + self.down(torch.relu(self.up(self.norm(x))))
        return self.head(self.last(x))


class Standardised(nn.Module):
    """A convolution whose rows are standardised."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up, self.head = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 7, 3), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.up.weight
        weight = (weight - weight.mean((1, 2, 3), keepdim=True)) / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return self.head(torch.relu(F.conv2d(torch.relu(self.stem(x)), weight, self.up.bias)).mean((2, 3)))


@dataclass(frozen=True)
class Case:
    """A network and what it is to become.

    Attributes:
        make: Makes it.
        example: Its inputs.
        spec: The specification.
        units: The paths of the modules that `fully_shard` is given, before the network itself.
        options: Of `fully_shard`.
        larger: The student's inputs, where they are others.
    """

    make: Callable[[], nn.Module]
    example: Tensor
    spec: Any
    units: tuple[str, ...] = ()
    options: Callable[[nn.Module], dict[str, Any]] = lambda model: {}
    larger: Tensor | None = None


def _second_dim(model: nn.Module) -> dict[str, Any]:
    from torch.distributed.tensor import Shard

    outer: Any = model.get_submodule("outer")
    return {"shard_placement_fn": lambda parameter: Shard(1) if parameter is outer.weight else None}


def _not_the_scale(model: nn.Module) -> dict[str, Any]:
    scale: Any = model.scale
    return {"ignored_params": {scale}, "reshard_after_forward": False}


def _columns(model: nn.Module) -> dict[str, Any]:
    from torch.distributed.tensor import Shard

    return {"shard_placement_fn": lambda parameter: Shard(parameter.ndim - 1)}


def _columns_of_up(model: nn.Module) -> dict[str, Any]:
    from torch.distributed.tensor import Shard

    up: Any = model.get_submodule("up")
    return {"shard_placement_fn": lambda parameter: Shard(1) if parameter is up.weight else None}


def _by_fours() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 12, bias=False), nn.Tanh(), nn.Linear(12, 8, bias=False))


def _even() -> nn.Module:
    model = Tied()
    model.inner, model.outer = nn.Linear(10, 12), nn.Linear(12, 10)
    return model


BLOCKS = tuple(f"layers.{number}" for number in range(3))
CASES = {
    "decoder": Case(lambda: Decoder(Config()), IDS, [1.5, fxgrow.Deepen("layers.1", blocks=2)], BLOCKS),
    "odd sizes": Case(Odd, IMAGES, [1.7, fxgrow.Kernel("stem", 5)], ("body",)),
    "new layers": Case(Nested, ROWS, [1.4, fxgrow.Deepen("body.0"), fxgrow.Deepen("inner.first")], ("inner",)),
    "stage of one block": Case(
        Staged, IMAGES, [1.5, fxgrow.Deepen("stage", blocks=2)], ("stage.0.shortcut", "stage.0")
    ),
    "tied": Case(Tied, IDS, 1.6, ("inner",)),
    "left out": Case(Tied, IDS, {"inner": 17}, (), _not_the_scale),
    "columns": Case(_even, IDS, {"inner": 16}, (), _second_dim),
}

NEW = ("zero", "mean", "random")
WHOLE = {  # those whose new entries depend on all of a teacher's tensor
    **{f"{new} rows": Case(_ended, ROWS, [1.4, fxgrow.Outputs(8, new=new)], ("2",)) for new in NEW},
    **{f"{new} columns": Case(_transposed, IMAGES, [1.4, fxgrow.Outputs(7, new=new)]) for new in NEW},
    **{
        f"{new} rows by columns": Case(_by_fours, EIGHT, [2.0, fxgrow.Outputs(13, new=new)], (), _columns)
        for new in NEW
    },
    "inputs": Case(Odd, IMAGES, [1.4, fxgrow.Inputs("x", 5)], ("body",), larger=FIVE),
    "means": Case(lambda: Stream(10), IDS, fxgrow.Widen("embed", 17, indivisible="average"), ("up",)),
    "copies and means": Case(lambda: Stream(5), IDS, [{"up": 17}, fxgrow.Widen("embed", 13, indivisible="average")]),
    "means in columns": Case(
        lambda: Stream(12), IDS, fxgrow.Widen("embed", 20, indivisible="average"), (), _columns_of_up
    ),
    "standardised rows": Case(Standardised, IMAGES, 1.5),
    "rows that stay by columns": Case(Standardised, IMAGES, {"up": 11}, (), _columns_of_up),
}
ALL = {**CASES, **WHOLE}
