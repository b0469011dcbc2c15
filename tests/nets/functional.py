"""Weights used without their layer: functional calls, matrix products, scales, gates, buffers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.registry import IMAGE, ROWS, SIGNAL, TOKENS, net, param


@net(IMAGE)
class FunctionalConv2d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w1, self.b1 = param(6, 3, 3, 3), param(6)
        self.w2, self.b2 = param(6, 1, 3, 3), param(6)
        self.w3 = param(4, 6, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.conv2d(x, self.w1, self.b1, stride=2, padding=1))
        x = torch.tanh(F.conv2d(x, self.w2, self.b2, padding=1, groups=6))
        return torch.conv2d(x, self.w3)


@net(SIGNAL)
class FunctionalConv1d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w1, self.b1 = param(8, 3, 3), param(8)
        self.w2 = param(6, 4, 3)
        self.w3 = param(6, 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(F.conv1d(x, weight=self.w1, bias=self.b1))
        x = torch.tanh(F.conv1d(x, self.w2, groups=2))
        return F.conv_transpose1d(x, self.w3)


@net(ROWS)
class FunctionalLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w1, self.b1 = param(6, 7), param(6)
        self.w2 = param(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.relu(F.linear(x, self.w1, self.b1)), self.w2)


@net(ROWS)
class MatrixProducts(nn.Module):
    """The same product, written in six ways."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2, self.w3 = param(7, 6), param(6, 5), param(5, 8)
        self.w4, self.w5, self.w6 = param(9, 8), param(9, 6), param(6, 4)
        self.b3 = param(8)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(x @ self.w1)
        x = torch.tanh(torch.mm(x, self.w2))
        x = torch.tanh(torch.addmm(self.b3, x, self.w3))
        x = torch.tanh(torch.matmul(x, self.w4.t()))
        x = torch.tanh(torch.einsum("nc,cd->nd", x, self.w5))
        return (self.w6.t() @ x.t()).T


@net(TOKENS)
class TokenProducts(nn.Module):
    """Products with a batch of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2, self.w3 = param(7, 6), param(5, 6), param(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(x @ self.w1)
        x = torch.tanh(torch.einsum("btc,dc->btd", x, self.w2))
        return torch.tensordot(x, self.w3, dims=([2], [1]))


@net(IMAGE)
class PointwiseByEinsum(nn.Module):
    """A 1x1 convolution as einsum and as a product with the weight on the left."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2, self.w3 = param(6, 3), param(5, 6), param(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(torch.einsum("nchw,oc->nohw", x, self.w1))
        n, c, h, w = x.shape
        x = torch.tanh(self.w2 @ x.reshape(n, c, h * w))  # (N, 5, H*W)
        x = torch.einsum("oc,ncl->nol", self.w3, x)
        return x.reshape(n, -1, h, w)


@net(IMAGE)
class FunctionalNorms(nn.Module):
    """Batch norm with its own statistics, and instance norm."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2, self.w3 = param(6, 3, 3, 3), param(5, 6, 1, 1), param(4, 5, 1, 1)
        self.gain, self.shift = nn.Parameter(torch.ones(6)), nn.Parameter(torch.zeros(6))
        self.register_buffer("running_mean", torch.zeros(6))
        self.register_buffer("running_var", torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.w1)
        x = F.batch_norm(x, self.running_mean, self.running_var, self.gain, self.shift, training=self.training)
        x = F.conv2d(F.relu(x), self.w2)
        return F.conv2d(F.instance_norm(x), self.w3)


@net(TOKENS, any_factor=False)
class FunctionalLayerNorm(nn.Module):
    """The normalised shape stands as a number in one call, comes from the input in the other."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2, self.w3 = param(6, 7), param(8, 6), param(4, 8)
        self.gain, self.shift = param(6), param(6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(F.linear(x, self.w1), (6,), self.gain, self.shift)
        x = F.linear(F.relu(x), self.w2)
        return F.linear(F.layer_norm(x, x.shape[-1:]), self.w3)


@net(IMAGE, any_factor=False)
class FunctionalGroupNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3)
        self.gain, self.shift = param(8), param(8)
        self.b = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(F.group_norm(self.a(x), 4, self.gain, self.shift)))


@net(IMAGE)
class DirectParameters(nn.Module):
    """Scales, shifts, slopes and gates of all shapes that broadcast."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 1, bias=False)
        self.scale, self.shift = param(1, 6, 1, 1), param(6, 1, 1)
        self.gate, self.slope = param(6), param(6)
        self.temperature = nn.Parameter(torch.tensor(0.7))
        self.c = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x) * self.scale + self.shift
        gate = torch.sigmoid(self.gate)[None, :, None, None]
        x = gate * x + (1 - gate) * self.b(x)
        return self.c(F.prelu(x, self.slope) * self.temperature.exp())


# The table has the map's own size in its last two dimensions, which stay.
@net(IMAGE)
class PositionTables(nn.Module):
    """Position tables as parameter, as persistent and as passing buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, padding=1)
        self.table = nn.Parameter(torch.randn(1, 6, 6, 8))
        self.register_buffer("mask", torch.rand(6, 6, 8))
        self.register_buffer("offset", torch.randn(1, 6, 1, 1), persistent=False)
        self.register_buffer("calls", torch.tensor(3))
        self.b = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b((self.a(x) + self.table) * self.mask - self.offset / self.calls)


@net(TOKENS, grows=("a.weight", "token", "table", "b.weight"))
class ClassToken(nn.Module):
    """A learned token before the others, and a table of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(7, 6)
        self.token = nn.Parameter(torch.randn(1, 1, 6))
        self.table = nn.Parameter(torch.randn(1, 6, 6))  # (1, tokens + 1, features)
        self.b = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(x.size(0), -1, -1), self.a(x)], dim=1) + self.table
        x = self.b(torch.tanh(x))
        return x[:, 0] * x[:, 1:].amax(1)


@net(ROWS)
class FrozenParameters(nn.Module):
    """Half of the weights do not train."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(7, 6), nn.Linear(6, 8), nn.Linear(8, 4)
        self.a.requires_grad_(False)
        self.b.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))


@net(IMAGE)
class ScaledWeights(nn.Module):
    """Equalised learning rate: the weight is scaled at each call."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2, self.w3 = param(6, 3, 3, 3), param(5, 6, 3, 3), param(4, 5, 1, 1)
        self.gain = param(5, 1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(F.conv2d(x, self.w1 * 0.5))
        x = torch.tanh(F.conv2d(x, self.w2 * self.gain))
        return F.conv2d(x, self.w3 / 3)


@net(IMAGE, grows=("w1", "w2", "w3"))
class ScaledFromTheLeft(ScaledWeights):
    """The same with the factors first: which operand is the weight must not depend on its place."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(F.conv2d(x, 0.5 * self.w1))
        x = torch.tanh(F.conv2d(x, self.gain * self.w2))
        return F.conv2d(x, torch.mul(torch.full((1,), 0.3, dtype=x.dtype), self.w3))


@net(IMAGE, grows="none")  # the parts of a weight survive neither a cast that rounds nor one to its truth
class CastWeights(ScaledWeights):
    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(F.conv2d(x, self.w1.double().to(x.dtype)))
        x = torch.tanh(F.conv2d(x, self.w2.bool().to(x.dtype) * self.gain))
        return F.conv2d(x, self.w3.bfloat16().to(x.dtype))


@net(IMAGE, grows="none")
class SquaredWeights(ScaledWeights):
    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(F.conv2d(x, self.w1))
        x = torch.tanh(F.conv2d(x, self.w2 * self.w2 * self.gain))
        return F.conv2d(x, self.w3 / self.w3.abs().sqrt())


@net(IMAGE, grows=("a.weight", "b.weight"))
class ExpandedWeight(nn.Module):
    """A sum over channels written as a convolution with one number, expanded: that width must stay."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 6, 1), nn.Conv2d(6, 4, 1)
        self.w = param(1, 1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.b(torch.tanh(self.a(x))))
        return self.c(x * F.conv2d(x, self.w.expand(1, 6, 1, 1)))
