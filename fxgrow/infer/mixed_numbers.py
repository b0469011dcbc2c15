"""Numbers of a graph that mix a size of the inputs with a width, so that the example need not show what growth does.

With 2 samples and 8 channels, `batch % channels` is 2, and so it is with 12 channels. With 8 samples it is 0 and 8. The
check of a student compares numbers for the example's sizes. That says enough of a number which another width always
makes another one: a size, and what products and sums make of sizes. Of all others it does not.

So each number of a graph is followed from the tensors whose sizes it comes from. Where one that the check cannot judge
reaches a call or the result, the width is pinned, or the student keeps to the sizes of the inputs.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from torch import fx

from ..base.structures import keeps_fields
from ..base.torch_private import pytree
from ..capture.attribute_ints import AttributeInt
from ..capture.proxy import ASKED, guard, truth, whole
from ..capture.traced import Traced
from ..layouts.layout import ONE, InputDim, Layout, Var, atoms, is_fixed, measure, of, only_atom
from ..layouts.unify import Unifier
from ..model.provenance import SOURCE_LINE, describe
from ..model.tree import Mode
from ..ops import Value
from .asked_sizes import COMPARISONS, asked_of, asks_for_memory, asks_for_sizes, is_shape
from .cuts import cuts, tensor_of
from .findings import Findings, FixedDims
from .size_numbers import ARITHMETIC, Number, all_of, both, compared, times
from .spellings import VIEWS


@dataclass(frozen=True, slots=True)
class Mixed:
    """Widths that a number mixes with sizes of the inputs, so that the check of a student cannot judge it.

    Attributes:
        dims: The dimensions of inputs, or none where the batch is among them.
        widths: The widths.
        reason: Why they stay, or keep these sizes.
    """

    dims: tuple[InputDim, ...]
    widths: tuple[Var, ...]
    reason: str


def settle_numbers(traced: Traced, findings: Findings) -> None:
    """Pin the widths that such numbers mix with the batch, and note the other sizes that they mix with widths."""
    for one in mixed_numbers(traced, findings):
        keep_sizes(findings, one, tuple(map(of, one.widths)))


def keep_sizes(findings: Findings, mixed: Mixed, layouts: tuple[Layout, ...]) -> None:
    """Pin the layouts of widths that are mixed with the batch; note the other sizes that they are mixed with."""
    if mixed.dims:
        findings.fixed.append(FixedDims(mixed.dims, layouts, mixed.reason))
    for layout in () if mixed.dims else layouts:
        findings.unifier.pin(layout, mixed.reason)


def mixed_numbers(
    traced: Traced, findings: Findings, unguarded: Callable[[fx.Node], bool] = lambda node: False
) -> Iterator[Mixed]:
    """The numbers in graphs that the check of a student cannot judge.

    Args:
        traced: With graphs.
        findings: Of these.
        unguarded: Whether a student runs the code that decides by a guard, so that it would decide otherwise.
    """
    for mode in traced.modes:
        graph = traced.graph(mode)
        stated = any(literal.mode == mode for literal in findings.literals)
        if not stated and not any(map(asks_for_sizes, graph.nodes)):
            continue
        for node, number in _Numbers(graph, mode, findings, unguarded).hidden():
            line = node.meta.get(SOURCE_LINE) or (node.args[2] if node.target is guard else None)
            site = f"{describe(node)} ({line})" if line else describe(node)
            widths = tuple(sorted(number.widths, key=lambda var: var.index))
            if any(dim == 0 for _, dim in number.dims):
                yield Mixed((), widths, f"the code mixes it with the size of the batch in a number, in {site}")
            else:
                dims = {(name, d) for name, d in number.dims if d == 1} | _sides(findings)
                yield Mixed(tuple(sorted(dims)), widths, f"the code mixes it with widths in a number, in {site}")


def _sides(findings: Findings) -> set[InputDim]:
    """The dimensions of inputs behind the channels."""
    return {(name, dim) for name, layouts in findings.inputs.items() for dim in range(2, len(layouts))}


def sizes_beyond(traced: Traced, findings: Findings) -> Iterator[tuple[InputDim, int]]:
    """Sizes of inputs at which code that compares them with plain numbers takes another path than at the example's.

    Args:
        traced: With graphs.
        findings: Of these.
    """
    for mode in traced.modes:
        numbers = _Numbers(traced.graph(mode), mode, findings, lambda node: True)
        for _ in numbers.hidden():
            pass
        yield from numbers.sizes_beyond()


class _Numbers:
    """The numbers of one graph."""

    def __init__(self, graph: fx.Graph, mode: Mode, findings: Findings, unguarded: Callable[[fx.Node], bool]) -> None:
        self._graph = graph
        self._unguarded = unguarded
        self._mode = mode
        self._nodes: Mapping[tuple[Mode, str], Any] = findings.nodes
        self._unifier: Unifier = findings.unifier
        self._batches = frozenset((name, 0) for name in findings.inputs)
        self._sides = _sides(findings)
        self._known: dict[fx.Node, Number] = {}
        self._shapes: dict[fx.Node, tuple[Layout, ...]] = {}
        self._made: dict[int, Var] = {}  # for a size that may come from the sides of an image
        self._sizes_of: dict[Var, Number] = {}  # for a size that a call was given, as `torch.ones(batch)` is
        self._tensors = findings.tensors
        self._passed: dict[fx.Node, list[Number]] = {}  # of lists of tensors
        self._given: dict[fx.Node, tuple[Layout, ...]] = {}  # of tensors with such sizes
        self._stated = {(li.node, li.path): li.layout for li in findings.literals if li.mode == mode and not li.part}

    def hidden(self) -> Iterator[tuple[fx.Node, Number]]:
        """The nodes that are given a number which the check of a student cannot judge."""
        for node in self._graph.nodes:
            if node.target in ASKED or node.op in ("placeholder", "get_attr"):
                continue
            given = [self._known[one] for one in node.all_input_nodes if one in self._known]
            if node.op == "output" or self._gives_tensors(node):
                self._take_sizes(node)
                yield from ((node, one) for one in (*self._in_fields(node), *self._cuts(node)) if one.is_hidden)
            elif node.target in VIEWS:  # of a constant: its entries are those of before
                yield from ((node, number) for number in given if number.is_hidden)
                self._known[node] = functools.reduce(both, given, Number(factors=None, positive=False))
            elif is_shape(node) and node.args[0] not in self._known:  # else of a tensor that no rule follows
                self._shapes[node] = self._layouts(node.args[0])
            elif node.target is operator.getitem and node.args[0] in self._shapes:
                self._take(node, self._shapes[node.args[0]], node.args[1])
            else:
                self._known[node] = self._number(node)
        yield from self._decided()

    def _in_fields(self, node: fx.Node) -> Iterator[Number]:
        """The numbers that a node is given, alone, as those in a list: also those in the fields of an object."""
        for given in node.all_input_nodes:
            if keeps_fields(given.target):
                yield from self._in_fields(given)
            elif given in self._known:
                yield self._known[given]

    def _decided(self) -> Iterator[tuple[fx.Node, Number]]:
        """What code decides by that no guard holds: an answer, or a width that it may compare with any size."""
        decided = {
            node: all_of([self._of(one) for one in node.all_input_nodes])
            for node in self._graph.nodes
            if node.target is guard
            and self._unguarded(node)
            and any(one in self._known or one in self._shapes for one in node.all_input_nodes)
        }
        of_inputs = [number for number in decided.values() if number.dims]
        for node, number in decided.items():
            told = number.widths and not isinstance(node.args[1], bool)
            whole = all_of([number, *of_inputs]) if told else number
            if whole.is_hidden:
                yield node, whole

    def sizes_beyond(self) -> Iterator[tuple[InputDim, int]]:
        """For each comparison of one size of an input with a plain number, a size that answers it otherwise."""
        for node in self._graph.nodes:
            (asked,) = node.all_input_nodes if node.target is guard and len(node.all_input_nodes) == 1 else (node,)
            if asked.target not in COMPARISONS or len(asked.args) != 2:
                continue
            size, other = sorted(asked.args, key=lambda arg: isinstance(arg, int))
            number = self._of(size)
            if type(other) is not int or len(number.dims) != 1 or number.widths or len(number.factors or ()) != 1:
                continue
            for new in (other + 1, other, other - 1):
                given = [new if arg is size else other for arg in asked.args]
                if new > 0 and new != number.value and asked.target(*given) != node.args[1]:
                    yield next(iter(number.dims)), new
                    break

    def _gives_tensors(self, node: fx.Node) -> bool:
        known = self._nodes.get((self._mode, node.name))
        return any(isinstance(leaf, Value) for leaf in pytree.tree_leaves(known))

    def _layouts(self, tensor: Any) -> tuple[Layout, ...]:
        known = self._nodes.get((self._mode, tensor.name)) if isinstance(tensor, fx.Node) else None
        if not isinstance(known, Value):
            return ()
        if tensor in self._given:
            return self._given[tensor]
        layouts = tuple(map(self._unifier.resolve, known.layouts))
        return layouts if known.origin or tensor.op == "get_attr" else tuple(map(self._of_sides, layouts, range(9)))

    def _of_sides(self, layout: Layout, dim: int) -> Layout:
        """A size that a convolution gave is a number to the rules: it may come from the sides of an image."""
        if dim < 2 or not self._sides or not is_fixed(layout) or layout in (ONE, ((0,),)):
            return layout
        size = measure(layout, lambda atom: 0)
        return of(self._made.setdefault(size, Var("a side", size, -1, input=min(self._sides))))

    @functools.cached_property
    def _of_tensors(self) -> frozenset[Any]:
        """What the dimensions of parameters and buffers are made of."""
        layouts = [layout for shape in self._tensors.values() for layout in shape]
        return frozenset(atom for layout in layouts for atom in atoms(self._unifier.resolve(layout)))

    def _take_sizes(self, node: fx.Node) -> None:
        """The sizes of a tensor that a call was given: no rule tells that `torch.ones(batch)` has a row a sample."""
        known = self._nodes.get((self._mode, node.name))
        sources = list(self._sources(node))
        constant = isinstance(known, Value) and known.constant
        if not constant:  # what the rules do not follow comes from one size, repeated
            sources = [number for number in sources if not number.widths]
        if not any(number.dims or number.widths for number in sources):
            return
        if not isinstance(known, Value):
            self._passed[node] = sources
            return
        layouts = list(self._layouts(node))
        for dim, layout in enumerate(map(self._unifier.resolve, known.layouts)):
            if any(var in self._of_tensors or getattr(var, "input", None) for var in atoms(layout)):
                continue
            size = measure(layout, lambda atom: atom.size if isinstance(atom, Var) else 0)
            same = [number for number in sources if number.value == size]
            same = same or (sources if constant else [number for number in sources if number.value is None])
            if any(number.dims or number.widths for number in same):
                key = Var("a given size", size, -1)
                self._sizes_of[key] = same[0] if len(same) == 1 else replace(all_of(same), value=size)
                layouts[dim] = of(key)
        self._given[node] = tuple(layouts)

    def _sources(self, node: fx.Node) -> Iterator[Number]:
        """The numbers that a call is given, those of shapes and of tensors with sizes that a call was given."""
        for given in node.all_input_nodes:
            yield from [self._known[given]] if given in self._known else self._passed.get(given, ())
            yield from map(self._size, (*self._shapes.get(given, ()), *self._given.get(given, ())))
        leaves = pytree.tree_leaves((node.args, dict(node.kwargs)))
        yield from [self._of(leaf) for leaf in leaves if type(leaf) in (int, AttributeInt)]

    def _take(self, node: fx.Node, shape: tuple[Layout, ...], index: Any) -> None:
        """One size of a shape, or some of them."""
        if isinstance(index, int) and -len(shape) <= index < len(shape):
            self._known[node] = self._size(shape[index])
        elif isinstance(index, slice) and not any(isinstance(i, fx.Node) for i in (index.start, index.stop)):
            self._shapes[node] = shape[index]
        else:
            self._known[node] = all_of([self._product(shape), *map(self._of, node.all_input_nodes)])

    def _of(self, node: Any) -> Number:
        if isinstance(node, fx.Node):
            return self._product(self._shapes[node]) if node in self._shapes else self._known.get(node, Number())
        if isinstance(node, int | float) and node > 0:
            return Number(number=node, value=node) if isinstance(node, int) else Number(factors=None, value=node)
        return Number(factors=None, positive=False, value=node if isinstance(node, int | float) else None)

    def _cuts(self, node: fx.Node) -> Iterator[Number]:
        """The sizes of inputs that a call cuts at widths: `x[:channels]` takes all rows where there are fewer."""
        layouts = self._layouts(tensor_of(node))
        if not layouts:
            return
        for dim, numbers in cuts(node, len(layouts)):
            stated = [self._stated.get((node.name, path)) for path, _ in numbers]
            sizes = [self._size(self._unifier.resolve(size)) for size in stated if size is not None]
            if dim < len(layouts):
                yield self._cut(layouts[dim], [*[self._of(number) for _, number in numbers], *sizes])

    def _cut(self, layout: Layout, at: Sequence[Number]) -> Number:
        given = not self._sizes_of.keys().isdisjoint(atoms(layout))
        mixes = any(number.widths or (given and number.dims) for number in at)
        return all_of([self._size(layout), *at]) if mixes else Number()

    def _size(self, layout: Layout) -> Number:
        """A size of a tensor."""
        if is_fixed(layout):
            size = measure(layout, lambda atom: 0)
            return Number(number=size, value=size) if size else Number(self._batches, factors=None, positive=False)
        if (var := only_atom(layout)) in self._sizes_of:
            return self._sizes_of[var]
        given = [self._sizes_of[atom] for atom in atoms(layout) if atom in self._sizes_of]
        found = [atom for atom in atoms(layout) if atom not in self._sizes_of]
        dims = frozenset(var.input for var in found if var.input is not None).union(*[one.dims for one in given])
        widths = frozenset(filter(self._may_grow, found)).union(*[one.widths for one in given])
        factors, number = Counter[Any](), 1
        for factor in layout[0] if len(layout) == 1 else (layout,):
            if isinstance(factor, int):
                number *= factor
            else:
                factors[factor] += 1
        value = measure(layout, lambda var: var.size if isinstance(var, Var) else 0)
        return Number(dims, widths, True, factors, number, value=value)

    def _may_grow(self, var: Var) -> bool:
        return var.input is None and self._unifier.is_free(var)

    def _product(self, layouts: Sequence[Layout]) -> Number:
        number = Number()
        for layout in layouts:
            number = times(number, self._size(layout))
        return number

    def _number(self, node: fx.Node) -> Number:
        """What a node makes of numbers, or asks of a tensor."""
        number = self._made_of(node)
        if node.target not in _FUNCTIONS or node.kwargs:
            return number
        given = [self._argument(node, place).value for place in range(len(node.args))]
        with suppress(Exception):  # of a size that is not there for these sizes
            return replace(number, value=None if None in given else node.target(*given))  # type: ignore[operator]
        return number

    def _made_of(self, node: fx.Node) -> Number:
        tensors = [n for n in node.all_input_nodes if self._layouts(n)]
        if tensors and node.all_input_nodes == tensors[:1]:
            value = Value(self._layouts(tensors[0]))
            layouts = tuple(asked_of(node, value))
            if asks_for_memory(node):  # it may be a view of more
                return all_of([Number(self._batches), *map(self._size, layouts)])
            return self._product(layouts)
        if node.target is operator.getitem and isinstance(node.args[1], int):
            with suppress(IndexError):
                return self._entries(node.args[0])[node.args[1]]
        given = [self._argument(node, place) for place in range(len(node.args))]
        if node.target in COMPARISONS:
            entries = [self._entries(one) for one in node.args]
            if all(entries):
                return all_of([compared(*pair) for pair in itertools.zip_longest(*entries, fillvalue=Number())])
            if not any(entries):
                return compared(*given)
        if node.target is truth:
            return compared(given[0], self._of(0))
        if node.target in ARITHMETIC and len(given) == 2 and not node.kwargs:
            return ARITHMETIC[node.target](*given)
        inside = [self._product(self._layouts(n)) if n in tensors else self._of(n) for n in node.all_input_nodes]
        if len(inside) == 1 and (
            node.target in _PASSED_ON or (node.target in _WHOLE and inside[0].factors is not None)
        ):
            return inside[0]
        return all_of([*given, *inside])

    def _entries(self, shape: Any) -> list[Number]:
        """The numbers of a shape, of a tuple or list, or of some behind one another; none where not all are known."""
        if isinstance(shape, fx.Node) and shape.target is operator.add:
            parts = [self._entries(part) for part in shape.args]
            return [number for part in parts for number in part] if all(parts) else []
        if isinstance(shape, fx.Node):
            return [self._size(layout) for layout in self._shapes.get(shape, ())]
        return [self._of(entry) for entry in shape] if isinstance(shape, tuple | list) else []

    def _argument(self, node: fx.Node, place: int) -> Number:
        """An argument, which may be an attribute of a module that is a width."""
        stated = self._stated.get((node.name, ("args", place)))
        return self._of(node.args[place]) if stated is None else self._size(self._unifier.resolve(stated))


_PASSED_ON = (operator.getitem, getattr, math.prod, "numel")
_WHOLE = (int, whole, round, math.floor, math.ceil, math.trunc)
_FUNCTIONS = (*ARITHMETIC, *_WHOLE, operator.mod, operator.neg, operator.pow, math.sqrt, math.isqrt, min, max)
