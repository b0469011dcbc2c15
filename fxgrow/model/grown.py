"""The module that fxgrow returns: one hierarchy of parameters, one graph per mode.

FX bakes `self.training` of inlined modules into its graph (functional dropout, stochastic depth, heads
that only exist while training). So a model whose two modes differ keeps two graphs, and train()/eval()
switch between them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from torch import Tensor, fx, nn

from .opaque import OPAQUE_MODEL, opaque_graph
from .provenance import ModuleStacks, copy_module_stacks, module_stacks

Mode = Literal["train", "eval"]
Output = Literal["graph", "module"]
MODES: tuple[Mode, ...] = ("eval", "train")

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class GrownModule(fx.GraphModule):
    """A GraphModule with the module tree of the model it came from and a graph for each mode.

    Args:
        root: Holds all parameters, buffers and leaf modules, under the names that the graphs use.
        graphs: One entry where both modes compute the same, else "train" and "eval".
        class_name: For `repr` and tracebacks.
    """

    def __init__(self, root: nn.Module, graphs: Mapping[Mode, fx.Graph], class_name: str = "GrownModule") -> None:
        mode: Mode = "train" if root.training else "eval"
        super().__init__(nn.Module(), fx.Graph(), class_name)
        self.__dict__.update(as_tree(root).__dict__)  # the whole tree, in its order, used by a graph or not
        self.__dict__["_graphs"] = dict(graphs)
        self.graph = graphs.get(mode) or next(iter(graphs.values()))

    @property
    def graphs(self) -> Mapping[Mode, fx.Graph]:
        """The graph of each mode; one entry where both modes share it. Change one, then `recompile()`."""
        graphs: dict[Mode, fx.Graph] = self.__dict__["_graphs"]
        return graphs

    def train(self, mode: bool = True) -> GrownModule:
        """Switch mode, as the model that this came from would."""
        super().train(mode)
        whole = self.__dict__.get(OPAQUE_MODEL)
        if whole is not None:  # its own train(), which may keep parts in eval mode
            whole.train(mode)
        _apply_overrides(self, "train" if mode else "eval")
        graph = self.graphs.get("train" if mode else "eval")
        if graph is not None and graph is not self._graph:
            self.graph = graph
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> GrownModule:
        root = copy.deepcopy(as_tree(self), memo)
        twin = GrownModule(root, {m: copy.deepcopy(g) for m, g in self.graphs.items()}, type(self).__name__)
        memo[id(self)] = twin
        twin.meta = copy.deepcopy(self.meta, memo)
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        root = as_tree(self)
        if OPAQUE_MODEL in root.__dict__:
            return _rebuild, (root, {}, type(self).__name__, self.meta, {})
        graphs = {mode: fx.GraphModule(root, graph) for mode, graph in self.graphs.items()}
        for graph in self.graphs.values():  # building a GraphModule took the graph over
            graph.owning_module = self
        places = {mode: module_stacks(graph) for mode, graph in self.graphs.items()}
        return _rebuild, (root, graphs, type(self).__name__, self.meta, places)


def _rebuild(
    root: nn.Module,
    graphs: Mapping[Mode, fx.GraphModule],
    class_name: str,
    meta: dict[str, Any],
    places: Mapping[Mode, ModuleStacks],
) -> GrownModule:
    taken: dict[Mode, fx.Graph] = {mode: g.graph for mode, g in graphs.items()}
    for mode, found in places.items():
        copy_module_stacks(found, taken[mode])
    module = GrownModule(root, taken or {"eval": opaque_graph(root.__dict__[OPAQUE_MODEL])}, class_name)
    module.meta = meta
    return module


def graph_for(graphs: Mapping[Mode, fx.Graph], mode: Mode) -> fx.Graph:
    """The graph that runs in a mode: its own, or the one that both modes share."""
    return graphs.get(mode) or graphs["eval"]


MODE_OVERRIDES = "_fxgrow_mode_overrides"  # on a root: per mode, the modules that train()/eval() leave otherwise


def set_mode(root: nn.Module, mode: Mode) -> None:
    """Switch a module tree as the model that it came from would, whose train() may keep parts in eval mode."""
    root.train(mode == "train")
    if OPAQUE_MODEL in root.__dict__:
        root.__dict__[OPAQUE_MODEL].train(mode == "train")
    _apply_overrides(root, mode)


def _apply_overrides(root: nn.Module, mode: Mode) -> None:
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


def is_layer(module: nn.Module) -> bool:
    """Whether a module is of torch.nn, runs no hooks and holds no modules of a user's class."""
    return _is_torchs(module) and (not module._modules or all(_is_torchs(child) for child in module.modules()))


def _is_torchs(module: nn.Module) -> bool:
    hooked = module._forward_hooks or module._forward_pre_hooks
    return type(module).__module__.startswith("torch.nn.") and type(module) not in CONTAINERS and not hooked


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
