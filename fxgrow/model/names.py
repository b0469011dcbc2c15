"""Names of modules, parameters and buffers, which users choose freely, in code that is generated.

FX writes `self.layer1.conv`, and `getattr(self, "NAME")` without escaping where NAME is no identifier. So a name can be
a keyword, can hold quotes or line breaks, or can be that of an attribute of the module that the code runs on (`graph`,
`meta`). Such an object is read by an alias in generated code, and keeps its name in the module tree.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import fx, nn

ALIAS = "_fxgrow_named_"  # an alias is this and a number
READS = ("call_module", "get_attr")  # nodes whose target is a name


def at(root: nn.Module, path: str) -> Any:
    """The module, parameter, buffer or attribute at a path, also where its owner has another attribute of its name.

    Raises:
        AttributeError: There is none.
    """
    found: Any = root
    for step in path.split("."):
        found = nn.Module.__getattr__(found, step) if _is_registered(found, step) else getattr(found, step)
    return found


def _is_registered(owner: Any, name: str) -> bool:
    tables = (owner._modules, owner._parameters, owner._buffers) if isinstance(owner, nn.Module) else ()
    return any(name in table for table in tables)


def is_plain(path: str) -> bool:
    """Whether a path can stand in code as it is. (Python normalises identifiers that are not ASCII.)"""
    return all(step.isidentifier() and step.isascii() and not keyword.iskeyword(step) for step in path.split("."))


def aliases(root: nn.Module, graph: fx.Graph) -> dict[str, str]:
    """An alias for each name in a graph that cannot stand in the code of the root."""
    targets = dict.fromkeys(str(node.target) for node in graph.nodes if node.op in READS)
    hidden = [path for path in targets if not (is_plain(path) and _is_found(root, path))]
    free = (f"{ALIAS}{i}" for i in range(len(targets) + len(root._modules) + len(hidden)))
    unused = (name for name in free if not _is_registered(root, name))
    return dict(zip(hidden, unused, strict=False))


def _is_found(root: Any, path: str) -> bool:
    """Whether attribute access finds what is registered under a path."""
    for step in path.split("."):
        if not isinstance(root, nn.Module) or not _is_registered(root, step):
            return True
        if step in root.__dict__ or hasattr(type(root), step):
            return False
        root = at(root, step)
    return True


@contextmanager
def renamed(graph: fx.Graph, names: Mapping[str, str]) -> Iterator[None]:
    """Inside, the nodes of a graph read their modules and tensors by other names."""
    before = [(node, node.target) for node in graph.nodes if node.op in READS and node.target in names]
    try:
        for node, target in before:
            node.target = names[str(target)]
        yield
    finally:
        for node, target in before:
            node.target = target


def why_unusable(names: Iterable[object]) -> str:
    """Why a module cannot be read by the names in its tables; "" where it can."""
    for name in names:
        if not isinstance(name, str) or not name or "." in name:
            return f"{name!r}, which is no name that torch gives: a path of names is split at its dots"
        if name in _OF_MODULES or hasattr(nn.Module, name):
            return f"{name!r}, which is an attribute of every nn.Module"
    return ""


_OF_MODULES = frozenset(vars(nn.Module()))
