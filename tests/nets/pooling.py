"""Pooling over space, in one, two and three dimensions."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.registry import CONV, IMAGE, INPUT, add, between, net

MODULES: dict[str, Callable[[int], nn.Module]] = {
    "max_pool": lambda d: getattr(nn, f"MaxPool{d}d")(3, stride=2, padding=1),
    "max_pool_ceil": lambda d: getattr(nn, f"MaxPool{d}d")(2, stride=2, dilation=2, ceil_mode=True),
    "avg_pool": lambda d: getattr(nn, f"AvgPool{d}d")(3, stride=2, padding=1),
    "avg_pool_ceil": lambda d: getattr(nn, f"AvgPool{d}d")(
        3, stride=2, padding=1, ceil_mode=True, count_include_pad=False
    ),
    "adaptive_avg_pool": lambda d: getattr(nn, f"AdaptiveAvgPool{d}d")(3),
    "adaptive_avg_pool_1": lambda d: getattr(nn, f"AdaptiveAvgPool{d}d")(1),
    "adaptive_max_pool": lambda d: getattr(nn, f"AdaptiveMaxPool{d}d")(3),
    "adaptive_max_pool_1": lambda d: getattr(nn, f"AdaptiveMaxPool{d}d")(1),
}
FUNCTIONS: dict[str, Callable[[int], Callable[[Tensor], Tensor]]] = {
    "max_pool": lambda d: lambda x: getattr(F, f"max_pool{d}d")(x, 2),
    "avg_pool": lambda d: lambda x: getattr(F, f"avg_pool{d}d")(x, 2),
    "adaptive_avg_pool": lambda d: lambda x: getattr(F, f"adaptive_avg_pool{d}d")(x, 2),
    "adaptive_max_pool": lambda d: lambda x: getattr(F, f"adaptive_max_pool{d}d")(x, 2),
    "max_pool_indices_unused": lambda d: lambda x: getattr(F, f"max_pool{d}d")(x, 2, return_indices=True)[0],
}

for _dims in CONV:
    for _name, _module in MODULES.items():
        add(f"module_{_name}{_dims}d", lambda make=_module, d=_dims: between(make(d), d), INPUT[_dims])
    for _name, _function in FUNCTIONS.items():
        add(f"functional_{_name}{_dims}d", lambda f=_function, d=_dims: between(f(d), d), INPUT[_dims])


class Power(nn.Module):
    """Power-mean pooling of what is positive, so that the root has a slope."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(F.softplus(x))


add("module_lp_pool1d", lambda: between(Power(nn.LPPool1d(2, 3)), 1), INPUT[1])
add("module_lp_pool2d", lambda: between(Power(nn.LPPool2d(3, 2)), 2), INPUT[2])
add("module_lp_pool3d", lambda: between(Power(nn.LPPool3d(2, 2)), 3), INPUT[3])
add("functional_lp_pool2d", lambda: between(lambda x: F.lp_pool2d(F.softplus(x), 2.0, (2, 3))), IMAGE)


class TakeFirst(nn.Module):
    """The first output of a module."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x)[0]


add(
    "module_max_pool_indices_unused",
    lambda: between(TakeFirst(nn.MaxPool2d(2, return_indices=True))),
    IMAGE,
)
add(
    "module_adaptive_max_pool_indices_unused",
    lambda: between(TakeFirst(nn.AdaptiveMaxPool2d((2, 3), return_indices=True))),
    IMAGE,
)

GLOBAL: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.mean((2, 3)),
    "mean_keepdim": lambda x: torch.mean(x, dim=[-2, -1], keepdim=True).flatten(1),
    "mean_twice": lambda x: x.mean(3).mean(2),
    "mean_of_flattened": lambda x: x.flatten(2).mean(-1),
    "mean_of_view": lambda x: x.view(x.size(0), x.size(1), -1).mean(dim=2),
    "sum": lambda x: x.sum(dim=(2, 3)),
    "amax": lambda x: x.amax((2, 3)),
    "max_twice": lambda x: x.max(dim=3)[0].max(dim=2).values,
    "std": lambda x: x.std((2, 3)),
    "var": lambda x: x.var(dim=(2, 3), unbiased=False),
    "logsumexp": lambda x: torch.logsumexp(x, dim=(2, 3)),
    "norm": lambda x: torch.linalg.vector_norm(x, dim=(2, 3)),
    "norm_p": lambda x: x.norm(p=2, dim=(2, 3)),
    "median": lambda x: x.flatten(2).median(dim=-1).values,
    "sorted": lambda x: x.flatten(2).sort(dim=-1).values[..., :5].mean(-1),
    "top": lambda x: x.flatten(2).topk(5, dim=2)[0].sum(-1),
    "cumulated": lambda x: x.cumsum(2)[:, :, -1, :].mean(-1),
    "squeeze": lambda x: F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1),
    "squeeze_all": lambda x: F.adaptive_max_pool2d(x, (1, 1)).squeeze(),
    "index": lambda x: F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0],
    "corner": lambda x: x[..., 0, -1],
    "kernel_of_size": lambda x: F.avg_pool2d(x, x.size()[2:]).view(x.size(0), -1),
    "average_and_max": lambda x: 0.5 * (x.mean((2, 3)) + x.amax((2, 3))),
    "average_and_max_joined": lambda x: torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)[:, :6],
}


class Head(nn.Module):
    """conv -> function to (N, C) -> linear."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(3, 6, 3)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.function(torch.tanh(self.conv(x))))


for _name, _function in GLOBAL.items():
    add(f"global_{_name}", lambda f=_function: Head(f), IMAGE)


@net(IMAGE)
class GeneralisedMean(nn.Module):
    """GeM pooling with a learned exponent."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.p = nn.Parameter(torch.tensor([3.0]))
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).clamp(min=1e-2).pow(self.p)
        return self.fc(F.avg_pool2d(x, (x.size(-2), x.size(-1))).pow(1.0 / self.p).flatten(1))


@net(IMAGE)
class PyramidPooling(nn.Module):
    """Several bins, flattened and joined."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.fc = nn.Linear(5 * (1 + 4 + 6), 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.conv(x))
        bins = [F.adaptive_avg_pool2d(x, size).flatten(1) for size in (1, 2, (2, 3))]
        return self.fc(torch.cat(bins, dim=1))


@net(IMAGE)
class Unpooling(nn.Module):
    """SegNet: max pooling, then unpooling to where the maxima were."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 1)
        self.conv = nn.Conv2d(5, 6, 3, padding=1)
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2)
        self.head = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x, where = self.pool(self.conv(torch.tanh(self.stem(x))))
        return self.head(self.unpool(x.tanh(), where))


@net(IMAGE)
class FractionalPooling(nn.Module):
    """The random regions are one set per channel, kept as a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 1)
        self.conv = nn.Conv2d(5, 6, 3, padding=1)
        self.pool = nn.FractionalMaxPool2d(2, output_size=(3, 4), _random_samples=torch.rand(2, 6, 2))
        self.head = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.conv(torch.tanh(self.stem(x)))))
