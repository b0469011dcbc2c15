"""Students of the teacher's own class: its code, attributes, methods, hooks and indexing, with grown parameters."""

import copy
import functools
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from tests.analysed import EACH, planned, student_by, teacher_and_inputs
from tests.check import assert_exact, grown, randomise
from tests.nets import NETS, Net, architectures, idioms, signatures, vision_transformers
from tests.thinned import thinned

OURS = {"_fxgrow_plan"}


X = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def pickled(model: nn.Module) -> bytes | None:
    """The bytes, or None where the model holds what cannot be pickled."""
    try:
        return pickle.dumps(model)
    except (pickle.PicklingError, AttributeError, TypeError, RuntimeError):  # parametrised modules refuse
        return None


@thinned("module output")
@pytest.mark.parametrize("net", EACH)
def test_a_module_is_grown_as_what_it_is(net: Net) -> None:
    teacher, inputs = teacher_and_inputs(net)
    student = student_by(2.0, net, teacher, "module")
    plan = fxgrow.plan_of(student)
    assert plan is not None
    assert_exact(teacher, student, inputs, 1e-10, changed=bool(plan.grown_widths))

    assert isinstance(student, type(teacher))
    assert list(student.state_dict()) == list(teacher.state_dict())
    theirs, ours = (dict(model.named_modules(remove_duplicate=False)) for model in (teacher, student))
    assert {name: type(m) for name, m in ours.items()} == {name: type(m) for name, m in theirs.items()}
    for name, module in theirs.items():
        assert vars(module).keys() <= vars(ours[name]).keys(), name
        assert vars(ours[name]).keys() <= vars(module).keys() | OURS, name

    twins = [copy.deepcopy(student)]
    if pickled(teacher) is not None:
        twins.append(pickle.loads(pickle.dumps(student)))
    for twin in twins:
        assert_exact(student, twin, inputs, 0.0, modes=("eval",), changed=False)
        assert fxgrow.plan_of(twin) == plan

    # What grows here grows as in a graph, to the same numbers; a graph's literals may let more grow.
    graph = student_by(2.0, net, teacher)
    assert grown(teacher, student) <= grown(teacher, graph), "a graph grows less than the code"
    both = fxgrow.plan_of(graph)
    assert both is not None
    if plan.tensors == both.tensors and plan.groups == both.groups:
        mine = dict(graph.named_parameters(remove_duplicate=False))
        for name, parameter in student.named_parameters(remove_duplicate=False):
            assert torch.equal(parameter, mine[name]), name


# Literals in the code of these: the six channels that a residual path has.
STATED = {"dual_path"}
FAMILIES = {family.__name__ for family in (architectures, idioms, signatures, vision_transformers)}
OPAQUE_MODEL = {name: net for name, net in NETS.items() if net.build.__module__ in FAMILIES and name not in STATED}


@pytest.mark.parametrize("net", [case for case in EACH if case.id in OPAQUE_MODEL])
def test_code_that_states_no_widths_grows_as_far_as_a_graph(net: Net) -> None:
    """Sizes read from attributes (`num_heads`, `head_dim`, `x[:, : self.out]`) follow."""
    teacher, _ = teacher_and_inputs(net)
    student = student_by(2.0, net, teacher, "module")
    missing = net.expected(teacher) - grown(teacher, student)
    assert not missing, f"did not grow: {sorted(missing)}; left: {planned(net.name, 'module', 2.0).skipped}"


class Block(nn.Module):
    """Has attributes, a property, a method that is not forward, and hooks."""

    expansion = 4

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.width, self.note, self.kinds = width, "mine", ["conv", "norm"]
        self.body = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU())
        self.layers = nn.ModuleDict({"head": nn.Conv2d(width, 4, 1)})
        self.seen: list[tuple[int, ...]] = []

    @property
    def out(self) -> int:
        return self.layers["head"].out_channels

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        y = self.features(x)
        return self.layers["head"](y.view(y.shape[0], self.width, *y.shape[2:]))


def test_attributes_methods_hooks_and_indexing_are_there() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    teacher = randomise(Block().double()).eval()
    teacher.body.register_forward_hook(lambda module, args, out: out * 3)
    teacher.layers["head"].register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    student = fxgrow.grow(teacher, 2.0, x, output="module")
    assert isinstance(student, Block)
    assert (student.width, teacher.width) == (12, 6)
    assert (student.note, student.kinds, student.expansion, student.out) == ("mine", ["conv", "norm"], 4, 4)
    assert student.body[0].out_channels == len(student.body[1].weight) == student.layers["head"].in_channels == 12
    assert [type(m) for m in student.body[:2]] == [nn.Conv2d, nn.BatchNorm2d]
    assert student.features(x).shape[1] == 12
    assert len(student.body._forward_hooks) == len(student.layers["head"]._forward_pre_hooks) == 1
    assert_exact(teacher, student, x, 1e-10)
    student.kinds.append("more")
    assert teacher.kinds == ["conv", "norm"], "what the student holds is its own"


def test_a_module_is_grown_again_and_trains() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    teacher = randomise(Block().double())
    student = fxgrow.grow(fxgrow.grow(teacher, 2.0, x, output="module"), 1.5, x, output="module")
    assert student.width == 18
    assert_exact(teacher, student, x, 1e-10)
    optimizer = torch.optim.SGD(student.parameters(), 0.1)
    before = [p.clone() for p in student.parameters()]
    student(x).square().sum().backward()
    optimizer.step()
    assert all(not torch.equal(a, b) for a, b in zip(before, student.parameters(), strict=True))


# -- how arguments reach code that looks at how they were given -------------------------------------------------


class Net2(nn.Module):
    """Two layers, with a flag that doubles the result."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 3)

    def compute(self, x: Tensor, double: object) -> Tensor:
        result: Tensor = self.b(torch.relu(self.a(x)))
        return result * 2 if double else result


def with_default(forward: Callable[..., Any]) -> Callable[..., Any]:
    """As transformers does: what is not among the named arguments comes from a config."""

    @functools.wraps(forward)
    def wrapped(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("double") is None:
            kwargs["double"] = True
        return forward(self, *args, **kwargs)

    return wrapped


def first_is_given(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A wrapper that takes the first argument by its position."""

    @functools.wraps(forward)
    def wrapped(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return forward(self, args[0] * 1.0, *args[1:], **kwargs)

    return wrapped


class FromConfig(Net2):
    @with_default
    def forward(self, x: Tensor | None = None, mask: Tensor | None = None, double: bool | None = None) -> Tensor:
        assert x is not None
        return self.compute(x if mask is None else x * mask, double)


class FromConfigWithMore(Net2):
    @with_default
    def forward(self, x: Tensor, double: bool | None = None, **more: Any) -> Tensor:
        return self.compute(x, double) * more.get("scale", 1.0)


class FirstAndConfig(Net2):
    @first_is_given
    @with_default
    def forward(self, x: Tensor, mask: Tensor | None = None, double: bool | None = None) -> Tensor:
        return self.compute(x if mask is None else x * mask, double)


class ByPlace(Net2):
    def forward(self, x: Tensor, mask: Tensor | None = None, /, double: bool = True) -> Tensor:
        return self.compute(x if mask is None else x * mask, double)


class AnyNumber(Net2):
    def forward(self, x: Tensor, double: bool = True, *more: Tensor, scale: float = 1.0) -> Tensor:
        return self.compute(sum(more, x), double) * scale


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        (FromConfig, {"x": X, "mask": X > 0}),
        (FromConfig, (X,)),
        (FromConfigWithMore, {"x": X}),
        (FromConfigWithMore, {"x": X, "scale": 3.0}),
        (FirstAndConfig, (X, X > 0)),
        (ByPlace, (X, X > 0)),
        (ByPlace, (X,)),
        (AnyNumber, (X, False, X, X)),
        (AnyNumber, (X,)),
    ],
)
@pytest.mark.parametrize("output", ["graph", "module"])
def test_arguments_reach_a_model_as_they_are_written(kind: type[nn.Module], inputs: Any, output: Any) -> None:
    torch.manual_seed(0)
    teacher = kind().double()
    args, kwargs = ((), inputs) if isinstance(inputs, dict) else (inputs, {})
    student = fxgrow.grow(teacher, 2.0, inputs, output=output)
    assert torch.allclose(student(*args, **kwargs), teacher(*args, **kwargs), atol=1e-12)
    assert student.get_parameter("a.weight").shape == (12, 5)


class TakesAsManyAs(nn.Module):
    """Of all channels it returns as many as an attribute says."""

    def __init__(self) -> None:
        super().__init__()
        self.out, self.a, self.b = 6, nn.Linear(4, 5), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.b(torch.cat([h, h.tanh()], 1)[:, : self.out])


def test_entries_that_code_takes_by_an_attribute_follow_it() -> None:
    teacher, x = TakesAsManyAs().double(), torch.randn(2, 4, dtype=torch.float64)
    student = fxgrow.grow(teacher, 2.0, x, output="module")
    assert student.a.out_features > 5
    assert student.out == student.b.in_features > 6
    assert_exact(teacher, student, x, 1e-10)
