"""Residual blocks in a graph, and clones of them that do not change the function.

A block is a module whose nodes have one result: its input plus any number of branches (x + f(x) + ...), optionally
through an activation that does not change these values, such as ReLU after ReLU. With zeros in the last affine
operation of each branch, a clone of the block is the identity, in train mode and in eval mode.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from torch import fx

from ..capture.traced import Traced
from ..errors import Unfit
from ..infer.width_graph import WidthGraph
from ..layouts.layout import Layout
from ..model.layer_kinds import CONTAINERS, is_layer_class
from ..model.provenance import modules_of
from ..model.tree import Mode
from ..plans.changes import Region, Repeat
from .skip import BlockAnalysis, layouts_of
from .trial import fault_on_random_inputs

NodeValues = Mapping[Mode, Mapping[fx.Node, Any]]  # per mode: the value of each node on the example inputs


def _block(widths: WidthGraph, known: NodeValues, block: str) -> Repeat:
    """The plan entry for a block, without clones.

    Args:
        widths: The width graph of the model.
        known: The values of all nodes on the example inputs.
        block: The path of the block's module.

    Raises:
        Unfit: The module is no residual block, or a clone would change the function; the message says why.
    """
    traced = widths.traced
    zeros: dict[str, None] = {}
    regions = []
    for mode, graph in traced.graphs.items():
        nodes = [node for node in graph.nodes if node.op != "output" and block in modules_of(node)]
        if not nodes:
            continue
        analysis = BlockAnalysis(widths, mode, block, frozenset(nodes))
        exit_node = analysis.exit()
        skip = analysis.skip(exit_node)
        if layouts_of(widths, mode, skip.entry.name) != layouts_of(widths, mode, exit_node.name):
            raise Unfit("its output has another shape than its input")
        if not skip.zeros:
            raise Unfit("it has no branch beside its skip connection")
        zeros.update(dict.fromkeys(skip.zeros))
        _check_identity(widths, known, mode, nodes, (skip.entry, exit_node), [f"{block}.{name}" for name in skip.zeros])
        regions.append(Region(mode, skip.entry.name, exit_node.name, tuple(node.name for node in nodes)))
    if not regions:
        raise Unfit("no node of the graph is inside it: it is kept as a call, or not used")
    return Repeat(block, (), tuple(zeros), tuple(regions))


def _check_identity(
    widths: WidthGraph,
    known: NodeValues,
    mode: Mode,
    nodes: list[fx.Node],
    ends: tuple[fx.Node, fx.Node],
    zeros: list[str],
) -> None:
    """Run the block with the zeros on random inputs, in each mode that uses this graph.

    Raises:
        Unfit: The block is not the identity then, or does not run on random inputs.
    """
    traced = widths.traced
    for run_mode in (mode,) if len(traced.graphs) > 1 else tuple(traced.tapes):
        inside = set(nodes)
        outside = {n: known[mode][n] for node in nodes for n in node.all_input_nodes if n not in inside}
        try:
            fault = fault_on_random_inputs(traced.root, run_mode, nodes, ends, outside, zeros)
        except Exception as error:  # noqa: BLE001 - the user's code may raise anything on random inputs
            raise Unfit(f"it does not run on random inputs: {type(error).__name__}: {error}") from None
        if fault:
            raise Unfit(f"with zeros in {', '.join(zeros)} {fault} in {run_mode} mode")


def spread(clones: int, blocks: int) -> list[int]:
    """How many clones stand behind each block of a stage: as evenly as they can, more behind later ones.

    A small GPT that grows so ends lower than one whose clones all stand behind the last block (docs/results.md).

    >>> spread(2, 6), spread(1, 3), spread(5, 3)
    ([0, 0, 1, 0, 0, 1], [0, 0, 1], [1, 2, 2])
    """
    return [(place + 1) * clones // blocks - place * clones // blocks for place in range(blocks)]


def stages(widths: WidthGraph, known: NodeValues, path: str) -> list[list[Repeat]]:
    """The residual blocks of each stage in a module, without clones; a stage is a run of equal input layouts.

    Raises:
        Unfit: The module has no block that can be cloned; the message says why.
    """
    reasons: dict[str, str] = {}
    leaf = call_around(widths.traced, path)
    if leaf and (leaf != path or not is_layer_class(widths.traced.classes[path])):
        raise Unfit(f"it runs inside {leaf}, which is kept as a call")
    blocks = _blocks(widths, known, path, reasons)
    if not blocks:
        details = "; ".join(f"{name}: {reason}" for name, reason in list(reasons.items())[:4])
        raise Unfit(
            "no block in it can be cloned without changing the function: "
            f"{details or 'all its modules are layers of torch.nn'}"
        )
    return [list(stage) for _, stage in itertools.groupby(blocks, lambda block: _input_layouts(widths, block))]


def _blocks(widths: WidthGraph, known: NodeValues, path: str, reasons: dict[str, str]) -> list[Repeat]:
    """The blocks in a module, in order; the module itself, if it is a block and no chain of blocks.

    The reasons for which modules are no blocks are added to `reasons` by path.
    """
    kind = widths.traced.classes[path]
    own: list[Repeat] = []
    if not is_layer_class(kind) and not issubclass(kind, CONTAINERS):
        try:
            own = [_block(widths, known, path)]
        except Unfit as reason:
            reasons[path] = str(reason)
    children = [name for name in widths.traced.classes if name and name.rpartition(".")[0] == path]
    within = [block for child in children for block in _blocks(widths, known, child, reasons)]
    return own if own and len(within) < 2 else within


def call_around(traced: Traced, path: str) -> str:
    """The leaf module that contains a path or is it: a single call in the graph; "" if there is none."""
    if traced.opaque:
        return traced.class_name
    called = {str(n.target) for graph in traced.graphs.values() for n in graph.nodes if n.op == "call_module"}
    return next((leaf for leaf in sorted(called) if f"{path}.".startswith(f"{leaf}.")), "")


def _input_layouts(widths: WidthGraph, block: Repeat) -> tuple[Layout, ...] | None:
    region = block.regions[0]
    return layouts_of(widths, region.mode, region.entry)
