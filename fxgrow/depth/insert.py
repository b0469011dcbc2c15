"""Structural changes applied to a student: new layers, clones of blocks and larger kernels, in its tree and graphs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import torch.nn.functional as F
from torch import fx, nn

from ..base.magnitude import is_inexact
from ..capture.traced import Traced
from ..errors import PlanError
from ..model.copies import clone_owned
from ..model.grown import GrownModule
from ..model.layer_kinds import CONVOLUTIONS, is_a
from ..model.provenance import modules_of, set_module_stack
from ..model.stated import states_its_sizes
from ..model.tree import MODE_OVERRIDES, Mode, module_at, skeleton
from ..plans.changes import CLONE, Enlarge, Insert, Repeat, StructuralChange, in_order
from ..plans.entries import Recount
from ..plans.numbering import Numbering
from ..plans.validation import is_module_path
from .counts import recount
from .entries import number_through, replace_everywhere, shared_objects, shared_parts
from .kept_shape import keep_shape
from .new_layers import build_new_layer, fill

LAST_CLONE = "fxgrow_last_clone"  # in the meta of a block's exit node: the exit node of its last clone
LAST_LAYER = "fxgrow_last_layer"  # in the meta of an anchor: the last node of the new layers after it


def make(
    root: nn.Module,
    graphs: Mapping[Mode, fx.Graph],
    changes: Iterable[StructuralChange],
    seed: int,
    recounts: Sequence[Recount] = (),
    owners: Mapping[str, Traced] = MappingProxyType({}),
) -> None:
    """Apply structural changes to a module tree and its graphs, in place.

    Args:
        root: The module tree.
        graphs: The graphs by mode, with the nodes that the changes name.
        changes: The changes, in any order.
        seed: The seed for the initial weights of new layers.
        recounts: What counts blocks, afterwards.
        owners: The modules of the user's own class whose code becomes a graph, with graphs of our own.

    Raises:
        PlanError: A graph has no node that a change names, or the name of a new module is taken.
    """
    changes = sorted(changes, key=in_order)
    made: set[str] = set()  # new layers, by path
    for change in changes:
        if isinstance(change, Enlarge):
            _enlarge(_module(root, change.path), change)
        elif isinstance(change, Repeat):
            _repeat(root, graphs, change, seed)
        elif change.entry:
            _add(root, change.path, _built(root, change, seed), after=change.entry, made=made)
        elif not change.owner:
            _insert(root, graphs, change, _built(root, change, seed), made)
    for owner, traced in owners.items():
        _rewrite(root, owner, traced, [c for c in changes if isinstance(c, Insert) and c.owner == owner], seed)
    recount(root, recounts)
    numbering = Numbering.of(changes)
    for parent in numbering.behind:
        number_through(_module(root, parent), partial(numbering.entry, parent), numbering.flat(parent))
    for graph in graphs.values():
        for node in graph.nodes:
            node.meta.pop(LAST_CLONE, None)
            node.meta.pop(LAST_LAYER, None)


# -- new layers ------------------------------------------------------------------------------------


def _built(root: nn.Module, new: Insert, seed: int) -> nn.Module:
    like = next(_module(root, new.after).parameters(), None)  # any parameter: with a parametrization the weight is none
    if like is None:
        raise PlanError(f"{new.after} has no parameters, so no new layer follows it")
    return build_new_layer(new, seed, like.device, like.dtype).train(root.training)


def _rewrite(root: nn.Module, path: str, traced: Traced, changes: Sequence[Insert], seed: int) -> None:
    """Put a graph with new layers in the place of a module, whose submodules and attributes it has."""
    owner = _module(root, path)
    tree = skeleton(owner, traced.leaf_modules)
    tree.__dict__.update(traced.constants or {}, **{MODE_OVERRIDES: traced.overrides or {}})
    made: set[str] = set()
    for new in changes:
        block = _built(root, new, seed)
        inside = replace(new, path=new.path.removeprefix(f"{path}."), after=new.after.removeprefix(f"{path}."))
        _insert(tree, traced.graphs, inside, block, made)
    grown = GrownModule(tree, traced.graphs, type(owner).__name__)
    for name, value in vars(owner).items():
        vars(grown).setdefault(name, value)
    replace_everywhere(root, owner, grown)


def _insert(root: nn.Module, graphs: Mapping[Mode, fx.Graph], new: Insert, block: nn.Module, made: set[str]) -> None:
    anchors = [_node(_graph(graphs, ref.mode), ref.node) for ref in new.after_nodes]
    _add(root, new.path, block, after=_last_sibling(new.after, anchors), made=made)
    for ref in new.after_nodes:
        graph = _graph(graphs, ref.mode)
        anchor = _node(graph, ref.node)
        at = anchor.meta.get(LAST_LAYER, anchor)
        users = list(at.users)
        around = tuple(path for path in modules_of(at) if new.path.startswith(f"{path}."))
        with graph.inserting_before(at.next):
            last = _called(graph, new, block, at, around)
        for user in users:
            user.replace_input_with(at, last)
        anchor.meta[LAST_LAYER] = last


def _called(graph: fx.Graph, new: Insert, block: nn.Module, at: fx.Node, around: tuple[str, ...]) -> fx.Node:
    """The node that a new layer gives: each of its modules is called, or in a module of the user's, it as a whole."""
    if new.owner:
        last = graph.call_module(new.path, (at,))
        set_module_stack(last, (*around, new.path))
        return last
    last = at
    for name in dict(block.named_children()):
        last = graph.call_module(f"{new.path}.{name}", (last,))
        set_module_stack(last, (*around, f"{new.path}.{name}"))
    if new.kind == "residual":
        last = graph.call_function(operator.add, (at, last))
        set_module_stack(last, around)
    return last


def _last_sibling(after: str, anchors: Sequence[fx.Node]) -> str:
    """The module after which a new layer stands: the activation, where that is a module beside the layer."""
    called = {str(node.target) for node in anchors if node.op == "call_module"}
    parents = {path.rpartition(".")[0] for path in (after, *called)}
    return called.pop() if len(called) == len(parents) == 1 else after


def _add(root: nn.Module, path: str, module: nn.Module, *, after: str, made: set[str] | None = None) -> None:
    """Insert a module into the tree, after another one and the modules that were inserted after that before.

    Args:
        root: The tree.
        path: Where.
        module: The module.
        after: The other one.
        made: The modules that may be between, to which this one is added; None: those of earlier growths, too.
    """
    if not is_module_path(path):
        raise PlanError(f"a new module is to be {path!r}; its path enters generated code, so it is words and dots")
    parent_path, _, name = path.rpartition(".")
    parent = _module(root, parent_path)
    if hasattr(parent, name):
        raise PlanError(f"the model already has a module or attribute {path!r}; rename it, or make the plan again")
    children = list(parent._modules.items())
    names = [key for key, _ in children]
    own = after.rpartition(".")[2]
    index = names.index(own) + 1 if own in names else len(names)
    stem = f"{name.rpartition(CLONE)[0]}{CLONE}"
    beside = f"{parent_path}." if parent_path else ""
    while index < len(names) and names[index].startswith(stem) and (made is None or beside + names[index] in made):
        index += 1
    children.insert(index, (name, module))
    parent._modules.clear()
    parent._modules.update(children)
    if made is not None:
        made.add(path)


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


def _repeat(root: nn.Module, graphs: Mapping[Mode, fx.Graph], repeat: Repeat, seed: int) -> None:
    block = _module(root, repeat.block)
    last = repeat.block
    model = module_at(root, "")
    shared = shared_parts(model, block, repeat.fills) | ({} if repeat.regions else shared_objects(model, block))
    for path in repeat.paths:
        twin = clone_owned(block, shared)
        if repeat.kept_shape is not None:
            keep_shape(twin, repeat.kept_shape, path, seed)
        for parameter in twin.parameters():  # new parameters are trained even if those of the block are frozen
            if id(parameter) not in shared:
                parameter.requires_grad_(is_inexact(parameter))
        tensors = dict(twin.named_parameters(remove_duplicate=False))
        for name, filled in repeat.fills.items():
            if name not in tensors:
                raise PlanError(f"{repeat.block} has no parameter {name!r}; the plan was made for another model")
            fill(tensors[name], filled)
        _add(root, path, twin, after=last)
        last = path
    for region in repeat.regions:
        graph = _graph(graphs, region.mode)
        originals = [_node(graph, name) for name in region.nodes]
        exit_node, entry = _node(graph, region.exit), _current_entry(_node(graph, region.entry), originals)
        value = last = exit_node.meta.get(LAST_CLONE, exit_node)
        users = list(last.users)
        with graph.inserting_before(last.next):
            for path in repeat.paths:
                twins: dict[fx.Node, fx.Node] = {entry: value}
                for node in originals:
                    twins[node] = graph.node_copy(node, _twin_of(twins))
                    if node.op in ("call_module", "get_attr"):
                        twins[node].target = _renamed(str(node.target), repeat.block, path)
                    set_module_stack(twins[node], [_renamed(module, repeat.block, path) for module in modules_of(node)])
                value = twins[exit_node]
        for user in users:
            user.replace_input_with(last, value)
        exit_node.meta[LAST_CLONE] = value


def _current_entry(entry: fx.Node, nodes: Sequence[fx.Node]) -> fx.Node:
    """The node that a block reads now: the last clone of the block before it, if that was cloned."""
    taken = {source for node in nodes for source in node.all_input_nodes}
    while entry not in taken:
        if LAST_CLONE not in entry.meta:
            raise PlanError(f"the block does not read {entry.name}; the plan was made for another forward")
        entry = entry.meta[LAST_CLONE]
    return entry


def _twin_of(twins: Mapping[fx.Node, fx.Node]) -> Callable[[fx.Node], fx.Node]:
    return lambda node: twins.get(node, node)


def _renamed(target: str, block: str, path: str) -> str:
    """The name in the clone at `path` of a module or parameter of the block; other names are unchanged."""
    return f"{path}{target.removeprefix(block)}" if f"{target}.".startswith(f"{block}.") else target


def _enlarge(conv: Any, change: Enlarge) -> None:
    """Pad the kernel with zeros, and the input by as much, so that the result is unchanged."""
    if not states_its_sizes(conv) or not is_a(conv, *CONVOLUTIONS) or tuple(conv.kernel_size) != change.old:
        raise PlanError(f"{change.path} has no kernel of size {change.old}; the plan was made for another model")
    more = [(after - before) // 2 for before, after in zip(change.old, change.new, strict=True)]
    around = [size for size in reversed(more) for _ in range(2)]
    weight: nn.Parameter = conv.weight
    if tuple(weight.shape[-len(change.old) :]) == change.old:  # else it is that of an enlarged layer, too
        weight.data = F.pad(weight.detach(), around)  # in place: others may know it
    conv.kernel_size = change.new
    if conv.padding == "same":
        total = [dilation * (size - 1) for size, dilation in zip(change.new, conv.dilation, strict=True)]
        conv._reversed_padding_repeated_twice = [p for t in reversed(total) for p in (t // 2, t - t // 2)]
        return
    before = (0,) * len(more) if conv.padding == "valid" else conv.padding
    conv.padding = tuple(p + m * d for p, m, d in zip(before, more, conv.dilation, strict=True))
    conv._reversed_padding_repeated_twice = [p for p in reversed(conv.padding) for _ in range(2)]
