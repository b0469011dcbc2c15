"""The module that fxgrow returns: one module tree, one graph per mode.

FX records the value of `self.training` in the graph (functional dropout, stochastic depth, heads that only run in
train mode). A model whose two modes differ has two graphs, and train()/eval() switch between them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, fx, nn

from .names import aliases, at, renamed
from .opaque import OPAQUE_MODEL, opaque_graph
from .provenance import ModuleStacks, copy_module_stacks, module_stacks
from .tree import Mode, apply_mode_overrides, as_tree

Names = Mapping[str, str]


class GrownModule(fx.GraphModule):
    """A GraphModule with the module tree of the original model and a graph for each mode.

    Children and tensors may have the names of attributes of a GraphModule (`graph`, `meta`). The attribute is then
    that of the GraphModule, and `get_submodule`, `named_modules()` and `state_dict()` give the child.

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

    # -- names that the class itself uses --------------------------------------------------------

    def recompile(self) -> Any:
        """Generate the code of the graph, in which awkward names have aliases."""
        graph: fx.Graph = self._graph
        names = aliases(self, graph)
        for path, alias in names.items():
            setattr(type(self), alias, property(partial(_read, path)))  # the class is this student's alone
        with renamed(graph, names):
            return super().recompile()

    def get_submodule(self, target: str) -> nn.Module:
        """The module at a path, as of every module.

        Raises:
            AttributeError: There is none.
        """
        module = at(self, target) if target else self
        if not isinstance(module, nn.Module):
            raise AttributeError(f"{target!r} is not an nn.Module")
        return module

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OF_GRAPH_MODULES and not isinstance(value, nn.Module | Tensor):
            object.__setattr__(self, name, value)  # nn.Module takes it for the child or the buffer of that name
        else:
            super().__setattr__(name, value)

    # -- copies and files ------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, Any]) -> GrownModule:
        root = copy.deepcopy(as_tree(self), memo)
        twin = GrownModule(root, {m: copy.deepcopy(g) for m, g in self.graphs.items()}, type(self).__name__)
        memo[id(self)] = twin
        twin.meta = copy.deepcopy(self.meta, memo)
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        root = as_tree(self)
        if OPAQUE_MODEL in root.__dict__:
            return _rebuild, (root, {}, type(self).__name__, self.meta, {}, {})
        names = {mode: aliases(self, graph) for mode, graph in self.graphs.items()}
        written = {mode: _written(root, graph, names[mode]) for mode, graph in self.graphs.items()}
        for graph in self.graphs.values():  # fx.GraphModule(root, graph) has set itself as the owner
            graph.owning_module = self
        stacks = {mode: module_stacks(graph) for mode, graph in self.graphs.items()}
        return _rebuild, (root, written, type(self).__name__, self.meta, stacks, names)


_OF_GRAPH_MODULES = (frozenset(vars(fx.GraphModule(nn.Module(), fx.Graph()))) | {"graph"}) - frozenset(vars(nn.Module()))


def _read(path: str, module: nn.Module) -> Any:
    return at(module, path)


def _written(root: nn.Module, graph: fx.Graph, names: Names) -> fx.GraphModule:
    """A graph in the form that is written to a file: as code, with aliases of awkward names."""
    if not names:
        return fx.GraphModule(root, graph)
    targets = {str(node.target) for node in graph.nodes if node.op in ("call_module", "get_attr")}
    alike = copy.deepcopy(graph)
    with renamed(alike, names):
        return fx.GraphModule({names.get(path, path): at(root, path) for path in targets}, alike)


def _rebuild(
    root: nn.Module,
    graphs: Mapping[Mode, fx.GraphModule],
    class_name: str,
    meta: dict[str, Any],
    stacks: Mapping[Mode, ModuleStacks],
    names: Mapping[Mode, Names] | None = None,
) -> GrownModule:
    taken: dict[Mode, fx.Graph] = {mode: g.graph for mode, g in graphs.items()}
    for mode, of_mode in stacks.items():
        _restore_names(taken[mode], (names or {}).get(mode, {}))
        copy_module_stacks(of_mode, taken[mode])
    module = GrownModule(root, taken or {"eval": opaque_graph(root.__dict__[OPAQUE_MODEL])}, class_name)
    module.meta = meta
    return module


def _restore_names(graph: fx.Graph, names: Names) -> None:
    paths = {alias: path for path, alias in names.items()}
    for node in graph.nodes:
        node.target = paths.get(node.target, node.target) if isinstance(node.target, str) else node.target
