"""Globs over modules: the widths inside of what they match, and those that it only hands on.

``"*mlp*"`` matches the modules ``blocks.0.mlp``, ``blocks.1.mlp``, ... of a transformer. Each reads the width of the
residual stream and makes it again, and so do the attentions and the embedding. Such a width is not what the glob means.
It is meant where the modules make it alone, or where one of them makes it and reads it afterwards, as a whole stage of
blocks does (``"layer[12].*"``).
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from ..base.wording import first_of
from ..infer.width_graph import TensorWidths, WidthGraph
from ..layouts.layout import atoms
from ..spec.patterns import is_literal, module_of
from .meant_widths import Meant, names_of

SHOWN = 3  # layers in a message


def handed_on(widths: WidthGraph, pattern: str, found: Sequence[Meant]) -> dict[str, str]:
    """The widths that a glob does not mean although layers that it matches make them, and why.

    Args:
        widths: The width graph.
        pattern: The pattern.
        found: The dimensions of the layers that it matches.

    Returns:
        The reason by width; empty where the pattern means no other widths.
    """
    modules = _modules(widths, pattern)
    singly = {name for one in found if _around(one.name, modules) is None for name in names_of(one)}
    theirs = dict.fromkeys(name for one in found if _around(one.name, modules) is not None for name in names_of(one))
    matched = {one.name for one in found}
    makers, inside = _makers(widths), _inside(widths, modules)
    reasons: dict[str, str] = {}
    for name in [name for name in theirs if name not in singly]:
        made = makers.get(name, [])
        layers = dict.fromkeys(module_of(t.name) or t.name for t in made if t.name not in matched)
        others = [layer for layer in layers if _around(f"{layer}.", modules) is None]
        making = dict.fromkeys(module for t in made if (module := _around(t.name, modules)) is not None)
        if others and not any(_reads_what_it_makes(name, inside[module], made) for module in making):
            reasons[name] = (
                f"{pattern!r} means the widths inside of what it matches, and {first_of(others, SHOWN)} make "
                "this one, too; to widen it as well, ask for it by its name"
            )
    return {} if reasons.keys() >= singly | theirs.keys() else reasons


def _modules(widths: WidthGraph, pattern: str) -> Mapping[str, None]:
    """The outermost modules of several layers that a glob matches, in order; also by all in them (`*.mlp.*`)."""
    within = pattern.removesuffix(".*")
    if is_literal(within):
        return {}  # all in one module, or one layer
    layers = _layers(widths)
    paths = [path for path in widths.traced.classes if path and _several(widths, layers, path)]
    matched = dict.fromkeys(path for path in paths if fnmatchcase(path, pattern) or fnmatchcase(path, within))
    return dict.fromkeys(path for path in matched if _around(path, matched) is None)


def _layers(widths: WidthGraph) -> Mapping[str, set[str]]:
    """For each module the layers in it that have weights."""
    layers: dict[str, set[str]] = {}
    for tensor in widths.tensors:
        for path in _parents(tensor):
            layers.setdefault(path, set()).add(module_of(tensor))
    return layers


def _several(widths: WidthGraph, layers: Mapping[str, set[str]], path: str) -> bool:
    """Whether several layers are in a module, which is no layer with a size of its own."""
    return len(layers.get(path, ())) > 1 and widths.named_size(path) is None


def _parents(name: str) -> Iterator[str]:
    """The paths that a dotted name begins with, from the outermost on, but for the whole."""
    at = name.find(".")
    while at >= 0:
        yield name[:at]
        at = name.find(".", at + 1)


def _around(name: str, modules: Container[str]) -> str | None:
    """The one of some modules that something is in; None where it is in none of them."""
    return next((path for path in _parents(name) if path in modules), None)


def _makers(widths: WidthGraph) -> Mapping[str, list[TensorWidths]]:
    """The weights and tables that make each width."""
    makers: dict[str, list[TensorWidths]] = {}
    for tensor in widths.tensors.values():
        for name in dict.fromkeys(atoms(widths.produced(tensor.name))) if len(tensor.layouts) > 1 else ():
            makers.setdefault(name, []).append(tensor)
    return makers


def _inside(widths: WidthGraph, modules: Container[str]) -> Mapping[str, list[TensorWidths]]:
    """The tensors in each of some modules, none of which is in another."""
    inside: dict[str, list[TensorWidths]] = {}
    for tensor in widths.tensors.values():
        if (module := _around(tensor.name, modules)) is not None:
            inside.setdefault(module, []).append(tensor)
    return inside


def _reads_what_it_makes(name: str, inside: Sequence[TensorWidths], makers: Sequence[TensorWidths]) -> bool:
    """Whether a layer of a module makes a width, and a later one reads it.

    Args:
        name: The width.
        inside: The tensors in the module.
        makers: Those that make the width, in any module.
    """
    making = {tensor.name for tensor in makers}
    first = next((i for i, tensor in enumerate(inside) if tensor.name in making), len(inside))
    return any(
        role == "contract" and name in atoms(layout)
        for tensor in inside[first + 1 :]
        for layout, role in zip(tensor.layouts, tensor.roles, strict=True)
    )
