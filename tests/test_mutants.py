"""A check that passes what is wrong is worse than none: each damaged student must be noticed."""

import copy

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from tests.check import NoRandomness, assert_exact, randomise, relative_error, run
from tests.mutants import MUTANTS
from tests.untouched import assert_untouched


class Specimen(nn.Module):
    """A network with one place for each mutant."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.b, self.square = nn.Conv2d(6, 5, 3, padding=1), nn.Conv2d(5, 5, 3, padding=1)
        self.tied = nn.Conv2d(5, 5, 3, padding=1)
        self.tied.weight = self.square.weight
        self.head = nn.Conv2d(5, 4, 1)
        self.a.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.b(torch.sigmoid(self.bn(self.a(x)))))
        x = x + torch.tanh(self.square(x))
        return self.head(x + torch.tanh(self.tied(x)))


@pytest.fixture(scope="module")
def pair() -> tuple[nn.Module, nn.Module, Tensor]:
    torch.manual_seed(0)
    teacher = randomise(Specimen().double())
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    return teacher, fxgrow.grow(teacher, 1.5, x, method="split"), x


def test_specimen_is_right(pair: tuple[nn.Module, nn.Module, Tensor]) -> None:
    assert_exact(*pair, 1e-10)


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_noticed(pair: tuple[nn.Module, nn.Module, Tensor], name: str) -> None:
    teacher, student, x = pair
    damaged = copy.deepcopy(student)
    with torch.no_grad():
        MUTANTS[name](teacher, damaged)
    with pytest.raises(AssertionError):
        assert_exact(teacher, damaged, x, 1e-10)


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_noticed_in_float32(name: str) -> None:
    teacher = randomise(Specimen())
    x = torch.randn(2, 3, 6, 8)
    damaged = fxgrow.grow(teacher, 1.5, x, method="split")
    with torch.no_grad():
        MUTANTS[name](teacher, damaged)
    with pytest.raises(AssertionError):
        assert_exact(teacher, damaged, x, 1e-5)


@pytest.mark.parametrize("name", ["no_division_by_replicas", "fresh_running_var", "opposite_errors"])
def test_library_notices_too(pair: tuple[nn.Module, nn.Module, Tensor], name: str) -> None:
    """`fxgrow.verify` is a check as well."""
    teacher, student, x = pair
    assert fxgrow.verify(teacher, student, x).exact
    damaged = copy.deepcopy(student)
    with torch.no_grad():
        MUTANTS[name](teacher, damaged)
    report = fxgrow.verify(teacher, damaged, x)
    assert not report.exact
    assert max(report.errors.values()) > 1e-6


def test_copy_of_the_teacher_is_no_student(pair: tuple[nn.Module, nn.Module, Tensor]) -> None:
    teacher, _, x = pair
    with pytest.raises(AssertionError, match="no size changed"):
        assert_exact(teacher, copy.deepcopy(teacher), x, 1e-10)


def test_relative_error_cannot_cancel() -> None:
    a = torch.tensor([1.0, 2.0, 4.0])
    assert relative_error(a, a + torch.tensor([0.4, -0.4, 0.0])) == pytest.approx(0.1)
    assert relative_error(a, a[:2]) == float("inf")
    assert relative_error([a, a], [a]) == float("inf")
    nan = torch.tensor([1.0, float("nan")])
    assert relative_error(nan, nan) == 0
    assert relative_error(nan, torch.ones(2)) == float("inf")
    assert relative_error(torch.ones(2), nan) == float("inf")
    assert relative_error(torch.zeros(2), torch.full((2,), 1e-30)) == float("inf")
    assert relative_error(torch.ones(2), torch.tensor([1.0, float("inf")])) == float("inf")


@pytest.mark.parametrize(
    "dropout", [nn.Dropout(0.3), nn.Dropout2d(0.3), nn.Dropout(0.3, inplace=True)], ids=["1", "2", "in place"]
)
def test_dropout_is_off(dropout: nn.Module) -> None:
    x = torch.rand(2, 3, 4, 4)
    with NoRandomness():
        assert relative_error(x, dropout.train()(x.clone())) < 1e-6


def test_run_leaves_buffers_and_modes() -> None:
    model = randomise(Specimen()).train()
    model.bn.eval()
    x = torch.randn(2, 3, 6, 8)
    with assert_untouched(model):
        run(model, x, "eval after train")


DAMAGE = {
    "weight": lambda m: m.a.weight.data[0, 0].add_(1),
    "bit": lambda m: m.bn.running_mean.data[0].add_(1e-7),
    "mode": lambda m: m.bn.eval(),
    "hook": lambda m: m.register_forward_hook(lambda *_: None),
    "attribute": lambda m: setattr(m.a, "cached", 1),
    "size": lambda m: setattr(m.a, "out_channels", 9),
    "gradient": lambda m: setattr(m.a.weight, "grad", torch.zeros_like(m.a.weight)),
    "requires_grad": lambda m: m.a.weight.requires_grad_(False),
    "random state": lambda _: torch.rand(1),
    "module": lambda m: setattr(m, "a", copy.deepcopy(m.a)),
    "default dtype": lambda _: torch.set_default_dtype(torch.float64),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_touched_teacher_is_noticed(name: str) -> None:
    model = Specimen()
    dtype = torch.get_default_dtype()
    try:
        with pytest.raises(AssertionError, match="changed"), assert_untouched(model):
            DAMAGE[name](model)
    finally:
        torch.set_default_dtype(dtype)
