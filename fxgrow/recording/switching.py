"""What a model's own `train()` does beside the modes: a graph would not do it, and no run of `forward` shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any

from torch import Tensor, nn

from ..base.content import storage_of
from ..base.torch_private import TorchDispatchMode, pytree
from ..errors import TraceError
from ..model.copies import Inventory, inventory
from ..model.kept_state import attributes_of, is_same
from ..model.provenance import caller
from ..model.tree import Mode, switch
from ..model.walk import submodule


def switched(root: nn.Module, mode: Mode) -> tuple[Inventory, frozenset[str]]:
    """Switch the mode of a tree, and see what its own `train()` changes.

    Args:
        root: A copy of a model, as the model was given.
        mode: The mode.

    Returns:
        What it consists of afterwards, and the modules whose `train()` has to run in a student: it changes layers,
        or which modules and tensors there are.

    Raises:
        TraceError: It computes with the entries of parameters or buffers, or `eval()` of the tree does more than it.
    """
    after, owners = _switched(root, mode)
    if mode == "eval" and ("eval" in vars(root) or type(root).eval is not nn.Module.eval):
        _check_eval(root, after)
    return after, owners


def _check_eval(root: nn.Module, held: Inventory) -> None:
    """Check that `eval()` of the user's own leaves a tree as `train(False)` does, which is what a student calls.

    Raises:
        TraceError: It does not.
    """
    before, parts, met = attributes_of(held.paths), _parts(held), _Met(held.tensors)
    with met:
        root.eval()
    after = inventory(root)
    now = attributes_of(after.paths)
    same = now.keys() == before.keys() and all(is_same(before[place], value) for place, value in now.items())
    if met.lines or not same or _parts(after) != parts:
        raise TraceError(f"eval() of {type(root).__name__} does more than its train(False); let train() do it")


def _switched(root: nn.Module, mode: Mode) -> tuple[Inventory, frozenset[str]]:
    held = inventory(root)
    owners = [path for path, module in held.paths if _has_own_train(module)]
    if not owners:
        return switch(root, mode, held), frozenset()
    before, parts = attributes_of(held.paths), _parts(held)
    met = _Met(held.tensors)
    with met:
        after = switch(root, mode, held)
    for name, line in met.lines.items():
        tensor = held.tensors[name]
        if tensor.numel() != 1:
            raise TraceError(
                f"train() computes with the entries of {name!r} (at {line}), which no run of forward shows; do that in "
                "a method of its own, and call it before growing"
            )
    changed: list[tuple[str, str | None]] = [(path, None) for path in _other_parts(parts, _parts(after))]
    changed += [(name.rpartition(".")[0], None) for name in met.lines]
    now, kept = attributes_of(after.paths), {path for path, _ in after.paths} & parts.keys()
    changed += [
        place
        for place in {**before, **now}
        if place[0] in kept and not (place in now and place in before and is_same(before[place], now[place]))
    ]
    return after, frozenset(owner for path, key in changed for owner in _who_changes(root, owners, path, key))


def _has_own_train(module: nn.Module) -> bool:
    return "train" in vars(module) or type(module).train is not nn.Module.train


def _parts(held: Inventory) -> dict[str, dict[str, Any]]:
    """What modules consist of: by path, their class and hooks, the entries of their tables, how tensors are trained."""
    return {
        path: {
            "class": type(module),
            **{key: list(table) for key, table in vars(module).items() if key.endswith("_hooks")},
            **{f"module {key}": id(child) for key, child in module._modules.items()},
            **{
                f"tensor {key}": _place(t)
                for table in (module._parameters, module._buffers)
                for key, t in table.items()
            },
        }
        for path, module in held.paths
    }


def _place(tensor: Tensor | None) -> tuple[Any, ...]:
    return () if tensor is None else (id(tensor), storage_of(tensor), tensor.requires_grad, tensor.shape)


def _other_parts(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """The modules that consist of something else; those that have come or gone are in the table of their parent."""
    return (path for path in before if before[path] != after.get(path, before[path]))


def _who_changes(root: nn.Module, owners: list[str], path: str, key: str | None) -> list[str]:
    """The module whose `train()` has changed something of a module: the outermost one that may have.

    An attribute of a module with a `train()` of its own is its own, which a trace in each mode shows, unless the code
    of one further out names it.
    """
    inside = [owner for owner in owners if owner in ("", path) or path.startswith(f"{owner}.")]
    if key is not None and path in inside:
        inside = [owner for owner in inside if owner != path and key in _names(submodule(root, owner))]
        return inside[:1]
    return inside[:1] or [""]


def _names(module: nn.Module) -> set[str]:
    """The names of attributes in the code of a module's class."""
    own = [value for base in type(module).__mro__ for value in vars(base).values() if base is not nn.Module]
    return {name for value in own if isinstance(value, FunctionType) for name in value.__code__.co_names}


class _Met(TorchDispatchMode):
    """Sees which tensors of a tree are computed with, and in which line of the user's code."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._names = {storage_of(tensor): name for name, tensor in tensors.items()}
        self.lines: dict[str, str] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in pytree.tree_leaves((args, kwargs)):
            name = self._names.get(storage_of(leaf)) if isinstance(leaf, Tensor) else None
            if name is not None:
                self.lines.setdefault(name, caller())
        return func(*args, **(kwargs or {}))
