"""What a plan changes besides widths: new layers, repeated blocks, larger kernels. Pure data, JSON both ways."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

from ..model.activations import Activation
from ..model.tree import Mode

Layer = Literal["Linear", "Conv1d", "Conv2d", "Conv3d"]
Kind = Literal["identity", "residual", "random"]
Norm = Literal["batch", "group", ""]


@dataclass(frozen=True, slots=True)
class NodeRef:
    """A node of one mode's graph, by name."""

    mode: Mode
    node: str


@dataclass(frozen=True, slots=True)
class Insert:
    """A new layer after some nodes: identity, residual or random.

    Attributes:
        path: Of the new module.
        after: The layer that it follows.
        layer: "Linear", "Conv1d", "Conv2d" or "Conv3d".
        channels: In and out.
        groups: Of a convolution.
        kernel: Per axis; empty for Linear.
        kind: "identity", "residual" or "random".
        norm: "batch", "group" or "".
        calibrated: Whether the norm is to take its statistics from data.
        activation: After it (in the branch, where residual); None for none.
        parametric: Whether that is mixed with the identity.
        after_nodes: Where in the graphs.
        exact_modes: The modes in which the function stays.
    """

    TYPE: ClassVar[str] = "insert"

    path: str
    after: str
    layer: Layer
    channels: int
    groups: int
    kernel: tuple[int, ...]
    kind: Kind
    norm: Norm
    calibrated: bool
    activation: Activation | None
    parametric: bool
    after_nodes: tuple[NodeRef, ...]
    exact_modes: tuple[Mode, ...]

    def __str__(self) -> str:
        size = f" {'x'.join(map(str, self.kernel))}" if self.kernel else ""
        grouped = f", {self.groups} groups" if self.groups > 1 else ""
        parts = [f"{self.kind} {self.layer}{size}{grouped}", f"{self.norm} norm" if self.norm else ""]
        act = self.activation.name if self.activation else ""
        parts.append(f"parametric {act}" if act and self.parametric else act)
        return f"{', '.join(filter(None, parts))}; {self.channels} channels, after {self.after}"


@dataclass(frozen=True, slots=True)
class Region:
    """The nodes of a block in one mode's graph, in order; it takes the value of `entry` and gives that of `exit`."""

    mode: Mode
    entry: str
    exit: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """Clones of a residual block right after it.

    Attributes:
        block: The path of its module.
        paths: Of the clones.
        zeros: The parameters, by their names in the block, that are zero in a clone, so that only the skip is left.
        regions: The block in each graph.
        exact_modes: The modes in which the function stays.
    """

    TYPE: ClassVar[str] = "repeat"

    block: str
    paths: tuple[str, ...]
    zeros: tuple[str, ...]
    regions: tuple[Region, ...]
    exact_modes: tuple[Mode, ...] = ("eval", "train")

    @property
    def path(self) -> str:
        """Of the first clone."""
        return self.paths[0]

    def __str__(self) -> str:
        times = f"{len(self.paths)} clones" if len(self.paths) > 1 else "a clone"
        return f"{times} of {self.block}, with zeros in {', '.join(self.zeros)}"


@dataclass(frozen=True, slots=True)
class Enlarge:
    """A larger kernel, with zeros around the old one.

    Attributes:
        path: The convolution.
        old: Its kernel size per axis.
        new: The new one.
        exact_modes: The modes in which the function stays.
    """

    TYPE: ClassVar[str] = "enlarge"

    path: str
    old: tuple[int, ...]
    new: tuple[int, ...]
    exact_modes: tuple[Mode, ...] = ("eval", "train")

    def __str__(self) -> str:
        old, new = ("x".join(map(str, size)) for size in (self.old, self.new))
        return f"kernel {old} -> {new}"


StructuralChange = Insert | Repeat | Enlarge

# -- names -----------------------------------------------------------------------------------------

CLONE = "_deeper"  # stands between the name of a module and the number of what comes after it


def renumbered(names: Iterable[str], clones: Collection[str]) -> dict[str, str]:
    """Names of tensors with clones of numbered modules numbered through with their siblings.

    Args:
        names: In the order of the model.
        clones: The paths of modules that are clones.
    """
    families = {(parent, _numbered(own)[0]) for parent, own in map(_split, clones)}
    following: dict[tuple[str, str], int] = {}
    modules = {"": ""}
    found: dict[str, str] = {}
    for name in names:
        steps = name.split(".")
        for depth in range(1, len(steps)):
            path = ".".join(steps[:depth])
            if path in modules:
                continue
            parent, own = _split(path)
            stem, number = _numbered(own)
            if number is not None and (parent, stem) in families and (CLONE not in own or path in clones):
                number = following.get((parent, stem), number)
                following[parent, stem] = number + 1
                own = f"{stem}{number}"
            modules[path] = f"{modules[parent]}.{own}".lstrip(".")
        parent, own = _split(name)
        found[name] = f"{modules[parent]}.{own}".lstrip(".")
    return found


def _split(path: str) -> tuple[str, str]:
    parent, _, own = path.rpartition(".")
    return parent, own


def _numbered(name: str) -> tuple[str, int | None]:
    """A module's name without its number, and that."""
    match = re.fullmatch(r"(.*?)(\d+)", name.partition(CLONE)[0])
    return (match[1], int(match[2])) if match else (name, None)
