"""What a plan says of one width, tensor, literal, attribute, input or output, as pure data."""

from __future__ import annotations

import platform
import reprlib
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from ..base.decode import DECODER, DecodeError
from ..base.roles import Role, TensorKind
from ..base.structures import ArgumentPath
from ..base.version import __version__
from ..layouts.layout import Layout
from ..model.example_data import CallData
from ..model.tree import Mode

DROP = "drop"
Part = Literal["mean", "gain", "shift", "zero", "draw"]
MeanFill = Part | Literal[""]
PARTS: tuple[Part, ...] = ("mean", "gain", "shift", "zero", "draw")


@dataclass(frozen=True, slots=True)
class MadeWith:
    """The versions that a plan was made with. For readers; only `Plan.layers` is compared with the same torch alone."""

    fxgrow: str = __version__
    torch: str = torch.__version__.partition("+")[0]
    python: str = platform.python_version()


@dataclass(frozen=True, slots=True)
class PlanForm:
    """A further form of inputs that a plan was made with.

    Attributes:
        example: The inputs as data, tensors by shape and dtype; None where they hold something else.
        code: A fingerprint of what the model computes for them.
    """

    example: CallData | None
    code: str


def decode_layouts(data: Any, path: str) -> tuple[Layout, ...]:
    """Layouts from plain data: of each dimension a list of blocks, of each block a list of factors.

    Raises:
        DecodeError: It is something else.
    """
    return tuple([_layout(entry, f"{path}[{i}]") for i, entry in enumerate(_list(data, path))])


def _layout(data: Any, path: str) -> Layout:
    blocks = enumerate(_list(data, path))
    return tuple(
        [
            tuple([_factor(factor, f"{path}[{i}][{j}]") for j, factor in enumerate(_list(block, f"{path}[{i}]"))])
            for i, block in blocks
        ]
    )


def _factor(data: Any, path: str) -> Any:
    if isinstance(data, list | tuple):
        return _layout(data, path)
    if isinstance(data, str) or (isinstance(data, int) and not isinstance(data, bool)):
        return data
    raise DecodeError(f"{path}: expected an int, the name of a width or a layout, found {reprlib.repr(data)}")


def _list(data: Any, path: str) -> list[Any] | tuple[Any, ...]:
    if isinstance(data, list | tuple):
        return data
    raise DecodeError(f"{path}: expected a list, found {reprlib.repr(data)}")


@dataclass(frozen=True, slots=True)
class Width:
    """A width group in a plan.

    Attributes:
        name: The group.
        old: Its width in the teacher.
        new: Its width in the student.
        copies: For each new channel the old one that it copies: g[old:] of Net2Net's mapping g.
        method: How the new channels are filled.
        mean_channels: The number of new channels, the last ones, that carry the mean of the old ones instead of copies.
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
        roles: The role of each dimension.
        kind: Which kind of argument it is: a weight, a bias, a running variance, ...
        mean_fill: For each dimension how its entries for channels that carry means are made (`MeanChannels`), or "";
            empty where no dimension has such channels.
        rows: The dimensions that a row consists of whose mean and variance have to stay the same; empty where none has.
        correction: That of this variance.
        zeroed: The dimensions whose new entries count as zero, whatever the method: those of a gain or a shift, behind
            which a weight is summed over that is looked up elsewhere.
        zero: What these entries are: 0, or -1 where the code takes 1 + gain.
    """

    name: str
    layouts: tuple[Layout, ...] = field(metadata={DECODER: decode_layouts})
    roles: tuple[Role, ...]
    kind: TensorKind
    mean_fill: tuple[MeanFill, ...] = ()
    rows: tuple[int, ...] = ()
    correction: float = 0.0
    zeroed: tuple[int, ...] = ()
    zero: float = 0.0

    @property
    def drawn(self) -> tuple[int, ...]:
        """The dimensions whose entries for such channels are drawn."""
        return tuple([dim for dim, part in enumerate(self.mean_fill) if part == "draw"])


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor of the teacher's `state_dict`, changed or not: what a checkpoint of the teacher holds.

    Attributes:
        name: Its name there.
        shape: Its shape in the teacher.
        dtype: Its dtype, as "int64"; "" for any of floating point, which a checkpoint may have in another.
        same_as: The first name of the tensor that it is, where it is tied; else "".
        buffer: Whether it is a buffer rather than a parameter.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    same_as: str = ""
    buffer: bool = False


@dataclass(frozen=True, slots=True)
class Edit:
    """A literal of a graph that changes: a size, or the eps of a layer norm.

    With an empty path, the call becomes `split(x, value, dim)`. With the path `(DROP,)`, the node, a guard, is removed.
    """

    mode: Mode
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
class StatedSize:
    """A size that the model's code states and that its forward does not read: in a config, or in an attribute.

    Attributes:
        module: The module, by its path.
        name: The attribute, or the way there: "config.hidden_size", "config.hidden_sizes.2" of a list.
        old: The size in the teacher.
        new: The size in the student.
    """

    module: str
    name: str
    old: int
    new: int


@dataclass(frozen=True, slots=True)
class Recount:
    """An attribute that says how many entries a container has, or which of them a module is in, once there are clones.

    Attributes:
        module: The module, by its path in the plan: the teacher's, or that of a clone.
        name: The attribute, or, of an object that the module holds, the way there: "config.num_hidden_layers".
        old: The number that it says in the teacher; of a list with an entry for each block its length.
        new: The number that it says in the student.
        copied: Of such a list, for each new entry the old one that it copies; else empty.
    """

    module: str
    name: str
    old: int
    new: int
    copied: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CloneOutput:
    """A tensor that the student returns and the teacher does not: the cache of a clone, or its part of all activations.

    Attributes:
        mode: The mode.
        number: Which of the tensors that the student returns in that mode.
    """

    mode: Mode
    number: int


@dataclass(frozen=True, slots=True)
class IoDimPlan:
    """A dimension of an input or an output of the model that grows. The new entries come last.

    Attributes:
        kind: "input" or "output".
        at: Of an input, its path in the arguments of `forward` ("x", "xs[0]"); of an output "eval" or "train".
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
