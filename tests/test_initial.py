"""What new weights begin with: any rows alone are those of the whole, and the whole is as torch.nn initialises it."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from fxgrow.checkpoints.new_tensors import NewTensors
from fxgrow.checkpoints.outline import Drawn, Filled, Info, Made, OfLayer
from fxgrow.depth.initial import BLOCK, drawn, row_blocks
from fxgrow.depth.new_layers import build_new_layer
from fxgrow.plans.changes import Insert

CPU = torch.device("cpu")
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.complex64)
LAYERS = {
    "linear": {"layer": "Linear", "kernel": (), "channels": 2500, "groups": 1},
    "grouped convolution": {"layer": "Conv2d", "kernel": (3, 5), "channels": 24, "groups": 4},
}


def inserted(**options: Any) -> Insert:
    given: dict[str, Any] = {"path": "a_deeper1", "after": "a", "calibrated": False, "activation": None}
    return Insert(**given, **options, parametric=False, after_nodes=(), exact_modes=("eval",))


@pytest.mark.parametrize("kind", ["identity", "residual", "random"])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_rows_of_a_new_layer_are_those_of_the_whole(kind: str, layer: str, dtype: torch.dtype) -> None:
    new = inserted(kind=kind, norm="" if dtype.is_complex else "batch", **LAYERS[layer])
    whole = build_new_layer(new, 3, CPU, dtype).state_dict()
    tensors = NewTensors(3)
    for key, tensor in whole.items():
        one = Made(OfLayer(new, key, dtype), Info(tuple(tensor.shape), tensor.dtype))
        for first, last in [(0, 1), (7, 19), (0, 24)] if tensor.ndim else [(0, 1)]:
            rows = tensors.rows(one, first, last)
            assert rows.dtype == tensor.dtype
            assert torch.equal(rows, tensor[first:last] if tensor.ndim else tensor)
        rows = torch.cat([torch.atleast_1d(rows) for _, rows in tensors.blocks(one)])
        assert torch.equal(rows, torch.atleast_1d(tensor))


@pytest.mark.parametrize("shape", [(1, 7), (3000, 999), (2, BLOCK + 1), (5,)], ids=str)
def test_rows_of_a_drawn_weight_cross_the_borders_of_blocks(shape: tuple[int, ...]) -> None:
    weight = drawn(shape, 5, "a.weight", CPU, torch.float32)
    one, tensors = Made(Drawn("a.weight"), Info(shape, torch.float32)), NewTensors(5)
    assert torch.equal(torch.cat([rows for _, rows in tensors.blocks(one)]), weight)
    for _, border in row_blocks(shape):
        first, last = max(0, border - 1), min(shape[0], border + 1)
        assert torch.equal(tensors.rows(one, first, last), weight[first:last])
    assert not torch.equal(weight, drawn(shape, 6, "a.weight", CPU, torch.float32))
    assert not torch.equal(weight, drawn(shape, 5, "b.weight", CPU, torch.float32))


def test_drawn_weights_have_the_range_and_spread_that_torch_gives_them() -> None:
    weight, like = drawn((400, 64, 3, 3), 0, "a", CPU, torch.float32), nn.Conv2d(64, 400, 3).weight.detach()
    assert float(weight.abs().max()) <= 1 / math.sqrt(64 * 9) == pytest.approx(float(like.abs().max()), rel=1e-3)
    assert float(weight.std()) == pytest.approx(float(like.std()), rel=0.02)
    assert float(weight.mean()) == pytest.approx(0, abs=1e-3)


def test_constants_have_rows_too() -> None:
    one = Made(Filled(2.5), Info((4, 3), torch.float16))
    assert torch.equal(NewTensors(0).rows(one, 1, 3), torch.full((2, 3), 2.5, dtype=torch.float16))
