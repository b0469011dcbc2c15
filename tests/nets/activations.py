"""Every activation of torch.nn, as a module, in place and as a function."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.registry import IMAGE, TOKENS, Between, add, between

MODULES: dict[str, Callable[[], nn.Module]] = {
    "celu": lambda: nn.CELU(0.7),
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "hardshrink": nn.Hardshrink,
    "hardsigmoid": nn.Hardsigmoid,
    "hardswish": nn.Hardswish,
    "hardtanh": lambda: nn.Hardtanh(-0.5, 0.7),
    "identity": nn.Identity,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "logsigmoid": nn.LogSigmoid,
    "log_softmax_over_space": lambda: nn.LogSoftmax(dim=-1),
    "mish": nn.Mish,
    "prelu_per_channel": lambda: nn.PReLU(6),
    "prelu_shared": nn.PReLU,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "rrelu": nn.RReLU,
    "selu": nn.SELU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softmax_over_space": lambda: nn.Softmax(dim=3),
    "softmin_over_space": lambda: nn.Softmin(dim=2),
    "softplus": lambda: nn.Softplus(beta=2, threshold=1),
    "softshrink": nn.Softshrink,
    "softsign": nn.Softsign,
    "tanh": nn.Tanh,
    "tanhshrink": nn.Tanhshrink,
    "threshold": lambda: nn.Threshold(0.1, -0.3),
}
IN_PLACE: dict[str, Callable[[], nn.Module]] = {
    "celu": lambda: nn.CELU(inplace=True),
    "elu": lambda: nn.ELU(inplace=True),
    "hardsigmoid": lambda: nn.Hardsigmoid(inplace=True),
    "hardswish": lambda: nn.Hardswish(inplace=True),
    "hardtanh": lambda: nn.Hardtanh(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.2, inplace=True),
    "mish": lambda: nn.Mish(inplace=True),
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": lambda: nn.ReLU6(inplace=True),
    "rrelu": lambda: nn.RReLU(inplace=True),
    "selu": lambda: nn.SELU(inplace=True),
    "silu": lambda: nn.SiLU(inplace=True),
    "threshold": lambda: nn.Threshold(0.1, -0.3, inplace=True),
}
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "celu": F.celu,
    "clamp": lambda x: x.clamp(min=-0.2, max=0.6),
    "elu": F.elu,
    "exp": lambda x: torch.exp(-x.square()),
    "gelu": F.gelu,
    "hardshrink": F.hardshrink,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "hardtanh": F.hardtanh,
    "leaky_relu": F.leaky_relu,
    "logsigmoid": F.logsigmoid,
    "maximum": lambda x: torch.maximum(x, 0.1 * x),
    "mish": F.mish,
    "relu": F.relu,
    "relu_": lambda x: F.relu_(x),
    "relu6": F.relu6,
    "relu_inplace": lambda x: F.relu(x, inplace=True),
    "relu_squared": lambda x: F.relu(x) ** 2,
    "selu": F.selu,
    "sigmoid_times": lambda x: x * x.sigmoid(),
    "silu": F.silu,
    "sin": torch.sin,
    "softmax_over_space": lambda x: x.flatten(2).softmax(-1).view_as(x),
    "softplus": F.softplus,
    "softshrink": F.softshrink,
    "softsign": F.softsign,
    "swish_by_hand": lambda x: x / (1 + torch.exp(-x)),
    "tanhshrink": F.tanhshrink,
    "tensor_relu": lambda x: x.relu(),
    "tensor_relu_": lambda x: x.relu_(),
    "threshold": lambda x: F.threshold(x, 0.1, -0.3),
    "torch_relu": torch.relu,
    "torch_tanh": torch.tanh,
    "where": lambda x: torch.where(x > 0, x, 0.3 * x),
    "inplace_arithmetic": lambda x: x.mul_(0.5).add_(0.1).clamp_(-1, 1),
    "augmented": lambda x: _augmented(x),
}


def _augmented(x: Tensor) -> Tensor:
    x += 0.1
    x *= x.sigmoid()
    x -= 0.2
    return x


for _name, _module in MODULES.items():
    add(f"activation_{_name}", lambda make=_module: between(make()), IMAGE)
for _name, _module in IN_PLACE.items():
    add(f"activation_in_place_{_name}", lambda make=_module: between(make()), IMAGE)
for _name, _function in FUNCTIONS.items():
    add(f"function_{_name}", lambda f=_function: between(f), IMAGE)

add(
    "prelu_per_channel_on_rows",
    lambda: Between(nn.PReLU(6), nn.Linear(7, 6), nn.Linear(6, 4)),
    (5, 7),
)
add(
    "glu_module",
    lambda: Between(nn.GLU(dim=1), nn.Conv2d(3, 8, 3), nn.Conv2d(4, 5, 1)),
    IMAGE,
)
add(
    "glu_function_on_tokens",
    lambda: Between(F.glu, nn.Linear(7, 12), nn.Linear(6, 4)),
    TOKENS,
)
