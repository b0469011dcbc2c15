"""Slow calls of runs on real numbers are made once for each model and inputs, and nothing else is different."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.base.content import digest, storage_of
from fxgrow.model.tree import Output
from fxgrow.recording.recall import Recall

X = torch.randn(2, 3, 8, 8)
ATEN = torch.ops.aten


class Deciding(nn.Module):
    """Takes one of two paths by a number in a tensor, so that it runs for real, and asks about global state."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, padding=1)
        self.drop, self.fc = nn.Dropout(0.2), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.a(x)).relu_()  # written in place
        keep = y.mean().item() > -1
        if torch.is_autocast_enabled("cpu"):
            keep = bool(keep)
        z = self.b(y)
        z += y if keep else 2 * y
        return self.fc(self.drop(z).mean((2, 3)))


class Counting(nn.Module):
    """Decides by what earlier calls left in its buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 3)
        self.register_buffer("seen", torch.zeros(()))
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        first = self.seen.add(0).sum().item() == 0
        self.seen += 1
        self.last = self.a(x)
        return self.b(self.last) if first else self.c(self.last)


class Normed(nn.Module):
    """Decides by statistics and by memory that are written to without a sign to the digests."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b, self.c = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.a(x))
        is_new = self.norm.running_mean.mul(2).abs().sum().item() == 0  # in eval mode
        z = y.detach().clone()
        first = z.mul(2)
        torch._foreach_mul_([z], 0.0)
        unchanged = torch.equal(first, z.mul(2))
        return self.b(y) if is_new or unchanged else self.c(y)


@pytest.fixture
def recalls(monkeypatch: pytest.MonkeyPatch) -> list[Recall]:
    """Those of all analyses of a test, which recall every call."""
    made: list[Recall] = []

    def eager() -> Recall:
        made.append(Recall(slow=-1))
        return made[-1]

    monkeypatch.setattr("fxgrow.capture.ladder.Recall", eager)
    return made


def _result(recall: Recall, op: object, *args: Tensor, digests: tuple[int, ...]) -> Tensor:
    result: Tensor = recall.result(op, args, {}, digests, args, "")
    return result


def test_a_call_on_the_same_values_is_not_run_again() -> None:
    recall, x = Recall(slow=-1), torch.randn(3, 3)
    first = _result(recall, ATEN.mm.default, x, x, digests=(1, 1))
    again = _result(recall, ATEN.mm.default, x, x, digests=(1, 1))
    assert recall.recalled == 1
    assert torch.equal(first, again)
    assert first.data_ptr() != again.data_ptr()


def test_what_is_written_to_a_result_does_not_reach_the_next_one() -> None:
    recall, x = Recall(slow=-1), torch.randn(3, 3)
    for _ in range(3):
        y = _result(recall, ATEN.mm.default, x, x, digests=(1, 1))
        assert torch.equal(y, x @ x)
        y.zero_()


@pytest.mark.parametrize(
    ("args", "digests"),
    [
        ((torch.ones(2, 3), torch.ones(3, 2)), (1, 3)),  # another value
        ((torch.ones(2, 3), torch.ones(3, 4)), (1, 2)),  # a constant with all entries alike has one print in all shapes
        ((torch.ones(2, 3).double(), torch.ones(3, 2).double()), (1, 2)),
        ((torch.ones(3, 2).t(), torch.ones(3, 2)), (1, 2)),
    ],
)
def test_other_values_shapes_dtypes_and_strides_are_other_calls(
    args: tuple[Tensor, Tensor], digests: tuple[int, int]
) -> None:
    recall = Recall(slow=-1)
    _result(recall, ATEN.mm.default, torch.ones(2, 3), torch.ones(3, 2), digests=(1, 2))
    other = _result(recall, ATEN.mm.default, *args, digests=digests)
    assert recall.recalled == 0
    assert (other.shape, other.dtype) == ((2, args[1].shape[1]), args[0].dtype)


def test_a_value_that_was_written_to_unseen_is_another_one() -> None:
    recall, x = Recall(slow=-1), torch.randn(3, 3)
    for times in (1, 2):
        x.mul_(times)
        assert torch.equal(_result(recall, ATEN.mm.default, x, x, digests=(1, 1)), x @ x)
    assert recall.recalled == 0


def test_the_default_dtype_is_a_part_of_a_call() -> None:
    recall, x = Recall(slow=-1), torch.ones(3, dtype=torch.int64)
    for dtype in (torch.float32, torch.float64):
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            assert _result(recall, ATEN.div.Tensor, x, x, digests=(1, 1)).dtype == dtype
        finally:
            torch.set_default_dtype(before)


def test_running_statistics_are_updated_each_time() -> None:
    recall, x, mean, var = Recall(slow=-1), torch.randn(4, 3), torch.zeros(3), torch.ones(3)
    args = (x, None, None, mean, var, True, 0.5, 1e-5)
    for _ in range(2):
        before = mean.clone()
        recall.result(ATEN.native_batch_norm.default, args, {}, [1, 2, 3], [x, mean.clone(), var.clone()], "")
        assert not torch.equal(mean, before)
    assert recall.recalled == 0


def test_sparse_arguments_are_no_obstacle() -> None:
    recall, x = Recall(slow=-1), torch.eye(3)
    for _ in range(2):
        assert torch.equal(_result(recall, ATEN._sparse_mm.default, x.to_sparse(), x, digests=(1, 2)), x)
    assert recall.recalled == 0


def test_writes_that_the_digests_do_not_see_are_followed(recalls: list[Recall]) -> None:
    torch.manual_seed(0)
    model, x = Normed().double(), torch.randn(5, 4, dtype=torch.float64)
    tapes = fxgrow.trace(model, x).tapes
    assert sum(recall.recalled for recall in recalls) > 5
    layers = {mode: {call.module for call in tape.calls} - {"", "a", "norm"} for mode, tape in tapes.items()}
    assert layers == {"eval": {"b"}, "train": {"c"}}


@pytest.mark.parametrize(
    "op", [ATEN.bernoulli.default, ATEN.relu_.default, ATEN.alias.default, ATEN.empty_like.default]
)
def test_draws_writes_views_and_what_is_not_initialised_are_run_each_time(op: object) -> None:
    recall, x = Recall(slow=-1), torch.full((3,), 0.5)
    for _ in range(2):
        _result(recall, op, x, digests=(1,))
    assert recall.recalled == 0


@pytest.mark.parametrize(
    ("op", "more"), [(ATEN.unsafe_split.Tensor, (2, 1)), (ATEN.unsafe_split_with_sizes.default, ([2, 2], 1))]
)
def test_views_that_no_schema_tells_are_made_each_time(op: Any, more: tuple[Any, ...]) -> None:
    recall, x = Recall(slow=-1), torch.ones(1, 4)
    for _ in range(2):
        first, _ = recall.result(op, (x, *more), {}, (1,), (x,), str(more))
        assert first.is_contiguous()
        assert storage_of(first) == storage_of(x)
    assert recall.recalled == 0


class Gated(nn.Module):
    """Writes into the parts of a split, as cells of recurrent layers do, and runs for real."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 12), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        first, second = y.unsafe_chunk(2, 1)
        first.sigmoid_()
        return self.b(second.tanh_() * first + y[:, :6] * (y.mean().item() > -9))


@pytest.mark.parametrize("output", ["graph", "module"])
def test_parts_of_one_memory_are_parts_of_it_in_every_run(output: Output, recalls: list[Recall]) -> None:
    torch.manual_seed(0)
    model, x = Gated().double(), torch.randn(1, 4, dtype=torch.float64)  # of one row, each part is contiguous
    alone, memory = fxgrow.trace(model, x, output=output).tapes, Recall(slow=9)
    assert recalls
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fxgrow.capture.ladder.Recall", lambda: memory)
        assert fxgrow.trace(model, x, output=output).tapes == alone
    assert memory.recalled == 0
    fxgrow.widths(model, x, output=output)


def test_no_more_is_kept_than_there_is_room_for() -> None:
    recall, x = Recall(slow=-1, most=100), torch.randn(4, 4)
    for number in (1, 2, 1, 2):
        _result(recall, ATEN.mm.default, x, x, digests=(number, number))
    assert recall.recalled == 1  # 64 bytes of the first; for the second there is no room


@pytest.mark.parametrize("output", ["graph", "module"])
def test_the_analysis_is_the_same_where_every_call_is_recalled(output: Output, recalls: list[Recall]) -> None:
    torch.manual_seed(0)
    model = Deciding()
    before = {name: digest(tensor) for name, tensor in model.state_dict().items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fxgrow.capture.ladder.Recall", Recall)
        plain = fxgrow.widths(model, X, output=output)
    widths = fxgrow.widths(model, X, output=output)
    assert sum(recall.recalled for recall in recalls) > 10
    assert widths.traced.fingerprint() == plain.traced.fingerprint()
    assert widths.traced.tapes == plain.traced.tapes
    assert str(widths) == str(plain)
    assert {name: digest(tensor) for name, tensor in model.state_dict().items()} == before
    student = fxgrow.grow(model, 1.5, X, output=output)
    assert fxgrow.verify(model, student, X).exact


def test_state_that_a_run_leaves_in_numbers_is_seen_all_the_same(recalls: list[Recall]) -> None:
    model = Counting()
    assert "" in fxgrow.trace(model, torch.randn(2, 4)).tapes["eval"].stateful
    assert recalls
