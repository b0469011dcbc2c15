"""Numbers that mix sizes of the inputs with widths in code that stays a call: of submodules, or of the whole model.

A student runs that code, and nothing follows the numbers in it. So graphs of it are made, as far as it can be traced,
and their numbers are followed. They may lose what the code does beside numbers, since no student runs them. Nor has a
student guards there: where its code decides by such a number, that counts as if the number reached the result.
"""

from __future__ import annotations

import operator
from collections.abc import Collection

from torch import fx

from ..capture.attribute_ints import AttributeInt, attribute_ints_in
from ..capture.code_graphs import graphs_of_code
from ..capture.traced import Traced
from ..errors import TraceError
from ..layouts.layout import InputDim, Layout, Var, atoms, only_atom
from ..model.provenance import module_path
from .asked_sizes import asks_for_memory, asks_for_sizes
from .attributes import of_weights
from .cuts import cuts
from .findings import Findings
from .inference import infer
from .literals import Literal
from .mixed_numbers import keep_sizes, mixed_numbers, sizes_beyond
from .spellings import VIEWS


def settle_code(traced: Traced, findings: Findings) -> tuple[bool, tuple[tuple[InputDim, int], ...]]:
    """Do for code that stays a call what `settle_numbers` does for graphs.

    Returns:
        Whether graphs show all of it; and sizes of inputs at which it takes another path.
    """
    shown, whole = graphs_of_code(traced)
    if shown is None or not any(_computes(shown.graph(mode)) for mode in shown.modes):
        return whole, ()
    try:
        found = infer(shown, checked=False)
    except TraceError:
        return False, ()
    _add_sizes_of_layers(shown, found)
    for mixed in mixed_numbers(shown, found, lambda node: traced.opaque or _within(node, traced.leaf_modules)):
        layouts = [layout for var in mixed.widths for layout in _same(var, found, findings)]
        if layouts:  # none for the size of a constant
            keep_sizes(findings, mixed, tuple(dict.fromkeys(layouts)))
    return whole, tuple(dict.fromkeys(sizes_beyond(shown, found)))


def _within(node: fx.Node, leaves: Collection[str]) -> bool:
    """Whether a node is inside of one of these modules."""
    steps = module_path(node).split(".")
    return any(".".join(steps[:number]) in leaves for number in range(1, len(steps) + 1))


def _add_sizes_of_layers(shown: Traced, found: Findings) -> None:
    """Add the numbers in graphs that the code read from layers of torch.nn: a student's are those of its layers."""
    stated = {
        (attribute.module, attribute.name): attribute.layouts[0]
        for attribute in (*found.attributes, *of_weights(shown.root, found.tensors))
        if len(attribute.layouts) == 1
    }
    known = {(literal.mode, literal.node, literal.path) for literal in found.literals}
    for mode in shown.modes:
        for node in shown.graph(mode).nodes:
            for steps, number in attribute_ints_in(node.args):
                path, name, _ = number.source
                key = (mode, node.name, ("args", *steps))
                if (path, name) in stated and key not in known:
                    found.literals.append(Literal(*key, stated[path, name]))


def _same(var: Var, found: Findings, findings: Findings) -> list[Layout]:
    """Where a width of the graphs is in the findings of the model: the dimensions of tensors that it is the size of.

    Where it is the size of none, all that it is a part of.
    """
    resolve = found.unifier.resolve
    within = [
        (findings.unifier.resolve(findings.tensors[name][dim]), layout)
        for name, layouts in found.tensors.items()
        for dim, layout in enumerate(map(resolve, layouts))
        if var in atoms(layout)
    ]
    alone = [theirs for theirs, layout in within if only_atom(layout) is var]
    return alone or [theirs for theirs, _ in within]


# -- whether there is anything to follow ---------------------------------------------------------------

_PRODUCTS = (getattr, operator.getitem, operator.mul, "numel")


def _computes(graph: fx.Graph) -> bool:
    """Whether code makes more of sizes than products and views, decides by them, or cuts something at numbers."""
    numbers: set[fx.Node] = set()
    for node in graph.nodes:
        given = [one for one in node.all_input_nodes if one in numbers]
        if (asks_for_sizes(node) and not asks_for_memory(node)) or (
            given and node.target in _PRODUCTS and len(given) == len(node.all_input_nodes)
        ):
            numbers.add(node)
        elif (given and node.op != "output" and node.target not in VIEWS) or asks_for_memory(node) or _cuts(node):
            return True
    return False


def _cuts(node: fx.Node) -> bool:
    """Whether a call cuts something at a number that is not plain."""
    return any(isinstance(number, fx.Node | AttributeInt) for _, numbers in cuts(node) for _, number in numbers)
