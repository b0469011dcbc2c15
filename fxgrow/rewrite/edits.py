"""Literals of graphs and attributes of modules that state sizes: set to the new ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import fx, nn

from ..capture.attribute_ints import attribute_ints_in, plain
from ..capture.proxy import guard
from ..capture.retracer import Retracer
from ..errors import PlanError
from ..infer.spellings import argument
from ..model.held import place_of
from ..model.stated import stated_size
from ..model.tree import Mode, module_at
from ..plans.entries import DROP, Edit, Resize, StatedSize


def resize(root: nn.Module, resizes: tuple[Resize, ...]) -> None:
    """Set the attributes that state sizes.

    Raises:
        PlanError: One does not state the size that the plan expects.
    """
    for change in resizes:
        module = _module(root, change.module)
        found = getattr(module, change.name, None)
        if isinstance(found, bool):
            raise PlanError(f"the plan sets {change.module}.{change.name}, which is {found} and states no size")
        stated = found if isinstance(found, float) else stated_size(module, change.name)
        if stated is None or stated not in (change.old, change.new):  # shared by modules: it was set before
            raise PlanError(
                f"the plan expects {change.module}.{change.name} to be {change.old}, but it is {found!r:.60}; "
                "plan again for this model"
            )
        new = list(change.new) if isinstance(found, list) and isinstance(change.new, tuple) else change.new
        setattr(module, change.name, new)


def restate(root: nn.Module, stated: Iterable[StatedSize]) -> None:
    """Set sizes that are stated and not read, in a tree of our own.

    Raises:
        PlanError: One is not what the plan expects.
    """
    for size in stated:
        try:
            held, key = place_of(vars(_module(root, size.module)), size.name)
            value = held[key]
        except (LookupError, TypeError, ValueError):
            raise PlanError(f"the model has no {size.module}.{size.name}; plan again for this model") from None
        if type(value) is not int or value not in (size.old, size.new):  # an object of several modules was set before
            raise PlanError(
                f"the plan expects {size.module}.{size.name} to be {size.old}, but it is {value!r:.60}; plan again for "
                "this model"
            )
        held[key] = size.new


def edit(graphs: Mapping[Mode, fx.Graph], edits: tuple[Edit, ...]) -> dict[Mode, fx.Graph]:
    """Copies of the graphs with new literals.

    Raises:
        PlanError: A graph has no such place.
    """
    done: dict[Mode, fx.Graph] = {}
    for mode, graph in graphs.items():
        copied = fx.Graph(tracer_cls=Retracer)
        seen: dict[fx.Node, fx.Node] = {}
        result = copied.graph_copy(graph, seen)
        old_output = next(node for node in graph.nodes if node.op == "output")
        copied.output(result).meta.update(old_output.meta)
        nodes = {node.name: twin for node, twin in seen.items()}
        for twin in nodes.values():
            if any(attribute_ints_in((twin.args, twin.kwargs))):
                twin.args, twin.kwargs = plain((twin.args, twin.kwargs))
        for change in edits:
            if change.mode == mode or (len(graphs) == 1 and change.node in nodes):
                _edit_checked(nodes.get(change.node), change)
        copied.lint()
        done[mode] = copied
    return done


def _module(root: nn.Module, path: str) -> nn.Module:
    try:
        return module_at(root, path)
    except AttributeError:
        raise PlanError(f"the model has no module {path!r}; the plan was made for another one") from None


def _edit_checked(node: fx.Node | None, change: Edit) -> None:
    if node is None:
        raise PlanError(f"the graph has no node {change.node!r}; the plan was made for another forward")
    try:
        _edit(node, change)
    except (LookupError, TypeError, RuntimeError):  # no such argument, no such entry of it, a node that is used
        raise PlanError(
            f"{change.node} has nothing at {change.path} to edit; the plan was made for another forward"
        ) from None


def _edit(node: fx.Node, change: Edit) -> None:
    if change.path == (DROP,):
        if node.target is not guard:
            raise TypeError("only guards go")
        node.graph.erase_node(node)
        return
    if not change.path:  # chunk(x, number, dim) or split(x, size, dim) whose parts are no longer alike
        dim = argument(node, 2, "dim")[1] or 0
        node.target = "split" if node.op == "call_method" else torch.split
        node.args, node.kwargs = (node.args[0] if node.args else node.kwargs["input"], change.value, dim), {}
        return
    kind, *steps = change.path
    if kind == "args":
        node.args = _replaced(node.args, steps, change.value)
    else:
        node.kwargs = _replaced(node.kwargs, steps, change.value)


def _replaced(value: Any, steps: list[int | str], new: Any) -> Any:
    if not steps:
        if isinstance(value, fx.Node):
            raise TypeError("a value of the graph is no literal")
        return new
    step, *rest = steps
    if isinstance(value, slice):
        bounds = {"start": value.start, "stop": value.stop, "step": value.step, str(step): new}
        return slice(bounds["start"], bounds["stop"], bounds["step"])
    if isinstance(value, Mapping):
        return {**value, step: _replaced(value.get(step), rest, new)}  # a default may not be stated
    if not isinstance(value, tuple | list) or step not in range(len(value)):
        raise IndexError(step)
    changed = [_replaced(v, rest, new) if i == step else v for i, v in enumerate(value)]
    return tuple(changed) if isinstance(value, tuple) else changed
