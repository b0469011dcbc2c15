"""Entries of containers: what a clone shares with the model, and the names of entries by their places."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from ..model.copies import COMMON
from ..model.walk import modules


def number_through(container: nn.Module, named: Callable[[str], str]) -> None:
    """Rename the entries of a container, in place."""
    entries = list(container._modules.items())
    container._modules.clear()
    container._modules.update({named(name): entry for name, entry in entries})


def replace_everywhere(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module in another one's place, wherever it is registered in a tree."""
    for module in list(modules(root)):
        for name, child in module._modules.items():
            if child is old:
                module._modules[name] = new


def shared_objects(root: nn.Module, block: nn.Module) -> dict[int, Any]:
    """What a clone of a block shares with it, by `id`: plain objects that modules outside hold, too, as a config is."""
    inside = set(map(id, modules(block)))
    outside = {id(value): value for module in modules(root) if id(module) not in inside for value in _objects(module)}
    return {id(value): value for module in modules(block) for value in _objects(module) if id(value) in outside}


def _objects(module: nn.Module) -> Iterator[Any]:
    for value in vars(module).values():
        if type(value) not in COMMON and not isinstance(value, nn.Module | Tensor) and not callable(value):
            yield value
