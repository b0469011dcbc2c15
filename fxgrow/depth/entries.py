"""Entries of containers: what a clone shares with the model, and the names of entries by their places."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any

from torch import Tensor, nn

from ..model.copies import COMMON
from ..model.walk import modules


def number_through(container: nn.Module, named: Callable[[str], str], flat: Container[str]) -> None:
    """Rename the entries of a container, in place.

    Args:
        container: The container.
        named: The new name of an entry; that of a part of a layer is given as "layer.part".
        flat: The layers whose parts are to be entries in their place.
    """
    entries = list(container._modules.items())
    container._modules.clear()
    for name, entry in entries:
        parts = {name: entry}
        if name in flat and entry is not None:
            parts = {f"{name}.{own}": part for own, part in entry._modules.items()}
        container._modules.update({named(own): part for own, part in parts.items()})


def replace_everywhere(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module in another one's place, wherever it is registered in a tree."""
    for module in list(modules(root)):
        for name, child in module._modules.items():
            if child is old:
                module._modules[name] = new


def shared_parts(root: nn.Module, block: nn.Module, own: Iterable[str]) -> dict[int, Any]:
    """What a clone of a block shares with the model, by `id`: modules and tensors outside that it holds or is tied to.

    A block may refer to the model or to its neighbours, in a list or past `__setattr__`. A clone refers to the same.
    Buffers that are the block's as well are each clone's own: code writes to them.

    Args:
        root: The model.
        block: The block.
        own: The names in the block of the parameters that are each clone's own.
    """
    inside = list(modules(block))
    outside = _without(root, block)
    tensors = {id(t): t for module in outside.values() for t in _tensors(module)}
    named = dict(block.named_parameters(remove_duplicate=False))
    mine = {id(named[name]) for name in own if name in named}
    mine |= {id(buffer) for module in inside for buffer in module._buffers.values()}
    mine |= {id(module) for module in inside}  # one that is outside, too, has tied parameters and buffers of its own
    return {key: value for key, value in (outside | tensors).items() if key not in mine}


def _without(root: nn.Module, block: nn.Module) -> dict[int, Any]:
    """The modules of a tree that are reached by a way past a block, by `id`."""
    found: dict[int, Any] = {}
    pending = [root]
    while pending:
        module = pending.pop()
        if module is not block and id(module) not in found:
            found[id(module)] = module
            pending += [child for child in module._modules.values() if child is not None]
    return found


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    for table in (module._parameters, module._buffers):
        yield from (tensor for tensor in table.values() if tensor is not None)


def shared_objects(root: nn.Module, block: nn.Module) -> dict[int, Any]:
    """What a clone of a block shares with it, by `id`: plain objects that modules outside hold, too, as a config is."""
    inside = set(map(id, modules(block)))
    outside = {id(value): value for module in modules(root) if id(module) not in inside for value in _objects(module)}
    return {id(value): value for module in modules(block) for value in _objects(module) if id(value) in outside}


def _objects(module: nn.Module) -> Iterator[Any]:
    for value in vars(module).values():
        if type(value) not in COMMON and not isinstance(value, nn.Module | Tensor) and not callable(value):
            yield value
