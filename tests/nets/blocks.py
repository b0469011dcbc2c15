"""Residual networks and their relatives."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.registry import IMAGE, SIGNAL, VOLUME, add, net


@net(IMAGE)
def plain_network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(8, 10),
        nn.ReLU(),
        nn.Linear(10, 4),
    )


class BasicBlock(nn.Module):
    """conv-bn-relu-conv-bn, added to its input or to a projection of it."""

    def __init__(self, inside: int, outside: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or inside != outside:
            self.downsample = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.downsample is not None:
            x = self.downsample(x)
        out += x
        return self.relu(out)


@net(IMAGE)
class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 6, 3, 1, 1, bias=False), nn.BatchNorm2d(6)
        self.layer1 = nn.Sequential(BasicBlock(6, 6), BasicBlock(6, 6))
        self.layer2 = nn.Sequential(BasicBlock(6, 8, 2), BasicBlock(8, 8))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x)))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class Bottleneck(nn.Module):
    """ResNeXt's bottleneck, with squeeze-and-excitation."""

    def __init__(self, width: int, inner: int, groups: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width)
        self.fc1, self.fc2 = nn.Conv2d(width, 3, 1), nn.Conv2d(3, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        gate = torch.sigmoid(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(y, 1)))))
        return F.relu(x + y * gate)


add(
    "resnext_with_se",
    lambda: nn.Sequential(
        nn.Conv2d(3, 6, 1), Bottleneck(6, 8, 4), Bottleneck(6, 8, 2), Bottleneck(6, 8, 8), nn.Conv2d(6, 4, 1)
    ),
    IMAGE,
)


class PreActivation(nn.Module):
    """bn-relu-conv-bn-relu-conv; the shortcut branches off before or after the first activation."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inside), nn.Conv2d(inside, outside, 3, padding=1)
        self.bn2, self.conv2 = nn.BatchNorm2d(outside), nn.Conv2d(outside, outside, 3, padding=1)
        if inside != outside:
            self.shortcut = nn.Conv2d(inside, outside, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(x))
        x = self.shortcut(y) if hasattr(self, "shortcut") else x
        return self.conv2(F.relu(self.bn2(self.conv1(y)))) + x


add(
    "pre_activation",
    lambda: nn.Sequential(
        nn.Conv2d(3, 6, 1),
        PreActivation(6, 6),
        PreActivation(6, 8),
        PreActivation(8, 8),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 4, 1),
    ),
    IMAGE,
)


class PaddedShortcut(nn.Module):
    """A CIFAR ResNet's option A: the shortcut is subsampled and gets channels of zeros."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, 2, 1)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1)
        self.pad = (outside - inside) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.bn1(self.conv1(x))))
        return F.relu(y + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad)))


add(
    "option_a_shortcut",
    lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        PaddedShortcut(4, 8),
        BasicBlock(8, 8),
        PaddedShortcut(8, 12),
        nn.Conv2d(12, 4, 1),
    ),
    IMAGE,
)


class InvertedResidual(nn.Module):
    """MobileNet's block with layer scale."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU6(inplace=True),
            nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU6(inplace=True),
            nn.Conv2d(inner, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.gamma = nn.Parameter(torch.full((width, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gamma * self.body(x)


add(
    "inverted_residuals",
    lambda: nn.Sequential(nn.Conv2d(3, 6, 1), InvertedResidual(6, 10), InvertedResidual(6, 10), nn.Conv2d(6, 4, 1)),
    IMAGE,
)


class ConvNeXtBlock(nn.Module):
    """Depthwise, then channels last: LayerNorm, two linear layers, layer scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1, self.act = nn.Linear(width, 2 * width), nn.GELU()
        self.pwconv2 = nn.Linear(2 * width, width)
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.dwconv(x).permute(0, 2, 3, 1)  # (N, H, W, C)
        y = self.gamma * self.pwconv2(self.act(self.pwconv1(self.norm(y))))
        return x + y.permute(0, 3, 1, 2)


add(
    "convnext",
    lambda: nn.Sequential(nn.Conv2d(3, 6, 2, stride=2), ConvNeXtBlock(6), ConvNeXtBlock(6), nn.Conv2d(6, 4, 1)),
    IMAGE,
)


@net(SIGNAL)
class ResidualSignal(nn.Module):
    """A temporal convolution network: dilated, causal, residual, in one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv1d(3, 6, 1), nn.Linear(6, 4)
        self.convs = nn.ModuleList(nn.Conv1d(6, 6, 3, padding=2 * d, dilation=d) for d in (1, 2))
        self.norms = nn.ModuleList(nn.BatchNorm1d(6) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = x + F.relu(norm(conv(x)[..., : x.size(-1)]))
        return self.head(x[..., -1])


@net(VOLUME)
class ResidualVolume(nn.Module):
    """A factorised (2+1)d residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 6, 3, padding=1)
        self.space, self.time = (
            nn.Conv3d(6, 8, (1, 3, 3), padding=(0, 1, 1)),
            nn.Conv3d(8, 6, (3, 1, 1), padding=(1, 0, 0)),
        )
        self.bn1, self.bn2, self.fc = nn.BatchNorm3d(8), nn.BatchNorm3d(6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(x + self.bn2(self.time(F.relu(self.bn1(self.space(x))))))
        return self.fc(F.adaptive_avg_pool3d(x, 1).flatten(1))


@net(IMAGE)
class PostAddedTwice(nn.Module):
    """Sums of three, differences, products and averages of branches."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 6, k, padding=k // 2) for k in (1, 3, 5))
        self.head = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = self.a(x), self.b(x), self.c(x)
        y = torch.add(a, b, alpha=0.5) - c * a.sigmoid()
        return self.head(torch.lerp(y, torch.addcmul(a, b, c, value=0.1), 0.3) + sum([a, b, c]) / 3)
