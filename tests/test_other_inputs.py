"""A student is given inputs of other sizes than it was grown with.

It computes what the teacher computes, or raises a GrowError that speaks of another path: never something else.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.analysed import Output, student_by, teacher_and_inputs
from tests.nets import NETS, Net, architectures, idioms, interfaces, signatures, traps, vision_transformers
from tests.other_inputs import assert_same_or_refused
from tests.thinned import thinned

CODE = {family.__name__ for family in (architectures, idioms, interfaces, signatures, traps, vision_transformers)}
CASES: list[tuple[Net, Output]] = [(net, "graph") for net in NETS.values()]
CASES += [(net, "module") for net in NETS.values() if net.build.__module__ in CODE]
PARAMETERS = [
    pytest.param(net, output, id=f"{net.name}-{output}", marks=pytest.mark.xdist_group(net.name))
    for net, output in CASES
]


@thinned("other inputs")
@pytest.mark.parametrize(("net", "output"), PARAMETERS)
def test_other_inputs_give_the_same_or_are_refused(net: Net, output: Output) -> None:
    teacher, inputs = teacher_and_inputs(net)
    teacher.eval()
    student = student_by(2.0, net, teacher, output).eval()
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
