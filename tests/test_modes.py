"""Code that does other things in train mode than in eval mode, however it asks for the mode it is in."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.capture import tracer

X = torch.randn(4, 6, dtype=torch.float64)


class Net(nn.Module):
    """Two layers, and a question about the mode between them."""

    def __init__(self, ask: Callable[["Net"], bool]) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)
        self.ask = ask
        self.noisy = True

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.a(x))
        return self.b(x.relu() if self.ask(self) else x.tanh())


class Switched(Net):
    """An attribute of its own follows the mode."""

    def train(self, mode: bool = True) -> "Switched":
        self.noisy = mode
        return super().train(mode)


MODELS = {
    "of the model": lambda: Net(lambda net: net.training),
    "of a layer": lambda: Net(lambda net: net.norm.training),
    "by its name": lambda: Net(lambda net: getattr(net.a, "training")),  # noqa: B009 - that is the question
    "past the attribute": lambda: Net(lambda net: vars(net)["training"]),
    "of an attribute that train() sets": lambda: Switched(lambda net: net.noisy),
    "not at all": lambda: Net(lambda net: net.noisy),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_student_does_in_each_mode_what_its_teacher_does(name: str) -> None:
    torch.manual_seed(0)
    teacher = MODELS[name]().double()
    student = fxgrow.grow(teacher, 2.0, X)
    assert fxgrow.verify(teacher, student, X).exact
    assert student.get_parameter("a.weight").shape == (16, 6)
    assert len(student.graphs) == (1 if name == "not at all" else 2)


def test_where_the_code_does_not_ask_for_its_mode_one_trace_serves_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    traces = []
    attempt = tracer.Tracer.trace

    def counted(self: tracer.Tracer, root: nn.Module) -> object:
        traces.append(vars(root)["training"])  # not asking, which would count
        return attempt(self, root)

    monkeypatch.setattr(tracer.Tracer, "trace", counted)
    for name, modes in (("not at all", [False]), ("of a layer", [False, True])):
        traces.clear()
        fxgrow.trace(MODELS[name]().double(), X)
        assert traces == modes
    assert not hasattr(nn.Module, "training")


class Dropping(nn.Module):
    """Dropout that is a function, whose mode is read in `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(nn.functional.dropout(self.a(x), 0.5, self.training))


class AsksForNumbers(Dropping):
    """Cannot be traced, so that its own code runs."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() < 1e9 else self.b(self.a(x))


class StaysInEval(Dropping):
    """Its own `train` keeps it in eval mode."""

    def train(self, mode: bool = True) -> "StaysInEval":
        return super().train(False)


def _drops(model: nn.Module) -> bool:
    return not torch.equal(model(X), model(X))


def _write(model: nn.Module, training: bool) -> None:
    """As Lightning does after each validation."""
    for module in model.modules():
        module.training = training


def _sharded(student: nn.Module) -> nn.Module:
    """As FSDP2 does, which swaps the class."""
    student.__class__ = type(f"Sharded{type(student).__name__}", (type(student),), {})
    return student


WAYS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "itself": lambda student: student,
    "a deep copy": copy.deepcopy,
    "a copy": copy.copy,
    "unpickled": lambda student: pickle.loads(pickle.dumps(student)),
    "with another class": _sharded,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("teacher", [Dropping, AsksForNumbers])
def test_a_student_asks_for_its_mode_at_each_call(teacher: type[nn.Module], output: Any, way: str) -> None:
    student = WAYS[way](fxgrow.grow(teacher().double(), 2.0, X, output=output))
    assert not _drops(student.eval())
    _write(student, training=True)
    assert _drops(student)
    _write(student, training=False)
    assert not _drops(student)
    assert _drops(student.train())
    assert not _drops(student.eval())


def test_what_train_of_a_class_decides_stays_until_a_mode_is_written() -> None:
    student = fxgrow.grow(StaysInEval().double(), 2.0, X, output="module")
    assert not _drops(student.train())
    _write(student, training=True)
    assert _drops(student)


def test_graph_and_code_are_those_of_the_mode() -> None:
    student = fxgrow.grow(Dropping().double(), 2.0, X)
    before = type(student).forward
    for mode in ("train", "eval"):
        student.train(mode == "train")
        assert student.graph is student.graphs[mode]
        assert f"training = {mode == 'train'}" in student.code
    assert type(student).forward is before, "nothing is compiled again"


def test_a_graph_that_is_edited_is_compiled_into_its_mode() -> None:
    student = fxgrow.grow(Dropping().double(), 2.0, X).eval()
    expected = student(X)
    drop = next(node for node in student.graphs["train"].nodes if "dropout" in node.name)
    drop.kwargs = {**drop.kwargs, "training": False}
    student.recompile()
    assert not _drops(student.train())
    assert torch.equal(student.eval()(X), expected)


def test_compiled_code_follows_a_mode_that_is_written() -> None:
    student = fxgrow.grow(Dropping().double(), 2.0, X).eval()
    compiled = torch.compile(student, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(X), student(X))
    _write(student, training=True)
    assert _drops(compiled)


class Own(nn.Module):
    """Its own `train()` does more than set the mode."""

    def __init__(self, change: Callable[[Any, bool], object]) -> None:
        super().__init__()
        self.a, self.norm, self.act, self.b = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.LeakyReLU(), nn.Linear(8, 3)
        self.one, self.other = nn.LeakyReLU(0.1), nn.Tanh()
        self.register_buffer("flag", torch.ones(()))
        self.merged: Tensor | None = None
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.a(x))) * (1 + self.flag)
        return self.b(x) if self.merged is None else x @ self.merged

    def train(self, mode: bool = True) -> "Own":
        super().train(mode)
        self.change(self, mode)
        return self


class Inside(nn.Module):
    """A model of which another one with its own `train()` is a part."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.last = inner, nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(x))


def _hooked(net: Any, mode: bool) -> None:
    handle = vars(net).pop("handle", None)
    if handle is not None:
        handle.remove()
    if not mode:
        vars(net)["handle"] = net.b.register_forward_pre_hook(lambda module, args: (args[0] * 2,))


def _patched(layer: Any, mode: bool) -> None:
    vars(layer).pop("forward", None)
    if not mode:
        layer.forward = lambda x: nn.functional.linear(x, layer.weight)


SET_BY_TRAIN: dict[str, Callable[[Any, bool], object]] = {
    "eps of a layer": lambda net, mode: setattr(net.norm, "eps", 0.5 if mode else 1e-5),
    "setting of an activation": lambda net, mode: setattr(net.act, "negative_slope", 0.1 if mode else 0.4),
    "which module it calls": lambda net, mode: setattr(net, "act", net.one if mode else net.other),
    "a flag in a buffer": lambda net, mode: net.flag.fill_(float(mode)),
    "a hook in eval mode": lambda net, mode: _hooked(net, mode),
    "another forward of a layer": lambda net, mode: _patched(net.b, mode),
    "which weights are trained": lambda net, mode: net.a.requires_grad_(mode),
}


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("change", SET_BY_TRAIN.values(), ids=SET_BY_TRAIN)
def test_what_train_sets_beside_the_mode_is_set_in_a_student(
    change: Any, given: bool, inside: bool, output: Any
) -> None:
    torch.manual_seed(0)
    teacher = (Inside(Own(change)) if inside else Own(change)).double().train(given)
    student = fxgrow.grow(teacher, 2.0, X, output=output)
    assert sum(map(torch.numel, student.parameters())) > sum(map(torch.numel, teacher.parameters()))
    for mode in (True, False, True):
        ours, theirs = student.train(mode)(X), teacher.train(mode)(X)
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
        assert [p.requires_grad for p in student.parameters()] == [p.requires_grad for p in teacher.parameters()]


COMPUTED_BY_TRAIN: dict[str, Callable[[Any, bool], object]] = {
    "merges": lambda net, mode: net.b.weight.data.mul_(2.0 if mode else 0.5),
    "replaces": lambda net, mode: setattr(net.b.weight, "data", net.b.weight * 2),
    "caches": lambda net, mode: setattr(net, "merged", None if mode else net.b.weight.t() * 1.0),
    "clips": lambda net, mode: [p.data.clamp_(-0.1, 0.1) for p in net.parameters()],
}


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("change", COMPUTED_BY_TRAIN.values(), ids=COMPUTED_BY_TRAIN)
def test_a_train_that_computes_with_weights_is_refused_with_the_line(change: Any, output: Any) -> None:
    with pytest.raises(
        fxgrow.GrowError, match=r"train\(\) computes with the entries of 'inner\.\w\.weight' \(at .*\d\)"
    ):
        fxgrow.grow(Inside(Own(change)).double(), 2.0, X, output=output)


class Fused(Own):
    def eval(self) -> "Fused":
        super().eval()
        self.change(self, False)
        return self

    train = nn.Module.train  # type: ignore[assignment]


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize(
    "change", [SET_BY_TRAIN["eps of a layer"], COMPUTED_BY_TRAIN["merges"]], ids=["sets", "merges"]
)
def test_an_eval_that_does_more_than_train_is_refused(change: Any, output: Any) -> None:
    teacher = Fused(change).double()
    teacher.norm.eps = 0.1
    with pytest.raises(fxgrow.GrowError, match=r"eval\(\) of Fused does more than its train\(False\)"):
        fxgrow.grow(teacher, 2.0, X, output=output)
