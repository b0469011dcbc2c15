"""Groups that a call states by a number, where another call splits the same channels at another place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.test_what_a_result_depends_on import OUTPUTS, Forward, example, grown, made, same


def _in_pairs(h: Tensor) -> Tensor:
    """(c, 2) -> (2, c), so that the channels are pairs and their number may grow."""
    n, _, *space = h.shape
    return h.view(n, -1, 2, *space).transpose(1, 2).reshape(n, -1, *space)


def _halves(h: Tensor) -> Tensor:
    """(2, c) -> (c, 2), so that the channels are two halves that may grow."""
    n, _, *space = h.shape
    return h.view(n, 2, -1, *space).transpose(1, 2).reshape(n, -1, *space)


def _shuffled(m: Any, x: Tensor) -> Any:
    h = m.a(x)
    return m.b(_in_pairs(h)), m.b(F.channel_shuffle(h, 4))


def _shuffled_by_module(m: Any, x: Tensor) -> Any:
    h = m.a(x)
    return m.b(_in_pairs(h)), m.b(m.shuffle(h))


def _pixels(m: Any, x: Tensor) -> Any:
    h = m.a(x)
    return m.b(_halves(h)), m.b(m.up(F.pixel_shuffle(h, 2)))


def _pixels_of_pairs(m: Any, x: Tensor) -> Any:
    h = m.a(x)
    return m.b(_in_pairs(h)), m.b(m.up(F.pixel_shuffle(h, 2)))


def _folded(m: Any, x: Tensor) -> Any:
    h = m.a(x)
    return m.b(_in_pairs(h)), m.b(m.up(F.fold(h.flatten(2), (12, 12), 2, stride=2)))


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("forward", [_shuffled, _shuffled_by_module, _pixels, _pixels_of_pairs, _folded])
def test_a_number_of_groups_that_a_call_states_does_not_grow(forward: Forward, output: str) -> None:
    teacher = made(forward)
    teacher.shuffle, teacher.up = nn.ChannelShuffle(4), nn.Conv2d(2, 8, 1).double()
    student = grown(teacher, output)
    if student is None:  # the model's own code states the 2 of a view
        assert output == "module"
        return
    assert student.get_parameter("a.weight").shape[0] > 8
    assert same(student(example()), teacher(example()))
    larger = torch.cat([example(), example()])
    assert same(student(larger), teacher(larger))
