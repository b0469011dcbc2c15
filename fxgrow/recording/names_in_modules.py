"""Where modules hold functions of torch under names of their own: `from torch import get_num_threads`."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from types import ModuleType

from ..base.isolation import current_call

_NOT_THEIRS = frozenset(("torch", "fxgrow", *sys.stdlib_module_names))


class NamesInModules:
    """Names under which the user's modules hold certain functions; each module is searched once and where it changes.

    A module has changed where it holds another number of names than at the last call of fxgrow.

    Args:
        wanted: The `id` of each function.
    """

    def __init__(self, wanted: Iterable[int]) -> None:
        self._wanted = frozenset(wanted)
        self._seen: set[str] = set()  # the modules that are imported
        self._theirs: dict[str, tuple[Callable[[], ModuleType | None], int]] = {}  # each of the user's, and its size
        self._names: dict[str, list[str]] = {}  # by the name of the module
        self._call: object = None

    def found(self) -> Iterator[tuple[ModuleType, str]]:
        """The module and the name, of all modules that are imported."""
        call = current_call()
        if call is not self._call:  # code of the user's may have run since
            self._call = call
            self._forget()
        if len(sys.modules) != len(self._seen):
            self._search(sys.modules.keys() - self._seen)
        for name, held in self._names.items():
            module = sys.modules.get(name)
            if module is not None:
                yield from ((module, key) for key in held)

    def _forget(self) -> None:
        """Forget the modules that are imported no more, are others of the same name or have changed."""
        self._seen &= sys.modules.keys()
        imported = sys.modules.get
        changed = [
            name
            for name, (module, size) in self._theirs.items()
            if (now := imported(name)) is None or now is not module() or len(now.__dict__) != size
        ]
        for name in changed:
            del self._theirs[name]
            self._names.pop(name, None)
            self._seen.discard(name)

    def _search(self, names: Collection[str]) -> None:
        self._seen.update(names)
        for name in names:
            module = sys.modules.get(name)
            if name.partition(".")[0] in _NOT_THEIRS or not isinstance(module, ModuleType):
                continue
            self._theirs[name] = weakref.ref(module), len(vars(module))
            held = [key for key, value in list(vars(module).items()) if id(value) in self._wanted]
            if held:
                self._names[name] = held
