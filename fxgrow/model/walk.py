"""The modules of a tree as torch registers them, whatever the model's own `modules()` or `named_modules()` say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor, nn

Paths = Sequence[tuple[str, nn.Module]]  # the modules of a tree, each once, with their first paths


def named_modules(root: nn.Module, *, duplicates: bool = False) -> Iterator[tuple[str, nn.Module]]:
    """All modules of a tree with their paths, the root first.

    Args:
        root: The root, whose path is "".
        duplicates: Whether a module with several paths is given under each of them.
    """
    found: list[tuple[str, nn.Module]] = []
    seen: set[int] = set()
    pending = [("", root)]
    while pending:
        path, module = entry = pending.pop()
        if not duplicates:
            if id(module) in seen:
                continue
            seen.add(id(module))
        found.append(entry)
        if module._modules:
            prefix = f"{path}." if path else ""
            pending += [(prefix + name, c) for name, c in module._modules.items() if c is not None][::-1]
    return iter(found)


def modules(root: nn.Module) -> Iterator[nn.Module]:
    """All modules of a tree, the root first, each once."""
    return (module for _, module in named_modules(root))


def submodule(root: nn.Module, path: str) -> nn.Module:
    """The module at a path: what is registered there, else what `get_submodule` gives.

    Raises:
        AttributeError: There is none.
    """
    module: Any = root
    for name in path.split("."):
        module = module._modules.get(name)
        if module is None:
            return root.get_submodule(path)
    return cast(nn.Module, module)


@contextmanager
def own_buffers(root: nn.Module) -> Iterator[None]:
    """A context in which the buffers of a tree are copies, so that a run leaves the real ones as they are."""
    tables: list[tuple[dict[str, Any], dict[str, Any]]] = [(m._buffers, dict(m._buffers)) for m in modules(root)]
    twins: dict[int, Tensor] = {id(b): b.clone() for _, own in tables for b in own.values() if b is not None}
    for table, own in tables:
        table.update({name: twins[id(buffer)] for name, buffer in own.items() if buffer is not None})
    try:
        yield
    finally:
        for table, own in tables:
            table.clear()
            table.update(own)


def marks_of(tensor: object) -> dict[str, Any]:
    """What users put on a tensor (`p.ema`); none of a subclass, such as a DTensor, whose attributes are its own."""
    return vars(tensor) if type(tensor) in (Tensor, nn.Parameter) else {}
