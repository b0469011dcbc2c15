"""What users put on parameters and other tensors (`p.ema`, `p.owner`) is copied with the model, and the copy's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from tests.check import relative_error, run

Output = Literal["graph", "module"]
OUTPUTS: tuple[Output, ...] = ("graph", "module")


class Net(nn.Module):
    """(N, 4) -> (N, 2)"""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(4, 8).double(), nn.Linear(8, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x)))

    def myself(self) -> nn.Module:
        return self


def batch() -> Tensor:
    return torch.randn(3, 4, dtype=torch.float64)


def grown(teacher: nn.Module, output: Output) -> Any:
    return fxgrow.grow(teacher, {"a": 12}, batch(), output=output)


def marked(teacher: nn.Module, name: str, value: Any) -> Any:
    """The teacher, with a mark on each of its parameters; `value` makes it of the parameter."""
    for parameter in teacher.parameters():
        setattr(parameter, name, value(parameter))
    return teacher


def check_exact(teacher: nn.Module, student: nn.Module) -> None:
    x = batch()
    for training in (False, True):
        assert relative_error(run(teacher.train(training), x), run(student.train(training), x)) <= 1e-10


# -- what the student has --------------------------------------------------------------------------


@pytest.mark.parametrize("output", OUTPUTS)
def test_what_users_put_on_parameters_is_the_students_own(output: Output) -> None:
    lock = Lock()
    teacher = marked(marked(Net(), "mean", lambda p: p.detach().clone()), "tags", lambda _: {"seen": [1], "lock": lock})
    teacher.a.weight.tied, teacher.b.weight.loader = teacher.b.weight, teacher.myself
    student = grown(teacher, output)
    for name, old in teacher.named_parameters():
        new: Any = student.get_parameter(name)
        new.mean.add_(1.0)
        new.tags["seen"].append(2)
        assert torch.equal(old.mean, old)
        assert old.tags == {"seen": [1], "lock": lock}
        assert new.tags["lock"] is lock  # what cannot be copied
    assert student.a.weight.tied is student.b.weight
    if output == "module":
        assert student.b.weight.loader() is student


def test_marks_with_immutable_values_are_kept() -> None:
    student = grown(marked(Net(), "scale", lambda _: 2.0), "graph")
    assert {p.scale for p in student.parameters()} == {2.0}


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(torch.relu(x))


def test_what_users_put_on_parameters_is_each_clones_own() -> None:
    teacher = marked(nn.Sequential(nn.Linear(4, 8), nn.Sequential(Residual()), nn.Linear(8, 2)), "tags", lambda _: [1])
    student: Any = fxgrow.grow(teacher, [fxgrow.Deepen("1", blocks=1)], torch.randn(2, 4), output="module")
    block, clone = student[1]
    clone.layer.weight.tags.append(2)
    assert block.layer.weight.tags == [1]


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_larger_kernel_is_the_same_parameter_for_all_that_know_it(output: Output) -> None:
    teacher: Any = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    teacher[0].bias.pair = teacher[0].weight
    student = fxgrow.grow(teacher, [fxgrow.Kernel("0", 5)], torch.randn(1, 3, 6, 6), output=output)
    layer: Any = student.get_submodule("0")
    assert layer.weight.shape == (4, 3, 5, 5)
    assert layer.bias.pair is layer.weight


def test_a_loaded_model_has_marks_of_its_own(tmp_path: Path) -> None:
    def made() -> Any:
        net: Any = Net()
        net.a.weight.owner, net.a.weight.other = net, net.b.bias
        return net

    fxgrow.save(grown(made(), "module"), tmp_path / "student.safetensors")
    loaded: Any = fxgrow.load(tmp_path / "student.safetensors", made).model
    assert loaded.a.weight.owner is loaded
    assert loaded.a.weight.other is loaded.b.bias


# -- what forward reads and writes -----------------------------------------------------------------


class Reads(Net):
    """Its result depends on marks."""

    def __init__(self, factor: Callable[[Any], Any]) -> None:
        super().__init__()
        self.factor = factor
        weight: Any = self.a.weight
        weight.owner, weight.tied, weight.parts, weight.settings = self, self.b.weight, [self.b], {"gain": 2.5}
        weight.settings["lock"] = Lock()
        weight.number = id(self.b.weight)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.factor(self)


READ: dict[str, Callable[[Any], Any]] = {
    "identity of a parameter": lambda m: 2.0 if m.a.weight.tied is m.b.weight else 3.0,
    "number of a parameter": lambda m: 2.0 if m.a.weight.number == id(m.b.weight) else 3.0,
    "identity of the model": lambda m: 2.0 if m.a.weight.owner is m else 3.0,
    "mode of the model": lambda m: 2.0 if m.a.weight.owner.training else 3.0,
    "length of a list": lambda m: len(m.a.weight.parts) + 1.0,
    "entry beside a lock": lambda m: m.a.weight.settings.get("gain", 1.0),
    "a parameter": lambda m: m.a.weight.tied.sum(),
}


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", READ)
def test_code_that_reads_marks_reads_the_copys(name: str, output: Output) -> None:
    teacher = Reads(READ[name])
    student = fxgrow.grow(teacher, {"a": 12} if name != "a parameter" else 1.0, batch(), output=output)
    check_exact(teacher, student)


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_tensor_that_is_a_plain_attribute_keeps_its_marks(output: Output) -> None:
    class Scaled(Net):
        def __init__(self) -> None:
            super().__init__()
            self.scale: Any = torch.ones(1, dtype=torch.float64)
            self.scale.gain = 1.5

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.scale * self.scale.gain

    teacher = Scaled()
    check_exact(teacher, grown(teacher, output))


class Writes(Net):
    """It changes what is on a parameter as it runs."""

    def __init__(self, write: Callable[[Any, Tensor], object]) -> None:
        super().__init__()
        self.write = write
        weight: Any = self.a.weight
        weight.seen, weight.mean, weight.owner = [], torch.zeros(8, dtype=torch.float64), self
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        self.write(self.a.weight, h)
        return self.b(h)


WRITTEN: dict[str, Callable[[Any, Tensor], object]] = {
    "list": lambda weight, h: weight.seen.append(h.mean()),
    "tensor": lambda weight, h: weight.mean.mul_(0.9).add_(h.detach().mean(0)),
    "buffer of its owner": lambda weight, _: weight.owner.count.add_(1),
}


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", WRITTEN)
def test_runs_write_nothing_into_the_teachers_marks(name: str, output: Output) -> None:
    teacher: Any = Writes(WRITTEN[name])
    with suppress(fxgrow.GrowError):  # a reason is a right answer
        grown(teacher, output)
    weight = teacher.a.weight
    assert not weight.seen
    assert not weight.mean.any()
    assert not teacher.count


def test_what_forward_counts_on_a_parameter_is_state_and_no_constant() -> None:
    def count(weight: Any, _: Tensor) -> None:
        weight.number = getattr(weight, "number", 0)
        weight.seen.append(len(weight.seen))

    teacher: Any = Writes(count)
    teacher.a.weight.number = 0
    student = grown(teacher, "module")
    run(student, batch())
    assert len(student.a.weight.seen) == 1
    assert not teacher.a.weight.seen


# -- hooks and other functions ---------------------------------------------------------------------


def _scaling(held: dict[str, Any]) -> Callable[..., Tensor]:
    return lambda _module, _args, result: result * held.get("gain", 1.0)


@pytest.mark.parametrize("output", OUTPUTS)
def test_two_hooks_with_one_dictionary_that_holds_a_lock_read_all_of_it(output: Output) -> None:
    held = {"lock": Lock(), "gain": 2.5}
    teacher = Net()
    teacher.a.register_forward_hook(_scaling(held))
    teacher.b.register_forward_hook(_scaling(held))
    check_exact(teacher, grown(teacher, output))


def _logging(held: dict[str, Any]) -> Callable[..., None]:
    return lambda _module, _args, result: held["results"].append(result)


def test_what_a_hook_collects_beside_a_lock_is_not_the_teachers() -> None:
    held: dict[str, Any] = {"lock": Lock(), "results": []}
    teacher = Net()
    teacher.a.register_forward_hook(_logging(held))
    grown(teacher, "module")
    assert not held["results"]


def test_attributes_of_functions_are_the_students_own() -> None:
    def counted() -> Any:
        factor = 1.5

        def act(x: Tensor) -> Tensor:
            act.log.append(1)  # type: ignore[attr-defined]
            return torch.relu(x) * factor

        act.log = []  # type: ignore[attr-defined]
        return act

    class Acts(Net):
        def __init__(self) -> None:
            super().__init__()
            self.act = counted()

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.act(self.a(x)))

    teacher = Acts()
    student = grown(teacher, "module")
    assert not teacher.act.log
    assert student.act.log is not teacher.act.log


def _cells(function: Any) -> Iterator[Any]:
    yield from (cell.cell_contents for cell in function.__closure__ or ())


def test_a_copy_that_fails_half_way_is_found_nowhere() -> None:
    class Odd:
        def __deepcopy__(self, memo: Any) -> Any:
            raise RuntimeError("no copies")

    held = [1, {"odd": Odd()}, 2]
    teacher = Net()
    for layer in (teacher.a, teacher.b):
        layer.register_forward_hook((lambda held: lambda *_: held and None)(held))
    student = grown(teacher, "module")
    for layer in (student.a, student.b):
        (hook,) = layer._forward_hooks.values()
        (twin,) = _cells(hook)
        assert twin is not held
        assert [twin[0], twin[2]] == [1, 2]
        assert twin[1]["odd"] is held[1]["odd"]  # type: ignore[index]
