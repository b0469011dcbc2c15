"""Changes to a student: new layers, clones of blocks, larger kernels, put into its tree and its graphs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import fx, nn

from ..base.rng import named_generator
from ..errors import PlanError
from ..model.copies import clone_owned
from ..model.provenance import modules_of, set_module_stack
from ..model.tree import Mode
from ..plans.changes import CLONE, Enlarge, Insert, Repeat, StructuralChange
from ..plans.validation import is_module_path
from .new_layers import build_new_layer, zero

NOW = "fxgrow_now"  # in the meta of a block's last node: that of its last clone, which others use in its place
LAST = "fxgrow_last"  # in the meta of a node: the last new layer after it


def make(root: nn.Module, graphs: Mapping[Mode, fx.Graph], changes: Iterable[StructuralChange], seed: int) -> None:
    """Make changes on a module tree and on graphs of our own.

    Args:
        root: The tree.
        graphs: By mode, with the nodes that the changes name.
        changes: In any order.
        seed: Of what is drawn.

    Raises:
        PlanError: The tree has no such layer, or a module has the new one's name.
    """
    order = (Enlarge, Repeat, Insert)  # a clone is one of the block as it is, whatever else is put into it
    for change in sorted(changes, key=lambda change: order.index(type(change))):
        if isinstance(change, Enlarge):
            _enlarge(_module(root, change.path), change)
        elif isinstance(change, Repeat):
            _repeat(root, graphs, change)
        else:
            _insert(root, graphs, change, seed)
    for graph in graphs.values():
        for node in graph.nodes:
            node.meta.pop(NOW, None)
            node.meta.pop(LAST, None)


# -- new layers ------------------------------------------------------------------------------------


def _insert(root: nn.Module, graphs: Mapping[Mode, fx.Graph], new: Insert, seed: int) -> None:
    like = next(_module(root, new.after).parameters(), None)  # its weight may be computed
    if like is None:
        raise PlanError(f"{new.after} has no parameters, so no new layer follows it")
    block = build_new_layer(new, named_generator(seed, new.path), like.device, like.dtype)
    anchors = [_node(_graph(graphs, place.mode), place.node) for place in new.after_nodes]
    _add(root, new.path, block.train(root.training), after=_last_sibling(new.after, anchors))
    for place in new.after_nodes:
        graph = _graph(graphs, place.mode)
        anchor = _node(graph, place.node)
        at = anchor.meta.get(LAST, anchor)
        users = list(at.users)
        around = tuple(path for path in modules_of(at) if new.path.startswith(f"{path}."))
        with graph.inserting_before(at.next):
            last = at
            for name in dict(block.named_children()):
                last = graph.call_module(f"{new.path}.{name}", (last,))
                set_module_stack(last, (*around, f"{new.path}.{name}"))
            if new.kind == "residual":
                last = graph.call_function(operator.add, (at, last))
                set_module_stack(last, around)
        for user in users:
            user.replace_input_with(at, last)
        anchor.meta[LAST] = last


def _last_sibling(after: str, anchors: Sequence[fx.Node]) -> str:
    """The module after which a new layer stands: the activation, where that is a module beside the layer."""
    called = {str(node.target) for node in anchors if node.op == "call_module"}
    parents = {path.rpartition(".")[0] for path in (after, *called)}
    return called.pop() if len(called) == len(parents) == 1 else after


def _add(root: nn.Module, path: str, module: nn.Module, *, after: str) -> None:
    """Put a module into a tree, next to another."""
    if not is_module_path(path):
        raise PlanError(f"a new module is to be {path!r}; its path enters generated code, so it is words and dots")
    parent_path, _, name = path.rpartition(".")
    parent = _module(root, parent_path)
    if hasattr(parent, name):
        raise PlanError(f"the model has a module {path!r} already")
    children = list(parent._modules.items())
    names = [key for key, _ in children]
    own = after.rpartition(".")[2]
    place = names.index(own) + 1 if own in names else len(names)
    while place < len(children) and children[place][0].startswith(f"{name.rpartition(CLONE)[0]}{CLONE}"):
        place += 1  # after those that came before it
    children.insert(place, (name, module))
    parent._modules.clear()
    parent._modules.update(children)


def _module(root: nn.Module, path: str) -> nn.Module:
    try:
        return root.get_submodule(path)
    except AttributeError:
        raise PlanError(f"the model has no module {path!r}; the plan was made for another one") from None


def _graph(graphs: Mapping[Mode, fx.Graph], mode: Mode) -> fx.Graph:
    if mode not in graphs:
        raise PlanError(f"the model has no graph of its own for {mode} mode; the plan was made for another forward")
    return graphs[mode]


def _node(graph: fx.Graph, name: str) -> fx.Node:
    match = next((node for node in graph.nodes if node.name == name), None)
    if match is None:
        raise PlanError(f"the graph has no node {name!r}; the plan was made for another forward")
    return match


# -- clones and kernels ----------------------------------------------------------------------------


def _repeat(root: nn.Module, graphs: Mapping[Mode, fx.Graph], repeat: Repeat) -> None:
    block = _module(root, repeat.block)
    last = repeat.block
    for path in repeat.paths:
        twin = clone_owned(block)
        for parameter in twin.parameters():  # what is new learns, also where the old is frozen
            parameter.requires_grad_(parameter.is_floating_point())
        tensors = dict(twin.named_parameters(remove_duplicate=False))
        for name in repeat.zeros:
            if name not in tensors:
                raise PlanError(f"{repeat.block} has no parameter {name!r}; the plan was made for another model")
            zero(tensors[name])
        _add(root, path, twin, after=last)
        last = path
    for region in repeat.regions:
        graph = _graph(graphs, region.mode)
        theirs = [_node(graph, name) for name in region.nodes]
        leave, entry = _node(graph, region.exit), _entry(_node(graph, region.entry), theirs)
        value = last = leave.meta.get(NOW, leave)
        users = list(last.users)
        with graph.inserting_before(last.next):
            for path in repeat.paths:
                twins: dict[fx.Node, fx.Node] = {entry: value}
                for node in theirs:
                    twins[node] = graph.node_copy(node, _known(twins))
                    if node.op in ("call_module", "get_attr"):
                        twins[node].target = _moved(str(node.target), repeat.block, path)
                    set_module_stack(twins[node], [_moved(module, repeat.block, path) for module in modules_of(node)])
                value = twins[leave]
        for user in users:
            user.replace_input_with(last, value)
        leave.meta[NOW] = value


def _entry(entry: fx.Node, nodes: Sequence[fx.Node]) -> fx.Node:
    """What a block takes now: the value of the last clone, where the block before it was cloned."""
    taken = {source for node in nodes for source in node.all_input_nodes}
    while entry not in taken:
        if NOW not in entry.meta:
            raise PlanError(f"the block does not take {entry.name}; the plan was made for another forward")
        entry = entry.meta[NOW]
    return entry


def _known(twins: Mapping[fx.Node, fx.Node]) -> Callable[[fx.Node], fx.Node]:
    return lambda node: twins.get(node, node)


def _moved(target: str, block: str, path: str) -> str:
    return f"{path}{target.removeprefix(block)}" if f"{target}.".startswith(f"{block}.") else target


def _enlarge(conv: Any, change: Enlarge) -> None:
    if getattr(conv, "kernel_size", None) != change.old:
        raise PlanError(f"{change.path} has no kernel of size {change.old}; the plan was made for another model")
    more = [(after - before) // 2 for before, after in zip(change.old, change.new, strict=True)]
    around = [size for size in reversed(more) for _ in range(2)]
    weight: nn.Parameter = conv.weight
    conv.weight = nn.Parameter(F.pad(weight.detach(), around), weight.requires_grad)
    conv.weight.__dict__.update(weight.__dict__)  # marks that users put on parameters
    conv.kernel_size = change.new
    if conv.padding == "same":
        total = [dilation * (size - 1) for size, dilation in zip(change.new, conv.dilation, strict=True)]
        conv._reversed_padding_repeated_twice = [p for t in reversed(total) for p in (t // 2, t - t // 2)]
        return
    before = (0,) * len(more) if conv.padding == "valid" else conv.padding
    conv.padding = tuple(p + m * d for p, m, d in zip(before, more, conv.dilation, strict=True))
    conv._reversed_padding_repeated_twice = [p for p in reversed(conv.padding) for _ in range(2)]
