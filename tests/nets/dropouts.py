"""What differs between train and eval: dropout, stochastic depth, auxiliary heads."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.registry import IMAGE, INPUT, add, between, net

MODULES: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "dropout": (2, lambda: nn.Dropout(0.4)),
    "dropout_inplace": (2, lambda: nn.Dropout(0.4, inplace=True)),
    "dropout1d": (1, lambda: nn.Dropout1d(0.4)),
    "dropout2d": (2, lambda: nn.Dropout2d(0.4)),
    "dropout3d": (3, lambda: nn.Dropout3d(0.4)),
    "alpha_dropout": (2, lambda: nn.AlphaDropout(0.4)),
    "feature_alpha_dropout": (2, lambda: nn.FeatureAlphaDropout(0.4)),
}
FUNCTIONS: dict[str, tuple[int, Callable[..., Tensor]]] = {
    "dropout": (2, F.dropout),
    "dropout1d": (1, F.dropout1d),
    "dropout2d": (2, F.dropout2d),
    "dropout3d": (3, F.dropout3d),
    "alpha_dropout": (2, F.alpha_dropout),
    "feature_alpha_dropout": (2, F.feature_alpha_dropout),
}


class FunctionalDropout(nn.Module):
    """A functional dropout that follows the module's mode."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, 0.4, training=self.training)


for _name, (_dims, _module) in MODULES.items():
    add(f"module_{_name}", lambda make=_module, dims=_dims: between(make(), dims), INPUT[_dims])
for _name, (_dims, _function) in FUNCTIONS.items():
    add(
        f"functional_{_name}",
        lambda f=_function, dims=_dims: between(FunctionalDropout(f), dims),
        INPUT[_dims],
    )


@net(IMAGE)
class FunctionalDropoutTwice(nn.Module):
    """Two functional dropouts with other rates, and one that is always off."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3)
        self.b = nn.Conv2d(6, 5, 1)
        self.c = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout2d(F.relu(self.a(x)), p=0.2, training=self.training)
        x = F.dropout(F.relu(self.b(x)), p=0.5, training=self.training, inplace=True)
        return self.c(F.dropout(x.mean((2, 3)), 0.3, training=False))


@net(IMAGE)
class StochasticDepth(nn.Module):
    """Residual branches dropped by hand, each drawn for the whole batch or for each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.one = nn.Conv2d(6, 6, 3, padding=1)
        self.two = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Conv2d(6, 4, 1)

    def drop(self, x: Tensor, keep: float) -> Tensor:
        if self.training:
            mask = torch.bernoulli(torch.full((x.shape[0], 1, 1, 1), keep, dtype=x.dtype, device=x.device))
            x = x / keep * mask
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.drop(torch.tanh(self.one(x)), 0.8)
        if self.training:
            x = x + torch.tanh(self.two(x)) * x.new_empty((x.size(0), 1, 1, 1)).bernoulli_(0.6).div_(0.6)
        else:
            x = x + torch.tanh(self.two(x))
        return self.head(x)


@net(IMAGE)
class ScaledByMode(nn.Module):
    """A branch that train and eval weigh differently."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3)
        self.b = nn.Conv2d(6, 6, 1)
        self.c = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.c(x + (self.b(x) if self.training else 0.5 * self.b(x)).tanh())


@net(IMAGE)
class AuxiliaryHead(nn.Module):
    """A second output in train mode alone."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3)
        self.bn = nn.BatchNorm2d(6)
        self.b = nn.Conv2d(6, 8, 3)
        self.aux = nn.Sequential(nn.Conv2d(6, 5, 1), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 4 * 6, 4))
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = F.relu(self.bn(self.a(x)))
        y = self.fc(F.relu(self.b(x)).mean((2, 3)))
        if self.training:
            return y, self.aux(x)
        return y
