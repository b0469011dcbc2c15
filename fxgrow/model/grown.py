"""The module that fxgrow returns: one module tree, one graph per mode.

FX records the value of `self.training` in the graph (functional dropout, stochastic depth, heads that only run in
train mode). A model whose two modes differ has two graphs, and train()/eval() switch between them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import fx, nn

from .opaque import OPAQUE_MODEL, opaque_graph
from .provenance import ModuleStacks, copy_module_stacks, module_stacks
from .tree import Mode, apply_mode_overrides, as_tree


class GrownModule(fx.GraphModule):
    """A GraphModule with the module tree of the original model and a graph for each mode.

    Args:
        root: The tree with all parameters, buffers and leaf modules, under the names that the graphs use.
        graphs: One entry if both modes compute the same, else "train" and "eval".
        class_name: The name of the class for `repr` and tracebacks.
    """

    def __init__(self, root: nn.Module, graphs: Mapping[Mode, fx.Graph], class_name: str = "GrownModule") -> None:
        mode: Mode = "train" if root.training else "eval"
        super().__init__(nn.Module(), fx.Graph(), class_name)
        self.__dict__.update(as_tree(root).__dict__)  # all modules in their order, also those that no graph uses
        self.__dict__["_graphs"] = dict(graphs)
        self.graph = graphs.get(mode) or next(iter(graphs.values()))

    @property
    def graphs(self) -> Mapping[Mode, fx.Graph]:
        """The graph of each mode; one entry if both modes share it. Call `recompile()` after changing one."""
        graphs: dict[Mode, fx.Graph] = self.__dict__["_graphs"]
        return graphs

    def train(self, mode: bool = True) -> GrownModule:
        """Switch the mode as the original model does."""
        super().train(mode)
        model = self.__dict__.get(OPAQUE_MODEL)
        if model is not None:  # its own train() may keep parts in eval mode
            model.train(mode)
        apply_mode_overrides(self, "train" if mode else "eval")
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
        for graph in self.graphs.values():  # fx.GraphModule(root, graph) has set itself as the owner
            graph.owning_module = self
        stacks = {mode: module_stacks(graph) for mode, graph in self.graphs.items()}
        return _rebuild, (root, graphs, type(self).__name__, self.meta, stacks)


def _rebuild(
    root: nn.Module,
    graphs: Mapping[Mode, fx.GraphModule],
    class_name: str,
    meta: dict[str, Any],
    stacks: Mapping[Mode, ModuleStacks],
) -> GrownModule:
    taken: dict[Mode, fx.Graph] = {mode: g.graph for mode, g in graphs.items()}
    for mode, of_mode in stacks.items():
        copy_module_stacks(of_mode, taken[mode])
    module = GrownModule(root, taken or {"eval": opaque_graph(root.__dict__[OPAQUE_MODEL])}, class_name)
    module.meta = meta
    return module
