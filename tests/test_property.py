"""Random networks grow exactly, whatever their graph."""

import torch
from hypothesis import given, note
from hypothesis import strategies as st

import fxgrow
from tests.check import assert_exact, grown, randomise
from tests.random_nets import KINDS, Instruction, RandomNet
from tests.untouched import assert_untouched

NUMBER = st.integers(0, 11)
PROGRAM = st.lists(st.tuples(st.sampled_from(sorted(KINDS)), NUMBER, NUMBER, NUMBER), max_size=9)


@given(program=PROGRAM, factor=st.sampled_from([1.25, 1.5, 2.0, 3.0]), seed=st.integers(0, 3))
def test_random_network_grows_exactly(program: list[Instruction], factor: float, seed: int) -> None:
    torch.manual_seed(seed)
    teacher = randomise(RandomNet(program).double(), seed)
    x = torch.randn(3, 3, 6, 8, dtype=torch.float64)
    note(f"{teacher}")
    with assert_untouched(teacher):
        student = fxgrow.grow(teacher, factor, x, seed=seed)
    assert_exact(teacher, student, x, 1e-10)
    assert {"hidden.weight", "head.weight"} <= grown(teacher, student)


@given(program=PROGRAM)
def test_every_random_network_runs(program: list[Instruction]) -> None:
    """The generator itself: any list of numbers is a network."""
    torch.manual_seed(0)
    model = RandomNet(program)
    for mode in (True, False):
        y = model.train(mode)(torch.randn(3, 3, 6, 8))
        assert y.shape == (3, 4)
        assert bool(y.isfinite().all())
