"""Structural changes as pure data: new layers, cloned blocks, larger kernels; nodes and modules by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from ..model.activations import Activation
from ..model.tree import Mode

Layer = Literal["Linear", "Conv1d", "Conv2d", "Conv3d"]
Kind = Literal["identity", "residual", "random"]
Norm = Literal["batch", "group", ""]
KernelSize = tuple[int, ...]  # per axis


@dataclass(frozen=True, slots=True)
class NodeRef:
    """A node of one mode's graph, by name."""

    mode: Mode
    node: str


class Change:
    """What every structural change says of itself, so that tables, drawings and checks need no list of its classes."""

    __slots__ = ()

    @property
    def new_paths(self) -> tuple[str, ...]:
        """The paths of the modules that only the student has."""
        return ()

    @property
    def original(self) -> str:
        """The path of the module that the new ones are clones of; "" where they are none."""
        return ""

    @property
    def follows(self) -> str:
        """The path of the module that the new ones stand behind; "" where there are none."""
        return self.original

    @property
    def behind(self) -> str:
        """The path of the module whose results the new ones take; "" where a graph says what they take."""
        return self.original

    @property
    def numbered_behind(self) -> str:
        """The entry of a numbered container that the new ones stand behind, which renames later ones; "" for none."""
        return ""

    @property
    def fills(self) -> Mapping[str, int]:
        """By the names of parameters in each new module that have one value, that value."""
        return {}

    @property
    def kernels(self) -> Mapping[str, tuple[KernelSize, KernelSize]]:
        """By the paths of the convolutions that get a larger kernel, the old size and the new one."""
        return {}

    def twins(self, name: str) -> tuple[str, ...]:
        """The names in the clones of a parameter or buffer of the original; none of any other."""
        inside = f"{self.original}."
        return tuple(f"{path}.{name.removeprefix(inside)}" for path in self.new_paths if name.startswith(inside))

    def resizes(self, name: str) -> bool:
        """Whether a tensor of the original may have another shape in a clone, and is made anew there if it has."""
        return False

    def text(self, called: Callable[[str], str]) -> str:
        """What it is in words, where its modules are called otherwise."""
        return str(self)


@dataclass(frozen=True, slots=True)
class Insert(Change):
    """A new layer after some nodes: identity, residual or random.

    Attributes:
        path: The path of the new module.
        after: The path of the layer that it follows.
        layer: "Linear", "Conv1d", "Conv2d" or "Conv3d".
        channels: The number of its input channels, which is that of its output channels.
        groups: The groups of a convolution; 1 for Linear.
        kernel: The kernel size per axis; empty for Linear.
        kind: "identity", "residual" or "random".
        norm: "batch", "group" or "".
        calibrated: Whether the norm takes its statistics from data.
        activation: The activation after it (of a residual layer, in the branch); None for none.
        parametric: Whether the activation is mixed with the identity by a learnable parameter.
        after_nodes: The nodes of the graphs that it is inserted after.
        exact_modes: The modes in which the function is preserved.
        owner: In a student of the user's own class, the module whose code becomes these graphs; else "".
        entry: Instead, the entry of a Sequential that it stands behind, so that no code changes; else "".
        flat: Whether its parts are entries of that Sequential, which is numbered through (`numbering`).
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
    owner: str = ""
    entry: str = ""
    flat: bool = False

    @property
    def new_paths(self) -> tuple[str, ...]:
        return tuple(f"{self.path}.{part}" for part in self.parts) if self.flat else (self.path,)

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of its modules in it, in the order in which they are called."""
        named = {
            "linear" if self.layer == "Linear" else "conv": True,
            "norm": self.norm,
            "act": self.activation is not None,
            "last": self.kind == "residual",
        }
        return tuple(name for name, has in named.items() if has)

    @property
    def follows(self) -> str:
        return self.after

    @property
    def behind(self) -> str:
        return self.entry

    @property
    def numbered_behind(self) -> str:
        return self.entry if self.flat else ""

    def text(self, called: Callable[[str], str]) -> str:
        return str(replace(self, after=called(self.after)))

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
class KeptShape:
    """What lets a clone of a down-sampling block keep the shape of its input. All names are those in the block.

    Attributes:
        strides: The layers whose stride becomes 1; "" for the block's own attribute `stride`.
        inputs: The layers whose number of inputs becomes that of the block's results: norms, then a linear map.
        shortcut: The module that projects the input.
        like: The layer in it whose number of results is that of the block.
        instead: What stands in the place of the shortcut: None, or `nn.Identity`.
        flag: Of a block without a shortcut, its attribute that is True in a clone, which has one; else "".
        dims: Of such a block, the tensors with the dimensions that have the width of its input, instead of `inputs`.
        shapes: Of such a block, the tensors that get another shape than these dimensions say.
    """

    strides: tuple[str, ...]
    inputs: tuple[str, ...]
    shortcut: str
    like: str
    instead: Literal["none", "identity"]
    flag: str = ""
    dims: tuple[tuple[str, tuple[int, ...]], ...] = ()
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def drops(self, name: str) -> bool:
        """Whether a clone lacks a tensor of the block."""
        return bool(self.shortcut) and name.startswith(f"{self.shortcut}.")

    def resized(self, name: str, shape: tuple[int, ...], width: int) -> tuple[int, ...]:
        """The shape in a clone of a tensor of which dimensions have the width of the block's input."""
        asked = dict(self.shapes).get(name)
        if asked is not None:
            return asked
        dims = dict(self.dims).get(name, ())
        return tuple([width if dim in dims else size for dim, size in enumerate(shape)])

    def fits(self, name: str, ndim: int) -> bool:
        """Whether a tensor may have as many dimensions."""
        asked = dict(self.shapes).get(name)
        return max(dict(self.dims).get(name, (0,))) < ndim and (asked is None or len(asked) == ndim)

    @property
    def others(self) -> tuple[str, ...]:
        """The tensors that may have another shape in a clone of a block without a shortcut."""
        return tuple(dict.fromkeys(name for name, _ in (*self.dims, *self.shapes)))

    def is_new(self, name: str) -> bool:
        """Whether a tensor may have another shape in a clone, and is made anew there if it has."""
        module, _, own = name.rpartition(".")
        if name in self.others:
            return True
        if module not in self.inputs or own == "num_batches_tracked":
            return False
        return own == "weight" or module != self.inputs[-1]  # the bias of a linear map has its old shape


@dataclass(frozen=True, slots=True)
class Repeat(Change):
    """Clones of a residual block right after it.

    Attributes:
        block: The path of the block.
        paths: The paths of the clones.
        zeros: The parameters that are zero in a clone, by their names in the block; only the skip connection remains.
        regions: The nodes of the block in each graph; none where the student is a module of the user's own class.
        minus_ones: The parameters that are -1 in a clone, where code adds 1 to them to make a factor.
        numbered: Whether the block and its clones are entries of a container that is numbered through (`numbering`).
        exact_modes: The modes in which the function is preserved.
        kept_shape: What lets the clones of a down-sampling block keep the shape; None for other blocks.
    """

    TYPE: ClassVar[str] = "repeat"

    block: str
    paths: tuple[str, ...]
    zeros: tuple[str, ...]
    regions: tuple[Region, ...]
    minus_ones: tuple[str, ...] = ()
    numbered: bool = False
    exact_modes: tuple[Mode, ...] = ("eval", "train")
    kept_shape: KeptShape | None = None

    @property
    def path(self) -> str:
        """Of the first clone."""
        return self.paths[0]

    @property
    def new_paths(self) -> tuple[str, ...]:
        return self.paths

    @property
    def original(self) -> str:
        return self.block

    @property
    def numbered_behind(self) -> str:
        return self.block if self.numbered else ""

    @property
    def fills(self) -> Mapping[str, int]:
        return dict.fromkeys(self.zeros, 0) | dict.fromkeys(self.minus_ones, -1)

    def twins(self, name: str) -> tuple[str, ...]:
        if self.kept_shape is not None and self.kept_shape.drops(name.removeprefix(f"{self.block}.")):
            return ()
        return Change.twins(self, name)

    def resizes(self, name: str) -> bool:
        return self.kept_shape is not None and self.kept_shape.is_new(name.removeprefix(f"{self.block}."))

    def text(self, called: Callable[[str], str]) -> str:
        return str(replace(self, block=called(self.block)))

    def __str__(self) -> str:
        times = f"{len(self.paths)} clones" if len(self.paths) > 1 else "a clone"
        filled = [f"zeros in {', '.join(self.zeros)}"] * bool(self.zeros)
        filled += [f"-1 in {', '.join(self.minus_ones)}"] * bool(self.minus_ones)
        shape = ", without its down-sampling" if self.kept_shape else ""
        shape = ", with a skip connection" if self.kept_shape and self.kept_shape.flag else shape
        return f"{times} of {self.block}{shape}, with {' and '.join(filled)}"


@dataclass(frozen=True, slots=True)
class Enlarge(Change):
    """A larger kernel, with zeros around the old one.

    Attributes:
        path: The path of the convolution.
        old: Its kernel size per axis.
        new: The new kernel size per axis.
        exact_modes: The modes in which the function is preserved.
    """

    TYPE: ClassVar[str] = "enlarge"

    path: str
    old: tuple[int, ...]
    new: tuple[int, ...]
    exact_modes: tuple[Mode, ...] = ("eval", "train")

    @property
    def kernels(self) -> Mapping[str, tuple[KernelSize, KernelSize]]:
        return {self.path: (self.old, self.new)}

    def __str__(self) -> str:
        old, new = ("x".join(map(str, size)) for size in (self.old, self.new))
        return f"kernel {old} -> {new}"


StructuralChange = Insert | Repeat | Enlarge


def in_order(change: StructuralChange) -> tuple[int, int]:
    """Sorts changes into their order: blocks are cloned before what is in them is changed, but for kernels."""
    kinds = (Enlarge, Repeat, Insert)
    return kinds.index(type(change)), change.block.count(".") if isinstance(change, Repeat) else 0


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
    renamed: dict[str, str] = {}
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
        renamed[name] = f"{modules[parent]}.{own}".lstrip(".")
    return renamed


def _split(path: str) -> tuple[str, str]:
    parent, _, own = path.rpartition(".")
    return parent, own


def _numbered(name: str) -> tuple[str, int | None]:
    """A module's name without its number, and that."""
    match = re.fullmatch(r"(.*?)(\d+)", name.partition(CLONE)[0])
    return (match[1], int(match[2])) if match else (name, None)
