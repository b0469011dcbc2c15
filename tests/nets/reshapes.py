"""Views: sizes baked in as numbers, sizes asked at run time, channels last, tokens."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.registry import CONV, IMAGE, INPUT, SIGNAL, VOLUME, add, between, net


class Classifier(nn.Module):
    """conv -> pool -> function to rows -> linear, on maps that are not square."""

    def __init__(self, dims: int, function: Callable[[Tensor], Tensor], features: int) -> None:
        super().__init__()
        self.conv = CONV[dims](3, 6, 3, padding=1)
        self.pool = getattr(nn, f"MaxPool{dims}d")(2)
        self.function = function
        self.fc1, self.fc2 = nn.Linear(features, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.function(self.pool(torch.tanh(self.conv(x))))
        return self.fc2(torch.tanh(self.fc1(x)))


def _by_shape(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.reshape(n, c * h * w)


def _features(x: Tensor) -> int:
    """LeNet's num_flat_features."""
    count = 1
    for size in x.size()[1:]:
        count *= size
    return count


# After pooling: (2, 6, 3, 4), 72 features; in one dimension (2, 6, 5), in three (2, 6, 2, 3, 2).
FLATTEN: dict[str, Callable[[Tensor], Tensor]] = {
    "view_minus_one_first": lambda x: x.view(-1, 72),
    "view_both_sizes": lambda x: x.view(2, 72),
    "view_size": lambda x: x.view(x.size(0), -1),
    "view_shape": lambda x: x.view(x.shape[0], 72),
    "view_len": lambda x: x.view(len(x), -1),
    "view_num_flat_features": lambda x: x.view(-1, _features(x)),
    "reshape_by_shape": _by_shape,
    "reshape_tuple": lambda x: x.reshape((x.shape[0], -1)),
    "reshape_literals": lambda x: torch.reshape(x, (-1, 6 * 3 * 4)),
    "reshape_numel": lambda x: x.reshape(x.size(0), x.numel() // x.size(0)),
    "torch_flatten": lambda x: torch.flatten(x, 1),
    "tensor_flatten": lambda x: x.flatten(start_dim=1, end_dim=-1),
    "flatten_twice": lambda x: x.flatten(2).flatten(1),
    "flatten_space_then_channels": lambda x: x.flatten(-2).transpose(1, 2).flatten(1),
    "channels_last": lambda x: x.permute(0, 2, 3, 1).reshape(2, -1),
    "channels_in_the_middle": lambda x: x.movedim(1, 2).contiguous().view(x.size(0), -1),
    "unflatten_and_back": lambda x: x.flatten(1).unflatten(1, (6, 3, 4)).flatten(1),
    "view_as_and_back": lambda x: x.flatten(1).view_as(x).flatten(1),
    "squeeze_and_view": lambda x: x.unsqueeze(2).squeeze(2).view(x.size(0), -1),
}
for _name, _function in FLATTEN.items():
    add(f"flatten_by_{_name}", lambda f=_function: Classifier(2, f, 72), IMAGE)
for _dims, _count in ((1, 30), (2, 72), (3, 72)):
    add(
        f"flatten_module_{_dims}d",
        lambda d=_dims, count=_count: Classifier(d, nn.Flatten(), count),
        INPUT[_dims],
    )
    add(
        f"view_literal_{_dims}d",
        lambda d=_dims, count=_count: Classifier(d, lambda x: x.view(-1, count), count),
        INPUT[_dims],
    )

# 6 channels, 6 x 8, to the same shape and back again.
THERE_AND_BACK: dict[str, Callable[[Tensor], Tensor]] = {
    "permute": lambda x: x.permute(0, 2, 3, 1).tanh().permute(0, 3, 1, 2),
    "transposes": lambda x: x.transpose(1, 3).sin().transpose(-1, -3),
    "swapaxes": lambda x: x.swapaxes(1, 2).contiguous().swapdims(1, 2),
    "tokens": lambda x: x.flatten(2).transpose(1, 2).transpose(1, 2).reshape(x.shape),
    "tokens_literal": lambda x: x.view(2, 6, 48).transpose(1, 2).tanh().transpose(1, 2).view(2, 6, 6, 8),
    "tokens_without_channels": lambda x: x.flatten(2).unflatten(2, (6, 8)),
    "batch_and_channels": lambda x: x.reshape(-1, 1, 6, 8).tanh().reshape(2, -1, 6, 8),
    "batch_and_space": lambda x: x.permute(0, 2, 3, 1).reshape(-1, x.size(1)).view(2, 6, 8, -1).permute(0, 3, 1, 2),
    "groups": lambda x: x.view(2, 3, -1, 6, 8).tanh().view(2, -1, 6, 8),
    "groups_interleaved": lambda x: x.view(2, 3, -1, 6, 8).transpose(1, 2).reshape(2, -1, 6, 8),
    "groups_softmax": lambda x: x.view(2, 3, -1, 6, 8).softmax(dim=1).flatten(1, 2),
    "split_batch": lambda x: torch.cat([x[:1].tanh(), x[1:].sin()], 0),
    "select_batch": lambda x: torch.stack([x[0].tanh(), x[1]], dim=0),
    "unbind_batch": lambda x: torch.stack([y.tanh() for y in x.unbind(0)]),
    "windows": lambda x: (
        x.view(2, -1, 3, 2, 2, 4)
        .permute(0, 2, 4, 1, 3, 5)
        .amax(-1, keepdim=True)
        .expand(-1, -1, -1, -1, -1, 4)
        .permute(0, 3, 1, 4, 2, 5)
        .reshape(2, -1, 6, 8)
    ),
    "memory_format": lambda x: x.contiguous(memory_format=torch.channels_last),
    "casts": lambda x: x.double().tanh().to(x.dtype) + x.type_as(x).detach().clone(),
}
for _name, _function in THERE_AND_BACK.items():
    add(f"there_and_back_by_{_name}", lambda f=_function: between(f), IMAGE)


@net(IMAGE)
class Autoencoder(nn.Module):
    """conv -> rows -> nn.Unflatten -> transposed conv."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 6, 2, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 5))
        self.decoder = nn.Sequential(
            nn.Linear(5, 96), nn.ReLU(), nn.Unflatten(1, (8, 3, 4)), nn.ConvTranspose2d(8, 3, 2, stride=2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


@net((3, 5))
class Generator(nn.Module):
    """DCGAN: a row of noise, viewed as a map with literal sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(5, 8 * 2 * 3), nn.BatchNorm2d(8)
        self.up, self.out = nn.ConvTranspose2d(8, 6, 4, 2, 1), nn.Conv2d(6, 3, 1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.bn(self.fc(z).view(-1, 8, 2, 3))
        return torch.tanh(self.out(F.relu(self.up(F.relu(x)))))


@net(VOLUME)
class FramesInTheBatch(nn.Module):
    """Video: frames go through a 2d layer as a batch, then come back."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.frame = nn.Conv3d(3, 6, 1), nn.Conv2d(6, 5, 3, padding=1)
        self.fc = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.stem(x)).transpose(1, 2)  # (N, T, C, H, W)
        n, t, c, h, w = x.shape
        x = torch.tanh(self.frame(x.reshape(n * t, c, h, w)))
        return self.fc(x.view(n, t, -1, h, w).mean((1, 3, 4)))


@net(SIGNAL)
class SignalAsImage(nn.Module):
    """(N, C, L) becomes (N, C, 1, L) and returns."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv1d(3, 6, 1), nn.Conv2d(6, 5, (1, 3)), nn.Conv1d(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.b(torch.tanh(self.a(x)).unsqueeze(2)))
        return self.c(x.squeeze(-2))


# 4 rows cut through 6 channels of 12 numbers each: channels and space mix, so the width may stay.
@net(IMAGE, grows=("stem.weight",))
class ViewAcrossChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 6, 2, stride=2)
        self.fc = nn.Linear(18, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(torch.tanh(self.stem(x)))  # (N, 6, 3, 4)
        return self.fc(x.reshape(x.size(0), 4, -1).tanh())


# The batch and the channels are one dimension of a linear layer's rows; its own width is the map's size.
@net(IMAGE, grows=("conv.weight", "head.weight"))
class ChannelsAsRows(nn.Module):
    """A linear layer over space, applied to each channel as a row."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.space, self.head = nn.Conv2d(3, 6, 1), nn.Linear(48, 48), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.head(torch.tanh(self.space(x.reshape(-1, 48))).view(x.shape))
