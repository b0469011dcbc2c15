"""Module trees that share their tensors with the model: their construction and their modes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from torch import Tensor, fx, nn

from .copies import DEVICE, Inventory, inventory, without_hooks
from .layer_kinds import CONTAINERS
from .opaque import OPAQUE_MODEL
from .walk import submodule

Mode = Literal["train", "eval"]
Output = Literal["graph", "module"]
MODES: tuple[Mode, ...] = ("eval", "train")

MODE_OVERRIDES = "_fxgrow_mode_overrides"  # attribute of a tree: per mode, where train() of the model differs


def graph_for(graphs: Mapping[Mode, fx.Graph], mode: Mode) -> fx.Graph:
    """The graph of a mode, or the one that both modes share."""
    return graphs.get(mode) or graphs["eval"]


def set_mode(root: nn.Module, mode: Mode, known: Inventory | None = None) -> Inventory:
    """Switch the mode of a tree as the model does, whose train() may keep parts in eval mode.

    Args:
        root: The tree.
        mode: The mode.
        known: What it consists of, where that is known.

    Returns:
        What it consists of afterwards.
    """
    held = switch(root, mode, known)
    if OPAQUE_MODEL in root.__dict__:
        root.__dict__[OPAQUE_MODEL].train(mode == "train")
        held = inventory(root)
    apply_mode_overrides(root, mode)
    return held


def switch(root: nn.Module, mode: Mode, known: Inventory | None = None) -> Inventory:
    """What `root.train(mode == "train")` does, faster where all of it is torch's; arguments as for `set_mode`.

    Returns:
        What the tree consists of afterwards, which the user's own `train()` may change.
    """
    held = known or inventory(root)
    modules = [module for _, module in held.paths]
    if all(map(_switches_plainly, {type(module) for module in modules})) and all(map(_has_plain_mode, modules)):
        for module in modules:
            module.__dict__["training"] = mode == "train"
        return held
    root.train(mode == "train")
    return inventory(root)


_OF_TRAIN = tuple((name, vars(nn.Module)[name]) for name in ("train", "children", "named_children", "__setattr__"))


def _switches_plainly(kind: type[nn.Module]) -> bool:
    """Whether `train()` of a class sets one attribute of each module of a tree, and calls nothing of the user's."""
    return not hasattr(kind, "training") and all(getattr(kind, name) is torchs for name, torchs in _OF_TRAIN)


def _has_plain_mode(module: nn.Module) -> bool:
    own = module.__dict__
    return "training" in own and not any(name in own for name, _ in _OF_TRAIN)


def set_training(module: nn.Module, *, training: bool) -> None:
    """Set `training` of one module, unless its class computes it."""
    if "training" in module.__dict__:
        module.training = training


def apply_mode_overrides(root: nn.Module, mode: Mode) -> None:
    """Set `training` of the modules for which the model's own `train()` sets another mode."""
    for name, training in root.__dict__.get(MODE_OVERRIDES, {}).get(mode, {}).items():
        set_training(root.get_submodule(name), training=training)


def as_tree(module: nn.Module) -> nn.Module:
    """A plain container that shares the module's children, parameters, buffers and hooks."""
    tree = nn.Module()
    tree.training = module.training
    tree.__dict__.update({name: module.__dict__[name] for name in tree.__dict__ if name in module.__dict__})
    for name, value in module.__dict__.items():
        is_constant = isinstance(value, Tensor)  # a plain tensor attribute is a constant of the graph
        if is_constant or name in (DEVICE, MODE_OVERRIDES, OPAQUE_MODEL):
            tree.__dict__[name] = value
    return tree


def module_at(root: nn.Module, path: str) -> nn.Module:
    """The module at a path; for "" the opaque model if the root has one, else the root."""
    return root.get_submodule(path) if path else root.__dict__.get(OPAQUE_MODEL, root)


def keep(model: nn.Module) -> nn.Module:
    """A tree that shares everything with a model but its hooks, which run inside, and has it as its opaque model."""
    tree = without_hooks(as_tree(model))
    tree.__dict__[OPAQUE_MODEL] = model
    return tree


def skeleton(model: nn.Module, leaves: Iterable[str]) -> nn.Module:
    """The module tree with leaf modules shared and all others replaced by plain containers.

    Containers of torch.nn keep their class, so that `net.layer1[0]` works.
    """
    return _built(model, {id(submodule(model, path)) for path in leaves}, {})  # by identity: one may have several paths


def _built(module: nn.Module, leaves: Collection[int], built: dict[int, nn.Module]) -> nn.Module:
    """The tree of a module; one with several paths is built once."""
    if id(module) in leaves:
        return module
    if id(module) in built:
        return built[id(module)]
    tree = built[id(module)] = as_tree(module)
    if type(module) in CONTAINERS:
        tree.__class__ = type(module)
    tree._modules = {
        name: child if child is None else _built(child, leaves, built) for name, child in module._modules.items()
    }
    return tree
