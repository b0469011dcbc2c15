"""The module that fxgrow returns: one module tree, one graph per mode.

FX records the value of `self.training` in the graph (functional dropout, stochastic depth, heads that only run in
train mode). A model whose two modes differ has two graphs. Both become code once, and `forward` asks for the mode at
each call: frameworks write `training` on modules without calling `train()`, and swap the class of a module.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, fx, nn

from ..errors import GrowError
from .generated_code import NAMED, names_written, odd_nodes, placeholders_for, renamed, value_at
from .opaque import OPAQUE_MODEL, opaque_graph
from .provenance import ModuleStacks, copy_module_stacks, module_stacks
from .tree import MODES, Mode, apply_mode_overrides, as_tree
from .uncalled import Known, warn_once

_STATE = (vars(fx.GraphModule(nn.Module(), fx.Graph())).keys() - vars(nn.Module()).keys()) | {
    "graph",
    "_graphs",
    "_codes",
    "_compiling",
    "_told",
    "_known",
}


class GrownModule(fx.GraphModule):
    """A GraphModule with the module tree of the original model and a graph for each mode.

    Args:
        root: The tree with all parameters, buffers and leaf modules, under the names that the graphs use.
        graphs: One entry if both modes compute the same, else "train" and "eval".
        class_name: The name of the class for `repr` and tracebacks.
    """

    def __init__(self, root: nn.Module, graphs: Mapping[Mode, fx.Graph], class_name: str = "GrownModule") -> None:
        super().__init__(nn.Module(), fx.Graph(), class_name)
        self.__dict__.update(as_tree(root).__dict__)  # all modules in their order, also those that no graph uses
        self.__dict__["_graphs"] = dict(graphs)
        self.__dict__["_told"] = self.training
        self.__dict__["_known"] = Known(self)
        for graph in graphs.values():
            graph.owning_module = self
        self.recompile()

    @property
    def graphs(self) -> Mapping[Mode, fx.Graph]:
        """The graph of each mode; one entry if both modes share it. Call `recompile()` after changing one."""
        graphs: dict[Mode, fx.Graph] = self.__dict__["_graphs"]
        return graphs

    # What `fx.GraphModule` reads and writes in an attribute is here that of the present mode.

    @property
    def _graph(self) -> fx.Graph:
        return self.graphs[self._present()]

    @_graph.setter
    def _graph(self, graph: fx.Graph) -> None:
        graphs: dict[Mode, fx.Graph] = self.__dict__.setdefault("_graphs", {})
        graphs[self._present()] = graph

    @property
    def _code(self) -> str:
        codes: dict[Mode, str] = self.__dict__["_codes"]
        return codes[self._present()]

    @_code.setter
    def _code(self, code: str) -> None:
        self.__dict__.setdefault("_codes", {})[self._present()] = code

    def _present(self) -> Mode:
        """The mode whose graph runs now: the only one, that which is being compiled, or the module's own."""
        graphs: dict[Mode, fx.Graph] = self.__dict__["_graphs"]
        if len(graphs) < len(MODES):
            return next(iter(graphs), "eval")
        compiling: Mode | None = self.__dict__.get("_compiling")
        return compiling or ("train" if self.training else "eval")

    def __setattr__(self, name: str, value: Any) -> None:
        tables: tuple[dict[str, Any], ...] = (self._modules, self._parameters, self._buffers) if name in _STATE else ()
        table = next((table for table in tables if name in table), None)
        if table is None:
            super().__setattr__(name, value)
        elif isinstance(value, nn.Module | Tensor):
            table[name] = value
        else:  # what a GraphModule keeps under the name of a module or tensor of the model
            object.__setattr__(self, name, value)

    def __getitem__(self, at: object) -> nn.Module:
        """No entry: what was a Sequential is called as a whole.

        Raises:
            TypeError: Always.
        """
        name = type(self).__name__
        raise TypeError(
            f"{name} is a graph here and has no entries: student.get_submodule({str(at)!r}) is one of its layers, and "
            f"growing with output='module' gives a {name} with entries"
        )

    def get_submodule(self, target: str) -> nn.Module:
        """The module at a path, also one with a name that a GraphModule has itself."""
        own, _, rest = target.partition(".")
        child = self._modules.get(own)
        if child is None:
            return super().get_submodule(target)
        return child.get_submodule(rest)

    def recompile(self) -> Any:
        """Generate the code of every graph; `forward` runs that of the mode in which it is called."""
        codes: dict[Mode, Any] = {}
        forwards: dict[Mode, Callable[..., Any]] = {}
        present = self._present()
        for mode, graph in self.graphs.items():
            self.__dict__["_compiling"] = mode
            try:
                with names_written(self, graph):
                    codes[mode] = super().recompile()
            finally:
                del self.__dict__["_compiling"]
            forwards[mode] = type(self).forward
        if len(forwards) > 1:
            type(self).forward = _by_mode(forwards)
        if OPAQUE_MODEL in self.__dict__:
            type(self).forward = _in_its_mode(type(self).forward)
        elif "_known" in self.__dict__:  # the base class compiles once before there are modules
            type(self).forward = warn_once(self.__dict__["_known"], type(self).forward)
        return codes[present]

    def train(self, mode: bool = True) -> GrownModule:
        """Set the mode of all modules as the original model does."""
        super().train(mode)
        model = self.__dict__.get(OPAQUE_MODEL)
        if model is not None:  # its own train() may keep parts in eval mode
            model.train(mode)
        self.__dict__["_told"] = mode
        apply_mode_overrides(self, "train" if mode else "eval")
        return self

    def __prepare_scriptable__(self) -> nn.Module:
        """Called by `torch.jit.script` before it reads source code, which generated code does not have.

        Raises:
            GrowError: Always.
        """
        raise GrowError(
            f"torch.jit.script reads source code, and the code of {type(self).__name__} is generated from a graph: use "
            "torch.jit.trace or torch.export"
        )

    def __copy__(self) -> GrownModule:
        twin = GrownModule(as_tree(self), self.graphs, type(self).__name__)
        twin.meta = copy.copy(self.meta)
        vars(twin).update(self._attributes())
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> GrownModule:
        root = copy.deepcopy(as_tree(self), memo)
        twin = GrownModule(root, {m: copy.deepcopy(g) for m, g in self.graphs.items()}, type(self).__name__)
        memo[id(self)] = twin
        twin.meta = copy.deepcopy(self.meta, memo)
        vars(twin).update(copy.deepcopy(self._attributes(), memo))
        return twin

    def _attributes(self) -> dict[str, Any]:
        """What the user keeps on the module, as a block of the user's own class has it, and a graph has no use for."""
        of_graph = as_tree(self).__dict__.keys() | _STATE | {"_compiled_call_impl"}
        return {name: value for name, value in vars(self).items() if name not in of_graph}

    def __reduce__(self) -> tuple[Any, ...]:
        root = as_tree(self)
        if OPAQUE_MODEL in root.__dict__:
            return _rebuild, (root, {}, type(self).__name__, self.meta, {}), self._attributes() or None
        graphs: dict[Mode, fx.GraphModule] = {}
        names: dict[Mode, dict[str, str]] = {}
        for mode, graph in self.graphs.items():
            graphs[mode], names[mode] = self._as_code(root, graph)
        stacks = {mode: module_stacks(graph) for mode, graph in self.graphs.items()}
        return _rebuild, (root, graphs, type(self).__name__, self.meta, stacks, names), self._attributes() or None

    def _as_code(self, root: nn.Module, graph: fx.Graph) -> tuple[fx.GraphModule, dict[str, str]]:
        """A graph in the form that FX pickles, and which names in it stand for others that FX does not write."""
        odd = odd_nodes(self, graph)
        if not odd:
            module = fx.GraphModule(root, graph)
            graph.owning_module = self  # it has set itself as the owner
            return module, {}
        placeholders = placeholders_for(graph, odd.values())
        with renamed(odd, placeholders):
            copied = copy.deepcopy(graph)
        paths = {name: path for path, name in placeholders.items()}
        named = [str(node.target) for node in copied.nodes if node.op in NAMED]
        return fx.GraphModule({name: value_at(root, paths.get(name, name)) for name in named}, copied), paths


def _by_mode(forwards: Mapping[Mode, Callable[..., Any]]) -> Callable[..., Any]:
    """A `forward` that runs the code of the mode that its module is in."""
    in_train, in_eval = forwards["train"], forwards["eval"]

    @functools.wraps(in_eval)
    def forward(self: GrownModule, *args: Any, **kwargs: Any) -> Any:
        return in_train(self, *args, **kwargs) if self.training else in_eval(self, *args, **kwargs)

    return forward


def _in_its_mode(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A `forward` that hands a mode that was written, not set by `train`, on to the opaque model."""

    @functools.wraps(forward)
    def in_its_mode(self: GrownModule, *args: Any, **kwargs: Any) -> Any:
        if self.training != self._told:
            self.__dict__[OPAQUE_MODEL].training = self.__dict__["_told"] = self.training
        return forward(self, *args, **kwargs)

    return in_its_mode


def _rebuild(
    root: nn.Module,
    graphs: Mapping[Mode, fx.GraphModule],
    class_name: str,
    meta: dict[str, Any],
    stacks: Mapping[Mode, ModuleStacks],
    names: Mapping[Mode, Mapping[str, str]] | None = None,
) -> GrownModule:
    taken: dict[Mode, fx.Graph] = {mode: g.graph for mode, g in graphs.items()}
    for mode, of_mode in stacks.items():
        for node in taken[mode].nodes:
            if node.op in NAMED:
                node.target = (names or {}).get(mode, {}).get(str(node.target), node.target)
        copy_module_stacks(of_mode, taken[mode])
    module = GrownModule(root, taken or {"eval": opaque_graph(root.__dict__[OPAQUE_MODEL])}, class_name)
    module.meta = meta
    return module
