"""Ways to damage a correct student. Each check must notice each of them."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

Mutant = Callable[[nn.Module, nn.Module], None]
MUTANTS: dict[str, Mutant] = {}


def mutant(damage: Mutant) -> Mutant:
    """Register a function that changes the student in place, given (teacher, student)."""
    MUTANTS[damage.__name__] = damage
    return damage


def mapping(old: Tensor, new: Tensor) -> Tensor:
    """g: for each new channel the old one that it copies, read off a vector whose old entries all differ."""
    assert old.unique().numel() == old.numel(), "the teacher's entries must differ"
    same = new[:, None] == old[None, :]  # (new, old)
    assert bool((same.sum(1) == 1).all()), "a new entry is no copy of an old one"
    return same.to(torch.uint8).argmax(1)


def _first_added(g: Tensor) -> int:
    """The first new channel that copies one before it."""
    seen: set[int] = set()
    for i, source in enumerate(g.tolist()):
        if source in seen:
            return i
        seen.add(source)
    raise AssertionError("nothing is replicated")


@mutant
def no_division_by_replicas(teacher: nn.Module, student: nn.Module) -> None:
    """The consumer's columns are copied and not split."""
    g = mapping(teacher.get_parameter("bn.weight"), student.get_parameter("bn.weight"))
    rows = mapping(teacher.get_parameter("b.bias"), student.get_parameter("b.bias"))
    student.get_parameter("b.weight").copy_(teacher.get_parameter("b.weight")[rows][:, g])


@mutant
def doubled_column(teacher: nn.Module, student: nn.Module) -> None:
    """One replica's share is twice what it should be."""
    g = mapping(teacher.get_parameter("bn.weight"), student.get_parameter("bn.weight"))
    student.get_parameter("b.weight")[:, _first_added(g)] *= 2


@mutant
def wrong_axis(teacher: nn.Module, student: nn.Module) -> None:
    """A square weight lies across."""
    weight = student.get_parameter("square.weight")
    weight.copy_(weight.transpose(0, 1).clone())


@mutant
def rows_by_another_mapping(teacher: nn.Module, student: nn.Module) -> None:
    """The rows are in another order than the batch norm's entries after them."""
    weight = student.get_parameter("a.weight")
    weight.copy_(weight.roll(1, 0))


@mutant
def untied_copy(teacher: nn.Module, student: nn.Module) -> None:
    """The tied layer has an equal weight of its own: right now, wrong after one step."""
    tied = student.get_submodule("tied")
    tied.weight = nn.Parameter(tied.weight.detach().clone())  # type: ignore[union-attr, operator]


def _fresh(teacher: nn.Module, student: nn.Module, tensor: str, value: float) -> None:
    """A new channel's entry is what a new batch norm has there."""
    g = mapping(teacher.get_parameter("bn.weight"), student.get_parameter("bn.weight"))
    student.state_dict()[tensor][_first_added(g)] = value


MUTANTS["fresh_running_mean"] = partial(_fresh, tensor="bn.running_mean", value=0)
MUTANTS["fresh_running_var"] = partial(_fresh, tensor="bn.running_var", value=1)
MUTANTS["fresh_bias"] = partial(_fresh, tensor="bn.bias", value=0)


@mutant
def uninitialised(teacher: nn.Module, student: nn.Module) -> None:
    """A new channel holds what was in memory."""
    student.get_parameter("a.weight")[-1] = float("nan")


@mutant
def stale_attribute(teacher: nn.Module, student: nn.Module) -> None:
    """The module says its old size."""
    student.get_submodule("b").in_channels = teacher.get_submodule("b").in_channels  # type: ignore[assignment]


@mutant
def thawed(teacher: nn.Module, student: nn.Module) -> None:
    """A frozen bias trains."""
    student.get_parameter("a.bias").requires_grad_(True)


@mutant
def other_statistics_in_train_mode(teacher: nn.Module, student: nn.Module) -> None:
    """The statistics move at another pace: seen only in eval mode after training."""
    student.get_submodule("bn").momentum = 0.5  # type: ignore[assignment]


@mutant
def opposite_errors(teacher: nn.Module, student: nn.Module) -> None:
    """Two errors that cancel in a sum over the outputs."""
    bias = student.get_parameter("head.bias")
    bias[0] += 0.1
    bias[1] -= 0.1
