"""Module trees of our own: what they share with the model and which mode they are in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from torch import Tensor, fx, nn

from .layer_kinds import CONTAINERS
from .opaque import OPAQUE_MODEL

Mode = Literal["train", "eval"]
Output = Literal["graph", "module"]
MODES: tuple[Mode, ...] = ("eval", "train")

MODE_OVERRIDES = "_fxgrow_mode_overrides"  # on a root: per mode, the modules that train()/eval() leave otherwise


def graph_for(graphs: Mapping[Mode, fx.Graph], mode: Mode) -> fx.Graph:
    """The graph that runs in a mode: its own, or the one that both modes share."""
    return graphs.get(mode) or graphs["eval"]


def set_mode(root: nn.Module, mode: Mode) -> None:
    """Switch a module tree as the model that it came from would, whose train() may keep parts in eval mode."""
    root.train(mode == "train")
    if OPAQUE_MODEL in root.__dict__:
        root.__dict__[OPAQUE_MODEL].train(mode == "train")
    apply_mode_overrides(root, mode)


def apply_mode_overrides(root: nn.Module, mode: Mode) -> None:
    """Set `training` of the modules that the model's own `train()` leaves in another mode."""
    for name, training in root.__dict__.get(MODE_OVERRIDES, {}).get(mode, {}).items():
        root.get_submodule(name).training = training


def as_tree(module: nn.Module) -> nn.Module:
    """A plain container that shares the module's children, parameters, buffers and hooks."""
    tree = nn.Module()
    for name in tree.__dict__:
        tree.__dict__[name] = module.__dict__[name]
    for name, value in module.__dict__.items():
        if isinstance(value, Tensor) or name in (
            MODE_OVERRIDES,
            OPAQUE_MODEL,
        ):  # a plain tensor is a constant of the graph
            tree.__dict__[name] = value
    return tree


def module_at(root: nn.Module, path: str) -> nn.Module:
    """The module of a path; for "" the user's own, where the root keeps it."""
    return root.get_submodule(path) if path else root.__dict__.get(OPAQUE_MODEL, root)


def keep(model: nn.Module) -> nn.Module:
    """A tree that shares everything with a model, and keeps it."""
    tree = as_tree(model)
    tree.__dict__[OPAQUE_MODEL] = model
    return tree


def skeleton(model: nn.Module, leaves: Iterable[str]) -> nn.Module:
    """The module tree without the code of what was inlined: leaves as they are, the rest plain containers.

    Containers of torch.nn keep their class, so `net.layer1[0]` still works.
    """
    whole = {id(model.get_submodule(path)) for path in leaves}  # a module may have several paths
    built: dict[int, nn.Module] = {}  # a module that has two names stays one

    def build(module: nn.Module) -> nn.Module:
        if id(module) in whole:
            return module
        if id(module) in built:
            return built[id(module)]
        tree = built[id(module)] = as_tree(module)
        if type(module) in CONTAINERS:
            tree.__class__ = type(module)
        tree._modules = {name: child and build(child) for name, child in module._modules.items()}
        return tree

    return build(model)
