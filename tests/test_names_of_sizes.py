"""What a user's class has under the name of a size is none unless it is an int or ints, such as a tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from fxgrow.model.stated import stated_int, stated_size, states_its_sizes
from tests.check import assert_exact, randomise, relative_error, run


class Conv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, padding=1)


class Norm(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training)


class OneNorm(nn.InstanceNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.instance_norm(x, None, None, self.weight, self.bias)


class RowNorm(nn.RMSNorm):
    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight)


class Map(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class Own(nn.Module):
    """It has a `weight`, as a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.groups = nn.Parameter(torch.randn(8, 8)), 1

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.t()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.one, self.b = (
            Conv(3, 6, 3, padding=1),
            Norm(6),
            OneNorm(6, affine=True),
            Conv(6, 8, 3, padding=1),
        )
        self.own, self.c, self.rows, self.head = Own(), Map(8, 6), RowNorm(6), Map(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.one(self.norm(self.a(x))).relu())
        return self.head(self.rows(self.c(self.own(x.mean((2, 3))))).relu())


NAMES = (
    "groups", "in_channels", "out_channels", "in_features", "out_features", "num_features", "normalized_shape",
    "kernel_size", "stride", "padding", "padding_mode",
)  # fmt: skip
ODD: dict[str, Callable[[Any], Any]] = {
    "a tensor": lambda size: torch.arange(8),
    "a tensor of one number": lambda size: torch.tensor(size[0] if isinstance(size, tuple) else 8),
    "an array": lambda size: np.arange(8),
    "None": lambda size: None,
}
LIKE_SIZES: dict[str, Callable[[Any], Any]] = {
    "a number of numpy": lambda size: np.int64(size) if isinstance(size, int) else tuple(map(np.int64, size)),
    "a list": lambda size: list(size) if isinstance(size, tuple) else size,
}


def net_with(name: str, odd: Callable[[Any], Any]) -> tuple[nn.Module, Tensor]:
    """A net, each layer of which has something else under a name."""
    torch.manual_seed(0)
    net = randomise(Net().double())
    for module in net.modules():
        if name in vars(module):
            size = vars(module).pop(name)
            value = odd(size if not isinstance(size, str) else 8)
            if isinstance(value, Tensor) and value.ndim:
                module.register_buffer(name, value)
            else:
                setattr(module, name, value)
    return net.eval(), torch.randn(2, 3, 5, 5, dtype=torch.float64)


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_called_like_a_size_and_is_none_is_no_obstacle(name: str, odd: str, output: Any) -> None:
    net, x = net_with(name, ODD[odd])
    before = str(vars(net.a))
    student = fxgrow.grow(net, 1.5, x, output=output)
    assert student.get_parameter("a.weight").shape[0] == 9
    assert relative_error(run(student, x), run(net, x)) < 1e-10
    assert str(vars(net.a)) == before


@pytest.mark.parametrize("like", LIKE_SIZES)
@pytest.mark.parametrize("name", NAMES[:-1])
def test_sizes_of_other_types_are_sizes(name: str, like: str) -> None:
    net, x = net_with(name, LIKE_SIZES[like])
    student = fxgrow.grow(net, 1.5, x, output="module")
    assert_exact(net, student, x, 1e-10)
    assert not name.endswith(("channels", "features")) or stated_int(student.a, name, 9) in (3, 9)


REQUESTS = [fxgrow.Deepen("a"), fxgrow.Deepen("c"), fxgrow.Kernel("a", 5)]


@pytest.mark.parametrize("odd", ["a tensor", "an array"])
@pytest.mark.parametrize("name", NAMES)
def test_layers_without_stated_sizes_get_others_or_a_reason(name: str, odd: str) -> None:
    net, x = net_with(name, ODD[odd])
    for request in REQUESTS:
        try:
            student = fxgrow.grow(net, request, x, output="module")
        except fxgrow.GrowError as error:
            assert "fails:" not in str(error)  # noqa: PT017 - either outcome is right
        else:
            assert relative_error(run(student, x), run(net, x)) < 1e-10
    rows = fxgrow.scores(net, [x], lambda model, batch: model(batch).square().mean()).rows
    assert rows


class Raises(nn.Linear):
    @property
    def groups(self) -> int:
        raise RuntimeError("not yet")


def test_a_stated_size_is_an_int_or_a_tuple_of_ints() -> None:
    layer: Any = nn.Linear(2, 3)
    layer.mixed, layer.flag, layer.sizes = (1, torch.tensor(2)), True, [1, 2]
    assert [stated_size(layer, name) for name in ("mixed", "flag", "sizes", "out_features", "missing")] == [
        None, None, (1, 2), 3, None,
    ]  # fmt: skip
    assert stated_int(Raises(2, 3), "groups", 1) == 1
    assert states_its_sizes(layer)
    assert not states_its_sizes(nn.ReLU())
