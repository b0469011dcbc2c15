"""Random convolutional networks: a list of small numbers, read as a program.

Any list is a valid program, so that hypothesis can shrink a failing one freely.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Modules = Sequence[nn.Module]
Step = Callable[[list[Tensor], Modules], Tensor]  # of the values so far, and of the network's own modules
Shape = tuple[int, int, int]  # (C, H, W)
Instruction = tuple[str, int, int, int]


@dataclass
class Builder:
    """Modules and steps so far, and the shape of each value."""

    modules: list[nn.Module] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=lambda: [(3, 6, 8)])

    def source(self, number: int) -> int:
        """One of the last four values."""
        return len(self.shapes) - 1 - number % min(4, len(self.shapes))

    def module(self, module: nn.Module) -> int:
        """Register a module and return its place. Steps hold places, so that a network can be copied."""
        self.modules.append(module)
        return len(self.modules) - 1

    def emit(self, shape: Shape, step: Step) -> None:
        """Append a step and the shape that it gives."""
        self.steps.append(step)
        self.shapes.append(shape)


KINDS: dict[str, Callable[[Builder, int, int, int], None]] = {}


def kind(build: Callable[[Builder, int, int, int], None]) -> Callable[[Builder, int, int, int], None]:
    """Register an instruction, which reads sources i and j and a number n."""
    KINDS[build.__name__] = build
    return build


@kind
def conv(b: Builder, i: int, j: int, n: int) -> None:
    s = b.source(i)
    c, h, w = b.shapes[s]
    groups = 2 if c % 2 == 0 and j % 3 == 2 else 1
    width = (2 + n % 5) * groups
    k = b.module(nn.Conv2d(c, width, 1 + 2 * (j % 2), padding=j % 2, groups=groups, bias=n % 2 == 0))
    b.emit((width, h, w), lambda v, m: m[k](v[s]))


@kind
def depthwise(b: Builder, i: int, j: int, n: int) -> None:
    s = b.source(i)
    c, h, w = b.shapes[s]
    width = c * (1 + n % 2)
    k = b.module(nn.Conv2d(c, width, 3, padding=1, groups=c))
    b.emit((width, h, w), lambda v, m: m[k](v[s]))


@kind
def norm(b: Builder, i: int, j: int, n: int) -> None:
    s = b.source(i)
    c = b.shapes[s][0]
    kinds = [nn.BatchNorm2d(c), nn.InstanceNorm2d(c, affine=True), nn.GroupNorm(1 + (c % 2 == 0), c)]
    k = b.module(kinds[n % 5 % 3])
    b.emit(b.shapes[s], lambda v, m: m[k](v[s]))


@kind
def activation(b: Builder, i: int, j: int, n: int) -> None:
    s = b.source(i)
    f = (F.relu, torch.tanh, F.silu, torch.sigmoid, F.hardswish)[n % 5]
    k = b.module(nn.Sequential(nn.PReLU(b.shapes[s][0]), nn.Dropout(0.2)) if j % 4 == 3 else nn.Identity())
    b.emit(b.shapes[s], lambda v, m: m[k](f(v[s])))


@kind
def pool(b: Builder, i: int, j: int, n: int) -> None:
    s = b.source(i)
    c, h, w = b.shapes[s]
    if min(h, w) < 4:
        return b.emit((c, h, w), lambda v, m: F.avg_pool2d(v[s], 3, 1, 1))
    f = (F.max_pool2d, F.avg_pool2d)[n % 2]
    return b.emit((c, h // 2, w // 2), lambda v, m: f(v[s], 2))


@kind
def upsample(b: Builder, i: int, j: int, n: int) -> None:
    s = b.source(i)
    c, h, w = b.shapes[s]
    if h > 8:
        return b.emit((c, h, w), lambda v, m: v[s].flip(3))
    return b.emit((c, 2 * h, 2 * w), lambda v, m: F.interpolate(v[s], scale_factor=2, mode="nearest"))


def _fitted(b: Builder, s: int, size: tuple[int, int]) -> Callable[[list[Tensor]], Tensor]:
    if b.shapes[s][1:] == size:
        return lambda v: v[s]
    return lambda v: F.interpolate(v[s], size=size)


@kind
def add(b: Builder, i: int, j: int, n: int) -> None:
    s, t = b.source(i), b.source(j)
    c, h, w = b.shapes[s]
    get = _fitted(b, t, (h, w))
    d = b.shapes[t][0]
    k = b.module(nn.Identity() if d == c else nn.Conv2d(d, c, 1))
    b.emit((c, h, w), lambda v, m: v[s] * m[k](get(v)) if n % 3 == 2 else v[s] + m[k](get(v)))


@kind
def cat(b: Builder, i: int, j: int, n: int) -> None:
    s, t = b.source(i), b.source(j)
    c, h, w = b.shapes[s]
    get = _fitted(b, t, (h, w))
    b.emit((c + b.shapes[t][0], h, w), lambda v, m: torch.cat([v[s], get(v)], 1))


@kind
def cut(b: Builder, i: int, j: int, n: int) -> None:
    s = b.source(i)
    c, h, w = b.shapes[s]
    if c < 2:
        return b.emit((c, h, w), lambda v, m: v[s])
    at = 1 + n % (c - 1)
    if j % 3 == 0:
        return b.emit((at, h, w), lambda v, m: v[s][:, :at])
    if j % 3 == 1:
        return b.emit((c, h, w), lambda v, m: torch.cat(v[s].split([at, c - at], 1)[::-1], 1))
    if c % 2 == 0:
        return b.emit((c // 2, h, w), lambda v, m: v[s].chunk(2, 1)[0] * v[s].chunk(2, 1)[1])
    return b.emit((c - at, h, w), lambda v, m: v[s].narrow(1, at, c - at))


@kind
def shuffle(b: Builder, i: int, j: int, n: int) -> None:
    s = b.source(i)
    c, h, w = b.shapes[s]
    g = next((g for g in (3, 2) if c % g == 0), 1)
    b.emit((c, h, w), lambda v, m: v[s].view(-1, g, c // g, h, w).transpose(1, 2).reshape(-1, c, h, w))


@kind
def excite(b: Builder, i: int, j: int, n: int) -> None:
    s = b.source(i)
    c = b.shapes[s][0]
    k = b.module(nn.Sequential(nn.Linear(c, 1 + n % 3), nn.ReLU(), nn.Linear(1 + n % 3, c), nn.Sigmoid()))
    b.emit(b.shapes[s], lambda v, m: v[s] * m[k](v[s].mean((2, 3))).view(-1, c, 1, 1))


@kind
def gate(b: Builder, i: int, j: int, n: int) -> None:
    s = b.source(i)
    k = b.module(nn.Conv2d(b.shapes[s][0], 1, 1))
    mean, largest = n % 3 == 1, n % 3 == 2

    def step(v: list[Tensor], m: Modules) -> Tensor:
        x = v[s]
        score = x.mean(1, keepdim=True) if mean else x.amax(1, keepdim=True) if largest else m[k](x)
        return x * torch.sigmoid(score)

    b.emit(b.shapes[s], step)


@kind
def rows(b: Builder, i: int, j: int, n: int) -> None:
    """To a row of features and back to a map."""
    s = b.source(i)
    c, h, w = b.shapes[s]
    k = b.module(nn.Linear(c * h * w, 4 * (1 + n % 3)))
    flat = (
        lambda x: x.flatten(1),
        lambda x: x.view(-1, c * h * w),
        lambda x: x.permute(0, 2, 3, 1).reshape(3, -1),
    )[j % 3]
    b.emit((1 + n % 3, 2, 2), lambda v, m: m[k](flat(v[s])).view(-1, 1 + n % 3, 2, 2))


@kind
def again(b: Builder, i: int, j: int, n: int) -> None:
    """One layer called two or three times."""
    s = b.source(i)
    c, h, w = b.shapes[s]
    k = b.module(nn.Sequential(nn.Conv2d(c, c, 3, padding=1), nn.Tanh()))

    def loop(v: list[Tensor], m: Modules) -> Tensor:
        x = v[s]
        for _ in range(2 + n % 2):
            x = x + m[k](x) if j % 2 else m[k](x)
        return x

    b.emit((c, h, w), loop)


@kind
def channels_last(b: Builder, i: int, j: int, n: int) -> None:
    s = b.source(i)
    c, h, w = b.shapes[s]
    width = 2 + n % 4
    norm = nn.LayerNorm(c) if j % 2 else nn.Identity()
    k = b.module(nn.Sequential(norm, nn.Linear(c, width), nn.GELU(), nn.Linear(width, c)))
    b.emit((c, h, w), lambda v, m: v[s] + m[k](v[s].permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


class RandomNet(nn.Module):
    """Runs a program on images (N, 3, 6, 8); all values that nothing reads go into the head."""

    def __init__(self, program: list[Instruction]) -> None:
        super().__init__()
        builder = Builder()
        conv(builder, 0, 1, 2)
        for name, i, j, n in program:
            KINDS[name](builder, i, j, n)
        self.body, self.steps = nn.ModuleList(builder.modules), builder.steps
        self.hidden = nn.Conv2d(builder.shapes[-1][0] + builder.shapes[-2][0], 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for step in self.steps:
            values.append(step(values, self.body))
        pooled = [v.mean((2, 3), keepdim=True) for v in values[-2:]]
        return self.head(torch.tanh(self.hidden(torch.cat(pooled, 1))).flatten(1))
