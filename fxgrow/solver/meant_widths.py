"""Names to dimensions: what a pattern means of the widths of a model.

A layer means the width that it makes: a convolution its output channels, an embedding its vectors, a recurrent layer
its hidden state, an attention its embedding. A container means all in it. What is no layer may be the name of a width,
as fxgrow prints it (`input of fc`, `embed #2`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ..base.wording import first_of
from ..errors import PlanError
from ..infer.names import INPUT_OF
from ..infer.width_graph import WidthGraph
from ..layouts.layout import Layout, atoms
from ..model.call_args import labelled
from ..spec.hints import all_hint, regex_hint
from ..spec.patterns import is_literal, match, module_of

SHOWN = 4  # layers in a message


@dataclass(frozen=True, slots=True)
class Meant:
    """A dimension that a pattern means.

    Attributes:
        name: The parameter that has it, the layer that it is the size of, or the width itself.
        label: The layer or the width, for messages.
        layout: The layout of the dimension.
        is_width: Whether the pattern is the name of a width, so that it means no other factor of a dimension.
    """

    name: str
    label: str
    layout: Layout
    is_width: bool = False


def meant(widths: WidthGraph, pattern: str, *, channels: bool = False) -> list[Meant]:
    """The dimensions that a pattern means.

    Args:
        widths: The width graph.
        pattern: A name or a glob of parameters, modules or widths.
        channels: Whether one number of channels is asked for, so that a layer with a size of its own means only that.

    Raises:
        PlanError: It means nothing; close names are given.
    """
    if not is_of_model(widths, pattern):
        pattern = widths.named(pattern)
    if pattern in widths.groups_by_name and not is_of_model(widths, pattern):
        return [_of_width(pattern)]
    if (read := _read_by(widths, pattern)) is not None:
        return [read]
    names = [group.name for group in widths.groups]
    try:
        tensors = match(pattern, widths.tensors, widths.traced.classes, names)
    except PlanError as error:
        found = [
            _of_width(group.name)
            for group in widths.groups
            if fnmatchcase(group.name, pattern) or fnmatchcase(group.former, pattern)
        ]
        if not found:
            hints = (_argument_hint(widths, pattern), _class_hint(widths, pattern), all_hint(pattern))
            raise PlanError(f"{error}{next(filter(None, hints), regex_hint(pattern))}") from None
        return found
    by_size = _of_layers(widths, pattern, tensors)
    if by_size and (channels or is_literal(pattern)):
        tensors = [tensor for tensor in tensors if not _is_inside(tensor, by_size)]
    made = [_of_tensor(widths, tensor) for tensor in producers(widths, tensors, or_else=not by_size)]
    return [*by_size.values(), *made]


def _argument_hint(widths: WidthGraph, name: str) -> str:
    """The request to make where a name is an argument of `forward`; empty elsewhere."""
    if name not in {label.partition("[")[0] for label in labelled(widths.traced.arguments)}:
        return ""
    return f". {name} is an argument of forward: for more channels of it, ask for fxgrow.Inputs({name!r}, CHANNELS)"


def _class_hint(widths: WidthGraph, name: str) -> str:
    """The layers of a class whose name is given; empty where there is none."""
    layers = [path for path, kind in widths.traced.classes.items() if path and kind.__name__ == name]
    if not layers:
        return ""
    return f". {name} is a class; layers are asked for by their names: {first_of(layers, SHOWN)}"


def is_of_model(widths: WidthGraph, name: str) -> bool:
    """Whether a name is that of a parameter or of a module with parameters, which comes before that of a width."""
    return any(tensor == name or tensor.startswith(f"{name}.") for tensor in widths.tensors)


def _of_width(name: str) -> Meant:
    return Meant(name, name, ((name,),), is_width=True)


def _read_by(widths: WidthGraph, name: str) -> Meant | None:
    """The dimension that a layer reads, for `input of LAYER`, also where another layer gives it its name."""
    layer = name.removeprefix(INPUT_OF)
    if layer == name:
        return None
    for tensor in widths.tensors.values():
        if layer in (tensor.name, module_of(tensor.name)):
            for layout, role in zip(tensor.layouts, tensor.roles, strict=True):
                if role == "contract" and any(atoms(layout)):
                    return Meant(name, name, layout)
    return None


def _of_tensor(widths: WidthGraph, tensor: str) -> Meant:
    return Meant(tensor, module_of(tensor) or tensor, widths.produced(tensor))


def _of_layers(widths: WidthGraph, pattern: str, tensors: Iterable[str]) -> dict[str, Meant]:
    """The layers with a size of their own that a pattern means, not only some of their parameters."""
    layers = dict.fromkeys(path for tensor in tensors for path in _owners(tensor) if _names_layer(pattern, path))
    sizes = {path: layout for path in layers if (layout := widths.named_size(path)) is not None}
    return {path: Meant(path, path, layout) for path, layout in sizes.items()}


def _names_layer(pattern: str, path: str) -> bool:
    return path == pattern or fnmatchcase(path, pattern) or (is_literal(pattern) and path.startswith(f"{pattern}."))


def _owners(tensor: str) -> Iterator[str]:
    steps = tensor.split(".")
    yield from (".".join(steps[:n]) for n in range(1, len(steps)))


def _is_inside(tensor: str, layers: Iterable[str]) -> bool:
    return any(tensor.startswith(f"{layer}.") for layer in layers)


def producers(widths: WidthGraph, tensors: Sequence[str], *, or_else: bool = True) -> list[str]:
    """Of the matched tensors those that make a width (convolution, linear); else those that carry one.

    Args:
        widths: The width graph.
        tensors: Their names.
        or_else: Whether those that carry one count where none makes one.
    """
    makers = [t for t in tensors if {"carry", "contract"} <= set(widths.tensors[t].roles)]
    carriers = [t for t in tensors if widths.tensors[t].layouts and "carry" in widths.tensors[t].roles]
    return makers or (carriers if or_else else [])


def names_of(one: Meant) -> list[str]:
    """The widths of a dimension."""
    return list(dict.fromkeys(atoms(one.layout)))
