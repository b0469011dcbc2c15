"""Fourier transforms over spatial dimensions, and views of complex numbers as pairs of real ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..layouts.layout import fixed
from .env import Env, Outcome, Value
from .registry import Exactness, Sample, rule

aten = torch.ops.aten


@rule(
    aten._fft_r2c.default,
    aten._fft_c2r.default,
    aten._fft_c2c.default,
    samples=[
        Sample(lambda: lambda x: torch.fft.irfft2(torch.fft.rfft2(x, norm="ortho"), s=(5, 3))),
        Sample(lambda: lambda x: torch.fft.fft2(x).abs()),
        Sample(lambda: lambda x: torch.fft.fft(x, dim=1).abs(), grows=False),
    ],
    exact=Exactness(any="the other dimensions", pinned="the dimensions transformed"),
)
def fourier(env: Env, x: Value, dims: Sequence[int], *args: Any) -> Outcome:
    """A discrete Fourier transform over dims, of each channel separately."""
    over = {d % len(x.layouts) for d in dims}
    for d in over:
        env.keep(x.layouts[d], "a Fourier transform sums over it")
    return tuple(
        fixed(n) if d in over else layout for d, (n, layout) in enumerate(zip(env.outs[0], x.layouts, strict=True))
    )


class _Filter(nn.Module):
    """A complex parameter per channel, stored as two real numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 1, 1, 2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.view_as_real(x * torch.view_as_complex(self.weight)).flatten(-2)


@rule(
    aten.view_as_complex.default,
    samples=[Sample(_Filter)],
    exact=Exactness(any="every dimension", pinned="the last: real and imaginary part"),
)
def view_as_complex(env: Env, x: Value) -> Outcome:
    """(*, 2) -> (*)"""
    env.keep(x.layouts[-1], "it holds the real and the imaginary part")
    return x.layouts[:-1]


@rule(aten.view_as_real.default, samples=[Sample(_Filter)], exact=Exactness(any="every dimension"))
def view_as_real(env: Env, x: Value) -> Outcome:
    """(*) -> (*, 2)"""
    return (*x.layouts, fixed(2))
