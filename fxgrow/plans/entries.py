"""What a plan says of one width, tensor, literal, attribute, input or output, as pure data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..base.structures import ArgumentPath
from ..layouts.layout import Layout

DROP = "drop"
Part = Literal["mean", "gain", "shift", "zero", "draw"]
PARTS: tuple[Part, ...] = ("mean", "gain", "shift", "zero", "draw")


@dataclass(frozen=True, slots=True)
class Width:
    """A width group in a plan.

    Attributes:
        name: The group.
        old: Its width in the teacher.
        new: Its width in the student.
        copies: For each new channel the old one that it copies: g[old:] of Net2Net's mapping g.
        method: How the new channels are filled.
        mean_channels: As many of the new channels, the last ones, are no copies but carry the mean of the old ones.
    """

    name: str
    old: int
    new: int
    copies: tuple[int, ...] = ()
    method: str = ""
    mean_channels: int = 0

    @property
    def variance(self) -> float:
        """The variance over the new channels, as a part of that over the old ones."""
        return (self.new - self.mean_channels) / self.new if self.mean_channels else 1.0


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """A parameter or buffer that changes.

    Attributes:
        name: Its name.
        layouts: The layout of each dimension.
        roles: For each "carry" or "contract".
        mean_fill: For each what its entries are for channels that carry means (`MeanChannels`), "" where none do;
            empty where none do in any.
    """

    name: str
    layouts: tuple[Layout, ...]
    roles: tuple[str, ...]
    mean_fill: tuple[Part | str, ...] = ()

    @property
    def drawn(self) -> tuple[int, ...]:
        """The dimensions whose entries for such channels are drawn."""
        return tuple([dim for dim, part in enumerate(self.mean_fill) if part == "draw"])


@dataclass(frozen=True, slots=True)
class Edit:
    """A literal of a graph that changes: a size, or the eps of a layer norm.

    An empty path: the call becomes `split(x, value, dim)`. The path `(DROP,)`: the node, a guard, goes.
    """

    mode: str
    node: str
    path: ArgumentPath
    value: int | float | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Resize:
    """An attribute of a module that changes."""

    module: str
    name: str
    old: int | float | tuple[int, ...]
    new: int | float | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class IoDimPlan:
    """A dimension of an input or an output of the model that grows; what is new comes last.

    Attributes:
        kind: "input" or "output".
        at: Of an input, its place in the arguments of `forward` ("x", "xs[0]"); of an output "eval" or "train".
        number: Of an output, which of the tensors that the model returns in that mode; of an input 0.
        dim: The dimension.
        group: The width that grows.
        old: The size of the dimension in the teacher.
        new: Its size in the student.
    """

    kind: Literal["input", "output"]
    at: str
    number: int
    dim: int
    group: str
    old: int
    new: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A width that was not grown, and why."""

    name: str
    reason: str
