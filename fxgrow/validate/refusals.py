"""What is said of a call that the student's sizes do not fit, with torch's own words behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..base.structures import leaf_tensors
from ..errors import in_words
from ..recording.model_run import explain, source_location

OF_TORCH = (RuntimeError, IndexError)  # what operators raise where sizes do not fit


def operator_refuses(op: Any, args: Sequence[Any], error: Exception) -> str:
    """Of an operator that fails in the student: its tensors have sizes that others of its arguments do not fit.

    Args:
        op: The operator.
        args: What it was given.
        error: What it raised.
    """
    shapes = [_shape(tensor) for tensor in leaf_tensors(args)]
    given = f"{_name(op)} is given {'tensors' if len(shapes) > 1 else 'a tensor'} of the sizes {' and '.join(shapes)}"
    others = "do not fit one another" if len(shapes) > 1 else "do not fit the sizes that the code states there"
    return f"{given} in the student, which {others} (torch: {str(error).splitlines()[0]})"


def operator_gives(op: Any, given: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]]) -> str:
    """Of an operator whose results have other sizes than the student's widths ask for."""
    ours, theirs = (" and ".join(map(str, sizes)) for sizes in (given, wanted))
    return f"{_name(op)} gives {ours} where the student's widths ask for {theirs}"


def code_refuses(error: BaseException) -> str:
    """Of an error that no recorded call explains: an operator of torch refuses its sizes, or the model's code does."""
    if isinstance(error, OF_TORCH):
        told = in_words(error).partition(": ")[2] or in_words(error)
        return f"the sizes that meet there do not fit in the student (torch: {told}){source_location(error)}"
    return f"the code refuses the student's sizes: {explain(error)}"


def _name(op: Any) -> str:
    return str(op._schema.name).rpartition("::")[2]


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
