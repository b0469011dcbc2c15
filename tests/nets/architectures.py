"""Small versions of published convolutional networks whose wiring no other file has."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.registry import IMAGE, SIGNAL, VOLUME, add, net, param


def shuffled(x: Tensor, groups: int) -> Tensor:
    """(N, g*c, H, W) -> (N, c*g, H, W)."""
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class ShuffleUnit(nn.Module):
    """ShuffleNet v1: grouped, shuffled, depthwise, grouped; with stride 2 beside an average pool."""

    def __init__(self, width: int, out: int, groups: int, stride: int = 1) -> None:
        super().__init__()
        self.groups, self.stride = groups, stride
        inner = out // 3
        self.squeeze, self.bn1 = nn.Conv2d(width, inner, 1, groups=groups, bias=False), nn.BatchNorm2d(inner)
        self.depth = nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.expand = nn.Conv2d(inner, out - width if stride == 2 else out, 1, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = shuffled(F.relu(self.bn1(self.squeeze(x))), self.groups)
        y = self.expand(self.bn2(self.depth(y)))
        if self.stride == 2:
            return F.relu(torch.cat([F.avg_pool2d(x, 3, 2, 1), y], dim=1))
        return F.relu(x + y)


def shuffle_net_v1(units: int = 1, groups: int = 2) -> nn.Module:
    """A stem, one stage with a stride and some without, a head."""
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1),
        ShuffleUnit(12, 24, groups, stride=2),
        *[ShuffleUnit(24, 24, groups) for _ in range(units)],
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 4),
    )


add("shuffle_net_v1", shuffle_net_v1, IMAGE)


@net(IMAGE)
class MergingAndEvolution(nn.Module):
    """MENet: a narrow fusion branch is joined to and gates a shuffled bottleneck."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.squeeze, self.expand = nn.Conv2d(8, 8, 1, groups=2), nn.Conv2d(8, 8, 1, groups=2)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.merge, self.bn = nn.Conv2d(8, 3, 1), nn.BatchNorm2d(3)
        self.evolve, self.gate = nn.Conv2d(3, 3, 3, stride=2, padding=1), nn.Conv2d(3, 8, 1)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = shuffled(F.relu(self.squeeze(x)), 2)
        z = F.relu(self.evolve(F.relu(self.bn(self.merge(y)))))
        z = torch.sigmoid(self.gate(F.interpolate(z, size=y.shape[2:])))
        return self.head(F.relu(x + self.expand(self.depth(y) * z)))


@net(IMAGE)
class DualPath(nn.Module):
    """DPN: part of the channels is added to, part is appended."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 9, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(w), nn.ReLU(), nn.Conv2d(w, 4, 1), nn.Conv2d(4, 8, 3, padding=1))
            for w in (9, 11)
        )
        self.head = nn.Conv2d(13, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        residual, dense = x[:, :6], x[:, 6:]
        for block in self.blocks:
            y = block(torch.cat([residual, dense], dim=1))
            residual, dense = residual + y[:, :6], torch.cat([dense, y[:, 6:]], dim=1)
        return self.head(torch.cat((residual, dense), dim=1))


@net(IMAGE)
class ScalesChained(nn.Module):
    """Res2Net: the parts of a split, each convolved with the sum of it and what came before."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 4, 1)
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(3))
        self.width = 3

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(F.relu(self.stem(x)), self.width, 1)
        outs: list[Tensor] = []
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            part = parts[i] if i == 0 else parts[i] + outs[-1]
            outs.append(F.relu(norm(conv(part))))
        return self.head(torch.cat([*outs, parts[len(self.convs)]], 1))


# A kernel slides over the channels: their width stays, those before and after grow.
@net(IMAGE, grows=("stem.weight", "head.weight"))
class EfficientChannelAttention(nn.Module):
    """ECA: the gate of a channel sees its neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mid, self.last = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 6, 1), nn.Conv2d(6, 5, 1)
        self.slide, self.head = nn.Conv1d(1, 1, 3, padding=1, bias=False), nn.Conv2d(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid(torch.tanh(self.stem(x)))
        y = F.adaptive_avg_pool2d(x, 1)
        y = self.slide(y.squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        return self.head(torch.tanh(self.last(x * y.sigmoid().expand_as(x))))


class Branches(nn.Module):
    """HRNet's module: every resolution is the sum of all, in nested lists of modules, some of them None."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(w, w, 3, padding=1) for w in widths)
        self.fuse = nn.ModuleList()
        for i, out in enumerate(widths):
            row = nn.ModuleList()
            for j, w in enumerate(widths):
                if j > i:
                    up = nn.Upsample(scale_factor=2 ** (j - i), mode="nearest")
                    row.append(nn.Sequential(nn.Conv2d(w, out, 1), nn.BatchNorm2d(out), up))
                else:
                    row.append(nn.Identity() if j == i else nn.Conv2d(w, out, 3, 2, 1))
            self.fuse.append(row)

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        for i, branch in enumerate(self.branches):
            xs[i] = branch(xs[i])
        fused = []
        for i, row in enumerate(self.fuse):
            y = xs[0] if i == 0 else row[0](xs[0])
            for j in range(1, len(self.branches)):
                y = y + (xs[j] if i == j else row[j](xs[j]))
            fused.append(F.relu(y))
        return fused


@net(IMAGE)
class BranchesFused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, 2, 1)
        self.stages = nn.Sequential(Branches((4, 6)), Branches((4, 6)))
        self.head = nn.Conv2d(10, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        a, b = self.stages([x, self.down(F.relu(x))])
        b = F.interpolate(b, size=(a.size(2), a.size(3)), mode="bilinear", align_corners=False)
        return self.head(torch.cat([a, b], dim=1))


@net(IMAGE)
class NestedUNet(nn.Module):
    """U-Net++: the nodes of a triangle, in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        widths = (4, 5, 6)
        self.pool, self.up = nn.MaxPool2d(2, ceil_mode=True), nn.Upsample(scale_factor=2, mode="bilinear")
        self.nodes = nn.ModuleDict()
        for j in range(3):
            for i in range(3 - j):
                inside = (3, *widths)[i] if j == 0 else widths[i] * j + widths[i + 1]
                self.nodes[f"{i}_{j}"] = nn.Conv2d(inside, widths[i], 3, padding=1)
        self.heads = nn.ModuleList(nn.Conv2d(4, 2, 1) for _ in range(2))

    def forward(self, x: Tensor) -> list[Tensor]:
        seen: dict[tuple[int, int], Tensor] = {}
        for total in range(3):
            for j in range(total + 1):
                i = total - j
                if j == 0:
                    given = x if i == 0 else self.pool(seen[i - 1, 0])
                else:
                    left = [seen[i, k] for k in range(j)]
                    above = self.up(seen[i + 1, j - 1])[:, :, : left[0].shape[2], : left[0].shape[3]]
                    given = torch.cat([*left, above], dim=1)
                seen[i, j] = F.relu(self.nodes[f"{i}_{j}"](given))
        return [head(seen[0, j + 1]) for j, head in enumerate(self.heads)]


class Backbone(nn.Module):
    """Three resolutions, of widths 4, 5 and 6."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, 2, 1)
        self.c3 = nn.Conv2d(5, 6, 3, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        a = F.relu(self.c1(x))
        b = F.relu(self.c2(a))
        return {"p1": a, "p2": b, "p3": F.relu(self.c3(b))}


@net(IMAGE)
class FeaturePyramid(nn.Module):
    """FPN with heads that all levels share, and RetinaNet's (N, H*W*anchors, classes)."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.lateral = nn.ModuleList(nn.Conv2d(w, 5, 1) for w in (4, 5, 6))
        self.smooth = nn.ModuleList(nn.Conv2d(5, 5, 3, padding=1) for _ in range(3))
        self.tower, self.classes = nn.Conv2d(5, 6, 3, padding=1), nn.Conv2d(6, 3 * 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = [lateral(f) for lateral, f in zip(self.lateral, self.backbone(x).values(), strict=True)]
        for i in range(2, 0, -1):
            features[i - 1] = features[i - 1] + F.interpolate(features[i], size=features[i - 1].shape[-2:])
        found = []
        for smooth, feature in zip(self.smooth, features, strict=True):
            y = self.classes(F.relu(self.tower(smooth(feature))))
            n, _, h, w = y.shape
            found.append(y.view(n, -1, 2, h, w).permute(0, 3, 4, 1, 2).reshape(n, -1, 2))
        return torch.cat(found, dim=1)


@net(IMAGE)
class BiFeaturePyramid(nn.Module):
    """BiFPN: sums weighted by normalised scalars, downwards and upwards; one head, a batch norm per level."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.lateral = nn.ModuleList(nn.Conv2d(w, 5, 1) for w in (4, 5, 6))
        self.weights = nn.ParameterList([nn.Parameter(torch.rand(2) + 0.5) for _ in range(3)])
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(5, 5, 3, padding=1, groups=5), nn.Conv2d(5, 5, 1)) for _ in range(3)
        )
        self.tower, self.head = nn.Conv2d(5, 6, 3, padding=1), nn.Conv2d(6, 4, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(6) for _ in range(3))

    def fuse(self, i: int, *xs: Tensor) -> Tensor:
        w = F.relu(self.weights[i])
        w = w / (w.sum() + 1e-4)
        return self.convs[i](F.silu(sum(w[k] * x for k, x in enumerate(xs))))

    def forward(self, x: Tensor) -> list[Tensor]:
        p1, p2, p3 = (lat(f) for lat, f in zip(self.lateral, self.backbone(x).values(), strict=True))
        middle = self.fuse(0, p2, F.interpolate(p3, size=p2.shape[-2:], mode="nearest"))
        low = self.fuse(1, p1, F.interpolate(middle, size=p1.shape[-2:], mode="nearest"))
        high = self.fuse(2, middle, F.max_pool2d(low, 3, 2, 1))
        return [self.head(F.silu(n(self.tower(y)))) for n, y in zip(self.norms, (low, high, p3), strict=True)]


class Ghost(nn.Module):
    """GhostNet's module, which computes how much of the cheap half it needs."""

    def __init__(self, width: int, out: int, ratio: int = 2) -> None:
        super().__init__()
        self.out = out
        primary = math.ceil(out / ratio)
        self.primary = nn.Sequential(nn.Conv2d(width, primary, 1, bias=False), nn.BatchNorm2d(primary), nn.ReLU())
        self.cheap = nn.Sequential(nn.Conv2d(primary, primary, 3, 1, 1, groups=primary), nn.BatchNorm2d(primary))

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.primary(x)
        return torch.cat([x1, self.cheap(x1)], dim=1)[:, : self.out, :, :]


@net(IMAGE)
class GhostBottlenecks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.ghost1, self.ghost2 = Ghost(6, 9), Ghost(9, 6)
        self.depth, self.squeeze, self.excite = (
            nn.Conv2d(9, 9, 3, padding=1, groups=9),
            nn.Conv2d(9, 4, 1),
            nn.Conv2d(4, 9, 1),
        )
        self.head = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.depth(self.ghost1(x))
        y = y * F.hardtanh(self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))) + 0.5, 0.0, 1.0)
        return self.head(self.ghost2(y) + x)


class Cell(nn.Module):
    """NASNet: pairs of operations on the two cells before, and what nobody used, side by side."""

    def __init__(self, before: int, now: int, width: int, reduced: bool) -> None:
        super().__init__()
        self.reduced = reduced
        stride = 2 if reduced else 1
        self.fit_before, self.fit = nn.Conv2d(before, width, 1, stride), nn.Conv2d(now, width, 1)
        self.left = nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 3, 1, 1, groups=width), nn.Conv2d(width, width, 1))
        self.right = nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 5, 1, 2, groups=width))
        self.pool = nn.AvgPool2d(3, 1, 1, count_include_pad=False)

    def forward(self, before: Tensor, now: Tensor) -> Tensor:
        a, b = self.fit_before(before), self.fit(now)
        states = [a, b]
        states.append(self.left(states[0]) + self.right(states[1]))
        states.append(self.pool(states[1]) + states[2])
        states.append(self.left(states[3]) + states[0])
        return torch.cat(states[2:], dim=1)


@net(IMAGE)
class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem0, self.stem1 = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 6, 3, 2, 1)
        self.cells = nn.ModuleList([Cell(5, 6, 4, True), Cell(6, 12, 3, False)])
        self.head = nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        before = self.stem0(x)
        now = self.stem1(F.relu(before))
        for cell in self.cells:
            before, now = now, cell(before, now)
        return self.head(F.relu(now).mean((2, 3)))


class ConvUnit(nn.Module):
    """YOLO's convolution, norm and activation; the activation is one class attribute for all."""

    act = nn.SiLU()

    def __init__(self, c1: int, c2: int, k: int = 1) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(c1, c2, k, padding=k // 2, bias=False), nn.BatchNorm2d(c2)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class LayerAggregation(nn.Module):
    """YOLOv8's C2f: both halves and every step are kept in a list that extends itself."""

    def __init__(self, c1: int, c2: int, n: int) -> None:
        super().__init__()
        self.c = c2 // 2
        self.cv1, self.cv2 = ConvUnit(c1, 2 * self.c), ConvUnit((2 + n) * self.c, c2)
        self.m = nn.ModuleList(ConvUnit(self.c, self.c, 3) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.cv1(x).split((self.c, self.c), 1))
        y.extend(m(y[-1]) + y[-1] for m in self.m)
        return self.cv2(torch.cat(y, 1))


@net(IMAGE)
class Yolo(nn.Module):
    """CSP and ELAN stages, spatial pyramid pooling, a head of boxes and classes with distribution focal decoding."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.elan = ConvUnit(3, 6, 3), LayerAggregation(6, 8, 2)
        self.cv1, self.cv2, self.cv3 = ConvUnit(8, 4), ConvUnit(8, 4), ConvUnit(8, 7)
        self.spp1, self.spp2 = ConvUnit(7, 5), ConvUnit(20, 6)
        self.box, self.cls = nn.Conv2d(6, 16, 1), nn.Conv2d(6, 3, 1)
        self.register_buffer("bins", torch.arange(4.0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.elan(self.stem(x))
        x = self.cv3(torch.cat((self.cv1(x), self.cv2(x)), 1))
        y = [self.spp1(x)]
        y += [F.max_pool2d(y[0], k, 1, k // 2) for k in (3, 5, 7)]
        x = self.spp2(torch.cat(y, 1))
        n = x.shape[0]
        both = torch.cat([self.box(x), self.cls(x)], 1).view(n, 19, -1)
        box, cls = both.split((16, 3), 1)
        places = (box.view(n, 4, 4, -1).softmax(2) * self.bins.to(x)[:, None]).sum(2)
        return places, cls.sigmoid()


@net(IMAGE)
class SuperResolution(nn.Module):
    """EDSR: a mean shift, blocks with residual scaling, a global skip, PixelShuffle, the image added on top."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.body = nn.ModuleList(
            nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.PReLU(6), nn.Conv2d(6, 6, 3, padding=1)) for _ in range(2)
        )
        self.up, self.tail = nn.Conv2d(6, 24, 3, padding=1), nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        image = F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)
        x = skip = self.stem(x - self.mean)
        for block in self.body:
            x = x + 0.1 * block(x)
        x = F.pixel_shuffle(self.up(x + skip), 2)
        return self.tail(F.leaky_relu(x)) + self.mean + image


@net(SIGNAL)
class WaveNet(nn.Module):
    """Causal, dilated and gated convolutions over time, with residuals that are cut and skips that are summed."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(3, 5, 1)
        self.gates = nn.ModuleList(nn.Conv1d(5, 12, 2, dilation=2**i) for i in range(3))
        self.residuals = nn.ModuleList(nn.Conv1d(6, 5, 1) for _ in range(3))
        self.skips = nn.ModuleList(nn.Conv1d(6, 7, 1) for _ in range(3))
        self.head = nn.Sequential(nn.ReLU(), nn.Conv1d(7, 4, 1), nn.ReLU(), nn.Conv1d(4, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        total = 0
        for gate, residual, skip in zip(self.gates, self.residuals, self.skips, strict=True):
            y = gate(F.pad(x, (gate.dilation[0], 0)))
            filtered, gated = torch.chunk(y, 2, dim=1)
            y = torch.tanh(filtered) * torch.sigmoid(gated)
            total = total + skip(y)
            x = (residual(y) + x) * math.sqrt(0.5)
        return self.head(total)


@net(VOLUME)
class MedicalUNet(nn.Module):
    """3d U-Net: instance norms, strided convolutions, transposed ones, crops to the skip, deep supervision."""

    def __init__(self) -> None:
        super().__init__()
        self.d1 = nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.InstanceNorm3d(4, affine=True), nn.LeakyReLU(0.01))
        self.d2 = nn.Sequential(nn.Conv3d(4, 6, 3, 2, 1), nn.InstanceNorm3d(6, affine=True), nn.LeakyReLU(0.01))
        self.up = nn.ConvTranspose3d(6, 4, 2, stride=2)
        self.u1 = nn.Sequential(nn.Conv3d(8, 4, 3, padding=1), nn.InstanceNorm3d(4, affine=True), nn.LeakyReLU(0.01))
        self.deep, self.head = nn.Conv3d(6, 2, 1), nn.Conv3d(4, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = self.d1(x)
        b = self.d2(a)
        y = self.up(b)
        d, h, w = a.shape[2:]
        y = torch.cat([y[:, :, :d, :h, :w], a], dim=1)
        return self.head(self.u1(y)), self.deep(b)


class SameConv(nn.Conv2d):
    """TensorFlow's padding "same": computed from the size at run time, more on the right than on the left."""

    def forward(self, x: Tensor) -> Tensor:
        ih, iw = x.size()[-2:]
        kh, kw = self.weight.size()[-2:]
        sh, sw = self.stride
        oh, ow = math.ceil(ih / sh), math.ceil(iw / sw)
        dh = max((oh - 1) * sh + (kh - 1) * self.dilation[0] + 1 - ih, 0)
        dw = max((ow - 1) * sw + (kw - 1) * self.dilation[1] + 1 - iw, 0)
        if dh > 0 or dw > 0:
            x = F.pad(x, [dw // 2, dw - dw // 2, dh // 2, dh - dh // 2])
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


@net(IMAGE)
def same_padding() -> nn.Module:
    return nn.Sequential(
        SameConv(3, 6, 3, stride=2, bias=False),
        nn.BatchNorm2d(6),
        nn.SiLU(),
        SameConv(6, 6, 5, groups=6),
        SameConv(6, 8, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 4, 1),
    )


class OctaveConv(nn.Module):
    """Two resolutions in a tuple, each convolved into both."""

    def __init__(self, inside: tuple[int, int], out: tuple[int, int]) -> None:
        super().__init__()
        self.hh, self.hl = nn.Conv2d(inside[0], out[0], 3, padding=1), nn.Conv2d(inside[0], out[1], 3, padding=1)
        self.lh, self.ll = nn.Conv2d(inside[1], out[0], 1), nn.Conv2d(inside[1], out[1], 3, padding=1)

    def forward(self, x: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        high, low = x
        up = F.interpolate(self.lh(low), scale_factor=2, mode="nearest")
        return self.hh(high) + up, self.ll(low) + self.hl(F.avg_pool2d(high, 2))


@net(IMAGE)
class Octave(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.low = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 3, 3, 2, 1)
        self.convs = nn.ModuleList([OctaveConv((4, 3), (5, 3)), OctaveConv((5, 3), (6, 4))])
        self.last = nn.Conv2d(4, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        pair = self.stem(x), self.low(x)
        for conv in self.convs:
            pair = tuple(F.relu(y) for y in conv(pair))
        high, low = pair
        return self.head(high.mean([2, 3]) + self.last(low).mean([2, 3]))


@net(IMAGE)
class RepVgg(nn.Module):
    """Three branches that may be missing: 3x3, 1x1 and a norm alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 1)
        self.dense = nn.ModuleList(nn.Conv2d(6, 6, 3, padding=1, bias=False) for _ in range(2))
        self.small = nn.ModuleList(nn.Conv2d(6, 6, 1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(6) for _ in range(2))
        self.missing = None
        self.scale = param(6, 1, 1)
        self.head = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for dense, small, norm in zip(self.dense, self.small, self.norms, strict=True):
            extra = 0 if self.missing is None else self.missing(x)
            x = F.relu(dense(x) + small(x) + norm(x) + extra)
        return self.head(x * self.scale)
