"""Entries of parameters and buffers that no run reads are no channels: they stay as they are."""

from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.infer.unread import UNREAD
from tests.check import assert_exact

SHORT, LONG = torch.randn(2, 7, 3, dtype=torch.float64), torch.randn(2, 16, 3, dtype=torch.float64)
Use = Callable[["Net", Tensor, int], Tensor]


class Net(nn.Module):
    """A stem, tables of 16 positions that a use takes the first n of, and a head."""

    def __init__(self, use: Use) -> None:
        super().__init__()
        self.stem, self.table, self.head, self.use = nn.Linear(3, 8), nn.Embedding(16, 8), nn.Linear(8, 2), use
        self.positions = nn.Parameter(torch.randn(1, 16, 8))
        self.register_buffer("ids", torch.arange(16)[None])
        self.register_buffer("encoding", torch.randn(16, 8))
        self.register_buffer("mask", torch.tril(torch.ones(1, 16, 16)))
        self.register_buffer("bias", torch.full((16, 16), -torch.inf).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.use(self, self.stem(x), x.shape[1])))


def _attended(h: Tensor, scores: Tensor) -> Tensor:
    return scores.softmax(-1) @ h


def _scores(h: Tensor) -> Tensor:
    return h[..., :1] @ h[..., :1].transpose(1, 2)


USES: dict[str, Use] = {
    "a parameter": lambda m, h, n: h + m.positions[:, :n],
    "narrow": lambda m, h, n: h + m.positions.narrow(1, 0, n),
    "split": lambda m, h, n: h + m.positions.split([n, 16 - n], 1)[0],
    "the last entries": lambda m, h, n: h + m.encoding[16 - n :],
    "the middle": lambda m, h, n: h + m.encoding[2 : 2 + n] if n < 10 else h,
    "a buffer": lambda m, h, n: h + m.encoding[:n],
    "a buffer, transposed and cast": lambda m, h, n: h + m.encoding.t().to(h.dtype)[:, :n].t(),
    "twice the buffer": lambda m, h, n: h + (2 * m.encoding.tanh())[:n],
    "an embedding of ids": lambda m, h, n: h + m.table(m.ids[:, :n]),
    "an embedding of shifted ids": lambda m, h, n: h + m.table((15 - m.ids)[:, :n]),
    "a mask": lambda m, h, n: _attended(h, _scores(h).masked_fill(m.mask[:, :n, :n] == 0, -torch.inf)),
    "a mask, compared before": lambda m, h, n: _attended(h, _scores(h).masked_fill((m.mask == 0)[:, :n, :n], -1e9)),
    "a bias": lambda m, h, n: _attended(h, _scores(h) + m.bias[:n, :n]),
    "padding that cuts": lambda m, h, n: h + nn.functional.pad(m.encoding, (0, 0, 0, n - 16)),
}
TABLES = {"positions": 1, "ids": 1, "encoding": 0, "mask": 1, "bias": 0, "table.weight": 0}


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("name", USES)
def test_a_table_keeps_its_number_of_positions(name: str, output: Literal["graph", "module"]) -> None:
    torch.manual_seed(0)
    teacher = Net(USES[name]).double()
    student = fxgrow.grow(teacher, 2.0, SHORT, output=output)
    state, before = student.state_dict(), teacher.state_dict()
    for key, dim in TABLES.items():
        assert state[key].shape[dim] == 16, key
    assert state["mask"].shape == before["mask"].shape
    assert torch.equal(state["ids"], before["ids"])
    assert state["stem.weight"].shape[0] > 8
    assert_exact(teacher, student, SHORT, 1e-10)
    if name != "the middle":  # there longer inputs take another path, which a graph refuses
        assert_exact(teacher, student, LONG, 1e-10)


def test_the_reason_is_given() -> None:
    graph = fxgrow.widths(Net(USES["a parameter"]).double(), SHORT)
    assert any(UNREAD in group.pinned for group in graph.groups_by_name.values())


def test_entries_that_another_call_reads_grow() -> None:
    """A gain of which one half is read here and the other there."""

    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.gain = nn.Linear(3, 4), nn.Linear(4, 2), nn.Parameter(torch.randn(8))

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)
            return self.b(h * self.gain[:4] + self.gain[4:])

    teacher = Halves().double()
    student = fxgrow.grow(teacher, 2.0, SHORT)
    assert student.get_parameter("gain").shape == (16,)
    assert_exact(teacher, student, SHORT, 1e-10)


def test_the_half_that_nothing_reads_stays() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.gain = nn.Linear(3, 4), nn.Linear(4, 2), nn.Parameter(torch.randn(9))

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)
            return self.b(h * self.gain[: h.shape[1]])

    teacher, x = Half().double(), torch.randn(2, 3, dtype=torch.float64)
    student = fxgrow.grow(teacher, 2.0, x)
    assert student.get_parameter("gain").shape == (13,)
    assert torch.equal(student.get_parameter("gain")[8:], teacher.gain[4:])
    assert_exact(teacher, student, x, 1e-10)


class Words(nn.Module):
    """The loss of words, whose clusters run where a target is in them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 16), nn.Linear(16, 12)
        self.loss = nn.AdaptiveLogSoftmaxWithLoss(12, 40, [10, 20], div_value=2.0)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        loss: Tensor = self.loss(self.b(self.a(x).relu()), y).loss
        return loss


@pytest.mark.parametrize("output", ["graph", "module"])
def test_clusters_of_words_that_the_example_has_none_of_compute_the_same(output: Literal["graph", "module"]) -> None:
    torch.manual_seed(0)
    teacher, x = Words().double(), torch.randn(3, 5, dtype=torch.float64)
    student = fxgrow.grow(teacher, 1.5, (x, torch.tensor([1, 2, 3])), output=output)
    assert student.get_submodule("a").weight.shape == (24, 5)
    for words in ([1, 2, 3], [1, 12, 30], [39, 38, 37]):
        assert_exact(teacher, student, (x, torch.tensor(words)), 1e-10)
