"""A seed gives the same student in every process, version of torch and number of threads.

Shares and normal numbers have another last bit where torch rounds a product before it is added, which it does where
`torch.backends.cpu.get_cpu_capability()` is DEFAULT. The integers that they are made from are the same. So the golden
file holds the digests of what each method makes twice: for processors that fuse the two, and for DEFAULT.

    python -m tests.test_filled_bits write
    ATEN_CPU_CAPABILITY=default python -m tests.test_filled_bits write

write them. Do so only where a change of the bits is meant: it is one for all users.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.base.content import digest
from fxgrow.base.rng import block_generator, sixteen_bits

PATH = Path(__file__).parent / "golden" / "filled.json"
METHODS = ("auto", "even", "split", "zero_out", "random_init", "random_pad", "noise")
OUTPUTS = ("zero", "mean", "random")  # what new classes are
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64)
KIND = {"AVX2": "fused", "AVX512": "fused", "DEFAULT": "DEFAULT"}.get(torch.backends.cpu.get_cpu_capability(), "")
known = pytest.mark.skipif(not KIND, reason="digests are of processors with AVX2, and of those without fused products")


class Complex(nn.Module):
    """Two products with complex matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.v = (nn.Parameter(torch.zeros(shape, dtype=torch.complex64)) for shape in ((32, 6), (5, 32)))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w.T @ self.v.T


def _teacher(dtype: torch.dtype, *, large: bool) -> nn.Module:
    """A net whose numbers are the same on every machine; a large one has a weight of several blocks."""
    if large:
        body = [nn.Flatten(), nn.Linear(192, 700), nn.ReLU(), nn.Linear(700, 900), nn.ReLU(), nn.Linear(900, 5)]
        net: nn.Module = nn.Sequential(*body).to(dtype)
    elif dtype.is_complex:
        net = Complex()
    else:
        body = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.Flatten()]
        net = nn.Sequential(*body, nn.Linear(128, 40), nn.LayerNorm(40), nn.Tanh(), nn.Linear(40, 5)).to(dtype)
    for number, (name, tensor) in enumerate(net.state_dict().items()):
        if "num_batches" not in name:
            real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
            real.copy_((torch.arange(real.numel()).view(real.shape) * 37 + number) % 101 + 1).div_(64)
    return net


def _bits(method: str, dtype: torch.dtype, *, large: bool = False) -> str:
    """The digest of a student."""
    shape = (2, 6) if dtype.is_complex else (2, 3, 8, 8)
    spec = fxgrow.Outputs(9, new=method) if method in OUTPUTS else 2.0  # type: ignore[arg-type]
    how = {} if method in OUTPUTS else {"method": method}
    student = fxgrow.grow(_teacher(dtype, large=large), spec, torch.zeros(shape, dtype=dtype), seed=3, **how)
    whole = "".join(f"{name} {tuple(t.shape)} {digest(t)}" for name, t in student.state_dict().items())
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


LARGE = ("split", "zero_out", "random_init")
CASES = [(m, d) for m in (*METHODS, *OUTPUTS) for d in DTYPES if not (d.is_complex and m in OUTPUTS)]


def _golden() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads(PATH.read_text())
    return found


@known
@pytest.mark.parametrize(("method", "dtype"), CASES)
def test_a_seed_gives_the_bits_of_the_versions_before(method: str, dtype: torch.dtype) -> None:
    assert _bits(method, dtype) == _golden()[KIND][f"{method} {dtype}"]


@known
@pytest.mark.parametrize("method", LARGE)
def test_a_seed_gives_the_bits_of_the_versions_before_in_each_block(method: str) -> None:
    assert _bits(method, torch.float32, large=True) == _golden()[KIND][f"{method} large"]


@pytest.mark.skipif(KIND != "fused", reason="this processor is what the other test would make it")
def test_without_fused_products_a_seed_gives_other_bits_which_are_the_same_everywhere() -> None:
    words = [sys.executable, "-W", "ignore", "-m", "tests.test_filled_bits"]
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default", "PYTHONPATH": str(PATH.parents[2])}
    run = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=PATH.parents[2], check=True)
    kind, found = json.loads(run.stdout)
    assert kind == "DEFAULT"
    assert found == _golden()["DEFAULT"]
    assert found != _golden()["fused"]


def test_what_is_drawn_for_a_block_is_the_same_on_every_machine() -> None:
    drawn = sixteen_bits(1001, block_generator(3, "layer.weight", 1, 2))
    assert drawn[:4].tolist() == [16474, 14721, -17519, -8848]
    assert digest(drawn) == "efa7ec728dba82e65127c965b104e28d9a5b94985ee73e40ee4d7a70ff7064fd"


def _digests() -> dict[str, str]:
    """Of all cases, on this processor."""
    large = {f"{method} large": _bits(method, torch.float32, large=True) for method in LARGE}
    return {f"{method} {dtype}": _bits(method, dtype) for method, dtype in CASES} | large


if __name__ == "__main__":
    if "write" in sys.argv[1:]:
        PATH.write_text(json.dumps({**_golden(), KIND: _digests()}, indent=1) + "\n")
    else:
        sys.stdout.write(json.dumps([KIND, _digests()]))
