"""Ways in which a student could be wrong without an error, each found by trying: grown exactly, left, or refused."""

import copy
import pickle
import random
from collections.abc import Callable
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from fxgrow import Widen
from tests.check import assert_exact, randomise, relative_error
from tests.left import grown_or_left

X = torch.randn(5, 6, dtype=torch.float64)
Forward = Callable[["Net", Tensor], object]


class Net(nn.Module):
    """Two linear layers, a parameter, and whatever is to be tried between them."""

    def __init__(self, forward: Forward, *shape: int) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)
        self.w = nn.Parameter(torch.randn(shape or (1,)))
        self.total = torch.zeros(3, dtype=torch.float64)
        self.body = forward

    def forward(self, x: Tensor) -> object:
        return self.body(self, x)


def _accumulate(net: Net, x: Tensor) -> Tensor:
    total = torch.tensor(0.0)
    return total.add_(net.b(net.a(x)).sum())


def _count(net: Net, x: Tensor) -> Tensor:
    net.total += 1
    return net.b(net.a(x)) + net.total


def _remember(net: Net, x: Tensor) -> Tensor:
    y = net.b(net.a(x))
    net.memory = y + getattr(net, "memory", 0)
    return net.memory


def _no_grad(net: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        h = net.a(x)
    return net.b(h)


def _autocast(net: Net, x: Tensor) -> Tensor:
    with torch.autocast("cpu"):
        return net.b(net.a(x))


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return -grad


def _reversed(net: Net, x: Tensor) -> Tensor:
    return net.b(_Reverse.apply(net.a(x)))


def _python_random(net: Net, x: Tensor) -> Tensor:
    h = net.a(x)
    return net.b(h) if random.random() < 0.5 else net.b(-h)


KEPT: dict[str, tuple[Forward, str]] = {
    "a constant that is added to": (_accumulate, "neither a parameter nor a buffer"),
    "state in an attribute": (_remember, "keeps state in attributes"),
    "no_grad inside": (_no_grad, "switches gradients or autocast"),
    "autocast inside": (_autocast, "switches gradients or autocast"),
    "a backward of its own": (_reversed, "autograd Function _Reverse"),
    "python random": (_python_random, "Python's or numpy's random"),
}


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("name", KEPT)
def test_code_whose_effects_a_graph_would_lose_stays_code(name: str, output: Literal["graph", "module"]) -> None:
    """The student runs it, grown, with its effects: state, gradients, another draw each time."""
    forward, reason = KEPT[name]
    torch.manual_seed(0)
    teacher = Net(forward).double()
    student = fxgrow.grow(teacher, 2.0, X, output=output)
    assert output == "module" or any(reason in note for note in fxgrow.plan_of(student).notes)
    assert student.get_parameter("a.weight").shape[0] == 2 * teacher.a.weight.shape[0]
    gradients = []
    for model in (teacher, student):
        random.seed(0)
        x = X.clone().requires_grad_()
        outs = [model(x) for _ in range(4)]
        (grad,) = torch.autograd.grad(sum(out.double().sum() for out in outs), x, allow_unused=True)
        gradients.append((outs, grad))
    (theirs, grad), (ours, mine) = gradients
    tolerance = 0.05 if name == "autocast inside" else 1e-10  # bfloat16 rounds either way
    assert max(relative_error([a], [b]) for a, b in zip(ours, theirs, strict=True)) < tolerance
    assert (grad is None) == (mine is None)
    assert grad is None or relative_error([mine], [grad]) < tolerance


def test_a_plain_tensor_that_is_written_to_is_refused() -> None:
    teacher = Net(_count).double()
    before = teacher.total.clone()
    with pytest.raises(fxgrow.TraceError, match="neither a parameter nor a buffer"):
        fxgrow.grow(teacher, 2.0, X)
    assert torch.equal(teacher.total, before)


EXACT: dict[str, tuple[Forward, tuple[int, ...]]] = {
    "a weight times its transpose": (lambda m, x: (m.b(m.a(x)), m.w @ m.w.t()), (4, 8)),
    "the same with the weight in use": (lambda m, x: (m.b(m.a(x)), (m.a(x) @ m.w) @ m.w.t()), (8, 8)),
    "a weight dotted with itself": (lambda m, x: m.b(m.a(x)) * m.w.dot(m.w), (8,)),
    "a flat weight": (lambda m, x: F.linear(m.b(m.a(x)).repeat(1, 2), m.w.view(8, 6)) @ m.b.weight.t(), (48,)),
    "an expanded row": (lambda m, x: torch.tanh(m.a(x)) @ m.w.expand(8, 3), (1, 3)),
    "an expanded matrix": (lambda m, x: torch.tanh(m.a(x)) @ m.w.unsqueeze(0).expand(8, 3), (3,)),
    "every other channel": (lambda m, x: m.b(m.a(x)) + m.a(x)[:, x.shape[1] - 6 :: 3], ()),
    "a number besides tensors": (lambda m, x: (m.b(m.a(x)), m.a(x).shape[1]), ()),
    "a random mask in eval mode": (lambda m, x: m.b(m.a(x) * torch.bernoulli(torch.sigmoid(m.a(x)))), ()),
}


@pytest.mark.parametrize("name", EXACT)
def test_grown_exactly_or_left(name: str) -> None:
    forward, shape = EXACT[name]
    torch.manual_seed(0)
    teacher = randomise(Net(forward, *shape).double())
    student = grown_or_left(teacher, 2.0, X)
    assert_exact(teacher, student, X, 1e-10, changed=False)
    if isinstance(teacher(X), tuple):
        ours, theirs = ([n for n in model(X) if isinstance(n, int)] for model in (student, teacher))
        assert ours == theirs


def test_plain_tensors_of_the_student_are_its_own() -> None:
    teacher = Net(lambda m, x: m.b(m.a(x)) * m.total).double()
    student = fxgrow.grow(teacher, 2.0, X)
    student.total.add_(7)
    assert torch.equal(teacher.total, torch.zeros(3, dtype=torch.float64))


class Joined(nn.Module):
    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 3), nn.Linear(6, 5), nn.Linear(8, 2)
        self.norm = nn.LayerNorm(8) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.norm(torch.cat([self.a(x), self.b(x)], -1)))


def test_two_methods_meet_in_one_consumer() -> None:
    torch.manual_seed(0)
    teacher = Joined(norm=False).double()
    for first, second in (("split", "zero_out"), ("zero_out", "even")):
        student = fxgrow.grow(teacher, [Widen("a", 2.0, method=first), Widen("b", 2.0, method=second)], X)
        assert_exact(teacher, student, X, 1e-10)


def test_what_is_normalised_together_is_asked_for_alike_or_refused() -> None:
    teacher = Joined(norm=True)
    x = X.float()
    for spec in ({"a": 6, "b": 15}, [{"a": 6}, {"b": 5}]):
        with pytest.raises(fxgrow.PlanError, match=r"'b' and 'a'|'a' and 'b'.*one factor"):
            fxgrow.grow(teacher, spec, x)
    with pytest.raises(fxgrow.PlanError, match="nothing of Joined would grow: a: the specification excludes it"):
        fxgrow.grow(teacher, Widen("*", 2.0, exclude="b"), x)


def test_one_width_for_everything_is_refused() -> None:
    with pytest.raises(fxgrow.PlanError, match=r"write 16\.0"):
        fxgrow.grow(Joined(norm=False), {"*": 16}, X.float())


def test_multiples_count_on_the_whole_dimension_of_grouped_convolutions() -> None:
    teacher = nn.Sequential(nn.Conv2d(3, 12, 1), nn.Conv2d(12, 12, 3, groups=4), nn.Conv2d(12, 5, 1))
    student = fxgrow.grow(teacher, Widen("*", 1.5, multiple_of=8), torch.randn(2, 3, 6, 5))
    assert student.get_parameter("0.weight").shape[0] == 24


def test_a_plan_is_for_one_forward() -> None:
    class Other(Joined):
        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.norm(torch.cat([-self.a(x), self.b(x)], -1)))

    plan = fxgrow.plan(fxgrow.widths(Joined(norm=False), X.float()), 2.0)
    with pytest.raises(fxgrow.PlanError, match="another forward"):
        fxgrow.apply(plan, Other(norm=False))


def test_marks_on_parameters_stay_and_hooks_on_them_are_refused_by_name() -> None:
    teacher = Joined(norm=False)
    teacher.a.weight.no_decay = True  # type: ignore[attr-defined]
    assert fxgrow.grow(teacher, 2.0, X.float()).get_parameter("a.weight").no_decay
    teacher.b.weight.register_hook(lambda grad: grad)
    with pytest.raises(fxgrow.TraceError, match=r"'b\.weight' has hooks"):
        fxgrow.grow(teacher, 2.0, X.float())


@pytest.mark.parametrize("model", [None, lambda x: x], ids=["None", "a function"])
def test_what_is_no_module_is_refused(model: object) -> None:
    with pytest.raises(fxgrow.TraceError, match=r"expected an nn\.Module"):
        fxgrow.grow(model, 2.0, X)


class Stepping(Joined):
    """Counts its calls in a buffer, by assignment."""

    def __init__(self) -> None:
        super().__init__(norm=False)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls + 1
        return super().forward(x)


def test_a_buffer_that_is_assigned_stays_assigned() -> None:
    torch.manual_seed(0)
    teacher = Stepping().double()
    student = fxgrow.grow(teacher, 2.0, X)
    assert student.get_parameter("c.weight").shape[1] == 2 * teacher.c.weight.shape[1]
    assert_exact(teacher, student, X, 1e-10, changed=True)
    before = int(student.get_buffer("calls"))
    student(X)
    assert int(student.get_buffer("calls")) == before + 1
    copied = copy.deepcopy(student)
    copied(X)
    assert (int(student.get_buffer("calls")), int(copied.get_buffer("calls"))) == (before + 1, before + 2)


def test_optional_arguments_keep_their_names_and_refuse_what_was_not_traced() -> None:
    class Sized(Joined):
        def forward(self, x: Tensor, sizes: tuple[int, ...] = (), scale: float = 1.0) -> Tensor:
            return super().forward(x) * (scale if not sizes else 0.0)

    torch.manual_seed(0)
    teacher = Sized(norm=False).double()
    student = fxgrow.grow(teacher, 2.0, X)
    assert torch.allclose(student(X, sizes=()), teacher(X))
    assert torch.allclose(student(X, scale=1.0), teacher(X))
    with pytest.raises(fxgrow.GrowError, match="another path"):
        student(X, sizes=(3,))
    with pytest.raises(fxgrow.GrowError, match="another path"):
        student(X, scale=2.0)
    own = fxgrow.grow(teacher, 2.0, X, output="module")
    assert torch.allclose(own(X, (), 2.0), teacher(X, (), 2.0))


def test_a_student_can_be_grown_and_verified_again() -> None:
    torch.manual_seed(0)
    teacher = Joined(norm=False).double()
    twice = fxgrow.grow(fxgrow.grow(teacher, 2.0, X), 1.5, X)
    assert twice.get_parameter("c.weight").shape == (2, 24)
    assert fxgrow.verify(teacher, twice, X).exact
    replicas = fxgrow.grow(fxgrow.grow(teacher, 2.0, X), 1.5, X, method="split")
    assert not fxgrow.verify(teacher, replicas, X, tolerance=0.0).exact


def test_a_cell_that_keeps_its_size_is_left() -> None:
    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.cell, self.b = nn.Linear(6, 8), nn.GRUCell(8, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.cell(self.a(x)))

    torch.manual_seed(0)
    teacher = Cell().double()
    assert_exact(teacher, fxgrow.grow(teacher, 2.0, X), X, 1e-10, changed=False)


def test_refusals_to_trace_name_the_place() -> None:
    class Branch(Joined):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x if x.sum() > 0 else -x)

    with pytest.raises(fxgrow.TraceError, match=r"test_soundness\.py:\d+.*give real example_inputs"):
        fxgrow.grow(Branch(norm=False), 2.0, X.float().to("meta"))


def test_code_that_asks_for_numbers_is_run_for_real_and_says_so() -> None:
    class Branch(Joined):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x if x.sum() > 0 else -x)

    torch.manual_seed(0)
    teacher = Branch(norm=False).double()
    student = fxgrow.grow(teacher, 2.0, X)
    assert_exact(teacher, student, X, 1e-10, changed=True)
    assert_exact(teacher, student, -X, 1e-10, changed=True)
    assert any("was run on the example inputs" in note for note in fxgrow.plan_of(student).notes)


@pytest.mark.parametrize(
    "call",
    [
        lambda m, p: fxgrow.apply(p.to_json(), m),
        lambda m, p: fxgrow.apply(m, p),
        lambda m, p: fxgrow.plan(m, 2.0),
        lambda m, p: fxgrow.grow(m, 2.0, X.float(), method=["split"]),
        lambda m, p: fxgrow.grow(m, b'{"a": 24}', X.float()),
        lambda m, p: fxgrow.grow(m, {"a": {"multiple_of": 8}}, X.float()),
        lambda m, p: fxgrow.Plan.from_json(p.to_json().replace('"copies": [', '"copies": [99, ', 1)),
        lambda m, p: fxgrow.Plan.from_json(p.to_json().replace('"contract"', '"sum"', 1)),
    ],
)
def test_wrong_calls_are_growth_errors(call: Callable[[nn.Module, fxgrow.Plan], object]) -> None:
    model = Joined(norm=False)
    plan = fxgrow.plan(fxgrow.widths(model, X.float()), 2.0)
    with pytest.raises(fxgrow.GrowError):
        call(model, plan)


class Frozen(nn.Module):
    """Keeps its batch norm and a functional dropout in eval mode, whatever train() is told."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.body, self.b = nn.Linear(6, 8), nn.Sequential(nn.BatchNorm1d(8), Dropped()), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.body(self.a(x)))

    def train(self, mode: bool = True) -> "Frozen":
        super().train(mode)
        self.body.eval()
        return self


class Dropped(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5, self.training)


def test_a_model_that_overrides_train_keeps_its_modes() -> None:
    torch.manual_seed(0)
    teacher = randomise(Frozen().double())
    student = fxgrow.grow(teacher, 2.0, X)
    copies = (student, copy.deepcopy(student), pickle.loads(pickle.dumps(student)))
    for model in copies:
        assert model.get_parameter("a.weight").shape == (16, 6)
        for training in (True, False, True):
            model.train(training)
            teacher.train(training)
            assert model.get_submodule("body.0").training is False
            assert model.training is training
            assert torch.allclose(model(X), teacher(X), rtol=1e-12, atol=1e-12)
    assert fxgrow.verify(teacher, student, X).exact


def test_generators_that_forward_passes_on_are_compared_by_what_they_would_draw() -> None:
    class Noisy(nn.Module):
        def __init__(self, shape: tuple[int, ...], *, own: bool) -> None:
            super().__init__()
            self.a, self.b, self.shape = nn.Linear(4, 8), nn.Linear(8, 2), shape
            self.generator = torch.Generator().manual_seed(0) if own else None

        def forward(self, x: Tensor) -> Tensor:
            generator = self.generator or torch.Generator().manual_seed(0)
            noise = torch.rand(self.shape, generator=generator, dtype=x.dtype)
            return self.b(torch.tanh(self.a(x)) * noise)

    for own in (True, False):
        for shape, grown in (((), ["a"]), ((8,), [])):  # noise has no replicas
            teacher, x = Noisy(shape, own=own).double(), torch.randn(3, 4, dtype=torch.float64)
            student = grown_or_left(teacher, 2.0, x)
            assert [width.name for width in fxgrow.plan_of(student).grown_widths] == grown
            torch.testing.assert_close(student.eval()(x), teacher.eval()(x), rtol=1e-10, atol=1e-12)


def test_a_student_of_a_model_that_runs_for_real_is_verified_node_by_node() -> None:
    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) * (2 if x.sum().item() > 1e9 else 1)

    teacher = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), Asks(), nn.Linear(8, 3)).double()
    x = torch.randn(5, 4, dtype=torch.float64)
    report = fxgrow.verify(teacher, fxgrow.grow(teacher, 2.0, x), x)
    assert report.exact
    assert report.nodes


def test_constants_that_were_expanded_are_flattened_as_they_would_be_for_real() -> None:
    class Grid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            rows, columns = torch.meshgrid(torch.arange(2.0), torch.arange(3.0), indexing="ij")
            return self.b(self.a(x + torch.stack([rows.flatten(), columns.flatten()], -1).sum(1)))

    teacher, x = Grid().double(), torch.randn(5, 6, dtype=torch.float64)
    report = fxgrow.verify(teacher, fxgrow.grow(teacher, 2.0, x), x)
    assert report.exact
