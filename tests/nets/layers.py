"""Layers with weights: convolutions, linear layers, embeddings."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.registry import CONV, IMAGE, INPUT, ROWS, SIGNAL, TOKENS, VOLUME, add, net, param

TRANSPOSED: dict[int, type[nn.Module]] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


@net(SIGNAL)
def conv1d() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv1d(6, 8, 3, stride=2), nn.ReLU(), nn.Conv1d(8, 4, 1)
    )


@net(IMAGE)
def conv2d() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 4, 1)
    )


@net(VOLUME)
def conv3d() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv3d(6, 8, 3, stride=2), nn.ReLU(), nn.Conv3d(8, 4, 1)
    )


@net(IMAGE)
def conv_without_bias() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, bias=False),
        nn.ReLU(),
        nn.Conv2d(5, 7, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(7, 4, 1),
    )


@net(IMAGE)
def conv_odd_geometry() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 5, (3, 1), padding=(2, 0), dilation=(2, 1)),
        nn.Tanh(),
        nn.Conv2d(5, 7, (2, 3), stride=(1, 2), padding="valid"),
        nn.Tanh(),
        nn.Conv2d(7, 4, (1, 3), padding="same"),
    )


@net((3, 6, 8))
def conv_unbatched() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1))


@net(IMAGE)
def conv_one_channel_inside() -> nn.Module:
    """groups == out_channels == 1 is no depthwise convolution."""
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Conv2d(6, 1, 1, groups=1), nn.Tanh(), nn.Conv2d(1, 4, 1))


@net((2, 1, 6, 8))
def conv_one_channel_at_the_ends() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 1, 3), nn.Tanh(), nn.Conv2d(1, 4, 1), nn.Tanh(), nn.Conv2d(4, 1, 1))


# The outer widths of a network never grow: nothing is left here.
@net(IMAGE, grows="none")
def conv_alone() -> nn.Module:
    return nn.Conv2d(3, 4, 3)


@net(ROWS)
def linear() -> nn.Module:
    return nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 9, bias=False), nn.Tanh(), nn.Linear(9, 4))


@net(TOKENS)
def linear_on_tokens() -> nn.Module:
    return nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 4))


@net((7,))
def linear_unbatched() -> nn.Module:
    return nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 4))


@net(lambda g: torch.randint(10, (2, 5), generator=g), grows=("0.weight", "1.weight"))
def embedding() -> nn.Module:
    return nn.Sequential(nn.Embedding(10, 6), nn.Linear(6, 4))


def _depthwise(dims: int, multiplier: int) -> nn.Module:
    conv = CONV[dims]
    return nn.Sequential(
        conv(3, 6, 1),
        nn.Tanh(),
        conv(6, 6 * multiplier, 3, padding=1, groups=6),
        nn.Tanh(),
        conv(6 * multiplier, 5, 1),
        nn.Tanh(),
        conv(5, 5 * multiplier, 3, groups=5, bias=False),
        conv(5 * multiplier, 4, 1),
    )


for _dims in CONV:
    for _multiplier in (1, 2, 3):
        add(
            f"depthwise{_dims}d_multiplier{_multiplier}",
            lambda dims=_dims, multiplier=_multiplier: _depthwise(dims, multiplier),
            INPUT[_dims],
        )
    add(
        f"grouped{_dims}d",
        lambda conv=CONV[_dims]: nn.Sequential(
            conv(3, 8, 1), nn.Tanh(), conv(8, 12, 3, padding=1, groups=4), nn.Tanh(), conv(12, 4, 1)
        ),
        INPUT[_dims],
    )


@net(IMAGE)
def grouped_after_grouped() -> nn.Module:
    """4 groups read what 2 groups wrote, and back."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 1),
        nn.Conv2d(8, 8, 3, padding=1, groups=2),
        nn.Tanh(),
        nn.Conv2d(8, 12, 3, padding=1, groups=4),
        nn.Tanh(),
        nn.Conv2d(12, 8, 1, groups=2),
        nn.Conv2d(8, 4, 1),
    )


# 12 channels cannot be cut into 4 and into 6 groups at once, unless in 12: the inner width may stay.
@net(IMAGE, grows=("0.weight", "4.weight"))
def grouped_by_4_then_by_6() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 1),
        nn.Conv2d(8, 12, 1, groups=4),
        nn.Conv2d(12, 12, 1, groups=6),
        nn.Conv2d(12, 6, 1),
        nn.Conv2d(6, 4, 1),
    )


@net(IMAGE, grows=("0.weight", "2.weight"))  # its outputs are the groups themselves: they grow by cardinality
def grouped_one_output_each() -> nn.Module:
    """groups == out_channels, but each group reads two channels: no depthwise convolution."""
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.Tanh(), nn.Conv2d(8, 4, 3, groups=4), nn.Tanh(), nn.Conv2d(4, 5, 1))


# The groups of the first layer read the fixed input: only its output width grows.
@net((2, 4, 6, 8))
def grouped_at_the_input() -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.Tanh(), nn.Conv2d(8, 4, 1))


@net(IMAGE)
def depthwise_at_the_input() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.Tanh(), nn.Conv2d(6, 4, 1))


@net(IMAGE, grows=("0.weight", "1.weight"))
def depthwise_at_the_output() -> nn.Module:
    """The last layer's width is the network's output."""
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1), nn.Conv2d(4, 4, 3, groups=4))


@net(SIGNAL)
def conv_transpose1d() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(3, 6, 1), nn.Tanh(), nn.ConvTranspose1d(6, 8, 4, stride=2), nn.Tanh(), nn.Conv1d(8, 4, 1)
    )


@net(IMAGE)
def conv_transpose2d() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 1),
        nn.Tanh(),
        nn.ConvTranspose2d(6, 8, 3, stride=2, padding=1, output_padding=1),
        nn.Tanh(),
        nn.ConvTranspose2d(8, 6, 2, groups=2),
        nn.Tanh(),
        nn.ConvTranspose2d(6, 6, 2, groups=6),
        nn.ConvTranspose2d(6, 4, 1, bias=False),
    )


@net(VOLUME)
def conv_transpose3d() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(3, 6, 1), nn.Tanh(), nn.ConvTranspose3d(6, 5, 2, stride=2), nn.Tanh(), nn.Conv3d(5, 4, 1)
    )


@net(IMAGE)
class PixelShuffles(nn.Module):
    """Sub-pixel convolution and its inverse."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 16, 3, padding=1)
        self.up = nn.PixelShuffle(2)
        self.b = nn.Conv2d(4, 6, 1)
        self.down = nn.PixelUnshuffle(2)
        self.c = nn.Conv2d(24, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.down(self.b(self.up(self.a(x).tanh())).tanh()))


for _dims, _transposed in TRANSPOSED.items():
    for _multiplier in (1, 2):
        add(
            f"conv_transpose{_dims}d_depthwise_multiplier{_multiplier}",
            lambda conv=CONV[_dims], up=_transposed, m=_multiplier: nn.Sequential(
                conv(3, 6, 1), nn.Tanh(), up(6, 6 * m, 2, stride=2, groups=6), nn.Tanh(), conv(6 * m, 4, 1)
            ),
            INPUT[_dims],
        )
    add(
        f"conv_transpose{_dims}d_grouped",
        lambda conv=CONV[_dims], up=_transposed: nn.Sequential(
            conv(3, 8, 1), nn.Tanh(), up(8, 12, 2, groups=4, bias=False), nn.Tanh(), conv(12, 4, 1)
        ),
        INPUT[_dims],
    )


@net(IMAGE)
class FunctionalConvTranspose2d(nn.Module):
    """The number of groups stands as a literal in the call."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.w, self.b = nn.Conv2d(3, 6, 1), param(6, 2, 2, 2), nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(F.conv_transpose2d(self.a(x), self.w, None, 2, 0, 0, 6)))


for _mode in ("sum", "mean", "max"):
    add(
        f"embedding_bag_{_mode}",
        lambda mode=_mode: nn.Sequential(nn.EmbeddingBag(10, 6, mode=mode), nn.Linear(6, 4)),
        lambda g: torch.randint(10, (2, 5), generator=g),
        grows=("0.weight", "1.weight"),
    )


class Recurrent(nn.Module):
    """linear -> a recurrent layer -> linear."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.a, self.layer, self.b = nn.Linear(7, 8), layer, nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.layer(self.a(x))[0])


for _kind in (nn.RNN, nn.LSTM, nn.GRU):
    add(
        f"recurrent_{_kind.__name__.lower()}",
        lambda kind=_kind: Recurrent(kind(8, 6, 2, batch_first=True, bidirectional=True), 12),
        TOKENS,
    )


@net(ROWS)
class RecurrentCells(nn.Module):
    """One step of each kind of cell."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.h, self.b = nn.Linear(7, 8), nn.Linear(7, 6), nn.Linear(6, 4)
        self.rnn, self.gru, self.lstm = nn.RNNCell(8, 6), nn.GRUCell(8, 6), nn.LSTMCell(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        x, h = torch.tanh(self.a(x)), torch.tanh(self.h(x))
        h = self.gru(x, self.rnn(x, h))
        return self.b(self.lstm(x, (h, h))[0])


@net(ROWS, ROWS)
class BilinearForm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(7, 5), nn.Linear(5, 6)
        self.bilinear, self.c = nn.Bilinear(6, 7, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.c(torch.tanh(self.bilinear(self.b(torch.tanh(self.a(x))), y)))


@net(TOKENS)
class RecurrentFromAState(nn.Module):
    """The first states are made from nothing, of a size that an attribute states."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = 6
        self.a, self.gru, self.cell = nn.Linear(7, 8), nn.GRU(8, 6, batch_first=True), nn.LSTMCell(6, 6)
        self.b, self.c = nn.Linear(6, 10), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        first = torch.zeros(1, x.shape[0], self.hidden, dtype=x.dtype, device=x.device)
        x, _ = self.gru(torch.tanh(self.a(x)), first)
        h, c = x.new_zeros(x.shape[0], self.hidden), x.new_zeros((len(x), self.hidden))
        states = []
        for t in range(x.shape[1]):
            h, c = self.cell(x[:, t], (h, c))
            states.append(h)
        return self.c(torch.relu(self.b(torch.stack(states, 1))))
