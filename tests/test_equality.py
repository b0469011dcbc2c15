"""Every network of the registry, grown as a whole, computes what it did."""

import math

import pytest
import torch

import fxgrow
from tests.check import assert_exact, given, grown, randomise
from tests.left import grown_or_left
from tests.nets import FAMILIES, NETS, Net

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


CASES = [(1.5, torch.float64), (2.0, torch.float64), (1.5, torch.float32)]


@pytest.mark.parametrize(("factor", "dtype"), CASES, ids=["1.5-float64", "2.0-float64", "1.5-float32"])
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_growth_is_exact(net: Net, factor: float, dtype: torch.dtype) -> None:
    teacher = randomise(net.make().to(dtype))
    # The mode in which the teacher is given must not matter: train mode here, eval mode there.
    teacher.train(dtype is torch.float64)
    inputs = given(net.inputs(), dtype)
    student = grown_or_left(teacher, factor, inputs)
    changed = net.grows != "none" and (factor == 2 or net.any_factor)
    assert_exact(teacher, student, inputs, TOLERANCE[dtype], changed=changed)
    if factor == 2:
        missing = net.expected(teacher) - grown(teacher, student)
        assert not missing, f"did not grow: {sorted(missing)}; left: {student.meta['fxgrow'].skipped}"


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_plan_asks_for_what_the_student_has(net: Net) -> None:
    """The plan's widths are the factor's, and the student's parameters add up to more."""
    teacher = net.make()
    if net.grows == "none":
        return
    student = fxgrow.grow(teacher, 2.0, net.inputs())
    groups = student.meta["fxgrow"].groups
    assert any(g.new > g.old for g in groups)
    assert all(g.new in (g.old, 2 * g.old) for g in groups)
    count = [sum(math.prod(p.shape) for p in m.parameters()) for m in (teacher, student)]
    assert count[0] < count[1]


def test_registry_is_complete() -> None:
    """Each file registers something, and each name that must grow exists."""
    assert len(NETS) > 400
    for family in FAMILIES:
        assert any(f"{n.build.__module__}" == family.__name__ for n in NETS.values()), family.__name__
    for net in NETS.values():
        model = net.make()
        names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
        assert net.expected(model) <= names, net.name
        assert net.grows == "none" or net.expected(model), net.name
