"""Operators over space that leave channels alone: padding, interpolation, sampling, rolling."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.registry import CONV, IMAGE, INPUT, add, between, net

for _dims in CONV:
    _sides = (1, 2, 0, 1, 2, 1)[: 2 * _dims]
    for _kind in ("ZeroPad", "ReflectionPad", "ReplicationPad", "CircularPad"):
        add(
            f"{_kind.lower()}{_dims}d",
            lambda kind=f"{_kind}{_dims}d", sides=_sides, d=_dims: between(getattr(nn, kind)(sides), d),
            INPUT[_dims],
        )
    add(
        f"constantpad{_dims}d",
        lambda d=_dims, sides=_sides: between(getattr(nn, f"ConstantPad{d}d")(sides, 0.3), d),
        INPUT[_dims],
    )
    for _mode in ("reflect", "replicate", "circular"):
        add(
            f"conv{_dims}d_padding_{_mode}",
            lambda conv=CONV[_dims], mode=_mode: nn.Sequential(
                conv(3, 6, 3, padding=1, padding_mode=mode),
                nn.Tanh(),
                conv(6, 6, 3, padding=2, padding_mode=mode, groups=6),
                conv(6, 4, 3, padding="same", padding_mode=mode),
            ),
            INPUT[_dims],
        )
    add(
        f"upsample_nearest{_dims}d",
        lambda d=_dims: between(nn.Upsample(scale_factor=2), d),
        INPUT[_dims],
    )
    add(
        f"upsample_linear{_dims}d",
        lambda d=_dims: between(
            nn.Upsample(scale_factor=1.5, mode=("linear", "bilinear", "trilinear")[d - 1], align_corners=True),
            d,
        ),
        INPUT[_dims],
    )

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "pad_zero": lambda x: F.pad(x, (1, 2, 0, 3)),
    "pad_value": lambda x: F.pad(x, (1, 2, 0, 3), value=0.5),
    "pad_reflect": lambda x: F.pad(x, (1, 2, 0, 3), mode="reflect"),
    "pad_replicate": lambda x: F.pad(x, (1, 2, 0, 3), "replicate"),
    "pad_circular": lambda x: F.pad(x, (1, 2, 0, 3), "circular"),
    "crop_by_pad": lambda x: F.pad(x, (-1, -2, -1, 0)),
    "interpolate_scale": lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
    "interpolate_size": lambda x: F.interpolate(x, size=(5, 11), mode="bilinear", align_corners=False),
    "interpolate_own_size": lambda x: F.interpolate(F.max_pool2d(x, 2), size=x.shape[-2:], mode="bilinear"),
    "interpolate_bicubic": lambda x: F.interpolate(x, size=9, mode="bicubic"),
    "interpolate_area": lambda x: F.interpolate(x, size=(3, 3), mode="area"),
    "interpolate_exact": lambda x: F.interpolate(x, scale_factor=(2, 1.5), mode="nearest-exact"),
    "interpolate_antialias": lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True),
    "roll": lambda x: torch.roll(x, (1, -2), dims=(2, 3)),
    "flip": lambda x: x.flip(-1),
    "rot90": lambda x: torch.rot90(x, 1, (2, 3)),
    "transpose_space": lambda x: x.transpose(2, 3).contiguous(),
    "crop": lambda x: x[:, :, 1:-1, ::2],
    "crop_ellipsis": lambda x: x[..., 1:, :-2],
    "narrow_space": lambda x: x.narrow(2, 1, 4),
    "cat_space": lambda x: torch.cat([x, x.neg()], dim=3),
    "split_space": lambda x: torch.cat(x.split([2, 4], dim=2)[::-1], 2),
    "index_select_space": lambda x: x.index_select(3, torch.tensor([1, 0, 5])),
    "repeat_space": lambda x: x.repeat(1, 1, 2, 1),
    "focus": lambda x: x[..., ::2, ::2] + x[..., 1::2, ::2] * x[..., ::2, 1::2] - x[..., 1::2, 1::2],
    "cumsum_space": lambda x: x.cumsum(-1),
    "triu": lambda x: x.triu(),
    "unfold_windows": lambda x: x.unfold(2, 2, 2).unfold(3, 2, 2).amax((-2, -1)),
    "grid_sample": lambda x: F.grid_sample(
        x,
        F.affine_grid(
            torch.tensor([[[0.9, 0.1, 0.0], [-0.1, 0.8, 0.1]]], dtype=x.dtype).expand(x.size(0), 2, 3),
            [x.size(0), 1, 5, 7],
            align_corners=False,
        ),
        align_corners=False,
    ),
}

for _name, _function in FUNCTIONS.items():
    add(f"space_{_name}", lambda f=_function: between(f), IMAGE)
add("upsampling_nearest2d", lambda: between(nn.UpsamplingNearest2d(size=(9, 7))), IMAGE)
add("upsampling_bilinear2d", lambda: between(nn.UpsamplingBilinear2d(scale_factor=2)), IMAGE)


@net(IMAGE)
class UnfoldedConvolution(nn.Module):
    """A convolution as unfold and one matrix product: channels and kernel in one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 5, 1)
        self.unfold = nn.Unfold(3, padding=1)
        self.b = nn.Linear(5 * 9, 6)
        self.c = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        patches = self.unfold(torch.tanh(self.a(x)))  # (N, 5*9, H*W)
        x = self.b(patches.transpose(1, 2)).transpose(1, 2)
        return self.c(torch.tanh(x.reshape(n, -1, h, w)))


@net(IMAGE)
class BlurPool(nn.Module):
    """A fixed kernel in a buffer, expanded to all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3)
        self.b = nn.Conv2d(6, 4, 1)
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", (row[:, None] * row).repeat(6, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(self.a(x), (1, 1, 1, 1), mode="reflect")
        return self.b(F.conv2d(x, self.kernel, stride=2, groups=x.shape[1]))


@net(IMAGE)
class BlurPoolExpanded(nn.Module):
    """The same with one kernel, expanded in the forward pass to as many channels as come."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3)
        self.b = nn.Conv2d(6, 4, 1)
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", (row[:, None] * row)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.a(x))
        kernel = self.kernel.expand(x.size(1), -1, -1, -1)
        return self.b(F.conv2d(x, kernel, padding=1, groups=x.size(1)))


@net(IMAGE)
class GlobalFilter(nn.Module):
    """GFNet: a learned filter in the frequency domain, one per channel, its complex numbers as pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1)
        self.filter = nn.Parameter(torch.randn(6, 6, 5, 2))  # (C, H, W // 2 + 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.fft.rfft2(torch.tanh(self.a(x)), norm="ortho") * torch.view_as_complex(self.filter)
        return self.b(torch.fft.irfft2(x, s=(6, 8), norm="ortho"))


@net(IMAGE)
class SpatialTransformer(nn.Module):
    """The map decides by which affine map it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.where = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.a(x))
        grid = F.affine_grid(self.where(x.mean((2, 3))).view(-1, 2, 3), x.size(), align_corners=False)
        return self.b(F.grid_sample(x, grid, align_corners=False))
