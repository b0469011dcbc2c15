"""Source locations and module paths of graph nodes, for messages."""

from __future__ import annotations

import difflib
import functools
import operator
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

SOURCE_LINE = "fxgrow_source_line"  # in node.meta: "file:line" in the user's code

PACKAGES = (f"{Path(__file__).parent.parent}{os.sep}", f"{Path(torch.__file__).parent}{os.sep}")  # fxgrow, torch
NOT_THEIRS = (*PACKAGES, "<")  # prefixes of files that are not the user's code; "<": generated code


def caller(within: str = "") -> str:
    """The innermost line of the user's code on the stack: ``net.py:12``; "" if there is none.

    Args:
        within: A file at which the search stops: callers of code in it are not considered.
    """
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename != within:
        if not frame.f_code.co_filename.startswith(NOT_THEIRS):
            return f"{in_package(frame.f_code.co_filename)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


@functools.cache
def in_package(file: str) -> str:
    """A file of code as imports name it: `torchvision/models/resnet.py`, the same on every machine."""
    folders = [Path(entry).absolute() for entry in sys.path]
    path = Path(file)
    inside = [folder for folder in folders if folder != Path(folder.anchor) and path.is_relative_to(folder)]
    return path.relative_to(max(inside, key=lambda folder: len(folder.parts))).as_posix() if inside else path.name


def describe(node: fx.Node) -> str:
    """The location of a node for messages: ``add at layer1.0`` or ``layer1.0.bn1``."""
    if node.op == "call_module":
        return str(node.target)
    if node.op == "output":
        return "the output"
    where = module_path(node)
    what = operation(node)
    return f"{what} at {where}" if where else f"{what} ({node.name})"


def operation(node: fx.Node) -> str:
    """The short name of a node's operation."""
    if isinstance(node.target, str):
        return node.target
    if node.target is operator.getitem:
        return "indexing"
    return str(getattr(node.target, "__name__", node.target))


def module_path(node: fx.Node) -> str:
    """The path of the innermost module whose forward created the node; "" for the model itself."""
    stack: dict[str, Any] = node.meta.get("nn_module_stack", {})
    return str(next(reversed(stack.values()))[0]) if stack else ""


def modules_of(node: fx.Node) -> tuple[str, ...]:
    """The paths of the modules whose forwards were active when a node was created, innermost last."""
    stack: dict[str, Any] = node.meta.get("nn_module_stack", {})
    return tuple(str(path) for path, _ in stack.values())


def set_module_stack(node: fx.Node, modules: Iterable[str]) -> None:
    """Set the result of `modules_of` for a node."""
    node.meta["nn_module_stack"] = {path: (path, nn.Module) for path in modules}


ModuleStacks = Sequence[tuple[str, str, tuple[str, ...]]]  # per node of a graph: kind, operation, modules


def module_stacks(graph: fx.Graph) -> ModuleStacks:
    """The module stack of each node, to be copied to an equivalent graph with other node names."""
    return [(node.op, operation(node), modules_of(node)) for node in graph.nodes]


def copy_module_stacks(stacks: ModuleStacks, graph: fx.Graph) -> None:
    """Copy the stacks that `module_stacks` read to the nodes of a graph with the same operations in the same order."""
    nodes = list(graph.nodes)
    new, old = [(node.op, operation(node)) for node in nodes], [stack[:2] for stack in stacks]
    for start, at, number in difflib.SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks():
        for i in range(number):
            set_module_stack(nodes[at + i], stacks[start + i][2])
