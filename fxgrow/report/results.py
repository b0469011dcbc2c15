"""How far what one model returns is from what another returns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..base.content import dense
from ..base.structures import children_of
from ..base.wording import a_type
from ..errors import GrowError
from ..model.call_args import PLAIN
from ..model.example_inputs import brief


def relative_error(student: Tensor, teacher: Tensor) -> float:
    """max |student - teacher| / max |teacher|, of complex numbers, too; 0 for equal tensors.

    Equal infinities, and NaN in both, are equal. It is inf where only one of the two is finite, or NaN.

    Raises:
        GrowError: The shapes differ.
    """
    if student.shape != teacher.shape:
        raise GrowError(f"the student gives {tuple(student.shape)} where the teacher gives {tuple(teacher.shape)}")
    student, teacher = dense(student), dense(teacher)
    if not teacher.numel() or (teacher.dtype != torch.complex32 and torch.equal(student, teacher)):
        return 0.0  # torch compares no complex32
    wide = torch.complex128 if student.is_complex() or teacher.is_complex() else torch.float64
    a, b = student.to(wide), teacher.to(wide)
    same = (a == b) | (a.isnan() & b.isnan())
    apart = (a - b).abs().masked_fill(same, 0).max()
    if not apart.isfinite():
        return float("inf")
    largest = b.abs().masked_fill(~b.isfinite(), 0).max()
    return float(apart / largest.clamp_min(torch.finfo(torch.float64).tiny))


def tells_something(result: Any, tensors: Sequence[Tensor]) -> bool:
    """Whether a result can differ from another one: not where all that it holds are empty tensors, infinities and NaN.

    Args:
        result: The result.
        tensors: The tensors in it.
    """
    finite = any(bool(_wide(dense(tensor)).isfinite().any()) for tensor in tensors)
    plain = [value for _, value in _places(result) if value is not None]
    return finite or not tensors or any(not isinstance(value, float) or math.isfinite(value) for value in plain)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def check_kinds(student: Any, teacher: Any) -> None:
    """Check that not one of two results alone is a dictionary.

    Raises:
        GrowError: It is.
    """
    if _one_is_mapping(student, teacher) and dict in (type(student), type(teacher)):
        raise GrowError(f"the student returns {a_type(student)} where the teacher returns {a_type(teacher)}")


def plain_error(student: Any, teacher: Any) -> float:
    """The largest relative error of a number in a result, next to its tensors.

    Raises:
        GrowError: A text or another plain value differs, or what has no counterpart by its keys and positions.
    """
    if _one_is_mapping(student, teacher):
        return 0.0  # models of transformers return a dictionary, or its entries as a tuple
    errors = [0.0]
    ours, theirs = dict(_places(student)), dict(_places(teacher))
    for place in itertools.chain(theirs, ours):
        if place not in ours or place not in theirs:
            who, where = ("student", "teacher") if place in ours else ("teacher", "student")
            raise GrowError(f"the result of the {who} has an entry {place!r}, that of the {where} has none")
        mine, expected = ours[place], theirs[place]
        numbers = all(isinstance(value, int | float | complex) for value in (mine, expected))
        if numbers and type(mine) is not bool and type(expected) is not bool:
            errors.append(relative_error(torch.tensor(mine), torch.tensor(expected)))
        elif type(mine) is not type(expected) or mine != expected:
            at = f" at {place}" if place else ""
            raise GrowError(f"the student returns {brief(mine)}{at} where the teacher returns {brief(expected)}")
    return max(errors)


def _one_is_mapping(student: Any, teacher: Any) -> bool:
    return isinstance(student, Mapping) is not isinstance(teacher, Mapping)


def _places(result: Any) -> Iterator[tuple[str, Any]]:
    """Where the tensors and plain values of a result are, and what these are; of a tensor, None."""
    pending, seen = [("", result)], set()
    while pending:
        place, value = pending.pop()
        if isinstance(value, (*PLAIN, complex, bytes, torch.dtype, Tensor)):
            yield place, None if isinstance(value, Tensor) else value
        elif id(value) not in seen:
            seen.add(id(value))
            pending += [(place + step, child) for step, child in reversed(children_of(value))]
