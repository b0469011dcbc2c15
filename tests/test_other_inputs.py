"""A student is given inputs of other sizes than it was grown with.

It computes what the teacher computes, or raises a GrowError that speaks of another path: never something else.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from tests.check import given, randomise
from tests.left import grown_or_left
from tests.nets import NETS, Net, architectures, idioms, interfaces, signatures, traps, vision_transformers
from tests.other_inputs import assert_same_or_refused

CODE = {family.__name__ for family in (architectures, idioms, interfaces, signatures, traps, vision_transformers)}
# Known: a view of rows of a literal length takes any image whose size is a multiple of it, and mixes samples; once the
# literal has grown, it mixes them otherwise.
MIXED = (
    "flatten_by_view_minus_one_first",
    "flatten_by_reshape_literals",
    "view_literal_2d",
    "view_literal_3d",
    "channels_as_rows",
)
# Known: an image without a batch, whose height happens to be the number of channels, so that the teacher takes it.
COINCIDENT = ("activation_prelu_per_channel", "batchnorm_synchronised", "channel_shuffle_module")
KNOWN = {f"{name}-graph" for name in (*MIXED, *COINCIDENT)} | {"idiom_new_tensors-module"}
CASES = [(net, "graph") for net in NETS.values()]
CASES += [(net, "module") for net in NETS.values() if net.build.__module__ in CODE]


def _params() -> Iterator[object]:
    for net, output in CASES:
        name = f"{net.name}-{output}"
        marks = [pytest.mark.xfail(strict=True, reason="the dimensions have another meaning")] if name in KNOWN else []
        yield pytest.param(net, output, id=name, marks=marks)


@pytest.mark.parametrize(("net", "output"), list(_params()))
def test_other_inputs_give_the_same_or_are_refused(net: Net, output: Literal["graph", "module"]) -> None:
    teacher = randomise(net.make().double()).eval()
    inputs = given(net.inputs(), torch.float64)
    student = grown_or_left(teacher, 2.0, inputs, output=output).eval()
    computed = assert_same_or_refused(teacher, student, inputs)
    assert output == "graph" or computed, "a student of the teacher's own class runs its own code"


class Asking(nn.Module):
    """A mutant: its answer depends on the size, and no guard says so."""

    def __init__(self, ask: Callable[[Tensor], float]) -> None:
        super().__init__()
        self.inner, self.ask = nn.Conv2d(3, 4, 1), ask

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.ask(x)


@pytest.mark.parametrize("dim", [0, 2, 3])
def test_a_student_that_follows_the_example_instead_is_caught(dim: int) -> None:
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    teacher = Asking(lambda x: float(x.shape[dim])).double().eval()
    student = Asking(lambda _: float(x.shape[dim])).double().eval()
    student.load_state_dict(teacher.state_dict())
    with pytest.raises(AssertionError, match=f"dimension {dim} by 1"):
        assert_same_or_refused(teacher, student, (x,))
