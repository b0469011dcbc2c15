"""The models of peers.py: the same list for every peer. No model loads weights."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.zoos import ZOOS, Entry, images, noise

TORCHVISION = (
    "alexnet", "vgg11_bn", "resnet18", "resnet34", "resnet50", "resnext50_32x4d", "densenet121", "googlenet",
    "inception_v3", "mobilenet_v2", "mobilenet_v3_small", "mnasnet1_0", "shufflenet_v2_x1_0", "squeezenet1_1",
    "efficientnet_b0", "efficientnet_v2_s", "regnet_x_400mf", "regnet_y_400mf", "convnext_tiny", "vit_b_16", "swin_t",
)  # fmt: skip
SEGMENTATION = ("fcn_resnet50", "deeplabv3_mobilenet_v3_large")


class Mlp(nn.Sequential):
    """A multilayer perceptron on images of 28 x 28."""

    def __init__(self) -> None:
        layers = (nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
        super().__init__(*layers)


class DigitsNet(nn.Module):
    """The net of the PyTorch notebook: two convolutions, two linear layers, all else functional."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 10, 5), nn.Conv2d(10, 20, 5)
        self.conv2_drop = nn.Dropout2d()
        self.fc1, self.fc2 = nn.Linear(320, 50), nn.Linear(50, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2_drop(self.conv2(x)), 2))
        x = F.relu(self.fc1(self.flat(x)))
        return F.log_softmax(self.fc2(F.dropout(x, training=self.training)), dim=1)

    def flat(self, x: Tensor) -> Tensor:
        """(N, 20, 4, 4) -> (N, 320)."""
        return x.view(x.size(0), -1)


class DigitsNetOf320(DigitsNet):
    """The same with the size spelled out, as many tutorials write it."""

    def flat(self, x: Tensor) -> Tensor:
        return x.view(-1, 320)


class UNet(nn.Module):
    """Four scales of two convolutions with batch norm; skips are concatenated."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 128)) -> None:
        super().__init__()
        ins = (3, *widths)
        self.down = nn.ModuleList(self._two(a, b) for a, b in zip(ins, widths, strict=False))
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in pairs)
        self.merge = nn.ModuleList(self._two(2 * b, b) for _, b in pairs)
        self.head = nn.Conv2d(widths[0], 5, 1)

    @staticmethod
    def _two(a: int, b: int) -> nn.Sequential:
        layers = ((nn.Conv2d(i, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)) for i in (a, b))
        return nn.Sequential(*(layer for three in layers for layer in three))

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for scale in self.down:
            x = scale(F.max_pool2d(skips[-1], 2) if skips else x)
            skips.append(x)
        for up, merge, skip in zip(self.up, self.merge, skips[-2::-1], strict=True):
            x = merge(torch.cat([skip, up(x)], dim=1))
        return self.head(x)


class Encoder(nn.Module):
    """torch.nn's transformer encoder between an embedding of vectors and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(16, 64)
        layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x)).mean(dim=1))


OWN: dict[str, tuple[Callable[[], nn.Module], Callable[[], tuple[Tensor, ...]]]] = {
    "mlp": (Mlp, noise((2, 1, 28, 28))),
    "digits_net": (DigitsNet, noise((2, 1, 28, 28))),
    "digits_net_320": (DigitsNetOf320, noise((2, 1, 28, 28))),
    "unet": (UNet, images(64)),
    "transformer_encoder": (Encoder, noise((2, 12, 16))),
}


def entries() -> Iterator[Entry]:
    """All models, torchvision's first."""
    for zoo, names in (("torchvision", TORCHVISION), ("torchvision-dense", SEGMENTATION)):
        found = {entry.name: entry for entry in ZOOS[zoo]()}
        yield from (found[name] for name in names)
    for name, (build, inputs) in OWN.items():
        yield Entry(name, build, inputs)
