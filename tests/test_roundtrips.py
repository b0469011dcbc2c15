"""Students and plans survive copying, pickling, saving and loading; one seed gives one plan."""

import copy
import dataclasses
import io
import os
import pickle
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

import fxgrow
from tests.check import assert_exact, given, randomise, relative_error, run
from tests.nets import NETS

SOME = (
    "res_net",
    "dense_net",
    "shuffle_chain",
    "convnext",
    "tied_convolutions",
    "autoencoder",
    "depthwise2d_multiplier2",
)


def _grown(name: str, **options: int) -> tuple[nn.Module, nn.Module, object]:
    net = NETS[name]
    teacher = randomise(net.make().double())
    inputs = given(net.inputs(), torch.float64)
    return teacher, fxgrow.grow(teacher, 2.0, inputs, **options), inputs


def _saved(student: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(student, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda m: pickle.loads(pickle.dumps(m)), "torch.save": _saved}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("name", SOME)
def test_student_survives(name: str, way: str) -> None:
    teacher, student, inputs = _grown(name)
    again = COPIES[way](student)
    assert list(again.state_dict()) == list(student.state_dict())
    for mode in ("eval", "train"):
        assert relative_error(run(student, inputs, mode), run(again, inputs, mode)) == 0
    assert_exact(teacher, again, inputs, 1e-10)


@pytest.mark.parametrize("name", SOME)
def test_plan_and_weights_rebuild_the_student(name: str) -> None:
    """Another model of the same class, the plan as text and the weights in a file: the same student."""
    _, student, inputs = _grown(name)
    plan = fxgrow.Plan.from_json(student.meta["fxgrow"].to_json())
    torch.manual_seed(1)
    other = fxgrow.apply(plan, randomise(NETS[name].build().double(), seed=5))
    assert relative_error(run(student, inputs), run(other, inputs)) > 1e-3
    file = io.BytesIO()
    torch.save(student.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    for mode in ("eval", "train"):
        assert relative_error(run(student, inputs, mode), run(other, inputs, mode)) == 0


@pytest.mark.parametrize("name", SOME)
def test_plan_goes_through_json(name: str) -> None:
    teacher, student, _ = _grown(name)
    plan = student.meta["fxgrow"]
    again = fxgrow.Plan.from_json(plan.to_json())
    assert again == plan
    assert again.to_json() == plan.to_json()
    twin = fxgrow.apply(again, teacher)
    for key, value in student.state_dict().items():
        assert torch.equal(value, twin.state_dict()[key]), key


@pytest.mark.parametrize("name", SOME)
def test_stages_give_what_grow_gives(name: str) -> None:
    teacher, student, inputs = _grown(name)
    plan = fxgrow.plan(fxgrow.widths(teacher, inputs), 2.0)
    assert plan == student.meta["fxgrow"]
    twin = fxgrow.apply(plan, teacher)
    for key, value in student.state_dict().items():
        assert torch.equal(value, twin.state_dict()[key]), key


@pytest.mark.parametrize("name", SOME)
def test_plan_does_not_depend_on_dtype(name: str) -> None:
    net = NETS[name]
    plans = set()
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        torch.manual_seed(int(dtype.itemsize))  # the global seed must not matter either
        student = fxgrow.grow(net.make().to(dtype), 2.0, given(net.inputs(), dtype))
        plan = student.meta["fxgrow"]
        assert "float" in plan.inputs
        # It says of which dtype the example was, and how many bytes tensors of that have.
        plans.add(dataclasses.replace(plan, inputs="", costs=()).to_json())
    assert len(plans) == 1


@pytest.mark.parametrize("name", SOME)
def test_seed_decides(name: str) -> None:
    _, one, _ = _grown(name, seed=1)
    _, same, _ = _grown(name, seed=1)
    _, other, inputs = _grown(name, seed=2)
    assert one.meta["fxgrow"].to_json() == same.meta["fxgrow"].to_json()
    for key, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[key]), key
    assert one.meta["fxgrow"].to_json() != other.meta["fxgrow"].to_json()
    assert any(not torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items())
    assert relative_error(run(one, inputs), run(other, inputs)) < 1e-10


SCRIPT = """
import hashlib, numpy, torch, fxgrow
from torch import nn
from tests.nets import NETS
net = NETS["dense_net"]
student = fxgrow.grow(net.make(), 1.5, net.inputs())
weights = b"".join(v.numpy().tobytes() for v in student.state_dict().values())
digest = hashlib.sha256(student.meta["fxgrow"].to_json().encode() + weights).hexdigest()

class Net(nn.Module):
    def __init__(self, more):
        super().__init__()
        self.more, self.a, self.b, self.c = more, nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        h = self.a(x)
        return self.c(self.b(h)), self.more(h.shape[1])

RETURNED = {
    "a long array": lambda width: numpy.arange(600 * width),
    "an array of objects": lambda width: numpy.array([object(), object, f"{width}"]),
    "a set of texts": lambda width: {f"{number * width}" for number in range(1, 9)},
    "a set of all kinds": lambda width: {None, 1.5, b"x", "y", width},
}
torch.manual_seed(0)
plans = [(name, fxgrow.plan(fxgrow.widths(Net(more), torch.randn(2, 4)), 1.5)) for name, more in RETURNED.items()]
names = [name for name, plan in plans if [width.name for width in plan.grown_widths] == ["b"]]
assert names == list(RETURNED), names

class Several(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers, self.out = nn.ModuleList([nn.Linear(4, 8) for _ in range(3)]), nn.Linear(8, 3)

    def forward(self, one, two, three):
        return self.out(sum(layer(x) for layer, x in zip(self.layers, (one, two, three))))

try:
    fxgrow.plan(fxgrow.widths(Several(), tuple(torch.randn(3, 2, 4))), {"input of layers.*": 9})
except fxgrow.PlanError as error:
    hint = str(error).rpartition(". ")[2]
assert hint == "For 9 channels of it, ask for fxgrow.Inputs('one', 9)", hint
told = hashlib.sha256("".join([hint, *(plan.to_json() for _, plan in plans)]).encode()).hexdigest()
"""


def test_processes_agree() -> None:
    """Every rank gets the same student: neither hash seeds nor addresses enter."""
    here: dict[str, Any] = {}
    exec(SCRIPT, here)
    other = "1" if os.environ.get("PYTHONHASHSEED") == "0" else "0"
    environment = {**os.environ, "PYTHONHASHSEED": other, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", f"{SCRIPT}print(digest, told)"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{here['digest']} {here['told']}\n"
