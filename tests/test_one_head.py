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


class OneHead(nn.Module):
    """`nn.MultiheadAttention` in the ways in which it is called."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        options = {
            "kdim": {"kdim": 5, "vdim": 4},
            "bias_kv": {"add_bias_kv": True},
            "zero": {"add_zero_attn": True},
            "no bias": {"bias": False},
        }.get(form, {})
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
        self.attention = nn.MultiheadAttention(8, 1, batch_first=form != "steps first", **options)
        self.keys, self.values = nn.Linear(6, 5), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        q = self.first(x)
        if self.form == "kdim":
            return self.last(q + self.attention(q, self.keys(x), self.values(x))[0])
        if self.form == "cross":
            return self.last(q + self.attention(q, q[:, :3].tanh(), q[:, :3], need_weights=False)[0])
        if self.form == "padding":
            mask = x[..., 0] > 0.5
            mask = mask.index_fill(1, torch.zeros(1, dtype=torch.int64), 0)  # no row is masked throughout
            return self.last(q + self.attention(q, q, q, key_padding_mask=mask)[0])
        if self.form == "causal":
            mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
            return self.last(q + self.attention(q, q, q, attn_mask=mask, need_weights=False)[0])
        if self.form == "unbatched":
            return self.last(q[0] + self.attention(q[0], q[0], q[0])[0])
        out, weights = self.attention(q, q, q)
        return (self.last(q + out), weights) if self.form == "weights" else self.last(q + out)


ONE_HEAD = (
    "plain", "steps first", "kdim", "cross", "causal", "unbatched", "weights", "no bias", "bias_kv", "zero", "padding",
)  # fmt: skip


NOT_KNOWN = (
    ("zero", (1, 4, 6)),
    ("padding", (4, 1, 6)),
)  # nothing tells what a 1 is the size of


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("form", ONE_HEAD)
def test_one_head_of_an_attention_of_torch_becomes_more(form: str, output: str) -> None:
    torch.manual_seed(0)
    teacher = randomise(OneHead(form).double())
    for shape, factor in (((2, 5, 6), 2.0), ((1, 4, 6), 3.0), ((4, 1, 6), 2.0), ((8, 8, 6), 2.0)):
        x = torch.randn(shape, dtype=torch.float64)
        if (form, shape) in NOT_KNOWN:
            with pytest.raises(fxgrow.PlanError, match="meets the fixed size"):
                fxgrow.grow(teacher, factor, x, output=output)
            continue
        student = fxgrow.grow(teacher, factor, x, output=output)
        assert_exact(teacher, student, x, 1e-10)
        assert student.get_parameter("attention.out_proj.weight").shape == (8 * factor, 8 * factor)
        assert student.get_submodule("attention").num_heads == factor


@pytest.mark.parametrize("output", ["graph", "module"])
def test_an_attention_over_one_channel_is_exact_or_stays(output: str) -> None:
    class OneChannel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.attention = nn.Linear(6, 1), nn.MultiheadAttention(1, 1, batch_first=True)
            self.last = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 2))

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.last(x + self.attention(x, x, x)[0])  # type: ignore[no-any-return]

    torch.manual_seed(0)
    teacher, x = randomise(OneChannel().double()), torch.randn(2, 5, 6, dtype=torch.float64)
    assert_exact(teacher, fxgrow.grow(teacher, 2.0, x, output=output), x, 1e-10)


@pytest.mark.parametrize("output", ["graph", "module"])
def test_layers_of_transformers_with_one_head_grow(output: str) -> None:
    torch.manual_seed(0)
    layers = [nn.TransformerEncoderLayer(8, 1, 12, batch_first=True, dropout=0.0) for _ in range(2)]
    teacher = randomise(nn.Sequential(nn.Linear(6, 8), *layers, nn.Linear(8, 3)).double())
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    student = fxgrow.grow(teacher, {"1.self_attn": 16}, x, output=output)
    assert student.get_submodule("2.self_attn").num_heads == 2
    assert_exact(teacher, student, x, 1e-10)


KEYS = ("literal", "attribute", "unsqueeze", "expand", "repeat_interleave", "reshape", "gqa")


class OneKey(nn.Module):
    """An attention with four heads of queries and one of keys and values."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.num_heads, self.num_key_heads, self.head_dim = form, 4, 1, 4
        self.q, self.kv, self.last = nn.Linear(16, 16), nn.Linear(16, 8), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q = self.q(x).view(n, t, self.num_heads, self.head_dim).transpose(1, 2)
        k, v = map(self.key, self.kv(x).chunk(2, -1))
        if self.form == "gqa":
            y = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        elif k.shape[1] == 1:
            y = ((q @ k.transpose(-1, -2)) * self.head_dim**-0.5).softmax(-1) @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v)
        return self.last(y.transpose(1, 2).reshape(n, t, -1))

    def key(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        if self.form == "unsqueeze":
            return x.unsqueeze(1)
        if self.form == "literal":
            return x.view(n, t, 1, self.head_dim).transpose(1, 2)
        x = x.view(n, t, self.num_key_heads, self.head_dim).transpose(1, 2)
        times = self.num_heads // self.num_key_heads
        if self.form == "expand":
            return x.expand(-1, self.num_heads, -1, -1)
        if self.form == "repeat_interleave":
            return x.repeat_interleave(times, 1)
        if self.form == "reshape":
            x = x[:, :, None].expand(n, self.num_key_heads, times, t, self.head_dim)
            return x.reshape(n, self.num_key_heads * times, t, self.head_dim)
        return x


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("form", KEYS)
def test_heads_of_queries_that_share_one_head_of_keys_become_more(form: str, output: str) -> None:
    torch.manual_seed(0)
    teacher = randomise(nn.Sequential(nn.Linear(6, 16), OneKey(form), nn.Linear(16, 3)).double())
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    student = fxgrow.grow(teacher, 2.0, x, output=output)
    assert student.get_parameter("1.q.weight").shape == (32, 32)
    assert student.get_parameter("1.kv.weight").shape == (8, 32)
    assert_exact(teacher, student, x, 1e-10)
