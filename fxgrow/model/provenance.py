"""Which line and which modules of the user's code a node comes from, in words that users know."""

from __future__ import annotations

import difflib
import operator
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

SOURCE_LINE = "fxgrow_source_line"  # in node.meta: file and line of the user's code

NOT_THEIRS = (
    f"{Path(__file__).parent.parent}{os.sep}",
    f"{Path(torch.__file__).parent}{os.sep}",
    "<",
)  # not user's code


def caller(within: str = "") -> str:
    """The innermost line of code that is neither torch's nor ours: ``net.py:12``; "" where there is none.

    Args:
        within: A file; code that called code in it does not count.
    """
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename != within:
        if not frame.f_code.co_filename.startswith(NOT_THEIRS):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def describe(node: fx.Node) -> str:
    """Where a node of the graph stands: ``add at layer1.0`` or ``layer1.0.bn1``."""
    if node.op == "call_module":
        return str(node.target)
    if node.op == "output":
        return "the output"
    where = module_path(node)
    what = operation(node)
    return f"{what} at {where}" if where else f"{what} ({node.name})"


def operation(node: fx.Node) -> str:
    """The operation's short name."""
    if isinstance(node.target, str):
        return node.target
    if node.target is operator.getitem:
        return "indexing"
    return str(getattr(node.target, "__name__", node.target))


def module_path(node: fx.Node) -> str:
    """The path of the innermost module whose forward the node comes from; "" for the model itself."""
    return (modules_of(node) or ("",))[-1]


def modules_of(node: fx.Node) -> tuple[str, ...]:
    """The paths of the modules whose forwards were at work where a node comes from, the innermost last."""
    stack: dict[str, Any] = node.meta.get("nn_module_stack", {})
    return tuple(str(path) for path, _ in stack.values())


def set_module_stack(node: fx.Node, modules: Iterable[str]) -> None:
    """Note what `modules_of` is to say of a node."""
    node.meta["nn_module_stack"] = {path: (path, nn.Module) for path in modules}


ModuleStacks = Sequence[tuple[str, str, tuple[str, ...]]]  # of each node of a graph: kind, operation, modules


def module_stacks(graph: fx.Graph) -> ModuleStacks:
    """Which module each node of a graph comes from, for a graph that does the same, whatever its nodes are called."""
    return [(node.op, operation(node), modules_of(node)) for node in graph.nodes]


def copy_module_stacks(places: ModuleStacks, graph: fx.Graph) -> None:
    """Copy the stacks that `module_stacks` read to the nodes of a graph with the same operations in the same order."""
    nodes = list(graph.nodes)
    ours, theirs = [(node.op, operation(node)) for node in nodes], [place[:2] for place in places]
    for start, at, number in difflib.SequenceMatcher(None, theirs, ours, autojunk=False).get_matching_blocks():
        for i in range(number):
            set_module_stack(nodes[at + i], places[start + i][2])
