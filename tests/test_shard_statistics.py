"""New entries that depend on all of a teacher's tensor, in sharded models: the bits of growing in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import fxgrow
from fxgrow import methods
from fxgrow.rewrite import fill
from tests.ranks import TOGETHER, in_processes
from tests.sharded_nets import ALL, WHOLE
from tests.test_grow_sharded import assert_bits_of_memory, both_ways, sharded
from tests.thinned import THOROUGH

pytestmark = TOGETHER

INEXACT = [name for name in methods.names() if not methods.method(name).preserves_function]
RUNS = [
    (2, (2,), torch.float64),
    pytest.param(3, (3,), torch.bfloat16, marks=THOROUGH),
    pytest.param(4, (4,), torch.float32, marks=THOROUGH),
    pytest.param(4, (2, 2), torch.float32, marks=THOROUGH),
]


def by_small_blocks(
    rank: int, number: int, names: list[str], ways: list[str], shape: tuple[int, ...], dtype: torch.dtype
) -> Any:
    """What `both_ways` gives for each method, where a tensor is made of many blocks, which parts of it cut."""
    fill.PART = 48
    return [both_ways(rank, number, names, method, shape, dtype) for method in ways]


@pytest.mark.parametrize(("number", "mesh", "dtype"), RUNS, ids=str)
def test_new_outputs_and_channels_that_carry_means(
    number: int, mesh: tuple[int, ...], dtype: torch.dtype, tmp_path: Path
) -> None:
    names = [name for name in WHOLE if number in (2, 4) or ("by columns" not in name and name != "means in columns")]
    found = in_processes(by_small_blocks, tmp_path, number, names, ["auto"], mesh, dtype)
    assert_bits_of_memory([results for (results,) in found], names)


def grown_rows_by_columns(rank: int, number: int) -> str:
    """What the growth of standardised rows says that no process has whole."""
    case = ALL["rows that stay by columns"]
    model = sharded(case.make(), dist.init_device_mesh("cpu", (number,)), case)
    with pytest.raises(fxgrow.GrowError) as caught:
        fxgrow.grow(model, {"stem": 18}, case.example)
    return str(caught.value)


def test_rows_that_grow_and_that_no_process_has_are_refused(tmp_path: Path) -> None:
    for reason in in_processes(grown_rows_by_columns, tmp_path, 2):
        assert "'up.weight' is standardised over the dimension by which it is sharded" in reason


@pytest.mark.parametrize(("number", "mesh", "dtype"), RUNS, ids=str)
def test_methods_that_do_not_preserve_the_function(
    number: int, mesh: tuple[int, ...], dtype: torch.dtype, tmp_path: Path
) -> None:
    names = ["odd sizes", "tied", *(["columns"] if number in (2, 4) else [])]
    for results in zip(*in_processes(by_small_blocks, tmp_path, number, names, INEXACT, mesh, dtype), strict=True):
        assert_bits_of_memory(list(results), names)
