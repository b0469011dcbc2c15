"""A mask over the batch, over words or over channels selects entries that are written: what grows is exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow import PlanError
from tests.check import assert_exact, randomise, relative_error

WORDS = torch.tensor([[True, False, True], [False, False, True]])
X = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Masked(nn.Module):
    def __init__(self, write: Callable[[nn.Module, Tensor, Tensor], None]) -> None:
        super().__init__()
        self.write = write
        self.first, self.last, self.token = nn.Linear(4, 8), nn.Linear(8, 2), nn.Parameter(torch.randn(8))
        self.single = nn.Parameter(torch.randn(3, 1))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = torch.relu(self.first(x)).clone()
        self.write(self, x, mask)
        return self.last(x)  # type: ignore[no-any-return]


def _token(net: Any, x: Tensor, mask: Tensor) -> None:
    x[mask] = net.token


def _number(net: Any, x: Tensor, mask: Tensor) -> None:
    x[mask] = 0.5


def _behind(net: Any, x: Tensor, mask: Tensor) -> None:
    x[:, mask[0]] = net.token


def _batch(net: Any, x: Tensor, mask: Tensor) -> None:
    x[mask.any(1)] = net.single


def _own(net: Any, x: Tensor, mask: Tensor) -> None:
    x[x > 1] = 1.0


def _infinite(net: Any, x: Tensor, mask: Tensor) -> None:
    x[mask] = float("inf")
    x.copy_(torch.exp(-x))


@pytest.mark.parametrize("write", [_token, _number, _behind, _batch, _own], ids=lambda write: write.__name__)
def test_widths_grow_through_a_mask(write: Any) -> None:
    net = randomise(Masked(write).double()).eval()
    student = fxgrow.grow(net, {"first": 12}, (X, WORDS))
    assert fxgrow.plan_of(student).width("first").new == 12
    for mask in (WORDS, ~WORDS, WORDS.flip(0)):
        assert relative_error(student(X, mask), net(X, mask)) <= 1e-10


def test_infinities_behind_a_mask_stay_exact() -> None:
    net = randomise(Masked(_infinite).double()).eval()
    student = fxgrow.grow(net, {"first": 16}, (X, WORDS))
    assert relative_error(student(X, WORDS), net(X, WORDS)) <= 1e-10


CHANNELS = torch.tensor([True, False] * 4)


def _by_channel(net: Any, x: Tensor, mask: Tensor) -> None:
    x[:, :, CHANNELS] = 0.0


def test_a_mask_over_channels_pins_them() -> None:
    net = randomise(Masked(_by_channel).double()).eval()
    with pytest.raises(PlanError, match="first"):
        fxgrow.grow(net, {"first": 12}, (X, WORDS))


def _each(net: Any, x: Tensor, mask: Tensor) -> None:
    x[mask] = torch.tanh(x[mask])


def _each_behind(net: Any, x: Tensor, mask: Tensor) -> None:
    x[:, mask[0]] = x[:, mask[0]] * net.token


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("write", [_each, _each_behind], ids=lambda write: write.__name__)
def test_entries_that_a_mask_selects_are_read_and_written(write: Any, output: Any) -> None:
    net = randomise(Masked(write).double()).eval()
    student = fxgrow.grow(net, {"first": 12}, (X, WORDS), output=output)
    assert fxgrow.plan_of(student).width("first").new == 12
    for mask in (WORDS, ~WORDS, WORDS.flip(0)):
        assert relative_error(student(X, mask), net(X, mask)) <= 1e-10


class Selects(nn.Module):
    """Works on some rows, words or channels."""

    def __init__(self, select: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.select, self.first, self.last = select, nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.select(torch.relu(self.first(x)), x))  # type: ignore[no-any-return]


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize(
    "select",
    [
        lambda h, x: h[WORDS],
        lambda h, x: h[WORDS.any(1)],
        lambda h, x: h[:, WORDS[0]],
        lambda h, x: h[x[..., 0] > 0],
        lambda h, x: torch.cat([h[x[..., 0] > 0], h[x[..., 0] <= 0]]),
    ],
    ids=["words", "batch", "behind the batch", "by numbers", "in two parts"],
)
def test_widths_behind_what_a_mask_selects_grow(select: Any, output: Any) -> None:
    net = randomise(Selects(select).double()).eval()
    student = fxgrow.grow(net, {"first": 12}, X, output=output)
    for x in (X, X.flip(0), -X * torch.linspace(1, 2, 4)):
        assert student(x).shape == net(x).shape
        assert relative_error(student(x), net(x)) <= 1e-10


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize(
    "select", [lambda h, x: h[..., :4] + h[..., CHANNELS], lambda h, x: h + h[h > 0.1].mean()], ids=["channels", "own"]
)
def test_what_a_mask_selects_from_channels_pins_them(select: Any, output: Any) -> None:
    net = Selects(select).double()
    net.last = nn.LazyLinear(2).double()
    net(X)
    with pytest.raises(PlanError, match="first"):
        fxgrow.grow(net, {"first": 12}, X, output=output)


@pytest.mark.parametrize("output", ["graph", "module"])
def test_the_student_takes_another_number_of_selected_entries(output: Any) -> None:
    net = randomise(Selects(lambda h, x: h[x[..., 0] > 0]).double()).eval()
    student = fxgrow.grow(net, {"first": 12}, X, output=output)
    x = X.clone()
    for number in range(1, 6):
        x[..., 0].view(-1)[:] = torch.arange(6) - 5 + number - 0.5
        assert student(x).shape[0] == number
        assert relative_error(student(x), net(x)) <= 1e-10


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("factor", [1.5, 2.0])
@pytest.mark.parametrize("output", ["graph", "module"])
def test_an_encoder_with_a_mask_over_padding_grows(output: Any, factor: float) -> None:
    """Without gradients torch computes it in nested tensors, which no run on meta can."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.encoder = nn.Embedding(20, 8), nn.TransformerEncoder(layer, 2)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.encoder(self.embed(tokens), src_key_padding_mask=tokens == 0)  # type: ignore[no-any-return]

    teacher = Encoder().double().eval()
    tokens = torch.tensor([[3, 5, 7, 0], [4, 2, 0, 0]])
    student = fxgrow.grow(teacher, factor, tokens, output=output).eval()
    assert student.get_parameter("encoder.layers.0.linear1.weight").shape[0] == 16 * factor
    torch.testing.assert_close(student(tokens), teacher(tokens))
    with torch.no_grad():
        torch.testing.assert_close(student(tokens), teacher(tokens))


class BlocksOfAMask(nn.Module):
    """A mask over the steps that is written block by block, then expanded, as that of Pixtral's attention."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.q, self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        h, steps = self.a(x), x.shape[1]
        mask = torch.full((steps, steps), torch.finfo(h.dtype).min, dtype=h.dtype, device=h.device)
        for start in range(0, steps, 3):
            mask[start : start + 3, start : start + 3] = 0
        mask = mask[None, None, :, :].expand(len(x), 1, -1, -1)
        weights = (self.q(h) @ h.transpose(1, 2) + mask[:, 0]).softmax(-1)
        return self.down(self.up(weights @ h).relu())


@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_mask_that_is_written_block_by_block_may_be_expanded(output: str) -> None:
    teacher, x = randomise(BlocksOfAMask().double()), torch.randn(2, 6, 4, dtype=torch.float64)
    student = fxgrow.grow(teacher, 2.0, x, output=output)
    assert student.get_parameter("up.weight").shape == (24, 8)
    assert_exact(teacher, student, x, 1e-10)
