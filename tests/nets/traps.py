"""Networks that are easily grown wrong: weights that are not used linearly, widths used as numbers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.registry import IMAGE, ROWS, add, net, param


class StandardisedConv(nn.Conv2d):
    """Weight standardisation: mean and deviation over a row see how its entries were split."""

    def forward(self, x: Tensor) -> Tensor:
        var, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True)
        return F.conv2d(x, (self.weight - mean) / (var + 1e-5).sqrt(), self.bias, self.stride, self.padding)


class NormalisedWeightConv(nn.Conv2d):
    """The same as a batch norm of the weight, as ResNetV2 and NFNet have it."""

    def forward(self, x: Tensor) -> Tensor:
        rows = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(rows, None, None, training=True, momentum=0.0, eps=1e-6).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


@net(IMAGE, grows=("0.weight", "2.weight"))
def batch_normalised_weights() -> nn.Module:
    return nn.Sequential(
        NormalisedWeightConv(3, 6, 3), nn.Tanh(), nn.Conv2d(6, 5, 1), nn.Tanh(), NormalisedWeightConv(5, 4, 1)
    )


# Rows may be copied, columns not split.
@net(IMAGE, grows=("0.weight", "2.weight"))
def standardised_weights() -> nn.Module:
    return nn.Sequential(StandardisedConv(3, 6, 3), nn.Tanh(), nn.Conv2d(6, 5, 1), nn.Tanh(), StandardisedConv(5, 4, 1))


@net(ROWS, grows=("a", "b"))
class NonlinearWeight(nn.Module):
    """tanh(w), |w| and w² are not split by splitting w."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d, self.e = (
            param(8, 7),
            param(6, 8),
            param(5, 6),
            param(5, 5),
            param(4, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(F.linear(torch.tanh(F.linear(x, self.a)), self.b))
        x = torch.tanh(F.linear(x, torch.tanh(self.c)))
        return F.linear(torch.tanh(F.linear(x, self.d.abs())), self.e**2)


@net(ROWS, grows=("a.weight", "b.weight"))
class LowRankUpdate(nn.Module):
    """LoRA: w + up @ down."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(7, 6), nn.Linear(6, 5)
        self.w, self.up, self.down = param(4, 5), param(4, 2), param(2, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.b(torch.tanh(self.a(x))))
        return F.linear(x, self.w + 0.5 * self.up @ self.down)


@net(ROWS, grows=("a.weight", "b.weight"))
class MaskedWeight(nn.Module):
    """A pruned layer: only one of weight and mask may be split."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.w = nn.Linear(7, 6), nn.Linear(6, 5), param(4, 5)
        self.register_buffer("mask", (torch.rand(4, 5) > 0.4).to(torch.get_default_dtype()))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.tanh(self.b(torch.tanh(self.a(x)))), self.w * self.mask)


@net(ROWS, grows=("a.weight", "b.weight"))
class WeightPenalty(nn.Module):
    """The squared weight is given out beside the result."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(7, 6), nn.Linear(6, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.c(torch.tanh(self.b(torch.tanh(self.a(x))))), self.c.weight.square().sum()


# The width as a number: what it scales is right at the old width alone, so that width stays or the
# number is kept.
class WidthAsNumber(nn.Module):
    """A function of the activations and of their number of channels."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 6, 1), nn.Conv2d(6, 4, 1)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(torch.tanh(self.a(x)))
        if self.kind == "scale":
            x = x * x.size(1) ** -0.5
        elif self.kind == "mean":
            x = x + x.sum(dim=1, keepdim=True) / x.shape[1]
        elif self.kind == "numel":
            x = x / x.numel()
        elif self.kind == "branch":
            x = x.tanh() if x.size(1) == 6 else x.exp()
        elif self.kind == "position":
            x = x + torch.arange(x.size(1), dtype=x.dtype)[:, None, None]
        elif self.kind == "ones":
            x = x + torch.ones(x.size(1), dtype=x.dtype).cumsum(0).view(-1, 1, 1)
        elif self.kind == "attribute":
            x = x / self.b.out_channels
        elif self.kind == "last_index":
            x = x + x[:, -1:] * x[:, x.size(1) // 2 :][:, :1]
        elif self.kind == "loop":
            x = torch.stack([x[:, i] * (i + 1) for i in range(x.size(1))], 1)
        elif self.kind == "whole_mean":
            x = x - x.mean()
        elif self.kind == "whole_norm":
            x = x / x.norm()
        return self.c(x)


for _kind in (
    "scale",
    "mean",
    "numel",
    "branch",
    "position",
    "ones",
    "attribute",
    "last_index",
    "loop",
    "whole_mean",
    "whole_norm",
):
    add(
        f"width_as_number_{_kind}",
        lambda kind=_kind: WidthAsNumber(kind),
        IMAGE,
        grows=("a.weight", "b.weight"),
    )


@net(IMAGE)
class ConstantChannels(nn.Module):
    """Zeros and ones made from the width: right at every width."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.a(x))
        state = torch.zeros_like(x) + x.new_zeros(x.shape) + torch.ones(x.size(), dtype=x.dtype)
        return self.c(torch.tanh(self.b(x)) + state)


@net(IMAGE)
class InstanceTest(nn.Module):
    """A skip that plain symbolic tracing loses without an error."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        y = torch.tanh(self.b(x))
        if isinstance(x, Tensor):
            y = y + x
        return self.c(y)


@net(IMAGE)
class WrittenInPlace(nn.Module):
    """Slices of an activation are overwritten."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 5, 1), nn.Conv2d(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(torch.tanh(self.a(x)))
        x[:, :, 1:3] = 0.5
        x[..., 0] = x[..., 1] * 2
        x[x > 1] = 1.0
        return self.c(x)


# A slice of channels is overwritten: b's width may stay.
@net(IMAGE, grows=("a.weight", "b.weight"))
class ChannelsWrittenInPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 5, 1), nn.Conv2d(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(torch.tanh(self.a(x)))
        x[:, 1:3] = x[:, :2].relu()
        return self.c(x)


@net(IMAGE)
class ViewWrittenInPlace(nn.Module):
    """An activation is changed through a view of it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).clone()
        x.flatten(2).mul_(0.5)
        x.select(3, 0).zero_()
        return self.b(x)


# The same weight as a layer and as a plain matrix, both on the contracting side; and its bias in two roles.
@net(ROWS, grows=("a.weight",))
class ReadTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(7, 6), nn.Linear(6, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.a(x))
        y = torch.tanh(self.b(h)) + h @ self.b.weight.t()
        return self.c(y) + (y * self.b.bias).sum(1, keepdim=True)


# A number out of the weights scales the activations: the weight it reads stays.
@net(ROWS, grows=("a.weight", "b.weight"))
class WeightDecidesScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(7, 6), nn.Linear(6, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.b(torch.tanh(self.a(x))))
        return self.c(y) / self.c.weight.norm()


add(
    "output_of_lonely_batchnorm",
    lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4)),
    IMAGE,
    grows=("0.weight", "2.weight"),
)
