"""Channels cut, joined, interleaved and compared."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.registry import CONV, IMAGE, TOKENS, Between, add, between, net

# From 8 channels to 8: cut in halves and joined again, in every way that Python has.
HALVES: dict[str, Callable[[Tensor], Tensor]] = {
    "chunk": lambda x: torch.cat(x.chunk(2, dim=1)[::-1], 1),
    "chunk_negative_dim": lambda x: torch.cat(torch.chunk(x, 2, -3)[::-1], -3),
    "split_size": lambda x: torch.cat(x.split(4, dim=1)[::-1], 1),
    "split_sizes": lambda x: torch.cat(torch.split(x, [4, 4], dim=1)[::-1], 1),
    "split_from_shape": lambda x: torch.cat(x.split(x.size(1) // 2, 1)[::-1], 1),
    "tensor_split": lambda x: torch.cat(x.tensor_split(2, dim=1)[::-1], 1),
    "slices": lambda x: torch.cat([x[:, 4:], x[:, :4]], 1),
    "slices_from_shape": lambda x: torch.cat([x[:, x.shape[1] // 2 :], x[:, : x.shape[1] // 2]], dim=1),
    "slices_ellipsis": lambda x: torch.cat([x[..., -4:, :, :], x[..., :-4, :, :]], 1),
    "narrow": lambda x: torch.cat([x.narrow(1, 4, 4), torch.narrow(x, 1, 0, 4)], 1),
    "view_then_flip": lambda x: x.view(x.size(0), 2, -1, 6, 8).flip(1).flatten(1, 2),
    "unbind": lambda x: torch.cat(x.unflatten(1, (2, -1)).unbind(1)[::-1], 1),
    "stack": lambda x: torch.stack(x.chunk(2, 1)[::-1], 1).flatten(1, 2),
    "hsplit": lambda x: torch.cat(torch.hsplit(x, 2)[::-1], 1),
    "concatenate": lambda x: torch.concatenate([x[:, 4:], x[:, :4]], axis=1),
}
for _name, _function in HALVES.items():
    add(f"halves_by_{_name}", lambda f=_function: between(f, width=8), IMAGE)


# Uneven cuts.
UNEVEN: dict[str, Callable[[Tensor], Tensor]] = {
    "split": lambda x: torch.cat(x.split([3, 1, 5], 1)[::-1], 1),
    "slices": lambda x: torch.cat([x[:, 6:], x[:, :2].relu(), x[:, 2:6]], 1),
    "split_remainder": lambda x: torch.cat(x.split(4, 1)[::-1], 1),
    "chunk_remainder": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
}
for _name, _function in UNEVEN.items():
    add(f"uneven_cut_by_{_name}", lambda f=_function: between(f, width=9), IMAGE)


@net(IMAGE)
class OverlappingSlices(nn.Module):
    """Two slices that share channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3)
        self.b, self.c = nn.Conv2d(6, 4, 1), nn.Conv2d(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.a(x))
        return self.b(x[:, :6]) + self.c(x[:, 3:])


@net(IMAGE)
class SliceAndDrop(nn.Module):
    """Only a part of the channels is read."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.a(x))[:, 1:6])


@net(IMAGE)
class GatedByHalves(nn.Module):
    """GLU by hand, with two gates."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 15, 3), nn.Conv2d(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        u, v, w = self.a(x).chunk(3, dim=1)
        return self.b(torch.tanh(u) * torch.sigmoid(v) + w)


@net(TOKENS)
class GatedFeedForward(nn.Module):
    """SwiGLU with one fused projection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fused, self.out = nn.Linear(7, 6), nn.Linear(6, 16), nn.Linear(8, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate, value = self.fused(x).chunk(2, dim=-1)
        return self.head(x + self.out(F.silu(gate) * value))


@net(IMAGE)
class CrossStagePartial(nn.Module):
    """Half of the channels goes around the block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 8, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.stem(x).split(4, dim=1)
        return self.head(torch.cat([a, b + torch.tanh(self.conv(b))], 1))


@net(IMAGE)
class ResNetOfScales(nn.Module):
    """Res2Net: each part is added to what the part before it gave."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 4, 1)
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1, bias=False) for _ in range(3))
        self.bns = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(self.stem(x), 3, 1)
        out = []
        y = parts[0]
        for i, (conv, bn) in enumerate(zip(self.convs, self.bns, strict=True)):
            y = torch.relu(bn(conv(y + parts[i] if i else y)))
            out.append(y)
        return self.head(torch.cat([*out, parts[3]], 1))


# A maximum over pairs of channels: pairs grow, by copies of whole pairs.
@net(IMAGE)
class Maxout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 12, 3), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        n, _, h, w = x.shape
        return self.b(x.view(n, -1, 2, h, w).max(dim=2)[0])


@net(IMAGE)
class MaxoutOfHalves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 12, 3), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.max(*self.a(x).chunk(2, 1)))


@net(IMAGE)
class MaxoutModules(nn.Module):
    """Max-feature-map of two layers, stacked."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 3), nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.stack([self.a(x), self.b(x)]).amax(0))


# "4 pairs": which of the two numbers grows is not said; the pairs may be pinned.
@net(IMAGE, grows=("stem.weight",))
class MaxoutWithLiterals(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 8, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(torch.tanh(self.stem(x)))
        return self.b(x.view(2, 4, 2, 4, 6).amax(2))


class ShuffleUnit(nn.Module):
    """ShuffleNet v2: half of the channels through a branch, then two interleaved groups."""

    def __init__(self, half: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(half, half, 1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False),
            nn.BatchNorm2d(half),
            nn.Conv2d(half, half, 1),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        x1, x2 = x.chunk(2, dim=1)
        x = torch.cat((x1, self.branch(x2)), dim=1)
        n, c, h, w = x.size()
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous()  # (N, C/2, 2, H, W)
        return x.view(n, c, h, w)


def shuffle_chain(half: int, units: int = 3) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 2 * half, 1), *(ShuffleUnit(half) for _ in range(units)), nn.Conv2d(2 * half, 4, 1)
    )


_BRANCHES = tuple(f"{unit}.branch.{layer}.weight" for unit in (1, 2, 3) for layer in (0, 3, 5))
add("shuffle_chain", lambda: shuffle_chain(8), IMAGE)
add("shuffle_chain_of_odd_halves", lambda: shuffle_chain(14, units=2), IMAGE)
add("shuffle_one_unit_odd_half", lambda: shuffle_chain(5, 1), IMAGE)
# An odd half is cut through an interleaved pair: the outer width may stay, the inner widths must grow.
add("shuffle_chain_odd_half", lambda: shuffle_chain(5), IMAGE, grows=_BRANCHES)
add("shuffle_chain_half_of_half_odd", lambda: shuffle_chain(6), IMAGE, grows=_BRANCHES)


class GroupedShuffle(nn.Module):
    """ShuffleNet v1: grouped 1x1 convolutions with a shuffle between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Tanh(), nn.Conv2d(5, width, 1))
        self.a = nn.Conv2d(width, width, 1, groups=3)
        self.dw = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.b = nn.Conv2d(width, width, 1, groups=3)
        self.head = nn.Conv2d(width, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = torch.relu(self.a(x))
        n, c, h, w = y.shape
        y = y.reshape(n, 3, c // 3, h, w).permute(0, 2, 1, 3, 4).reshape(n, c, h, w)
        return self.head(x + self.b(self.dw(y)))


add("grouped_shuffle", lambda: GroupedShuffle(18), IMAGE)
# The second layer's three groups cut through the four triples of the shuffle: that width may stay.
add("grouped_shuffle_cut", lambda: GroupedShuffle(12), IMAGE, grows=("stem.0.weight", "stem.2.weight"))
add(
    "channel_shuffle_module",
    lambda: nn.Sequential(
        nn.Conv2d(3, 12, 1), nn.ChannelShuffle(3), nn.Conv2d(12, 12, 1, groups=2), nn.Conv2d(12, 4, 1)
    ),
    IMAGE,
)

REPEATS: dict[str, Callable[[Tensor], Tensor]] = {
    "repeat": lambda x: x.repeat(1, 2, 1, 1),
    "cat_of_itself": lambda x: torch.cat([x, x], 1),
    "cat_with_negative": lambda x: torch.cat([x, -x], 1),
    "repeat_interleave": lambda x: x.repeat_interleave(2, dim=1),
    "tile": lambda x: torch.tile(x, (2, 1, 1)),
    "stack_last": lambda x: torch.stack([x, x.sin()], dim=2).flatten(1, 2),
    "expand": lambda x: x[:, None].expand(-1, 2, -1, -1, -1).reshape(x.size(0), -1, 6, 8),
}
for _name, _function in REPEATS.items():
    add(
        f"doubled_by_{_name}",
        lambda f=_function: Between(f, CONV[2](3, 5, 3, padding=1), CONV[2](10, 4, 1)),
        IMAGE,
    )


# The zeros are new in each call; as many as the literal says, or as many as there are channels.
@net(IMAGE, grows=("a.weight", "b.weight"))
class CatWithZeros(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 5, 3), nn.Conv2d(7, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.a(x))
        zeros = torch.zeros(x.size(0), 2, x.size(2), x.size(3), dtype=x.dtype, device=x.device)
        return self.b(torch.cat([zeros, x], 1))


@net(IMAGE)
class CatWithInput(nn.Module):
    """CoordConv and dense prediction: the fixed input joins the grown features."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(9, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.a(x))
        row = torch.linspace(-1, 1, x.size(3), dtype=x.dtype).expand(x.size(0), 1, x.size(2), -1)
        return self.b(torch.cat([row, y, x], dim=1))
