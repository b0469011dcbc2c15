"""Changes to a student: new layers, clones of blocks, larger kernels, put into its tree and its graphs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import fx, nn

from .changes import Change, Enlarge, Insert, Repeat
from .copies import own_copy
from .errors import PlanError
from .grown import Mode, module_at
from .newborn import newborn, zero
from .seeds import generator
from .sites import modules_of, stand


def make(root: nn.Module, graphs: Mapping[Mode, fx.Graph], changes: Iterable[Change], seed: int) -> None:
    """Make changes on a module tree and on graphs of our own.

    Args:
        root: The tree.
        graphs: By mode, with the nodes that the changes name.
        changes: In their order.
        seed: Of what is drawn.

    Raises:
        PlanError: The tree has no such layer, or a module has the new one's name.
    """
    for change in changes:
        if isinstance(change, Enlarge):
            _enlarge(module_at(root, change.path), change)
        elif isinstance(change, Repeat):
            _repeat(root, graphs, change)
        else:
            _insert(root, graphs, change, seed)


# -- new layers ------------------------------------------------------------------------------------


def _insert(root: nn.Module, graphs: Mapping[Mode, fx.Graph], new: Insert, seed: int) -> None:
    layer: Any = root.get_submodule(new.after)
    block = newborn(new, generator(seed, new.path), layer.weight.device, layer.weight.dtype)
    _add(root, new.path, block.train(root.training), after=new.after)
    for place in new.places:
        graph = graphs[place.mode]
        at = _node(graph, place.node)
        users = list(at.users)
        around = tuple(path for path in modules_of(at) if new.path.startswith(f"{path}."))
        with graph.inserting_before(at.next):
            last = at
            for name in dict(block.named_children()):
                last = graph.call_module(f"{new.path}.{name}", (last,))
                stand(last, (*around, f"{new.path}.{name}"))
            if new.kind == "residual":
                last = graph.call_function(operator.add, (at, last))
                stand(last, around)
        for user in users:
            user.replace_input_with(at, last)


def _add(root: nn.Module, path: str, module: nn.Module, *, after: str) -> None:
    """Put a module into a tree, next to another."""
    parent_path, _, name = path.rpartition(".")
    parent = root.get_submodule(parent_path)
    if hasattr(parent, name):
        raise PlanError(f"the model has a module {path!r} already")
    children: dict[str, nn.Module | None] = {}
    for key, child in parent._modules.items():
        children[key] = child
        if key == after.rpartition(".")[2]:
            children[name] = module
    parent._modules.clear()
    parent._modules.update(children)


def _node(graph: fx.Graph, name: str) -> fx.Node:
    found = next((node for node in graph.nodes if node.name == name), None)
    if found is None:
        raise PlanError(f"the graph has no node {name!r}; the plan was made for another forward")
    return found


# -- clones and kernels ----------------------------------------------------------------------------


def _repeat(root: nn.Module, graphs: Mapping[Mode, fx.Graph], repeat: Repeat) -> None:
    block = root.get_submodule(repeat.block)
    last = repeat.block
    for path in repeat.paths:
        twin = own_copy(block)
        tensors = dict(twin.named_parameters(remove_duplicate=False))
        for name in repeat.zeros:
            zero(tensors[name])
        _add(root, path, twin, after=last)
        last = path
    for region in repeat.regions:
        graph = graphs[region.mode]
        theirs = [_node(graph, name) for name in region.nodes]
        leave = _node(graph, region.exit)
        users = list(leave.users)
        value = leave
        with graph.inserting_before(leave.next):
            for path in repeat.paths:
                twins: dict[fx.Node, fx.Node] = {_node(graph, region.entry): value}
                for node in theirs:
                    twins[node] = graph.node_copy(node, _known(twins))
                    if node.op in ("call_module", "get_attr"):
                        twins[node].target = _moved(str(node.target), repeat.block, path)
                    stand(twins[node], [_moved(module, repeat.block, path) for module in modules_of(node)])
                value = twins[leave]
        for user in users:
            user.replace_input_with(leave, value)


def _known(twins: Mapping[fx.Node, fx.Node]) -> Callable[[fx.Node], fx.Node]:
    return lambda node: twins.get(node, node)


def _moved(target: str, block: str, path: str) -> str:
    return f"{path}{target.removeprefix(block)}" if f"{target}.".startswith(f"{block}.") else target


def _enlarge(conv: Any, change: Enlarge) -> None:
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
