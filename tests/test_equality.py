"""Every network of the registry, grown as a whole, computes what it did."""

import math

import pytest
import torch

from tests.analysed import EACH, student_by, teacher_and_inputs
from tests.check import assert_exact, given, grown, randomise
from tests.left import grown_or_left
from tests.nets import FAMILIES, NETS, Net
from tests.thinned import thinned


@thinned("exact")
@pytest.mark.parametrize("net", EACH)
def test_growth_is_exact(net: Net) -> None:
    """Also the plan's widths are the factor's, and the student's parameters add up to more."""
    teacher, inputs = teacher_and_inputs(net)
    for factor in (1.5, 2.0):
        student = student_by(factor, net, teacher)
        changed = net.grows != "none" and (factor == 2 or net.any_factor)
        assert_exact(teacher, student, inputs, 1e-10, changed=changed)
    plan = student.meta["fxgrow"]
    missing = net.expected(teacher) - grown(teacher, student)
    assert not missing, f"did not grow: {sorted(missing)}; left: {plan.skipped}"
    assert all(group.new in (group.old, 2 * group.old) for group in plan.groups)
    if net.grows != "none":
        assert any(group.new > group.old for group in plan.groups)
        count = [sum(math.prod(p.shape) for p in m.parameters()) for m in (teacher, student)]
        assert count[0] < count[1]


@thinned("float32")
@pytest.mark.parametrize("net", EACH)
def test_growth_is_exact_in_float32(net: Net) -> None:
    teacher = randomise(net.make()).eval()
    inputs = given(net.inputs(), torch.float32)
    student = grown_or_left(teacher, 1.5, inputs)
    assert_exact(teacher, student, inputs, 1e-5, changed=net.grows != "none" and net.any_factor)


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
