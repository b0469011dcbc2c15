"""Functions of torch that take plain numbers: what the code merely hands on to torch decides nothing.

A student grown with one batch and image runs on all others that its teacher takes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from tests.check import randomise, relative_error, run

Function = Callable[[Tensor, int, int], Tensor]  # of an image (N, 3, H, W), its N and its H

ON_IMAGES: dict[str, Function] = {
    "adaptive_avg_pool2d": lambda x, n, h: F.adaptive_avg_pool2d(x, (h // 2, n)),
    "adaptive_max_pool2d": lambda x, n, h: F.adaptive_max_pool2d(x, h // 2),
    "add with alpha": lambda x, n, h: torch.add(x, x.sin(), alpha=n),
    "addcmul": lambda x, n, h: torch.addcmul(x, x, x, value=h),
    "affine_grid": lambda x, n, h: F.affine_grid(x[:, :2, 0, :3], [n, 3, h, h], align_corners=False),
    "arange": lambda x, n, h: x + torch.arange(h, device=x.device)[:, None],
    "as_strided": lambda x, n, h: torch.as_strided(x.contiguous(), (n, h), (h, 1)),
    "avg_pool1d": lambda x, n, h: F.avg_pool1d(x[:, 0], h // 2),
    "avg_pool2d": lambda x, n, h: F.avg_pool2d(x, h // 2),
    "bartlett_window": lambda x, n, h: x.mean((0, 1, 3)) * torch.bartlett_window(h),
    "blackman_window": lambda x, n, h: x.mean((0, 1, 3)) * torch.blackman_window(h),
    "broadcast_to": lambda x, n, h: torch.broadcast_to(x[:1, :1], (n, 3, h, h)),
    "channels as groups": lambda x, n, h: F.conv2d(
        x.reshape(1, n * 3, h, h), x.reshape(n * 3, 1, h, h)[..., :2, :2], groups=n * 3
    ),
    "chunk": lambda x, n, h: torch.chunk(x, n, 0)[0],
    "chunk method": lambda x, n, h: x.chunk(h, 2)[0],
    "clamp": lambda x, n, h: torch.clamp(x, -n, h),
    "conv2d with padding": lambda x, n, h: F.conv2d(x, x[:1, :, :3, :3], padding=h // 2),
    "conv2d with stride": lambda x, n, h: F.conv2d(x, x[:1, :, :2, :2], stride=(h // 2, n)),
    "conv2d with dilation": lambda x, n, h: F.conv2d(x, x[:1, :, :2, :2], dilation=h // 4),
    "conv_transpose2d": lambda x, n, h: F.conv_transpose2d(
        x.reshape(1, n * 3, h, h), x.reshape(n * 3, 1, h, h)[..., :2, :2], groups=n
    ),
    "cumsum": lambda x, n, h: torch.cumsum(x, n - n + 1),
    "diag_embed": lambda x, n, h: torch.diag_embed(x[0, 0], n),
    "diagonal": lambda x, n, h: torch.diagonal(x, h // 4, 2, 3),
    "div": lambda x, n, h: torch.div(x, h, rounding_mode="floor"),
    "dropout": lambda x, n, h: F.dropout(x, 1 / h, training=False),
    "expand": lambda x, n, h: x[:1].expand(n, 3, h, h),
    "eye": lambda x, n, h: x @ torch.eye(h, dtype=x.dtype),
    "fft": lambda x, n, h: torch.fft.fft(x, h // 2).abs(),
    "fftfreq": lambda x, n, h: x.mean((0, 1, 3)) * torch.fft.fftfreq(h),
    "flip": lambda x, n, h: torch.flip(x, (h // h,)),
    "fold": lambda x, n, h: F.fold(F.unfold(x, 2), (h, h), 2),
    "full": lambda x, n, h: x * torch.full((n, 1, h, 1), n, dtype=x.dtype),
    "full_like": lambda x, n, h: torch.full_like(x, h),
    "glu": lambda x, n, h: F.glu(x.repeat(1, 2, 1, 1), n // n),
    "group_norm": lambda x, n, h: F.group_norm(x.reshape(1, n * 3, h, h), n),
    "hamming_window": lambda x, n, h: x.mean((0, 1, 3)) * torch.hamming_window(h),
    "hann_window": lambda x, n, h: x.mean((0, 1, 3)) * torch.hann_window(h),
    "hardtanh": lambda x, n, h: F.hardtanh(x, -n, h),
    "interpolate": lambda x, n, h: F.interpolate(x, (2 * h, n)),
    "kaiser_window": lambda x, n, h: x.mean((0, 1, 3)) * torch.kaiser_window(h),
    "kthvalue": lambda x, n, h: torch.kthvalue(x, h // 2, 2)[0],
    "layer_norm": lambda x, n, h: F.layer_norm(x, (h, h)),
    "leaky_relu": lambda x, n, h: F.leaky_relu(x, 1 / n),
    "linspace": lambda x, n, h: x + torch.linspace(0, 1, h)[:, None],
    "local_response_norm": lambda x, n, h: F.local_response_norm(x, n),
    "logspace": lambda x, n, h: x + torch.logspace(0, 1, h)[:, None],
    "lp_pool2d": lambda x, n, h: F.lp_pool2d(x.abs(), 2, h // 2),
    "max_pool2d": lambda x, n, h: F.max_pool2d(x, h // 2, stride=2, padding=h // 4),
    "movedim": lambda x, n, h: torch.movedim(x, 1, h // h * 3),
    "narrow": lambda x, n, h: torch.narrow(x, 0, n // 2, n - n // 2),
    "narrow method": lambda x, n, h: x.narrow(2, h // 2, h - h // 2),
    "new_zeros": lambda x, n, h: x + x.new_zeros((n, 1, 1, h)),
    "norm": lambda x, n, h: torch.norm(x, n),
    "one_hot": lambda x, n, h: F.one_hot((x[:, 0, :, 0] > 0).long(), h),
    "ones": lambda x, n, h: x * torch.ones(n, 1, h, 1),
    "pad": lambda x, n, h: F.pad(x, (0, h, n, 1)),
    "pixel_shuffle": lambda x, n, h: F.pixel_shuffle(x.repeat(1, n * n, 1, 1), n),
    "pixel_unshuffle": lambda x, n, h: F.pixel_unshuffle(x, h // 2),
    "pow": lambda x, n, h: torch.pow(x.abs(), n),
    "renorm": lambda x, n, h: torch.renorm(x, 2, 1, h),
    "repeat": lambda x, n, h: x.repeat(n, 1, 1, h),
    "repeat_interleave": lambda x, n, h: torch.repeat_interleave(x, n, dim=1),
    "reshape": lambda x, n, h: torch.reshape(x, (n * 3, h, h)),
    "roll": lambda x, n, h: torch.roll(x, n, 2),
    "roll by several": lambda x, n, h: torch.roll(x, (n, h // 2), (2, 3)),
    "rot90": lambda x, n, h: torch.rot90(x, n, (2, 3)),
    "scaled_dot_product_attention": lambda x, n, h: F.scaled_dot_product_attention(x, x, x, scale=1 / h),
    "select": lambda x, n, h: torch.select(x, 0, n - 1),
    "slice": lambda x, n, h: x[n // 2 :, :, h // 2 :],
    "softmax": lambda x, n, h: torch.softmax(x, n // n),
    "split": lambda x, n, h: torch.split(x, h // 2, 2)[0],
    "split with sizes": lambda x, n, h: torch.split(x, [n // 2, n - n // 2])[1],
    "std with correction": lambda x, n, h: torch.std(x, 2, correction=h // 4),
    "tensor_split": lambda x, n, h: torch.tensor_split(x, n)[0],
    "tensordot": lambda x, n, h: torch.tensordot(x, x, dims=([n // n], [1])),
    "tile": lambda x, n, h: torch.tile(x, (n, 1, 1, 1)),
    "topk": lambda x, n, h: torch.topk(x, h // 2, 3)[0],
    "tril": lambda x, n, h: torch.tril(x, n),
    "triu": lambda x, n, h: torch.triu(x, -n),
    "tril_indices": lambda x, n, h: x[0, 0][tuple(torch.tril_indices(h, h))],
    "unflatten": lambda x, n, h: torch.unflatten(x.flatten(0, 1), 0, (n, 3)),
    "unfold": lambda x, n, h: F.unfold(x, h // 2),
    "unfold method": lambda x, n, h: x.unfold(2, h // 2, 2),
    "unsqueeze": lambda x, n, h: torch.unsqueeze(x, n // n),
    "view": lambda x, n, h: x.contiguous().view(n, 3 * h, h),
    "weight_norm of a slice": lambda x, n, h: torch._weight_norm(x[0, 0], x[0, 0, :, :1], h // h - 1),
    "where": lambda x, n, h: torch.where(x > 0, n, h),
    "zeros": lambda x, n, h: torch.cat([x, torch.zeros(n, 1, h, h)], 1),
}


class Asking(nn.Module):
    """A convolution that grows, beside a function of the image that takes plain numbers."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.a, self.b, self.function = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 4, 1), function

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        n, _, h, _ = x.shape
        return self.b(torch.tanh(self.a(x))), self.function(x, n, h)


def images(*sizes: tuple[int, int]) -> Iterator[Tensor]:
    for n, side in sizes:
        yield torch.randn(n, 3, side, side, dtype=torch.float64)


def assert_takes_all_sizes(function: Function) -> nn.Module:
    """The student of a model with this function, which is exact for other batches and images than the example's."""
    torch.manual_seed(0)
    teacher = randomise(Asking(function).double()).eval()
    (example,) = images((4, 8))
    student = fxgrow.grow(teacher, {"a": 9}, example)
    assert student.get_parameter("a.weight").shape[0] == 9
    for x in images((4, 8), (3, 8), (4, 12), (5, 16)):
        for mode in ("eval", "train"):
            assert relative_error(run(teacher, x, mode), run(student, x, mode)) <= 1e-10, tuple(x.shape)
    return student


@pytest.mark.parametrize("name", ON_IMAGES)
def test_numbers_that_are_handed_on_to_torch_do_not_lock_a_student(name: str) -> None:
    assert_takes_all_sizes(ON_IMAGES[name])


TABLE = torch.linspace(-1, 1, 20, dtype=torch.float64)
ON_CONSTANTS: dict[str, Function] = {  # that are no buffers
    "chunk": lambda x, n, h: TABLE.chunk(h)[0],
    "index": lambda x, n, h: TABLE[(x[:, 0, 0, 0].sigmoid() * 9).long()],
    "index in a tuple": lambda x, n, h: TABLE[:, None][(x[:, 0, 0, 0].sigmoid() * 9).long(), 0],
    "item": lambda x, n, h: TABLE[h],
    "made in forward": lambda x, n, h: torch.ones(20, 20).tril()[:h, None, :n],
    "narrow": lambda x, n, h: TABLE.narrow(0, n, h // 2),
    "numbers in a range": lambda x, n, h: TABLE[torch.arange(h)],
    "reversed index": lambda x, n, h: TABLE[n:h],
    "select": lambda x, n, h: TABLE.select(0, h),
    "slice": lambda x, n, h: TABLE[:h],
    "slice with a step": lambda x, n, h: TABLE[::n],
    "split": lambda x, n, h: TABLE.split(h)[0],
    "topk": lambda x, n, h: torch.topk(input=TABLE, k=h)[0],
    "topk method": lambda x, n, h: TABLE.topk(h)[0],
    "tril": lambda x, n, h: torch.tril(TABLE.outer(TABLE), n),
    "triu method": lambda x, n, h: TABLE.outer(TABLE).triu(diagonal=h),
    "unflatten": lambda x, n, h: TABLE.repeat(5)[: n * h].unflatten(0, (n, -1)),
    "unfold": lambda x, n, h: TABLE.unfold(0, h, n),
}


@pytest.mark.parametrize("name", ON_CONSTANTS)
def test_plain_tensors_that_are_cut_at_numbers_do_not_lock_a_student(name: str) -> None:
    assert isinstance(assert_takes_all_sizes(ON_CONSTANTS[name]), torch.fx.GraphModule)


def _range(x: Tensor, n: int, h: int) -> Tensor:
    return sum((x[i] * (i + 1) for i in range(n)), x[0])


ASKED: dict[str, Function] = {
    "range": _range,
    "range before a call": lambda x, n, h: (range(h), torch.roll(x, h, 2))[1] * len(range(h)),
    "a list": lambda x, n, h: x * [1.0, 2.0, 3.0, 4.0, 5.0][n],
    "if": lambda x, n, h: x.sin() if n > 3 else x,
}


@pytest.mark.parametrize("name", ASKED)
def test_numbers_that_the_code_decides_by_still_do(name: str) -> None:
    torch.manual_seed(0)
    teacher = randomise(Asking(ASKED[name]).double()).eval()
    (example,) = images((4, 8))
    student = fxgrow.grow(teacher, {"a": 9}, example)
    assert relative_error(run(teacher, example), run(student, example)) <= 1e-10
    for x in images((3, 12)):
        with pytest.raises(fxgrow.GrowError, match="another path"):
            run(student, x)


class OddHeight(nn.Module):
    """Asks whether a remainder is 0, and for a rounded half: several numbers have one answer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = x.shape[2]
        x = torch.tanh(self.a(x))
        return self.b(x.sin() if h % 4 else x) * int(h / 4)


def test_a_guard_is_no_stricter_than_the_question() -> None:
    torch.manual_seed(0)
    teacher = randomise(OddHeight().double()).eval()
    (example,) = images((2, 9))
    student = fxgrow.grow(teacher, {"a": 9}, example)
    for x in images((2, 9), (3, 10), (2, 11)):
        assert relative_error(run(teacher, x), run(student, x)) <= 1e-10
    for x in images((2, 8), (2, 13)):
        with pytest.raises(fxgrow.GrowError, match="another path"):
            run(student, x)


class AskedOutside(nn.Module):
    """The number is asked for before a submodule is called whose code cannot be traced."""

    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = x.sin()
            return x if float(x.detach().abs().sum()) >= 0 else x + 1

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.inner = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1), self.Inner()

    def forward(self, x: Tensor) -> Tensor:
        rows = range(x.shape[0])
        return self.b(torch.tanh(self.a(self.inner(x)))) * len(rows)


def test_a_question_before_code_that_stays_a_call_is_not_forgotten() -> None:
    torch.manual_seed(0)
    teacher = randomise(AskedOutside().double()).eval()
    (example,) = images((4, 8))
    student = fxgrow.grow(teacher, {"a": 9}, example)
    assert relative_error(run(teacher, example), run(student, example)) <= 1e-10
    for x in images((3, 8)):
        with pytest.raises(fxgrow.GrowError, match="another path"):
            run(student, x)


def _sum_of(parts: Sequence[Tensor]) -> Tensor:
    return sum((part.mean((0, 2, 3)) * (i + 1) for i, part in enumerate(parts)), torch.zeros(3, dtype=torch.float64))


PARTS: dict[str, Function] = {
    "chunk": lambda x, n, h: _sum_of(torch.chunk(x, 4, 2)),
    "chunk method": lambda x, n, h: _sum_of(x.chunk(4, dim=2)),
    "chunk of the batch": lambda x, n, h: _sum_of(x.chunk(2)),
    "chunk into a number": lambda x, n, h: _sum_of(torch.chunk(x, n, 2)),
    "split into a number": lambda x, n, h: _sum_of(torch.split(x, h // 2, 2)),
    "tensor_split into a number": lambda x, n, h: _sum_of(torch.tensor_split(x, n, 2)),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_loop_over_parts_takes_all_parts_or_is_refused(name: str) -> None:
    """`chunk(4)` of 5 rows gives 3 parts, of 8 rows 4: a graph of the first has no place for the last of them."""
    torch.manual_seed(0)
    teacher = randomise(Asking(PARTS[name]).double()).eval()
    example, *others = images((4, 5), (4, 8), (3, 8), (3, 5), (1, 5), (4, 6), (5, 9), (4, 3))
    student = fxgrow.grow(teacher, {"a": 9}, example)
    assert relative_error(run(teacher, example), run(student, example)) <= 1e-10
    for x in others:
        expected = run(teacher, x)
        with suppress(fxgrow.GrowError):
            assert relative_error(expected, run(student, x)) <= 1e-10, tuple(x.shape)
