"""An attention with one head grows by heads, where the code has a number of them that is 1."""

from contextlib import suppress

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from tests.check import assert_exact, randomise

FORMS = ("-1", "head_dim", "joined", "chunk", "with the batch")


class Attention(nn.Module):
    def __init__(self, channels: int, heads: int, form: str, *, fused: bool) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.form, self.fused = heads, channels // heads, form, fused
        self.q, self.kv = nn.Linear(channels, channels), nn.Linear(channels, 2 * channels)
        self.last = nn.Linear(channels, channels)

    def apart(self, x: Tensor) -> Tensor:
        """(N, T, heads * E) -> (N, heads, T, E), or (N * heads, T, E)."""
        n, t, _ = x.shape
        if self.form == "-1":
            return x.reshape(n, t, self.num_heads, -1).permute(0, 2, 1, 3)
        if self.form == "joined":
            return x.view(x.size()[:-1] + (self.num_heads, self.head_dim)).transpose(1, 2)  # noqa: RUF005 - as models have it
        x = x.view(n, t, self.num_heads, self.head_dim).transpose(1, 2)
        return x.reshape(n * self.num_heads, t, self.head_dim) if self.form == "with the batch" else x

    def forward(self, x: Tensor) -> Tensor:
        n, t, channels = x.shape
        if self.form == "-1":
            pair = self.kv(x).reshape(n, t, 2, self.num_heads, channels // self.num_heads).permute(2, 0, 3, 1, 4)
            k, v = pair.unbind(0)
        else:
            k, v = (self.apart(part) for part in self.kv(x).chunk(2, -1))
        q = self.apart(self.q(x))
        if self.fused:
            x = F.scaled_dot_product_attention(q, k, v)
        else:
            mask = torch.ones(t, t, device=x.device).triu(1).bool()
            weights = (q @ k.transpose(-2, -1)) * self.head_dim**-0.5
            x = weights.masked_fill(mask, -1e9).softmax(-1) @ v
        x = x.view(n, self.num_heads, t, self.head_dim) if self.form == "with the batch" else x
        return self.last(x.transpose(1, 2).reshape(n, t, channels))


class Block(nn.Module):
    def __init__(self, channels: int, heads: int, form: str, *, fused: bool) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(channels), Attention(channels, heads, form, fused=fused)
        self.mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm(x))
        return x + self.mlp(x)


def _net(form: str, *, fused: bool) -> nn.Sequential:
    torch.manual_seed(0)
    one, two = (Block(channels, heads, form, fused=fused) for channels, heads in ((8, 1), (16, 2)))
    return randomise(nn.Sequential(nn.Linear(6, 8), one, nn.Linear(8, 16), two, nn.Linear(16, 3)).double())


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("form", [form for form in FORMS if form != "with the batch"])
def test_one_head_becomes_more(form: str, fused: bool, output: str) -> None:
    teacher = _net(form, fused=fused)
    for batch, factor in ((2, 2.0), (1, 3.0)):
        x = torch.randn(batch, 5, 6, dtype=torch.float64)
        student = fxgrow.grow(teacher, factor, x, output=output)
        for name in ("0.weight", "1.attention.q.weight", "1.attention.last.weight", "3.attention.kv.weight"):
            assert student.get_parameter(name).shape[0] == factor * teacher.get_parameter(name).shape[0], name
        assert_exact(teacher, student, x, 1e-10)
    if output == "module":
        assert student[1].attention.num_heads == 3
        assert student[1].attention.head_dim == 8 or (form == "-1" and fused)  # which forward does not read there


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("fused", [True, False])
def test_heads_that_the_code_joins_with_the_batch_are_exact_or_stay(fused: bool, output: str) -> None:
    teacher = _net("with the batch", fused=fused)
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    assert_exact(teacher, fxgrow.grow(teacher, 2.0, x, output=output), x, 1e-10)


@pytest.mark.parametrize("write", ["the joined heads", "the parts", "nothing"])
def test_what_is_written_to_a_view_of_one_head_is_not_lost_in_a_copy_of_two(write: str) -> None:
    """With one head `reshape` gives a view, and what is written to it is in both; with two it gives a copy."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.num_heads, self.a, self.b, self.c = 1, nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            n, t, _ = x.shape
            q = self.a(x).reshape(n, t, self.num_heads, -1).transpose(1, 2)
            y = torch.tanh(F.scaled_dot_product_attention(q, q, q))
            joined = y.transpose(1, 2).reshape(n, t, -1)
            if write == "the joined heads":
                joined.mul_(2)
            elif write == "the parts":
                y.mul_(2)
            return self.c(joined + self.b(y.transpose(1, 2).flatten(2)))

    torch.manual_seed(0)
    teacher, x = randomise(Net().double()), torch.randn(2, 5, 6, dtype=torch.float64)
    for output in ("graph", "module"):
        if write != "nothing":
            with suppress(fxgrow.PlanError):
                assert_exact(teacher, fxgrow.grow(teacher, 2.0, x, output=output), x, 1e-10, changed=False)
            continue
        student = fxgrow.grow(teacher, 2.0, x, output=output)
        assert student.get_parameter("a.weight").shape[0] == 16
        assert_exact(teacher, student, x, 1e-10)


def test_a_number_named_heads_that_is_none_is_harmless() -> None:
    """Where a factor of 1 is no number of parts, the width grows as if it were not there."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads, self.a, self.norm, self.b = 1, nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.relu(self.a(x)).view(x.shape[0], self.heads, -1)
            return self.b(self.norm(y.mean(1)))

    torch.manual_seed(0)
    teacher, x = randomise(Net().double()), torch.randn(4, 6, dtype=torch.float64)
    for output in ("graph", "module"):
        student = fxgrow.grow(teacher, 2.0, x, output=output)
        assert student.get_parameter("a.weight").shape[0] == 16
        assert_exact(teacher, student, x, 1e-10)
