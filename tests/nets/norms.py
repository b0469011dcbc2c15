"""Normalisation layers and normalisation written by hand."""

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from tests.nets.registry import CONV, IMAGE, INPUT, ROWS, TOKENS, Between, add, between, net

BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORM = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}

for _dims in CONV:
    for _affine in (True, False):
        for _track in (True, False):
            _suffix = f"{_dims}d{'' if _affine else '_without_affine'}{'' if _track else '_without_statistics'}"
            _options = {"affine": _affine, "track_running_stats": _track}
            add(
                f"batchnorm{_suffix}",
                lambda d=_dims, o=_options: between(BATCH_NORM[d](6, **o), d),
                INPUT[_dims],
            )
            add(
                f"instancenorm{_suffix}",
                lambda d=_dims, o=_options: between(INSTANCE_NORM[d](6, **o), d),
                INPUT[_dims],
            )


@net(ROWS)
def batchnorm1d_on_rows() -> nn.Module:
    return nn.Sequential(nn.Linear(7, 6, bias=False), nn.BatchNorm1d(6, eps=1e-3), nn.ReLU(), nn.Linear(6, 4))


@net(IMAGE)
def batchnorm_cumulative() -> nn.Module:
    return between(nn.BatchNorm2d(6, momentum=None))


@net(IMAGE)
def batchnorm_on_the_input() -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1))


@net(IMAGE)
def batchnorm_of_a_frozen_model() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1))
    model[1].requires_grad_(False)
    return model


# GroupNorm, LayerNorm, RMSNorm and means over channels stay right under equal replication alone; LayerNorm
# and RMSNorm may have their own rules for other factors.
for _groups, _affine in ((1, True), (2, True), (4, False), (8, True)):
    add(
        f"groupnorm_{_groups}_of_8{'' if _affine else '_without_affine'}",
        lambda groups=_groups, affine=_affine: between(nn.GroupNorm(groups, 8, affine=affine), width=8),
        IMAGE,
        any_factor=False,
    )

for _name, _options in (
    ("", {}),
    ("_without_bias", {"bias": False}),
    ("_without_affine", {"elementwise_affine": False}),
    ("_large_eps", {"eps": 0.5}),
):
    add(
        f"layernorm_on_tokens{_name}",
        lambda o=_options: nn.Sequential(
            nn.Linear(7, 6), nn.LayerNorm(6, **o), nn.GELU(), nn.Linear(6, 4), nn.LayerNorm(4)
        ),
        TOKENS,
        any_factor=False,
    )


@net(IMAGE, any_factor=False)
def layernorm_on_flattened_features() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Flatten(), nn.LayerNorm(6 * 4 * 6), nn.Linear(6 * 4 * 6, 4))


@net(IMAGE, any_factor=False)
def layernorm_on_channels_and_space() -> nn.Module:
    return between(nn.LayerNorm([6, 6, 8]))


@net(IMAGE, grows=("before.weight", "after.weight"))
def layernorm_on_space_alone() -> nn.Module:
    return between(nn.LayerNorm([6, 8]))


@net(TOKENS, any_factor=False)
def rmsnorm() -> nn.Module:
    return nn.Sequential(nn.Linear(7, 6), nn.RMSNorm(6, eps=0.1), nn.GELU(), nn.Linear(6, 4))


class ChannelsFirstLayerNorm(nn.Module):
    """LayerNorm over channels, by hand, as ConvNeXt's first code has it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)
        self.bias = nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        u = x.mean(1, keepdim=True)  # (N, 1, H, W)
        s = (x - u).pow(2).mean(1, keepdim=True)
        x = (x - u) / torch.sqrt(s + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


add("layernorm_by_hand", lambda: between(ChannelsFirstLayerNorm(6)), IMAGE, any_factor=False)


class HandBatchNorm(nn.Module):
    """Batch normalisation in elementary operators, without running statistics."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.rand(1, width, 1, 1) + 0.5)
        self.shift = nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        var, mean = torch.var_mean(x, dim=(0, 2, 3), keepdim=True, unbiased=False)
        return (x - mean) * torch.rsqrt(var + 1e-5) * self.gain + self.shift.view(1, -1, 1, 1)


add("batchnorm_by_hand", lambda: between(HandBatchNorm(6)), IMAGE)


class FrozenBatchNorm(nn.Module):
    """Batch normalisation whose weights are buffers, as detectors have it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.rand(width) + 0.5)
        self.register_buffer("bias", torch.randn(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight.reshape(1, -1, 1, 1) * (self.running_var.reshape(1, -1, 1, 1) + 1e-5).rsqrt()
        return x * scale + (self.bias.reshape(1, -1, 1, 1) - self.running_mean.reshape(1, -1, 1, 1) * scale)


add("batchnorm_as_buffers", lambda: between(FrozenBatchNorm(6)), IMAGE)


class GlobalResponseNorm(nn.Module):
    """ConvNeXt v2: a norm over space, divided by its mean over channels; channels last."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.randn(1, 1, 1, width))
        self.beta = nn.Parameter(torch.randn(1, 1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        gx = torch.norm(x, p=2, dim=(1, 2), keepdim=True)  # (N, 1, 1, C)
        nx = gx / (gx.mean(dim=-1, keepdim=True) + 1e-6)
        return (self.gamma * (x * nx) + self.beta + x).permute(0, 3, 1, 2)


add("global_response_norm", lambda: between(GlobalResponseNorm(6)), IMAGE, any_factor=False)


class LayerScale(nn.Module):
    """x * gamma, one number per channel."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full(shape, 1e-2))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


add("layer_scale", lambda: between(LayerScale(6, 1, 1)), IMAGE)
add(
    "layer_scale_last",
    lambda: Between(LayerScale(6), nn.Linear(7, 6), nn.Linear(6, 4)),
    TOKENS,
)


add("batchnorm_synchronised", lambda: between(nn.SyncBatchNorm(6)), IMAGE)


@net(TOKENS, any_factor=False)
class FunctionalRMSNorm(nn.Module):
    """The normalised shape stands as a number in the call."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.gain = nn.Linear(7, 6), nn.Linear(6, 4), nn.Parameter(torch.rand(6) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.rms_norm(self.a(x), (6,), self.gain, 1e-3))


BY_HAND: dict[str, Callable[[Tensor], Tensor]] = {
    "rsqrt": lambda x: x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-6),
    "power": lambda x: x * ((x**2).mean(1, keepdim=True) - x.mean(1, keepdim=True) ** 2 + 1e-6) ** -0.5,
    "var_mean": lambda x: (x - x.mean(1, True)) / (torch.var_mean(x, 1, unbiased=False, keepdim=True)[0] + 1e-6).sqrt(),
    "channels_last": lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (6,)).permute(0, 3, 1, 2),
}
for _name, _function in BY_HAND.items():
    add(f"norm_by_hand_{_name}", lambda f=_function: between(f), IMAGE, any_factor=False)


# The norm of a row is another one once its entries are split: what goes into a normalised weight stays.
def _weight_norm_by_hook(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch deprecates it, but models use it
        return nn.utils.weight_norm(layer)


for _name, _norm, _parts in (
    ("", parametrizations.weight_norm, ("1.parametrizations.weight.original0", "1.parametrizations.weight.original1")),
    ("_by_hook", _weight_norm_by_hook, ("1.weight_g", "1.weight_v")),
):
    add(
        f"weight_norm{_name}",
        lambda norm=_norm: nn.Sequential(nn.Conv2d(3, 6, 1), norm(nn.Conv2d(6, 5, 3)), nn.Conv2d(5, 4, 1)),
        IMAGE,
        grows=(*_parts, "2.weight"),
    )
    add(
        f"weight_norm_depthwise{_name}",
        lambda norm=_norm: nn.Sequential(nn.Conv2d(3, 6, 1), norm(nn.Conv2d(6, 6, 3, groups=6)), nn.Conv2d(6, 4, 1)),
        IMAGE,
        grows=("0.weight", *_parts, "2.weight"),
    )

# The largest singular value is that of the whole matrix: both its widths stay.
for _name, _norm in (("", parametrizations.spectral_norm), ("_by_hook", nn.utils.spectral_norm)):
    add(
        f"spectral_norm{_name}",
        lambda norm=_norm: nn.Sequential(
            nn.Conv2d(3, 7, 1), nn.Conv2d(7, 6, 1), norm(nn.Conv2d(6, 5, 3)), nn.Conv2d(5, 6, 1), nn.Conv2d(6, 4, 1)
        ),
        IMAGE,
        grows=("0.weight", "3.weight"),
    )
