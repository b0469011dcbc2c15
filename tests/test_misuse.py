"""A student that is trained by the teacher's optimizer: nothing would learn, and fxgrow says so."""

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

import fxgrow
from tests.test_optimizers import OPTIMIZERS, batch, net, step

X = batch(0)[0]


def passes(model: nn.Module, optimizer: Optimizer | None, number: int) -> None:
    for _ in range(number):
        if optimizer is not None:
            optimizer.zero_grad()
        model(X).square().mean().backward()
        if optimizer is not None:
            optimizer.step()


def test_an_optimizer_that_still_holds_the_teacher_is_seen_at_the_second_step() -> None:
    teacher = net()
    optimizer = OPTIMIZERS["AdamW"](teacher.parameters())
    student = fxgrow.grow(teacher, 1.5, X)
    before = copy.deepcopy(dict(student.named_parameters()))
    passes(student, optimizer, 1)
    with pytest.warns(UserWarning, match="the AdamW still holds the parameters of its teacher"):
        passes(student, optimizer, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        passes(student, optimizer, 3)  # once is enough
    assert all(torch.equal(p, before[name]) for name, p in student.named_parameters()), "nothing learns"


def test_the_same_for_apply_and_for_modules() -> None:
    teacher = net()
    optimizer = OPTIMIZERS["SGD"](teacher.parameters())
    student = fxgrow.apply(fxgrow.plan(fxgrow.widths(teacher, X, output="module"), 1.5), teacher)
    with pytest.warns(UserWarning, match="still holds the parameters of its teacher") as found:
        passes(student, optimizer, 2)
    assert len(found) == 1


def together(model: nn.Module, optimizers: list[Optimizer]) -> None:
    for _ in range(4):
        model(X).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def test_one_of_two_optimizers_that_is_left_at_the_teacher_is_seen() -> None:
    for left in (0, 1):
        teacher = net()
        parts = [list(teacher.get_submodule(path).parameters()) for path in ("3", "7")]
        optimizers = [OPTIMIZERS["SGD"](parts[0]), OPTIMIZERS["AdamW"](parts[1])]
        student = fxgrow.grow(teacher, 1.5, X, optimizer=optimizers[1 - left])
        with pytest.warns(UserWarning, match=r"still holds the parameters of its teacher.*all optimizers") as found:
            together(student, optimizers)
        assert len(found) == 1
        assert ["SGD", "AdamW"][left] in str(found[0].message)


def test_optimizers_that_are_moved_together_or_train_a_part_are_not_warned_of() -> None:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        teacher = net()
        optimizers = [OPTIMIZERS["SGD"](teacher.get_submodule(path).parameters()) for path in ("3", "7")]
        student = fxgrow.grow(teacher, 1.5, X, optimizer=optimizers)
        together(student, optimizers)
        teacher = net()
        head = OPTIMIZERS["SGD"](teacher.get_submodule("7").parameters())
        student = fxgrow.grow(teacher, 1.5, X, optimizer=head)
        passes(student, head, 4)  # nobody trains the rest
        rest = OPTIMIZERS["SGD"](student.get_submodule("3").parameters())
        passes(student, rest, 4)
    assert not found


def test_what_is_no_misuse_is_not_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        teacher = net()
        old = OPTIMIZERS["SGD"](teacher.parameters())
        student = fxgrow.grow(teacher, 1.5, X)
        new = OPTIMIZERS["SGD"](student.parameters())
        passes(student, None, 4)  # gradients are accumulated
        new.step()
        passes(teacher, old, 3)  # the teacher is trained on, beside it
        before = copy.deepcopy(dict(student.named_parameters()))
        passes(student, new, 3)
        moved = fxgrow.grow(teacher, 1.5, X, optimizer=old)
        passes(moved, old, 3)
        passes(fxgrow.grow(teacher, 1.5, X), None, 3)  # trained by hand: no optimizer holds it
        assert not all(torch.equal(p, before[name]) for name, p in student.named_parameters()), "nothing was trained"
        del old, new


def test_nothing_is_left_on_the_student() -> None:
    teacher = net()
    student = fxgrow.grow(teacher, 1.5, X)
    assert not student._forward_hooks
    assert not student._forward_pre_hooks
    for twin in (copy.deepcopy(student), pickle.loads(pickle.dumps(student))):
        assert not any(p._post_accumulate_grad_hooks for p in twin.parameters())
    optimizer = OPTIMIZERS["SGD"](student.parameters())
    passes(student, optimizer, 2)
    assert not any(p._post_accumulate_grad_hooks for p in student.parameters())
    step(student, optimizer, 0)
    assert torch.isfinite(student(X)).all()


@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_student_that_is_watched_grows_again(output: Any) -> None:
    first = fxgrow.grow(net(), 1.5, X, output=output)
    second = fxgrow.grow(first, 1.5, X, output=output)
    assert torch.allclose(first(X), second(X))
