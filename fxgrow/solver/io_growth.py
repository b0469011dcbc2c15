"""What it means for a width group that an input or an output grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import PlanError
from ..spec.requests import Inputs, Outputs, Request

IGNORED = "zero_out"  # the method of `Inputs`: new columns of consumers are zero, so that outputs are unchanged


@dataclass(frozen=True, slots=True)
class IoDim:
    """A dimension of an input or an output.

    Attributes:
        kind: "input" or "output".
        at: The input's path in the arguments of `forward`, or the mode of the output.
        number: Which of the tensors that the model returns.
        dim: The dimension.
        size: Its size in the teacher.
    """

    kind: Literal["input", "output"]
    at: str
    number: int
    dim: int
    size: int


@dataclass(frozen=True, slots=True)
class IoGrowth:
    """A width group that grows because an input or an output does.

    Attributes:
        request: What was asked for.
        what: The input or output, in words.
        group: Its name.
        more: By how much it grows.
        method: How what is new is filled.
        dims: Where the model's callers see it.
    """

    request: Inputs | Outputs
    what: str
    group: str
    more: int
    method: str
    dims: tuple[IoDim, ...]


def check_more(request: Request, what: str, unit: str, old: int, new: int) -> None:
    """Refuse a size that is not larger than the old one.

    Raises:
        PlanError: It is the same, or smaller.
    """
    if new == old:
        raise PlanError(f"{request!r}: {what} has {old} {unit} already; ask for more, or leave the request out")
    if new < old:
        raise PlanError(f"{request!r}: {what} has {old} {unit} already, more than {new}; fxgrow only grows")
