"""Code whose trace computes something else stays code, and a student whose sizes went wrong is repaired or refused."""

import math

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.model.copies import clone_shared
from fxgrow.rewrite.student import assemble
from fxgrow.rewrite.tensors import replacements
from fxgrow.validate.conformance import check_conformance
from tests.left import grown_or_left

X = torch.randn(2, 6)


class Skip(nn.Module):
    """isinstance is False for a Proxy: a plain trace loses the skip without an error."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        if isinstance(x, Tensor):
            y = y + x
        return self.b(y)


class Aliased(nn.Module):
    """FX writes `y += 1` as `y = y + 1`, which leaves x alone; here it must not."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        y = x
        y += 1
        return self.b(x)


class AliasedView(Aliased):
    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        y = x[:, :4]
        y += 1
        return self.b(x)


@pytest.mark.parametrize("model", [Skip, Aliased, AliasedView])
def test_where_a_trace_would_compute_something_else_the_code_stays(model: type[nn.Module]) -> None:
    torch.manual_seed(0)
    teacher = model().double()
    student = grown_or_left(teacher, 2.0, X.double())
    assert fxgrow.verify(teacher, student, X.double()).exact
    kept = any("computes something else" in note for note in fxgrow.plan_of(student).notes)
    assert kept is (model is not Skip)


class Deep(nn.Module):
    """The same code at the bottom of a model: that block alone stays a call."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 6)
        self.blocks = nn.Sequential(nn.Linear(6, 6), Aliased(), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.stem(x).relu())


def test_the_smallest_module_whose_trace_is_wrong_stays_a_call() -> None:
    torch.manual_seed(0)
    teacher = Deep().double()
    student = fxgrow.grow(teacher, 2.0, X.double())
    calls = {str(node.target) for node in student.graph.nodes if node.op == "call_module"}
    assert calls == {"stem", "blocks.0", "blocks.1", "blocks.2"}
    assert student.get_submodule("blocks.1.b").in_features > 8
    assert fxgrow.verify(teacher, student, X.double()).exact


class Scaled(nn.Module):
    """The width itself enters the result."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x / math.sqrt(8) if False else x / x.shape[-1])


def test_a_width_that_is_used_as_a_number_is_pinned_by_the_check() -> None:
    teacher = Scaled().double()
    with pytest.raises(fxgrow.PlanError, match=r"nothing of Scaled would grow: a: .*states a size.*div"):
        fxgrow.grow(teacher, 2.0, X.double())
    with pytest.raises(fxgrow.PlanError, match="div"):
        fxgrow.grow(teacher, {"a": 16}, X.double())


class Baked(nn.Module):
    """Half of the channels, by a number that fxgrow has no rule to rewrite."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(4, 5), nn.Linear(5, 3)
        self.half = 4

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.c(torch.tanh(self.b(x[:, x.size(1) - self.half :])))


def test_a_baked_size_pins_its_group_and_no_other() -> None:
    torch.manual_seed(0)
    teacher = Baked().double()
    student = fxgrow.grow(teacher, 2.0, X.double())
    assert fxgrow.verify(teacher, student, X.double()).exact
    assert "b" in {w.name for w in student.meta["fxgrow"].grown_widths}


def test_the_check_notices_a_student_that_was_rewritten_wrong() -> None:
    """Mutants of the rewriting: a literal left as it was, an attribute left as it was."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.g, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Linear(8 * 4 * 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.g(self.a(x)).view(-1, 64))

    found = fxgrow.widths(Net(), torch.randn(2, 3, 6, 4))
    plan = fxgrow.plan(found, 2.0)
    for mutant in ({}, {"edits": ()}, {"resizes": ()}):
        wrong = fxgrow.Plan(**{**{k: getattr(plan, k) for k in plan.__dataclass_fields__}, **mutant})
        root = clone_shared(found.traced.root, replacements(wrong, found.traced.root))
        student = assemble(root, found.traced, wrong, "Net")
        assert bool(check_conformance(student, student.graphs, found, plan).mismatches) is bool(mutant)


class Hooked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6))
        self.head = nn.Linear(6, 3)
        self.body.register_forward_hook(lambda module, args, out: out * 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def test_hooks_of_inlined_modules_keep_running() -> None:
    torch.manual_seed(0)
    teacher = Hooked().double()
    student = fxgrow.grow(teacher, 2.0, X.double())
    assert student.get_parameter("body.0.weight").shape == (16, 6)
    assert fxgrow.verify(teacher, student, X.double()).exact


def test_inputs_are_guessed_and_named() -> None:
    conv = nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 24 * 24, 10))
    student = fxgrow.grow(conv, {"0": 8})
    assert any("guessed" in note and "[2, 1, 28, 28]" in note for note in student.meta["fxgrow"].notes)
    with pytest.raises(fxgrow.TraceError, match=r"give example_inputs"):
        fxgrow.grow(nn.Sequential(nn.Conv2d(1, 6, 5), nn.Flatten(), nn.Linear(7, 10)), 2.0)
    with pytest.raises(fxgrow.TraceError, match=r"give example_inputs"):
        fxgrow.grow(nn.Bilinear(3, 4, 5), 2.0)


def test_parametrised_weights_are_exact_or_left() -> None:
    torch.manual_seed(0)
    a, b = nn.Linear(6, 8), nn.Linear(8, 7)
    teacher = nn.Sequential(
        nn.utils.parametrizations.weight_norm(a),
        nn.Tanh(),
        b,
        nn.Tanh(),
        nn.utils.parametrizations.spectral_norm(nn.Linear(7, 3)),
    ).double()
    student = fxgrow.grow(teacher, 2.0, X.double())
    assert student.state_dict().keys() == teacher.state_dict().keys()
    assert fxgrow.verify(teacher, student, X.double()).errors["eval"] < 1e-12


def test_nothing_to_keep_is_refused() -> None:
    class Silent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> int:
            return self.a(x).shape[0]

    with pytest.raises(fxgrow.TraceError, match="returns no tensor"):
        fxgrow.grow(Silent(), 2.0, X)


class Parts(nn.Module):
    """Equal parts by chunk and by split, of which only one is asked to grow."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 4), nn.Linear(6, 4)
        self.c, self.d = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.a(x), self.b(x)], -1)
        halves, quads = x.chunk(2, -1), x.split(4, dim=-1)
        first, second, third, fourth = halves[0], halves[1], quads[0], quads[1]
        whole = x[:, 0:8]
        return self.c(first * 2 + third) + self.d(second - fourth + whole[:, -4:])


@pytest.mark.parametrize("spec", [{"a": 6}, {"b": 6}, {"a": 5, "b": 7}, 2.0], ids=repr)
def test_equal_parts_that_become_unequal_are_split_by_size(spec: object) -> None:
    torch.manual_seed(0)
    teacher = Parts().double()
    student = fxgrow.grow(teacher, spec, X.double())
    assert student.meta["fxgrow"].grown_widths
    assert fxgrow.verify(teacher, student, X.double()).exact
