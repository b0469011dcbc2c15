"""Names of modules, parameters, buffers and arguments mean what they say, in every form of a student."""

from __future__ import annotations

import copy
import io
import keyword
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import fxgrow
from fxgrow.model.generated_code import is_plain_name

Kind = Literal["module", "parameter", "buffer"]
SIGNS = ["'", 'say "hi"', "two\nlines", "\\N", "\\", "\r", "\x00", "#", "{x}", "%s", "a b", "日本語", "ﬁ", "0", "1x"]
WORDS = ["class", "lambda", "None", "self", "Self", "__self__", "torch", "getattr", "fxgrow_name0", "_tensor_constant0"]
OF_GRAPH_MODULES = sorted(
    name
    for name in {*dir(fx.GraphModule(nn.Module(), fx.Graph())), "_graphs", "graphs", "_in_spec", "_owner"}
    if not hasattr(nn.Module(), name) and not name.startswith("__")  # which Python itself asks for
)
KINDS: tuple[Kind, ...] = ("module", "parameter", "buffer")
ALL_KINDS = ["graph", "_graph", "_graphs", "_code", "meta", "self", "class", 'say "hi"']  # the others take turns
NAMES = [*SIGNS, *WORDS, *OF_GRAPH_MODULES]
CASES = [
    (name, kind) for i, name in enumerate(NAMES) for j, kind in enumerate(KINDS) if name in ALL_KINDS or i % 3 == j
]


class Named(nn.Module):
    """A net with a module, a parameter or a buffer of some name."""

    def __init__(self, name: str, kind: Kind) -> None:
        super().__init__()
        self.name, self.kind = name, kind
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)
        if kind == "module":
            self.add_module(name, nn.Linear(8, 8))
        elif kind == "parameter":
            self.register_parameter(name, nn.Parameter(torch.rand(8)))
        else:
            self.register_buffer(name, torch.rand(8))

    def forward(self, x: Tensor) -> Any:
        x = self.a(x).relu()
        if self.kind == "module":
            named: Any = self._modules[self.name]
            return self.b(named(x))
        table: Any = self._parameters if self.kind == "parameter" else self._buffers
        return self.b(x * table[self.name])


def _assert_same(student: nn.Module, teacher: nn.Module, x: Tensor) -> None:
    assert list(student.state_dict()) == list(teacher.state_dict())
    for mode in (True, False):
        torch.testing.assert_close(student.train(mode)(x), teacher.train(mode)(x), rtol=1e-10, atol=1e-10)


def _pickled(student: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(student, file)
    file.seek(0)
    loaded: nn.Module = torch.load(file, weights_only=False)
    return loaded


@pytest.mark.parametrize(("name", "kind"), CASES, ids=ascii)
def test_a_student_holds_and_runs_what_has_any_name(name: str, kind: Kind) -> None:
    teacher, x = Named(name, kind).double(), torch.rand(2, 4, dtype=torch.float64)
    student = fxgrow.grow(teacher, 2.0, x)
    assert student.get_parameter("a.weight").shape[0] == 16
    _assert_same(student, teacher, x)
    _assert_same(copy.deepcopy(student), teacher, x)
    _assert_same(_pickled(student), teacher, x)
    student.load_state_dict({key: value.clone() for key, value in student.state_dict().items()}, assign=True)
    student.recompile()
    _assert_same(student, teacher, x)
    assert fxgrow.verify(teacher, student, x).exact


class ByMode(Named):
    """The same, with a graph for each mode."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(x * 2 if self.training else x)


@pytest.mark.parametrize("name", OF_GRAPH_MODULES)
def test_a_student_with_a_graph_for_each_mode_holds_such_names(name: str) -> None:
    kind = KINDS[OF_GRAPH_MODULES.index(name) % 2 + 1]
    teacher, x = ByMode(name, kind).double(), torch.rand(2, 4, dtype=torch.float64)
    student = fxgrow.grow(teacher, 2.0, x)
    assert student.get_parameter("a.weight").shape[0] == 16
    _assert_same(student, teacher, x)
    _assert_same(_pickled(student), teacher, x)


@pytest.mark.parametrize("name", ['say "hi"', "class", "graph", "_graph", "meta", "self"], ids=ascii)
@pytest.mark.parametrize("kind", ["module", "parameter", "buffer"])
def test_such_students_are_planned_applied_and_grown_again(name: str, kind: Kind) -> None:
    teacher, x = Named(name, kind).double(), torch.rand(2, 4, dtype=torch.float64)
    plan = fxgrow.Plan.from_json(fxgrow.plan(fxgrow.widths(teacher, x), 2.0).to_json())
    student = fxgrow.apply(plan, teacher)
    again = fxgrow.grow(student, 2.0, x)
    assert again.get_parameter("a.weight").shape[0] == 32
    _assert_same(again, teacher, x)
    whole = fxgrow.grow(teacher, 2.0, x, output="module")
    assert type(whole) is Named
    _assert_same(whole, teacher, x)
    assert str(fxgrow.summary(student, teacher=teacher))


@pytest.mark.parametrize("key", SIGNS, ids=ascii)
def test_keys_of_a_module_dict_are_no_code(key: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.d, self.b = nn.ModuleDict({key: nn.Linear(4, 8)}), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Any:
            return self.b(self.d[key](x))

    teacher, x = Net().double(), torch.rand(2, 4, dtype=torch.float64)
    _assert_same(fxgrow.grow(teacher, 2.0, x), teacher, x)


def test_a_name_that_is_code_does_not_run() -> None:
    name = 'a"), exit(1), getattr(self, "b'
    teacher, x = Named(name, "module").double(), torch.rand(2, 4, dtype=torch.float64)
    student = fxgrow.grow(teacher, 2.0, x)
    assert repr(name) in student.code
    _assert_same(student, teacher, x)


@pytest.mark.parametrize("name", ["torch", "getattr", "slice", "input", "device", "inf", "range", "operator", "math"])
def test_arguments_hide_nothing_that_a_student_uses(name: str) -> None:
    space: dict[str, Any] = {"F": F}
    exec(f"def forward(this, {name}):\n return this.b(F.relu(this.a({name})))[:, 0:2] * {name}.shape[0]", space)
    net = type("Net", (nn.Module,), {"forward": space["forward"]})()
    net.a, net.b = nn.Linear(4, 8), nn.Linear(8, 3)
    x = torch.rand(2, 4)
    student = fxgrow.grow(net, 2.0, x)
    torch.testing.assert_close(student(x), net(x), equal_nan=True)
    torch.testing.assert_close(student(**{name: x}), net(x), equal_nan=True)


def test_an_argument_called_self_is_refused_by_name() -> None:
    class Net(nn.Sequential):
        def forward(this, self: Tensor) -> Any:  # noqa: N805
            return super().forward(self)

    with pytest.raises(fxgrow.TraceError, match="the name 'self'"):
        fxgrow.grow(Net(nn.Linear(4, 8), nn.Linear(8, 2)), 2.0, torch.rand(2, 4))


class TakesKeywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor, **more: Any) -> Any:
        if float(x.detach().sum()) > 1e9:  # so that it stays a call
            return x
        return self.b(self.a(x).relu()) + more["class"]


class GivesKeywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = TakesKeywords(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Any:
        return self.out(self.inner(x, **{"a b": 1, "class": 2}))


def test_keywords_of_calls_are_no_code() -> None:
    teacher, x = GivesKeywords().double(), torch.rand(2, 4, dtype=torch.float64)
    _assert_same(fxgrow.grow(teacher, 2.0, x), teacher, x)


@pytest.mark.parametrize("table", ["_modules", "_parameters", "_buffers"])
@pytest.mark.parametrize("name", ["a.b", "", 0])
def test_names_that_no_path_can_hold_are_refused(name: Any, table: str) -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    getattr(net, table)[name] = nn.Linear(2, 2) if table == "_modules" else nn.Parameter(torch.rand(2))
    with pytest.raises(fxgrow.TraceError, match="a name is a text without dots"):
        fxgrow.grow(net, 2.0, torch.rand(2, 4))


@pytest.mark.parametrize("name", [*keyword.kwlist, "a b", "ä", "", '"'])
def test_words_of_python_and_signs_are_no_plain_names(name: str) -> None:
    assert not is_plain_name(name)


CHANGES: dict[str, Callable[[fx.GraphModule], object]] = {
    "recompile": lambda student: student.recompile(),
    "train": lambda student: student.train().eval(),
    "half": lambda student: student.float().double(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_users_do_to_a_student_works_under_such_names(change: str) -> None:
    teacher, x = Named("graph", "module").double(), torch.rand(2, 4, dtype=torch.float64)
    student = fxgrow.grow(teacher, 2.0, x)
    before = student(x)
    CHANGES[change](student)
    torch.testing.assert_close(student(x), before, rtol=1e-5, atol=1e-5)
    assert isinstance(student.get_submodule("graph"), nn.Linear)
