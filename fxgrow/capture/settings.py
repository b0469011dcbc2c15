"""Settings of the process that a model's code asks for: a graph would freeze the answer, so that code stays a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch

from ..base.replacing import Target
from ..base.torch_settings import attributes, computing, functions
from ..model.walk import Paths
from ..recording.answers import asker, fastpath_enabled, imported

Asked = Callable[[str], None]

_ABSENT: Any = object()  # what a class does not define

# What answers in a run already; `recording/answers` has its reasons.
_ANSWERED: Mapping[int, Callable[..., Any]] = MappingProxyType(
    {id(torch.backends.mha.get_fastpath_enabled): fastpath_enabled}
)


class _Setting:
    """Stands in for an attribute that a class defines, or that its modules hold, and sees the user's code ask."""

    def __init__(self, owner: type, name: str, asked: Asked) -> None:
        self._own, self._name, self._asked = vars(owner).get(name, _ABSENT), name, asked

    def __get__(self, instance: Any, owner: type) -> Any:
        if asker():
            self._asked(self._name)
        if hasattr(self._own, "__get__"):
            return self._own.__get__(instance, owner)
        held = vars(instance)
        if self._name in held or self._own is not _ABSENT:
            return held.get(self._name, self._own)
        return getattr(held["m"], self._name)  # where the `__getattr__` of these modules looks

    def __set__(self, instance: Any, value: Any) -> None:
        if hasattr(self._own, "__set__"):
            self._own.__set__(instance, value)
        else:
            vars(instance)[self._name] = value


def settings_asked(asked: Asked, paths: Paths) -> list[Target]:
    """What sees code ask for a setting; those of which another answer is tried are in `recording/answers`.

    Args:
        asked: Told of each setting that the user's code asks for.
        paths: The modules whose code is traced. Their source files may have imported the functions by name.
    """
    telling = {id(getattr(owner, name)): _telling(getattr(owner, name), name, asked) for owner, name in functions()}
    return [
        *((owner, name, telling[id(getattr(owner, name))]) for owner, name in functions()),
        *imported(paths, telling),
        *((owner, name, _Setting(owner, name, asked)) for owner, name in attributes()),
        *((owner, "__getattr__", _computing(vars(owner)["__getattr__"], asked)) for owner in computing()),
    ]


def _telling(function: Callable[..., Any], name: str, asked: Asked) -> Callable[..., Any]:
    function = _ANSWERED.get(id(function), function)

    def ask(*args: Any, **kwargs: Any) -> Any:
        if asker():
            asked(name)
        return function(*args, **kwargs)

    return ask


def _computing(own: Callable[[Any, str], Any], asked: Asked) -> Callable[[Any, str], Any]:
    def get(instance: Any, name: str) -> Any:
        if asker():
            asked(name)
        return own(instance, name)

    return get
