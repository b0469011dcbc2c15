"""Operators that mix channels in ways which growth cannot follow: their width stays, all others grow."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.registry import IMAGE, ROWS, add, net


class Mixed(nn.Module):
    """conv -> conv -> function over channels -> conv. The width between the first two is free."""

    def __init__(self, function: Callable[[Tensor], Tensor], width: int = 6) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 6, 1)
        self.function = function
        self.c = nn.Conv2d(width, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.function(self.b(torch.tanh(self.a(x)))))


SAME_WIDTH: dict[str, Callable[[Tensor], Tensor]] = {
    "normalize": F.normalize,
    "normalize_l1": lambda x: F.normalize(x, p=1.0, dim=1),
    "softmax": lambda x: x.softmax(dim=1),
    "softmax_last": lambda x: F.softmax(x.permute(0, 2, 3, 1), dim=-1).permute(0, 3, 1, 2),
    "softmax2d": nn.Softmax2d(),
    "log_softmax": lambda x: F.log_softmax(x, dim=-3),
    "cumsum": lambda x: x.cumsum(1),
    "cumprod": lambda x: torch.cumprod(x, dim=1),
    "cummax": lambda x: x.cummax(dim=1)[0],
    "sort": lambda x: x.sort(dim=1).values,
    "topk": lambda x: x.topk(6, dim=1)[0],
    "roll": lambda x: x.roll(2, dims=1),
    "roll_flat": lambda x: torch.roll(x, 5),
    "flip": lambda x: x.flip(1),
    "local_response_norm": nn.LocalResponseNorm(3),
    "minus_own_sum": lambda x: x - 0.1 * x.sum(1, keepdim=True),
    "divided_by_norm": lambda x: x / x.norm(dim=1, keepdim=True).clamp_min(0.1),
    "divided_by_std": lambda x: x / (x.std(dim=1, keepdim=True) + 0.1),
    "times_product": lambda x: x * x.prod(dim=1, keepdim=True),
    "minus_logsumexp": lambda x: x - x.logsumexp(1, keepdim=True),
    "one_hot_of_argmax": lambda x: x * F.one_hot(x.argmax(1), 6).permute(0, 3, 1, 2),
    "rank_of_argmax": lambda x: x + x.argmax(dim=1, keepdim=True),
    "index_select": lambda x: x.index_select(1, torch.tensor([5, 0, 3, 3, 1, 2])),
    "fancy_index": lambda x: x[:, [5, 0, 3, 3, 1, 2]],
    "gather": lambda x: x.gather(1, torch.tensor([5, 0, 3, 3, 1, 2]).view(1, 6, 1, 1).expand(2, 6, 6, 8)),
    "strided": lambda x: torch.cat([x[:, ::2], x[:, 1::2]], 1),
    "fourier": lambda x: torch.fft.fft(x, dim=1).real,
    "difference": lambda x: F.pad(x[:, 1:] - x[:, :-1], (0, 0, 0, 0, 1, 0)),
    "window_of_channels": lambda x: F.avg_pool3d(x.unsqueeze(1), (3, 1, 1), 1, (1, 0, 0)).squeeze(1),
    "window_maximum": lambda x: F.max_pool3d(x[:, None], (3, 1, 1), 1, (1, 0, 0))[:, 0],
    "channels_against_space": lambda x: x + x.permute(0, 2, 1, 3),
    "channels_with_rows": lambda x: x * x.mean((0, 2, 3)).view(1, 1, 6, 1),
    "gram": lambda x: (x.flatten(2) @ x.flatten(2).transpose(1, 2)).unsqueeze(-1) * x.mean((2, 3)).view(2, 6, 1, 1),
    "channel_attention": lambda x: ((x.flatten(2) @ x.flatten(2).mT).softmax(-1) @ x.flatten(2)).view_as(x),
    "space_attention": lambda x: (x.flatten(2) @ (x.flatten(2).mT @ x.flatten(2)).softmax(-2)).view_as(x),
    "einsum_of_activations": lambda x: (
        torch.einsum("nchw,ndhw->ncd", x, x)[..., None] * x.mean(3).mean(2)[..., None, None]
    ),
    "cosine": lambda x: x * F.cosine_similarity(x, x.flip(3), dim=1).unsqueeze(1),
    "arange_over_channels": lambda x: x + torch.arange(6, dtype=x.dtype).view(1, -1, 1, 1),
    "triangle": lambda x: x.transpose(1, 2).tril().transpose(1, 2),
    "circular_over_channels": lambda x: F.pad(x.unsqueeze(1), (0, 0, 0, 0, 1, 1), mode="circular")[:, 0, 1:-1],
    "interpolated": lambda x: F.interpolate(x.transpose(1, 2), size=(6, 8), mode="bilinear").transpose(1, 2),
    "resized_channels": lambda x: F.interpolate(x.unsqueeze(1), size=(6, 6, 8), mode="trilinear").squeeze(1),
}
for _name, _function in SAME_WIDTH.items():
    add(f"pinned_{_name}", lambda f=_function: Mixed(f), IMAGE, grows=("a.weight", "b.weight"))

OTHER_WIDTH: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "select": (1, lambda x: x[:, 3].unsqueeze(1)),
    "select_and_stack": (2, lambda x: torch.stack([x[:, 0], x[:, 4]], 1)),
    "sum": (1, lambda x: x.sum(1, keepdim=True)),
    "norm": (1, lambda x: x.norm(p=2, dim=1, keepdim=True)),
    "topk_3": (3, lambda x: x.topk(3, dim=1).values),
    "strided_slice": (3, lambda x: x[:, ::2]),
    "index_buffer": (4, lambda x: x[:, torch.tensor([0, 2, 5, 1])]),
    "depth_to_channels": (2, lambda x: F.max_pool3d(x.unsqueeze(1), (3, 1, 1)).squeeze(1)),
    "adaptive_over_channels": (3, lambda x: F.adaptive_avg_pool3d(x[:, None], (3, 6, 8))[:, 0]),
    "mask": (6, lambda x: x * (x > x.median(dim=1, keepdim=True).values)),
    "diff": (5, lambda x: x.diff(dim=1)),
    "unfolded_channels": (4, lambda x: x.unfold(1, 3, 1).mean(-1)),
}
for _name, (_width, _function) in OTHER_WIDTH.items():
    add(f"pinned_{_name}", lambda f=_function, w=_width: Mixed(f, w), IMAGE, grows=("a.weight", "b.weight"))


@net(IMAGE, grows=("a.weight", "b.weight"))
class ConvolutionOverChannels(nn.Module):
    """ECA: a 1d convolution slides over the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 6, 1), nn.Conv2d(6, 4, 1)
        self.eca = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(torch.tanh(self.a(x)))
        gate = self.eca(x.mean((2, 3)).unsqueeze(1)).squeeze(1)  # (N, C)
        return self.c(x * torch.sigmoid(gate)[:, :, None, None])


@net(IMAGE, grows=("a.weight", "b.weight"))
class SeriesOverSpace(nn.Module):
    """A recurrent layer reads the map column by column."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 6, (4, 1))
        self.gru, self.c = nn.GRU(6, 5, batch_first=True), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(torch.tanh(self.a(x))).squeeze(2).transpose(1, 2)  # (N, W, C)
        return self.c(self.gru(x)[0][:, -1])


@net(ROWS, grows=("a.weight", "b.weight"))
class Distances(nn.Module):
    """Distances between features, to prototypes and to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(7, 5), nn.Linear(5, 6)
        self.prototypes = nn.Parameter(torch.randn(4, 6))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.b(torch.tanh(self.a(x)))
        return torch.cdist(x, self.prototypes), x @ x.t()
