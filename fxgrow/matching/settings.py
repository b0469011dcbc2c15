"""Whether layers that correspond compute the same: their classes, and what they state besides sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations

from ..model.layer_kinds import DROPOUT, is_layer_class
from ..model.walk import named_modules
from ..plans.growth_plan import Plan
from .names import Correspondence
from .sizes import Difference

IN_TRAINING = ("training", "p", "inplace", "momentum", "dropout", "drop_prob")  # with no effect in eval mode
MASKS: tuple[type, ...] = (nn.Identity, *DROPOUT.classes)  # the identity in eval mode
SCALARS = (bool, int, float, str)


def other_classes(small: nn.Module, large: nn.Module, found: Correspondence) -> Iterator[Difference]:
    """Modules of the user's whose class is another one in the large model; each outermost one."""
    theirs = dict(named_modules(large))
    seen: list[str] = []
    for path, mine in named_modules(small):
        place = found.path(path)
        its = None if place is None else theirs.get(place)
        inside = path.startswith(tuple(f"{outer}." for outer in seen))
        if its is not None and _kind(mine) != _kind(its) and not inside and not (_is_layer(mine) and _is_layer(its)):
            seen.append(path)
            yield Difference(path or "the model", f"{type(mine).__name__} -> {type(its).__name__}: another class")


def differing_settings(
    small: nn.Module, large: nn.Module, plan: Plan, found: Correspondence, classes: Sequence[Difference]
) -> Iterator[Difference]:
    """Layers of torch.nn whose function is another one in the large model.

    Args:
        small: The small model.
        large: The large model.
        plan: What changes attributes of the small one.
        found: Which modules correspond.
        classes: The modules of another class (`other_classes`), whose layers are not compared.
    """
    theirs = dict(named_modules(large))
    resized = {(one.module, one.name): one.new for one in plan.resizes}
    kernels = {path for change in plan.changes for path in change.kernels}
    for path, mine in named_modules(small):
        its = theirs.get(found.path(path) or "")
        other = path.startswith(tuple(f"{one.name}." for one in classes))
        if not path or its is None or other or not _is_layer(mine) or not _is_layer(its):
            continue
        if _kind(mine) != _kind(its):
            if not (isinstance(mine, MASKS) and isinstance(its, MASKS)):
                yield Difference(path, f"{type(mine).__name__} -> {type(its).__name__}: another function")
            continue
        ours, stated = _stated(mine), _stated(its)
        for name in sorted(ours.keys() & stated.keys()):
            value = resized.get((path, name), ours[name]) if name != "eps" else ours[name]  # noted where it changes
            sizes = _are_sizes(mine, ours[name]) and _are_sizes(its, stated[name])  # which are compared as such
            free = sizes or (path in kernels and name in ("kernel_size", "padding"))
            if stated[name] not in (value, ours[name]) and not free:
                yield Difference(f"{path}.{name}", f"{ours[name]} -> {stated[name]}: another function")


def _are_sizes(module: nn.Module, value: Any) -> bool:
    """Whether numbers are sizes of a layer's own tensors."""
    sizes = {size for tensor in module.parameters() for size in tensor.shape}
    return sizes.issuperset(value if isinstance(value, tuple) else (value,))


def _kind(module: nn.Module) -> tuple[object, ...]:
    """What has to be equal of two modules: their class and the classes of parametrizations, by the tensors they make.

    torch gives each module that it parametrizes a class of its own.
    """
    if not is_parametrized(module):
        return (type(module), {})
    lists = module.get_submodule("parametrizations").named_children()
    makers = {name: tuple(map(type, entries.children())) for name, entries in lists}
    return (type_before_parametrizations(module), makers)


def _is_layer(module: nn.Module) -> bool:
    return is_layer_class(type(module))


def _stated(module: nn.Module) -> Mapping[str, Any]:
    """The plain attributes of a layer that its function depends on."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and name not in IN_TRAINING and _is_plain(value)
    }


def _is_plain(value: object) -> bool:
    return isinstance(value, SCALARS) or (isinstance(value, tuple) and all(isinstance(v, SCALARS) for v in value))
