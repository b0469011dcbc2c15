"""Attention in models that decide by numbers, and so run on real tensors: torch has a fused kernel for these alone."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from tests.check import randomise


class Deciding(nn.Module):
    """Attention behind a decision that depends on the numbers of its input."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.before, self.attention, self.hidden = nn.Linear(6, 8), attention, nn.Linear(8, 10)
        self.after = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 1e9:
            x = x + 1
        h = self.before(x)
        h = self.attention(h, h, h)[0] if isinstance(self.attention, nn.MultiheadAttention) else self.attention(h)
        return self.after(self.hidden(h).relu()).sum(1)


ATTENTIONS = {
    "attention": lambda: nn.MultiheadAttention(8, 2, batch_first=True),
    "layer": lambda: nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True),
    "encoder": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True), 2),
}


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("enabled", [True, False])
def test_attention_grows_in_a_model_that_decides_by_numbers(attention: str, output: Any, enabled: bool) -> None:
    teacher = Deciding(ATTENTIONS[attention]()).double().eval()
    randomise(teacher)
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    torch.backends.mha.set_fastpath_enabled(enabled)
    try:
        widths = fxgrow.widths(teacher, x, output=output)
        assert widths.traced.inputs.real
        student = fxgrow.grow(teacher, 2.0, x, output=output)
        assert torch.backends.mha.get_fastpath_enabled() == enabled
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    assert student.get_parameter("hidden.weight").shape == (20, 16)
    with torch.no_grad():
        torch.testing.assert_close(student(x), teacher(x))
    torch.testing.assert_close(student.train()(x), teacher.train()(x))
