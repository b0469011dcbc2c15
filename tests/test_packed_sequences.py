"""Recurrent layers over sequences of different lengths: packed before them, and padded behind them."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fxgrow
from tests.check import assert_exact, randomise, relative_error

X = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LENGTHS = torch.tensor([3, 5, 1])
Output = Literal["graph", "module"]
LAYERS: dict[str, tuple[type[nn.RNNBase], dict[str, Any]]] = {
    "rnn": (nn.RNN, {}),
    "gru": (nn.GRU, {"num_layers": 2}),
    "lstm": (nn.LSTM, {}),
    "both ways": (nn.LSTM, {"bidirectional": True}),
    "projected": (nn.LSTM, {"proj_size": 5}),
}


class Words(nn.Module):
    """An encoder of words; what it makes of the padded steps is as `padding` says."""

    def __init__(self, layer: str, *, batch_first: bool = True, padding: float = 0.0, total: int | None = None) -> None:
        super().__init__()
        kind, options = LAYERS[layer]
        self.batch_first, self.padding, self.total = batch_first, padding, total
        self.embed = nn.Linear(6, 7)
        self.rnn = kind(7, 8, batch_first=batch_first, **options)
        self.last = nn.Linear(options.get("proj_size", 8) * (1 + ("bidirectional" in options)), 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        x = torch.tanh(self.embed(x if self.batch_first else x.transpose(0, 1)))
        packed = pack_padded_sequence(x, lengths, batch_first=self.batch_first, enforce_sorted=False)
        steps, _ = pad_packed_sequence(
            self.rnn(packed)[0], self.batch_first, padding_value=self.padding, total_length=self.total
        )
        if self.padding == -float("inf"):
            steps = steps.amax(1 if self.batch_first else 0)
        return self.last(steps)  # type: ignore[no-any-return]


FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "steps first": {"batch_first": False},
    "longer": {"total": 7, "padding": 1.5},
    "infinite": {"padding": -float("inf")},
}


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize(
    ("layer", "form"), [*((layer, "plain") for layer in LAYERS), *(("gru", form) for form in FORMS if form != "plain")]
)
def test_the_hidden_size_grows_behind_packed_sequences(layer: str, form: str, output: Output) -> None:
    torch.manual_seed(0)
    teacher = randomise(Words(layer, **FORMS[form]).double())
    student = fxgrow.grow(teacher, 1.5, (X, LENGTHS), output=output)
    assert student.get_submodule("rnn").hidden_size == 12
    assert student.get_submodule("rnn").input_size == 11
    assert_exact(teacher, student, (X, LENGTHS), 1e-10)


@pytest.mark.parametrize("output", ["graph", "module"])
def test_the_student_takes_sequences_of_other_lengths(output: Output) -> None:
    torch.manual_seed(0)
    teacher = randomise(Words("gru").double())
    student = fxgrow.grow(teacher, 2.0, (X, LENGTHS), output=output)
    for lengths in ([5, 3, 1], [5, 5, 5], [1, 2, 3], [4, 4, 1]):
        given = X, torch.tensor(lengths)
        assert relative_error(student(*given), teacher(*given)) <= 1e-10


@pytest.mark.parametrize("output", ["graph", "module"])
def test_what_is_summed_behind_the_padding_pins_the_width(output: Output) -> None:
    class Sums(Words):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            packed = pack_padded_sequence(self.embed(x), lengths, batch_first=True, enforce_sorted=False)
            steps, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, padding_value=1.0)
            return self.last(steps) * steps.sum(-1, keepdim=True)  # type: ignore[no-any-return]

    torch.manual_seed(0)
    teacher = randomise(Sums("gru").double())
    with pytest.raises(fxgrow.PlanError, match="sum: its result over channels depends on their number"):
        fxgrow.grow(teacher, {"rnn": 16}, (X, LENGTHS), output=output)


@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_constant_of_the_same_shape_is_still_one(output: Output) -> None:
    """`torch.full` in the user's own code, beside the padding, keeps what it was: a constant with one value."""

    class Adds(Words):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            found = super().forward(x, lengths)
            return found + torch.full((len(x), 1, 2), 0.25, dtype=x.dtype)

    torch.manual_seed(0)
    teacher = randomise(Adds("gru").double())
    assert_exact(teacher, fxgrow.grow(teacher, 2.0, (X, LENGTHS), output=output), (X, LENGTHS), 1e-10)
