"""Requests for more than width: depth, kernels, input channels, outputs. Knows names, but no model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from ..base.decode import DecodeError, Leniency, decode, encode
from ..base.scalars import as_int
from ..errors import PlanError
from .hints import no_pattern_hint
from .patterns import LONGEST, is_pattern

KINDS = ("identity", "residual", "random")
NORMS = ("batch", "group")
NEW_ROWS = ("zero", "mean", "random")


class Request:
    """What all of them share: a compact `repr`, and the form as plain data."""

    key = ""  # in JSON, with the first attribute as its value
    structural: ClassVar[bool] = False  # whether the depth stage serves it, with new layers or kernels

    def __repr__(self) -> str:
        first, *others = ((f, getattr(self, f.name)) for f in dataclasses.fields(self))  # type: ignore[arg-type]
        said = [f"{f.name}={value!r}" for f, value in others if value != f.default]
        return f"{type(self).__name__}({', '.join([repr(first[1]), *said])})"

    @classmethod
    def is_data(cls, data: Mapping[str, Any]) -> bool:
        """Whether plain data is a request of this class, and no mapping from names to widths."""
        others = [f.name for f in dataclasses.fields(cls)][1:]  # type: ignore[arg-type]
        return cls.key in data and (isinstance(data[cls.key], str) or any(name in data for name in others))

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Request:
        """What `data` gave.

        Raises:
            PlanError: It has an option that the class has not, or lacks one.
        """
        first = dataclasses.fields(cls)[0].name  # type: ignore[arg-type]
        if first != cls.key and first in data:
            raise PlanError(f"{cls.__name__} has no option {first!r}")
        return made_of(cls, {first if key == cls.key else key: value for key, value in data.items()})

    def data(self) -> dict[str, Any]:
        """As plain data."""
        first, *others = ((f, getattr(self, f.name)) for f in dataclasses.fields(self))  # type: ignore[arg-type]
        plain = isinstance(first[1], str)  # else it could be taken for a width
        said = {f.name: encode(v) for f, v in others if v != f.default or not plain}
        return {self.key: first[1], **said}


@dataclass(frozen=True, slots=True, repr=False)
class Deepen(Request):
    """A request for more layers.

    Attributes:
        pattern: Glob over the names of Linear and Conv layers, each of which gets a new layer after it, its batch
            norm and its activation; a container means every such layer in it. With `blocks`, a residual block or a
            container of them.
        kind: "identity" (Net2DeeperNet), "residual" (x + branch(x), with a branch that ends in zeros), or "random"
            (a baseline that does not keep the function). None: identity after an idempotent activation, residual
            elsewhere.
        blocks: How many clones of a residual block: of the pattern's own, or, where that means a container, of those
            of each stage in it (a run of blocks that take the same shape), behind which they are spread evenly.
        kernel: The new layer's kernel size; None: that of the layer before it, where it is odd, else 3. Its groups are
            those of the layer before it.
        norm: "batch" or "group": a norm after the new layer (in the branch, where it is residual).
        calibrated: The norm takes mean and variance of the activations from the batches given to `grow` or `apply`
            as `calibration`; otherwise a batch norm starts with mean 0 and variance 1.
        activation: "same" as before it, "none", "parametric" ((1 - a) f(x) + a x with a learnable a, 1 at first), or
            the name of a class of torch.nn ("GELU").
        exclude: Globs over names to leave as they are.
        flat: The parts of the new layer are entries of the Sequential that it stands in, numbered through like those
            that a builder of a deeper model makes; for `output="module"`.
        shapes: Of tensors in clones of a stage's only block, which have another shape than its own: by their names in
            the block the shape in the student. None: only what reads the block's input changes.

    Example:
        >>> Deepen("layer3.*", kind="residual")
        Deepen('layer3.*', kind='residual')

    Source: Net2DeeperNet (arXiv 1511.05641, section 2.3); a = 1 at first: Network Morphism (arXiv 1603.01670).
    """

    pattern: str
    kind: Literal["identity", "residual", "random"] | None = None
    blocks: int = 0
    kernel: int | tuple[int, ...] | None = None
    norm: Literal["batch", "group"] | None = None
    calibrated: bool = False
    activation: str = "same"
    exclude: tuple[str, ...] = ()
    flat: bool = False
    shapes: Mapping[str, tuple[int, ...]] | None = field(default=None, hash=False)

    key = "deepen"
    structural = True

    def __post_init__(self) -> None:
        check_pattern(self.pattern)
        if self.kind is not None and self.kind not in KINDS:
            advice = f"; for so many blocks, write blocks={self.kind}" if as_int(self.kind) is not None else ""
            raise PlanError(f"{self.pattern!r}: kind is one of {', '.join(KINDS)}, not {self.kind!r}{advice}")
        blocks = as_int(self.blocks)
        if blocks is None or blocks < 0:
            raise PlanError(f"{self.pattern!r}: blocks is how many clones to add, not {self.blocks!r}")
        object.__setattr__(self, "blocks", blocks)
        if self.norm is not None and self.norm not in NORMS:
            raise PlanError(f"{self.pattern!r}: norm is 'batch' or 'group', not {self.norm!r}")
        if self.calibrated and (self.norm is None or self.kind == "residual"):
            raise PlanError(f"{self.pattern!r}: calibrated is for the norm of an identity layer: give norm='batch'")
        if not isinstance(self.activation, str):
            raise PlanError(f"{self.pattern!r}: activation is 'same', 'none', 'parametric' or a name in torch.nn")
        object.__setattr__(self, "kernel", _sizes(self.pattern, self.kernel))
        object.__setattr__(self, "exclude", patterns(self.pattern, self.exclude))
        object.__setattr__(self, "shapes", _shapes(self.pattern, self.shapes, self.blocks))
        if not isinstance(self.flat, bool):
            raise PlanError(f"{self.pattern!r}: flat is True or False, not {self.flat!r}")
        if self.flat and (self.kind == "residual" or self.calibrated):
            raise PlanError(f"{self.pattern!r}: flat is for a chain of layers without calibration")
        said = [
            f.name
            for f in (*dataclasses.fields(self)[3:7], dataclasses.fields(self)[8])
            if getattr(self, f.name) != f.default
        ]
        if self.blocks and (self.kind is not None or said):
            raise PlanError(
                f"{self.pattern!r}: blocks are cloned as they are; {', '.join([*['kind'] * bool(self.kind), *said])} "
                "is for layers"
            )


@dataclass(frozen=True, slots=True, repr=False)
class Kernel(Request):
    """A request for a larger kernel: the old one with zeros around it, and padding that makes up for them.

    Attributes:
        pattern: Glob over the names of convolutions (also transposed ones); a container means all in it.
        size: The new size per axis, of the old one's parity.
        exclude: Globs over names to leave as they are.
    """

    pattern: str
    size: int | tuple[int, ...]
    exclude: tuple[str, ...] = ()

    key = "kernel"
    structural = True

    def __post_init__(self) -> None:
        check_pattern(self.pattern)
        if self.size is None:
            raise PlanError(f"{self.pattern!r}: a kernel size is an int or one per axis, not None")
        object.__setattr__(self, "size", _sizes(self.pattern, self.size))
        object.__setattr__(self, "exclude", patterns(self.pattern, self.exclude))


@dataclass(frozen=True, slots=True, repr=False)
class Inputs(Request):
    """A request for more input channels, which the student ignores until it is trained. The new ones come last.

    Attributes:
        pattern: An argument of the model's `forward` ("x"; "images[0]" of one that holds several tensors), or a layer
            that it enters as it is.
        channels: How many there are to be. They are the dimension that a layer sums over: the second of an image,
            the last of tokens.

    Example:
        >>> Inputs("x", 4)
        Inputs('x', channels=4)
    """

    pattern: str
    channels: int

    key = "inputs"

    def __post_init__(self) -> None:
        check_pattern(self.pattern)
        object.__setattr__(self, "channels", _count(self.pattern, self.channels))


@dataclass(frozen=True, slots=True, repr=False)
class Outputs(Request):
    """A request for more outputs, such as classes: the old ones stay what they are, and the new ones come last.

    Attributes:
        number: How many there are to be.
        new: What a new one is: "zero", the "mean" of the old ones, or "random": normal numbers with the mean and the
            standard deviation of all entries of the old tensor, for weight and bias each.
        pattern: Glob over the layers that make them, where the model has several outputs.

    Example:
        >>> Outputs(1005, "mean")
        Outputs(1005, new='mean')
    """

    number: int
    new: Literal["zero", "mean", "random"] = "random"
    pattern: str = "*"

    key = "outputs"

    def __post_init__(self) -> None:
        check_pattern(self.pattern)
        object.__setattr__(self, "number", _count("outputs", self.number))
        if self.new not in NEW_ROWS:
            raise PlanError(f"Outputs: new is one of {', '.join(NEW_ROWS)}, not {self.new!r}")


REQUESTS: dict[str, type[Request]] = {kind.key: kind for kind in (Deepen, Kernel, Inputs, Outputs)}


_T = TypeVar("_T")


def made_of(kind: type[_T], data: Mapping[str, Any]) -> _T:
    """A request from plain data: its attributes by name, of which those with defaults may be missing.

    Raises:
        PlanError: It has an option that the class has not, lacks one, or one is of another type.
    """
    unknown = sorted(set(map(str, data)) - {f.name for f in dataclasses.fields(kind)})  # type: ignore[arg-type]
    if unknown:
        known = ", ".join(f.name for f in dataclasses.fields(kind))  # type: ignore[arg-type]
        raise PlanError(f"{kind.__name__} has no option {', '.join(map(repr, unknown))}; it has {known}")
    given = {**data, "exclude": [data["exclude"]]} if isinstance(data.get("exclude"), str) else data
    try:
        return decode(kind, given, leniency=Leniency(defaults=True))
    except DecodeError as error:
        raise PlanError(f"{kind.__name__}: {error}") from None


def check_pattern(pattern: Any) -> None:
    """Raise for what is no pattern."""
    if not is_pattern(pattern):
        raise PlanError(
            f"a pattern is a non-empty string of at most {LONGEST:,} characters, not {no_pattern_hint(pattern)}"
        )


def _shapes(pattern: str, shapes: Any, blocks: int) -> dict[str, tuple[int, ...]] | None:
    if shapes is None:
        return None
    if not isinstance(shapes, Mapping) or not all(map(is_pattern, shapes)) or not blocks:
        raise PlanError(f"{pattern!r}: shapes is a mapping from names of tensors, for blocks, not {shapes!r:.80}")
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        sizes = [as_int(size) for size in shape] if isinstance(shape, list | tuple) else []
        found[name] = tuple(size for size in sizes if size is not None and size > 0)
        if not sizes or len(found[name]) < len(sizes):
            raise PlanError(f"{pattern!r}: the shape of {name!r:.80} is a list of positive ints, not {shape!r:.80}")
    return found


def _count(name: str, number: object) -> int:
    count = as_int(number)
    if count is None or count < 1:
        raise PlanError(f"{name!r}: expected a positive int, not {number!r}")
    return count


def _sizes(pattern: str, size: Any) -> int | tuple[int, ...] | None:
    if size is None:
        return None
    several = isinstance(size, list | tuple)
    sizes = tuple(n for n in map(as_int, size if several else (size,)) if n is not None and n > 0)
    if not sizes or len(sizes) < (len(size) if several else 1):
        raise PlanError(f"{pattern!r}: a kernel size is a positive int, or one per axis, not {size!r}")
    return sizes if several else sizes[0]


def patterns(pattern: str, exclude: Any) -> tuple[str, ...]:
    """What a request leaves out: one pattern or several.

    Raises:
        PlanError: It is neither.
    """
    exclude = (exclude,) if isinstance(exclude, str) else exclude
    if not isinstance(exclude, list | tuple) or not all(map(is_pattern, exclude)):
        raise PlanError(f"{pattern!r}: exclude is a pattern or a list of patterns, not {exclude!r:.80}")
    return tuple(exclude)
