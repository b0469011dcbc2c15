"""Attributes that count blocks: how many a container has, and which of them a module is in.

They follow where a usual name and the old value say so together; code that reads others is found by the check of the
student, and what may be meant but is ambiguous is told as a note.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..errors import PlanError
from ..model.copies import COMMON
from ..model.held import place_of
from ..model.layer_kinds import CONTAINERS, is_layer_class
from ..model.tree import module_at
from ..model.walk import named_modules
from ..plans.changes import Repeat, StructuralChange
from ..plans.entries import Recount

NUMBER = re.compile(r"(.*_)?(idx|index|id|number|no)|layer|block|i")  # which one a module is in
COUNT = re.compile(
    r"(n|num|number_of|total|nr)?_*((hidden|encoder|decoder|transformer|residual|res|attention|text|vision)_)?"
    r"(layers?|blocks?)|(encoder_|decoder_)?depth"
)
LIST = re.compile(r"(.*_)?(layer|layers|block|blocks)_.*")  # a list with an entry for each block
SIDES = ("encoder", "decoder")
DEEPEST = 3  # of objects in objects

Clones = Mapping[str, Mapping[str, tuple[str, ...]]]  # by container and entry: the paths of the clones


@dataclass(frozen=True, slots=True)
class Counts:
    """What counts blocks.

    Attributes:
        recounts: What follows.
        stale: What may count them, and stays.
    """

    recounts: tuple[Recount, ...]
    stale: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Holder:
    """A module or an object that modules hold, and the modules that do.

    Attributes:
        module: The first of them.
        name: The way from it to the object; "" for the module itself.
        attributes: What it says.
        paths: All of them.
    """

    module: str
    name: str
    attributes: Mapping[str, Any]
    paths: tuple[str, ...]


def counts(root: nn.Module, changes: Sequence[StructuralChange]) -> Counts:
    """What counts the blocks that changes clone."""
    model = module_at(root, "")
    clones = _by_container(changes)
    recounts: list[Recount] = []
    stale: list[str] = []
    if clones:
        recounts += _numbers(model, clones)
        for holder in _holders(model):
            _count(model, holder, clones, recounts, stale)
    return Counts(tuple(recounts), tuple(stale))


def _by_container(changes: Sequence[StructuralChange]) -> dict[str, dict[str, tuple[str, ...]]]:
    clones: dict[str, dict[str, tuple[str, ...]]] = {}
    for change in changes:
        if isinstance(change, Repeat) and not change.regions:
            container, _, own = change.block.rpartition(".")
            behind = clones.setdefault(container, {})
            behind[own] = (*behind.get(own, ()), *change.paths)
    return clones


# -- which one a module is in --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Numbered:
    """The numbers that the entries of one container state in one attribute, of themselves or of a module in them."""

    container: str
    entries: tuple[str, ...]
    values: Mapping[int, int]  # by place

    @property
    def first(self) -> int | None:
        """The number of the first entry, where all are numbered through; else None."""
        first = {value - place for place, value in self.values.items()}
        return first.pop() if len(first) == 1 else None


def _numbers(model: nn.Module, clones: Clones) -> Iterator[Recount]:
    """The numbers that follow: of two entries or more, or of one that goes on where the container before it ends."""
    for (path, name), containers in _numbered(model).items():
        end: int | None = None
        added = 0  # clones in the containers that this one goes on from
        for at, one in enumerate(containers):
            first = one.first
            goes_on = first is not None and first == end
            added = added if goes_on else 0
            end = None if first is None else first + len(one.entries)
            following = containers[at + 1].first if at + 1 < len(containers) else None
            behind = clones.get(one.container, {})
            if first is not None and (len(one.values) > 1 or goes_on or following == end):
                yield from _renumbered(one, behind, path, name, first + added)
            added += sum(map(len, behind.values()))


def _renumbered(
    one: _Numbered, clones: Mapping[str, tuple[str, ...]], path: str, name: str, new: int
) -> Iterator[Recount]:
    for place, own in enumerate(one.entries):
        for at in (f"{one.container}.{own}".lstrip("."), *clones.get(own, ())):
            if place in one.values and one.values[place] != new:
                yield Recount(f"{at}.{path}".rstrip("."), name, one.values[place], new)
            new += 1


def _numbered(model: nn.Module) -> dict[tuple[str, str], list[_Numbered]]:
    """By the path in an entry and the name of the attribute, the containers in their order."""
    found: dict[tuple[str, str], list[_Numbered]] = {}
    for container, module in named_modules(model):
        stated: dict[tuple[str, str], dict[int, int]] = {}
        for place, entry in enumerate(module._modules.values() if _is_of_blocks(module) else ()):
            for path, inner in named_modules(entry) if entry is not None else ():
                for name, value in vars(inner).items():
                    if type(value) is int and NUMBER.fullmatch(name):
                        stated.setdefault((path, name), {})[place] = value
        for key, values in stated.items():
            found.setdefault(key, []).append(_Numbered(container, tuple(module._modules), values))
    return found


# -- how many there are --------------------------------------------------------------------------------


def _count(model: nn.Module, holder: _Holder, clones: Clones, recounts: list[Recount], stale: list[str]) -> None:
    """What one module or object says of numbers of blocks."""
    candidates: dict[tuple[int, int], list[str]] = {}
    for name, value in holder.attributes.items():
        if type(value) is int and COUNT.fullmatch(name) and value > 0:
            sizes = _sizes(model, holder, clones, name, value)
            if len(sizes) == 1 and sizes != {value}:
                candidates.setdefault((value, sizes.pop()), []).append(name)
            elif sizes - {value}:
                stale.append(_said(holder, name, value))
        elif isinstance(value, list | tuple) and len(value) > 1 and LIST.fullmatch(name):
            recounts += _list(model, holder, clones, name, value)
    for (old, new), names in candidates.items():
        if len(names) == 1:
            recounts.append(Recount(holder.module, _way(holder, names[0]), old, new))
        else:
            stale += [_said(holder, name, old) for name in names]


def _way(holder: _Holder, name: str) -> str:
    return f"{holder.name}.{name}".lstrip(".")


def _said(holder: _Holder, name: str, value: object) -> str:
    return f"{holder.module}.{_way(holder, name)} ({value})".lstrip(".")


def _sizes(model: nn.Module, holder: _Holder, clones: Clones, name: str, old: int) -> set[int]:
    """How many entries the containers have in the student that an attribute may count."""
    return {old + added for _, added in _meant(model, holder, clones, name, old)}


def _meant(model: nn.Module, holder: _Holder, clones: Clones, name: str, old: int) -> list[tuple[str, int]]:
    """The containers of so many blocks near a holder, with the numbers of their clones."""
    near = [
        (path, module)
        for path, module in named_modules(model)
        if len(module._modules) == old and _is_of_blocks(module) and any(_near(path, at) for at in holder.paths)
    ]
    sided = [side for side in SIDES if side in name]
    if sided:
        near = [(path, module) for path, module in near if any(side in path for side in sided)]
    return [(path, sum(map(len, clones.get(path, {}).values()))) for path, _ in near]


def _is_of_blocks(module: nn.Module) -> bool:
    entries = [entry for entry in module._modules.values() if entry is not None]
    return isinstance(module, CONTAINERS) and bool(
        [entry for entry in entries if entry._modules or not is_layer_class(type(entry))]
    )


def _near(container: str, path: str) -> bool:
    """Whether a module holds a container, or is in it."""
    return not path or f"{container}.".startswith(f"{path}.") or f"{path}.".startswith(f"{container}.")


def _list(model: nn.Module, holder: _Holder, clones: Clones, name: str, value: Sequence[Any]) -> Iterator[Recount]:
    """A list with a word or a flag for each block, of the one container that has as many."""
    meant = _meant(model, holder, clones, name, len(value))
    if len(meant) != 1 or not meant[0][1] or not all(type(entry) in (str, bool) for entry in value):
        return
    behind = clones[meant[0][0]]
    entries = enumerate(_module(model, meant[0][0])._modules)
    copied = tuple([place for place, own in entries for _ in range(1 + len(behind.get(own, ())))])
    yield Recount(holder.module, _way(holder, name), len(value), len(copied), copied)


def _holders(model: nn.Module) -> list[_Holder]:
    """All modules, and all objects that they hold which copies of the model have copies of."""
    found: dict[int, tuple[str, str, Any, list[str]]] = {}
    for path, module in named_modules(model):
        found[id(module)] = (path, "", module, [path])
        pending = [(name, value, 1) for name, value in vars(module).items()]
        seen: set[int] = set()
        while pending:
            name, value, depth = pending.pop()
            attributes = _attributes(value)
            if name.startswith("_") or attributes is None or id(value) in seen:
                continue
            seen.add(id(value))
            found.setdefault(id(value), (path, name, value, []))[3].append(path)
            if depth < DEEPEST:
                pending += [(f"{name}.{key}", entry, depth + 1) for key, entry in attributes.items()]
    return [
        _Holder(path, name, vars(value) if name == "" else _attributes(value) or {}, tuple(paths))
        for path, name, value, paths in found.values()
        if name == "" or _is_copied(value)
    ]


def _attributes(value: Any) -> Mapping[str, Any] | None:
    """What a plain object or a dict says, by names; None for all else."""
    if type(value) is dict:
        return value if value and all(isinstance(key, str) and key.isidentifier() for key in value) else None
    if type(value) in COMMON or isinstance(value, nn.Module | Tensor | type) or callable(value):
        return None
    own = getattr(value, "__dict__", None)
    return None if own is None else {name: entry for name, entry in own.items() if not name.startswith("_")}


def _is_copied(value: Any) -> bool:
    try:
        return copy.deepcopy(value) is not value
    except Exception:  # noqa: BLE001 - code of the user's own
        return False


# -- setting them --------------------------------------------------------------------------------------


def recount(root: nn.Module, recounts: Sequence[Recount]) -> None:
    """Set what counts blocks, in a tree of our own.

    Raises:
        PlanError: One does not say what the plan expects.
    """
    model = module_at(root, "")
    for change in recounts:
        try:
            held, key = place_of(vars(_module(model, change.module)), change.name)
            value = held[key]
        except (AttributeError, LookupError, TypeError, ValueError):
            raise PlanError(f"the model has no {change.module}.{change.name}; plan again for this model") from None
        if change.copied and isinstance(value, list | tuple) and len(value) == change.old:
            held[key] = type(value)([value[at] for at in change.copied])
        elif not change.copied and type(value) is int and value in (change.old, change.new):
            held[key] = change.new
        else:
            raise PlanError(
                f"the plan expects {change.module}.{change.name} to count {change.old}, but it is {value!r:.60}; plan "
                "again for this model"
            )


def _module(model: nn.Module, path: str) -> nn.Module:
    return model.get_submodule(path) if path else model
