"""Ties that the loop of checks tries where a size goes wrong are guesses: what they keep from growing grows without."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from benchmarks.torchvision_shim import import_torchvision
from fxgrow import Widen
from tests.check import assert_exact, randomise

torchvision = import_torchvision()
TOKENS = torch.randint(0, 20, (2, 6), generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """Attention and the layers behind it in the code of one module, so that a wrong size is near widths of both."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln1, self.ln2, self.heads = nn.LayerNorm(width), nn.LayerNorm(width), heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc, self.out = nn.Linear(width, 12), nn.Linear(12, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.qkv(self.ln1(x)).chunk(3, -1)
        q, k, v = (part.view(batch, length, self.heads, width // self.heads).transpose(1, 2) for part in parts)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, width))
        y: Tensor = x + self.out(F.gelu(self.fc(self.ln2(x))))
        return y


class Gpt(nn.Module):
    """A decoder, whose embedding is the weight of its head; no norm before that makes its width free then."""

    def __init__(self, *, tied: bool = True) -> None:
        super().__init__()
        self.wte, self.blocks = nn.Embedding(20, 8), nn.ModuleList([Block(8, 2) for _ in range(2)])
        self.ln = nn.Identity() if tied else nn.LayerNorm(8)
        self.lm_head = nn.Linear(8, 20, bias=False)
        if tied:
            self.lm_head.weight = self.wte.weight

    def forward(self, tokens: Tensor) -> Any:
        x = self.wte(tokens)
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.ln(x))


def _planned(spec: fxgrow.Spec, output: Literal["graph", "module"], *, tied: bool = True) -> dict[str, int]:
    torch.manual_seed(0)
    teacher = randomise(Gpt(tied=tied).double())
    student = fxgrow.grow(teacher, spec, TOKENS, output=output)
    assert_exact(teacher, student, TOKENS, 1e-10)
    plan = fxgrow.plan_of(student)
    assert plan is not None
    return {width.name: width.new for width in plan.grown_widths}


SPECS: dict[str, tuple[fxgrow.Spec, int]] = {
    "everything twice": (2.0, 24),
    "everything by a fraction": (1.5, 18),
    "multiples": (Widen("*", 1.5, multiple_of=8), 24),
    "a container": ({"blocks.*": 1.5}, 18),
    "any width by means": (Widen("*", 1.5, indivisible="average"), 18),
}


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("name", SPECS)
def test_layers_near_a_width_that_must_stay_grow_in_all_blocks(name: str, output: Literal["graph", "module"]) -> None:
    spec, width = SPECS[name]
    assert _planned(spec, output) == {"blocks.0.fc": width, "blocks.1.fc": width}


@pytest.mark.parametrize("output", ["graph", "module"])
def test_layers_near_widths_that_a_request_excludes_grow(output: Literal["graph", "module"]) -> None:
    grown = _planned(Widen("*", 2.0, exclude=("*qkv*",)), output, tied=False)
    assert grown == {"blocks.0.fc": 24, "blocks.1.fc": 24}


@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_tie_that_is_needed_stays(output: Literal["graph", "module"]) -> None:
    grown = _planned(2.0, output, tied=False)
    assert len(grown) == 5
    assert grown["wte"] == 16
    assert [new for name, new in grown.items() if "head" in name] == [4, 4]


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_ties_of_several_blocks_of_one_code_do_not_undo_each_other(
    layers: int, batch: int, output: Literal["graph", "module"]
) -> None:
    torch.manual_seed(0)
    teacher = randomise(torchvision.models.VisionTransformer(8, 4, layers, 4, 16, 12).double()).eval()
    x = torch.randn(batch, 3, 8, 8, dtype=torch.float64)
    student = fxgrow.grow(teacher, 1.5, x, output=output)  # a LayerNorm grows by whole factors, and heads follow
    assert_exact(teacher, student, x, 1e-10)
    assert student.get_submodule("conv_proj").weight.shape[0] == 32
    blocks = [student.get_submodule(f"encoder.layers.encoder_layer_{i}") for i in range(layers)]
    assert [block.self_attention.num_heads for block in blocks] == [8] * layers
    assert [block.get_submodule("mlp.0").out_features for block in blocks] == [18] * layers
