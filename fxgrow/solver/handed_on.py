"""Globs over modules: the widths inside of what they match, and those that it only hands on.

``"*mlp*"`` matches the modules ``blocks.0.mlp``, ``blocks.1.mlp``, ... of a transformer. Each reads the width of the
residual stream and makes it again, and so do the attentions and the embedding. Such a width is not what the glob means.
It is meant where the modules make it alone, or where one of them makes it and reads it afterwards, as a whole stage of
blocks does (``"layer[12].*"``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

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
    singly = {name for one in found if not _is_in(one.name, modules) for name in names_of(one)}
    theirs = dict.fromkeys(name for one in found if _is_in(one.name, modules) for name in names_of(one))
    matched = {one.name for one in found}
    reasons: dict[str, str] = {}
    for name in [name for name in theirs if name not in singly]:
        others = [
            layer
            for layer in dict.fromkeys(
                module_of(t.name) or t.name for t in _makers(widths, name) if t.name not in matched
            )
            if not _is_in(f"{layer}.", modules)
        ]
        if others and not any(_reads_what_it_makes(widths, name, module) for module in modules):
            more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
            reasons[name] = (
                f"{pattern!r} means the widths inside of what it matches, and {', '.join(others[:SHOWN])}{more} make "
                "this one, too; to widen it as well, ask for it by its name"
            )
    return {} if reasons.keys() >= singly | theirs.keys() else reasons


def _modules(widths: WidthGraph, pattern: str) -> list[str]:
    """The outermost modules of several layers that a glob matches, also by all that is in them (`*.mlp.*`)."""
    within = pattern.removesuffix(".*")
    if is_literal(within):
        return []  # all in one module, or one layer
    paths = [path for path in widths.traced.classes if path and _several(widths, path)]
    matched = [path for path in paths if fnmatchcase(path, pattern) or fnmatchcase(path, within)]
    return [path for path in matched if not _is_in(path, [other for other in matched if other != path])]


def _several(widths: WidthGraph, path: str) -> bool:
    """Whether several layers are in a module, which is no layer with a size of its own."""
    layers = {module_of(t) for t in widths.tensors if t.startswith(f"{path}.")}
    return len(layers) > 1 and widths.named_size(path) is None


def _is_in(name: str, modules: Iterable[str]) -> bool:
    return any(name.startswith(f"{module}.") for module in modules)


def _makers(widths: WidthGraph, name: str) -> list[TensorWidths]:
    """The weights and tables that make a width."""
    tensors = widths.tensors.values()
    return [t for t in tensors if len(t.layouts) > 1 and name in atoms(widths.produced(t.name))]


def _reads_what_it_makes(widths: WidthGraph, name: str, module: str) -> bool:
    """Whether a layer of a module makes a width, and a later one reads it."""
    inside = [t for t in widths.tensors.values() if t.name.startswith(f"{module}.")]
    makers = {t.name for t in _makers(widths, name)}
    first = next((i for i, t in enumerate(inside) if t.name in makers), len(inside))
    return any(
        role == "contract" and name in atoms(layout)
        for t in inside[first + 1 :]
        for layout, role in zip(t.layouts, t.roles, strict=True)
    )
