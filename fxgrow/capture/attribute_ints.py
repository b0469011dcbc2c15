"""Ints that record which module attribute they were read from, such as `self.num_heads`, or which entry of one.

A size that a module states may become an argument of many operations. Once one of them tells which width it is the size
of, all of them are rewritten together with the attribute.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import fx, nn

from ..model.layer_kinds import is_layer
from ..model.opaque import OPAQUE_MODEL
from ..model.walk import named_modules

Source = tuple[str, str, int]  # (path of the module, name of the attribute, index in it or -1)


COUNTED = "head"  # in the name of an attribute that may be 1 and still a number of parts, as `self.num_heads`


class AttributeInt(int):
    """An integer with a source."""

    source: Source

    def __new__(cls, *value: Any) -> Any:
        """A plain integer: what code makes by `type(n)(3)`, as `statistics.mean` does, has no source."""
        return int(*value)

    @property
    def is_single(self) -> bool:
        """Whether it is a number of heads, of which there is one."""
        return self == 1 and COUNTED in self.source[1]

    @classmethod
    def of(cls, value: int, source: Source) -> AttributeInt:
        """The same integer with a source."""
        stated: AttributeInt = int.__new__(cls, value)
        stated.source = source
        return stated

    def __reduce__(self) -> tuple[Any, ...]:
        return int, (int(self),)  # copies and pickles are plain

    def __deepcopy__(self, memo: dict[int, Any]) -> int:
        return int(self)

    def __copy__(self) -> int:
        return int(self)


@contextmanager
def remembered(root: nn.Module, *, layers: bool = False) -> Iterator[None]:
    """A context in which the integer attributes of users' modules record their source.

    Args:
        root: The tree.
        layers: Whether those of layers of torch.nn do, too: code may read `self.conv.out_channels`.
    """
    whole = root.__dict__.get(OPAQUE_MODEL)
    before: list[tuple[dict[str, Any], str, Any, Any]] = []
    for path, module in named_modules(root if whole is None else whole):
        if is_layer(module) and not layers:
            continue
        attributes = vars(module)
        for name, value in attributes.items():
            stated = None if name.startswith("_") else _stated(value, path, name)
            if stated is not None:
                before.append((attributes, name, value, stated))
                attributes[name] = stated
    try:
        yield
    finally:
        for attributes, name, value, stated in before:
            if attributes.get(name) is stated:
                attributes[name] = value


def _stated(value: Any, path: str, name: str) -> Any:
    """An integer, or a tuple or list of integers, with sources; None where it is neither."""
    if type(value) is int:
        return AttributeInt.of(value, (path, name, -1)) if value > 1 or (value == 1 and COUNTED in name) else None
    if type(value) in (tuple, list) and value and all(type(v) is int for v in value):
        return type(value)([AttributeInt.of(v, (path, name, i)) for i, v in enumerate(value)])
    return None


def attribute_ints_in(arguments: Any) -> Iterator[tuple[tuple[int | str, ...], AttributeInt]]:
    """Every such integer among the arguments of a node, with its path."""
    if type(arguments) is AttributeInt:
        yield (), arguments
    elif isinstance(arguments, tuple | list):
        for i, entry in enumerate(arguments):
            yield from (((i, *path), number) for path, number in attribute_ints_in(entry))
    elif isinstance(arguments, dict):
        for key, entry in arguments.items():
            yield from (((key, *path), number) for path, number in attribute_ints_in(entry))
    elif isinstance(arguments, slice):
        for name in ("start", "stop"):
            yield from (((name, *path), number) for path, number in attribute_ints_in(getattr(arguments, name)))


def plain(arguments: Any) -> Any:
    """The same arguments with plain integers."""
    return fx.node.map_aggregate(arguments, lambda leaf: int(leaf) if type(leaf) is AttributeInt else leaf)
