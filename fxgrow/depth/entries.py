"""Entries of containers: what a clone shares with the model, and the names of entries by their places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from ..model.copies import COMMON
from ..model.walk import modules


def number_through(container: nn.Module) -> None:
    """Name the entries of a container by their places, in place."""
    entries = list(container._modules.values())
    container._modules.clear()
    container._modules.update({str(number): entry for number, entry in enumerate(entries)})


def shared_objects(root: nn.Module, block: nn.Module) -> dict[int, Any]:
    """What a clone of a block shares with it, by `id`: plain objects that modules outside hold, too, as a config is."""
    inside = set(map(id, modules(block)))
    outside = {id(value): value for module in modules(root) if id(module) not in inside for value in _objects(module)}
    return {id(value): value for module in modules(block) for value in _objects(module) if id(value) in outside}


def _objects(module: nn.Module) -> Iterator[Any]:
    for value in vars(module).values():
        if type(value) not in COMMON and not isinstance(value, nn.Module | Tensor) and not callable(value):
            yield value
