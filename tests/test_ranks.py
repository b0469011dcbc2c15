"""Inputs with another number of dimensions than the example: the same result, or a refusal.

An image of 3 channels without a batch is taken by the same convolutions. Where its height is the number of channels of
some layer, the teacher takes it even if that layer counts dimensions from the front.
"""

from collections.abc import Callable
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from fxgrow.capture.proxy import form
from tests.check import assert_exact, randomise, relative_error, run
from tests.other_inputs import assert_same_or_refused

SIDE = 6  # of the images, and the number of channels that grows


class Between(nn.Module):
    """A layer or a function between two convolutions."""

    def __init__(self, layer: nn.Module | Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.layer, self.b = nn.Conv2d(3, SIDE, 3, padding=1), layer, nn.Conv2d(SIDE, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.layer(torch.tanh(self.a(x))))


COUNTING: dict[str, Callable[[], nn.Module | Callable[[Tensor], Tensor]]] = {
    "PReLU per channel": lambda: nn.PReLU(SIDE),
    "GroupNorm": lambda: nn.GroupNorm(2, SIDE),
    "GroupNorm with a channel each": lambda: nn.GroupNorm(SIDE, SIDE),
    "SyncBatchNorm": lambda: nn.SyncBatchNorm(SIDE),
    "ChannelShuffle": lambda: nn.ChannelShuffle(2),
    "Softmax": lambda: nn.Softmax(0),
    "LogSoftmax": lambda: nn.LogSoftmax(dim=0),
    "a module of layers that count": lambda: nn.Sequential(nn.ReLU(), nn.Sequential(nn.ChannelShuffle(2))),
    "prelu": lambda: lambda x: F.prelu(x, torch.full((SIDE,), 0.3, dtype=x.dtype)),
    "group_norm": lambda: lambda x: F.group_norm(x, 2),
    "max": lambda: lambda x: x - x.max(0, keepdim=True)[0],
    "amax": lambda: lambda x: x - x.amax(dim=(0,), keepdim=True),
    "mean": lambda: lambda x: x - torch.mean(x, 0, True),
    "softmax": lambda: lambda x: x * x.softmax(0),
    "cumsum": lambda: lambda x: x.cumsum(dim=0),
    "flip": lambda: lambda x: x.flip(0),
    "flip of two": lambda: lambda x: torch.flip(x, [2, 0]),
    "roll": lambda: lambda x: torch.roll(x, 1, 0),
    "sort": lambda: lambda x: x.sort(0)[0],
    "the last": lambda: lambda x: x * x[-1],
    "all but the first": lambda: lambda x: torch.cat([x[1:], x[:1]]),
    "norm": lambda: lambda x: F.normalize(x, dim=0),
    "index_select": lambda: lambda x: x.index_select(0, torch.zeros(1, dtype=torch.int64)),
    "transposed": lambda: lambda x: x + x.transpose(0, 1).roll(1, 1).transpose(0, 1),
    "a row at a time": lambda: lambda x: torch.stack([row * (i + 1) for i, row in enumerate(x)]),
    "channel_shuffle": lambda: lambda x: F.channel_shuffle(x, 2),
}
FREE: dict[str, Callable[[], nn.Module | Callable[[Tensor], Tensor]]] = {
    "activations": lambda: nn.Sequential(nn.GELU(), nn.PReLU(), nn.Dropout(0.0)),
    "pooling": lambda: nn.Sequential(nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(3)),
    "from the back": lambda: lambda x: x - x.mean((-2, -1), keepdim=True) + x.amax(-1, keepdim=True).softmax(-2),
    "InstanceNorm": lambda: nn.InstanceNorm2d(SIDE, affine=True),
    "LayerNorm over an axis": lambda: nn.LayerNorm(SIDE),
    "arithmetic": lambda: lambda x: torch.sigmoid(x) * x + 0 * x.clamp(0, 1),
    "a convolution": lambda: nn.Conv2d(SIDE, SIDE, 3, padding=1, groups=SIDE),
}


def _example() -> Tensor:
    return torch.randn(2, 3, SIDE, SIDE, dtype=torch.float64)


@pytest.mark.parametrize("name", COUNTING)
def test_what_counts_dimensions_from_the_front_gives_the_same_or_is_refused(name: str) -> None:
    torch.manual_seed(0)
    teacher = randomise(Between(COUNTING[name]()).double()).eval()
    student = fxgrow.grow(teacher, 2.0, _example()).eval()
    assert_same_or_refused(teacher, student, (_example(),))
    with pytest.raises(fxgrow.GrowError, match="another path"):
        student(_example()[0])


@pytest.mark.parametrize("name", FREE)
def test_what_does_not_count_dimensions_takes_an_image_without_a_batch(name: str) -> None:
    torch.manual_seed(0)
    teacher = randomise(Between(FREE[name]()).double()).eval()
    student = fxgrow.grow(teacher, 2.0, _example()).eval()
    assert not any(node.target is form for node in student.graph.nodes)
    assert student.get_parameter("a.weight").shape[0] == 2 * SIDE
    for mode in ("eval", "train"):
        image = _example()[0]
        assert relative_error(run(teacher, image, mode), run(student, image, mode)) <= 1e-10


class Untraceable(nn.Module):
    """Code that no graph shows, and that counts dimensions from the front."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            scale = x.amax(0, keepdim=True)
        return x * scale


def test_code_that_stays_a_call_counts_dimensions() -> None:
    torch.manual_seed(0)
    teacher = randomise(Between(Untraceable()).double()).eval()
    traced = fxgrow.trace(teacher, _example())
    assert "layer" in traced.leaf_modules
    student = fxgrow.grow(teacher, 2.0, _example()).eval()
    assert_same_or_refused(teacher, student, (_example(),))


class Grouped(nn.Module):
    """A norm of groups of what is behind the batch, in which the code sees the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.b(nn.functional.group_norm(h, h.shape[1] // 4))


@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_dimension_behind_the_batch_gives_the_same_or_is_refused(output: Literal["graph", "module"]) -> None:
    torch.manual_seed(0)
    teacher, x = randomise(Grouped().double()).eval(), torch.randn(2, 6, dtype=torch.float64)
    student = fxgrow.grow(teacher, 1.5, x, output=output).eval()
    assert student.get_submodule("a").weight.shape[0] == 12
    assert_exact(teacher, student, x, 1e-10)
    for times in (4, 5, 8, 12):
        other = x[:, None].expand(2, times, 6) * torch.linspace(0.5, 1.5, times, dtype=torch.float64).view(1, times, 1)
        assert_same_or_refused(teacher, student, (other,))
