"""Code that mixes a size of the inputs with a width: at other sizes the student gives the teacher's result, or refuses.

A layout that holds the example's batch as a number is right for that batch alone.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from fxgrow.capture.traced import Traced
from fxgrow.infer import other_sizes
from fxgrow.infer.findings import Findings
from fxgrow.infer.inference import infer
from fxgrow.infer.size_variants import Variant, resized
from tests.check import randomise, relative_error, run

Function = Callable[[Tensor], Tensor]
Shape = tuple[int, ...]


class OnRows(nn.Module):
    """Linear layers around a function of rows (N, 12)."""

    def __init__(self, function: Function, width: int = 12, out: int = 12) -> None:
        super().__init__()
        self.a, self.b, self.function = nn.Linear(5, width), nn.Linear(out, 3), function

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.function(torch.tanh(self.a(x)))))


class OnImages(nn.Module):
    """Convolutions around a function of images (N, 12, H, W); what it returns is pooled."""

    def __init__(self, function: Function, out: int = 12) -> None:
        super().__init__()
        self.a, self.b, self.function = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(out, 4, 1), function

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.function(torch.tanh(self.a(x)))))


class OnTokens(nn.Module):
    """Linear layers around a function of tokens (N, T, 12)."""

    def __init__(self, function: Function, out: int = 12) -> None:
        super().__init__()
        self.a, self.b, self.function = nn.Linear(5, 12), nn.Linear(out, 3), function

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.function(torch.tanh(self.a(x)))))


def _weighted(parts: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    return sum((part.sum(1, keepdim=True) * (i + 1) for i, part in enumerate(parts[1:], 1)), parts[0].sum(1, True))


def _batch_as_groups(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    kernels = x.mean((2, 3)).reshape(n * c, 1, 1, 1).expand(n * c, c, 1, 1)
    return F.conv2d(x.reshape(1, n * c, h, w), kernels, groups=n).view(n, c, h, w)


ROWS: dict[str, Function] = {
    "transposed, batch in front": lambda v: v.t().reshape(len(v), -1),
    "transposed, then a view": lambda v: v.t().contiguous().view(len(v), -1),
    "batch last": lambda v: v.reshape(-1, len(v)).t().reshape(len(v), -1),
    "rows as often as samples": lambda v: v.view(len(v), len(v), -1).transpose(1, 2).reshape(len(v), -1),
    "samples as groups of channels": lambda v: v.view(len(v), len(v), -1).sum(1).repeat(1, len(v)),
    "the flat tensor": lambda v: v.flatten().view(-1, len(v)).t().reshape(len(v), -1),
    "every so many": lambda v: v[:, :: len(v)].sum(1, keepdim=True) + v,
    "the first so many": lambda v: v[:, : len(v)].sum(1, keepdim=True) + v,
    "the one after the last sample": lambda v: v[:, len(v) : len(v) + 1] + v,
    "narrow": lambda v: v.narrow(1, len(v), 1) + v,
    "select": lambda v: v.select(1, len(v)).unsqueeze(1) + v,
    "chunks": lambda v: _weighted(v.chunk(len(v), 1)) + v,
    "tensor_split": lambda v: _weighted(v.tensor_split(len(v), 1)) + v,
    "split into the rest": lambda v: _weighted(v.split([len(v), v.shape[1] - len(v)], 1)) + v,
    "rolled": lambda v: v.roll(len(v), 1),
    "repeated": lambda v: v.repeat(1, len(v))[:, len(v) - 1 :: len(v)],
    "repeated each": lambda v: v.repeat_interleave(len(v), 1)[:, : v.shape[1]],
    "unflattened": lambda v: (
        v.unflatten(1, (len(v), -1)).mean(2, keepdim=True).expand(-1, -1, v.shape[1] // len(v)).flatten(1)
    ),
    "unfolded": lambda v: v.unfold(1, len(v), len(v)).sum(2).sum(1, keepdim=True) + v,
    "einsum of rows": lambda v: torch.einsum("nij->nji", v.view(len(v), len(v), -1)).reshape(len(v), -1),
    "a mean over groups": lambda v: v.view(len(v), len(v), -1).mean(2).sum(1, keepdim=True) + v,
    "a norm of groups": lambda v: F.group_norm(v, len(v)),
    "a stack of columns": lambda v: torch.stack([v[:, i] for i in range(len(v))], 1).sum(1, keepdim=True) + v,
    "movedim": lambda v: v.view(len(v), len(v), -1).movedim(1, 2).flatten(1),
    "glu of groups": lambda v: F.glu(v.view(len(v), -1, 2 * (len(v) // len(v))), 1 + 1).repeat_interleave(2, 1),
    "as_strided": lambda v: v.contiguous().as_strided((len(v), v.shape[1]), (1, len(v))),
    "two of the batch": lambda v: (v.t() @ v).reshape(len(v), -1)[:, : v.shape[1]],
    "a quotient": lambda v: v[:, len(v) // 8 : len(v) // 8 + 1] + v,
    "rolled by a quotient": lambda v: v.roll(len(v) // 6, 1),
    "rolled by a remainder": lambda v: v.roll(len(v) % 4, 1),
    "more rows for more samples": lambda v: v.view(len(v), 1 + len(v) // 9, -1).transpose(1, 2).reshape(len(v), -1),
    "more groups for more samples": lambda v: F.group_norm(v, 1 + len(v) // 9),
}
IMAGES: dict[str, Function] = {
    "batch in the channels": _batch_as_groups,
    "batch before the channels": lambda x: x.transpose(0, 1).reshape(x.shape),
    "batch after the channels": lambda x: x.permute(1, 2, 3, 0).reshape(x.shape),
    "channels by the height": lambda x: (
        x.reshape(x.shape[0], x.shape[2], -1, *x.shape[2:]).transpose(1, 2).reshape(x.shape)
    ),
    "height and channels": lambda x: x.transpose(1, 2).reshape(x.shape),
    "height, width and channels": lambda x: x.permute(0, 2, 3, 1).reshape(x.shape),
    "pixel_shuffle and back": lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, x.shape[2] // 3), x.shape[2] // 3).flip(2),
    "pixel_shuffle by the batch": lambda x: (
        F.adaptive_avg_pool2d(F.pixel_shuffle(x, 2 * len(x) // len(x)), 4).mean((1, 2, 3), True) + x
    ),
    "unfold": lambda x: F.unfold(x, x.shape[2] // 3).mean((1, 2))[:, None, None, None] + x,
    "unfold of channels": lambda x: F.unfold(x, 2).view(len(x), x.shape[1], -1).mean(2)[..., None, None] + x,
    "channel_shuffle by the height": lambda x: F.channel_shuffle(x, x.shape[2] // 2),
    "channel_shuffle by the batch": lambda x: F.channel_shuffle(x, len(x)),
    "the first channels by the height": lambda x: x[:, : x.shape[2]].mean(1, keepdim=True) + x,
    "the channel of the height": lambda x: x[:, x.shape[2] : x.shape[2] + 1] + x,
    "rolled by the width": lambda x: x.roll(x.shape[3], 1),
    "chunks by the height": lambda x: torch.cat(x.chunk(x.shape[2] // 2, 1)[::-1], 1),
    "group_norm by the height": lambda x: F.group_norm(x, x.shape[2] // 2),
    "attention over channels": lambda x: (
        x * (x.flatten(2) @ x.flatten(2).transpose(1, 2)).softmax(-1).mean((1, 2))[:, None, None, None]
    ),
    "a fold": lambda x: F.fold(
        x.flatten(2)[:, :, : (x.shape[2] - 1) * (x.shape[3] - 1)].repeat(1, 4, 1), x.shape[2:], 2
    ),
    "repeat_interleave by the batch": lambda x: x.repeat_interleave(len(x), 1)[:, :: len(x)],
    "repeat by the batch": lambda x: x.repeat(1, len(x), 1, 1)[:, : x.shape[1]],
    "channels times samples": lambda x: x.reshape(-1, *x.shape[2:])[:: len(x)].mean(0) + x,
    "rows of a flat image": lambda x: (
        x.flatten(1).view(len(x), x.shape[2], -1).sum(1).view(len(x), -1, 1, x.shape[3]) + x.mean(2, True)
    ),
    "more rows for larger images": lambda x: (
        x.view(len(x), -1, 1 + x.shape[3] // 16, *x.shape[2:]).transpose(1, 2).reshape(x.shape)
    ),
    "rolled by a quotient": lambda x: x.roll(x.shape[2] // 16, 1),
}
TOKENS: dict[str, Function] = {
    "tokens in the width": lambda x: x.transpose(1, 2).reshape(x.shape),
    "heads as many as tokens": lambda x: x.view(*x.shape[:2], x.shape[1], -1).transpose(1, 2).reshape(x.shape),
    "heads as many as samples": lambda x: x.view(*x.shape[:2], len(x), -1).transpose(1, 2).reshape(x.shape),
    "heads of the size of the tokens": lambda x: x.view(*x.shape[:2], -1, x.shape[1]).transpose(2, 3).reshape(x.shape),
    "tokens cut from the width": lambda x: x[..., : x.shape[1]].sum(-1, keepdim=True) + x,
    "rolled by the tokens": lambda x: x.roll(x.shape[1], -1),
    "a view of tokens and width": lambda x: x.flatten(1).view(len(x), -1, x.shape[1]).transpose(1, 2).reshape(x.shape),
    "split by the tokens": lambda x: torch.cat(x.split(x.shape[1], -1)[::-1], -1),
    "batch and tokens": lambda x: x.reshape(-1, x.shape[-1]).t().reshape(x.shape),
    "a norm of groups of tokens": lambda x: F.layer_norm(
        x.view(*x.shape[:2], x.shape[1], -1), (x.shape[-1] // x.shape[1],)
    ).flatten(2),
}
CASES = [
    *[(OnRows(function), (4, 5), name) for name, function in ROWS.items()],
    *[(OnImages(function), (4, 3, 6, 6), name) for name, function in IMAGES.items()],
    *[(OnTokens(function), (2, 4, 5), name) for name, function in TOKENS.items()],
]


def others(shape: Shape) -> list[Shape]:
    """Other batches, other sides or numbers of tokens, and both."""
    inside = [shape[1:-1]] if len(shape) == 3 else [shape[2:]] if len(shape) == 4 else [()]
    if inside[0]:
        inside += [(n,) * len(inside[0]) for n in (2, 3, 4, 6, 8, 9, 12, 16)]
    batches = (shape[0], 1, 2, 3, 5, 6, 8, 12, 16)
    middle = (3,) if len(shape) == 4 else ()
    last = (5,) if len(shape) < 4 else ()
    return list(dict.fromkeys((n, *middle, *sides, *last) for n in batches for sides in inside))


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize(("model", "shape", "name"), CASES, ids=[f"{type(m).__name__}-{n}" for m, _, n in CASES])
def test_a_size_of_the_inputs_that_meets_a_width(
    model: nn.Module, shape: Shape, name: str, output: Literal["graph", "module"]
) -> None:
    torch.manual_seed(0)
    teacher = randomise(model.double()).eval()
    x = torch.randn(shape, dtype=torch.float64)
    try:
        student = fxgrow.grow(teacher, 2.0, x, output=output)
    except fxgrow.GrowError:
        return  # a reason is a right answer
    assert relative_error(run(teacher, x), run(student, x)) <= 1e-10
    for other in others(shape):
        given = torch.randn(other, dtype=torch.float64)
        try:
            expected = run(teacher, given)
        except Exception:  # noqa: BLE001 - whatever the teacher raises: it takes no such inputs
            continue
        with suppress(fxgrow.GrowError):
            assert relative_error(expected, run(student, given)) <= 1e-10, other


def test_of_each_kind_as_many_other_sizes_are_looked_at_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: Counter[str] = Counter()
    enough: dict[str, int] = {}
    look = other_sizes._look

    def counted(traced: Traced, findings: Findings, variant: Variant) -> bool:
        takes = look(traced, findings, variant)
        taken[variant.kind] += takes
        enough[variant.kind] = variant.enough
        return takes

    monkeypatch.setattr(other_sizes, "_look", counted)
    fxgrow.widths(OnRows(ROWS["transposed, batch in front"]), torch.randn(2, 5))
    assert taken["batch"] == enough["batch"] == 3


def test_sizes_at_which_nothing_was_new_are_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = fxgrow.trace(OnRows(torch.relu), torch.randn(2, 5))
    findings = infer(traced)
    ran: list[Variant] = []
    trial = other_sizes._trial

    def counted(traced: Traced, findings: Findings, variant: Variant) -> Findings | None:
        ran.append(variant)
        return trial(traced, findings, variant)

    monkeypatch.setattr(other_sizes, "_trial", counted)
    sizes = [resized(traced.arguments, 0, 2, size) for size in (3, 3, 4)]
    assert all(other_sizes._look(traced, findings, variant) for variant in sizes)
    assert [variant.arguments["x"].shape[0] for variant in ran] == [3, 4]
    assert len(findings.trials) == 2
