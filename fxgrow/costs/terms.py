"""Parameters and FLOPs as sums of terms, each a function of a few widths, so that a change of one is counted fast."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from torch import nn

from ..infer.width_graph import WidthGraph
from ..layouts.layout import Layout, atoms, measure
from ..model.copies import named_tensors
from .calls import Sizes, counted, flops_of

Term = Callable[[Sizes], int]


@dataclass(frozen=True, slots=True)
class Terms:
    """A cost as a function of widths.

    Attributes:
        constant: What depends on no width.
        terms: The others.
        of: For each width the numbers of the terms that depend on it.
    """

    constant: int
    terms: tuple[Term, ...]
    of: Mapping[str, tuple[int, ...]] = field(repr=False)

    def total(self, sizes: Sizes) -> int:
        """The cost at some widths."""
        return self.constant + sum(term(sizes) for term in self.terms)

    def part(self, names: Iterable[str], sizes: Sizes) -> int:
        """The part of the cost that depends on some of the widths."""
        return sum(self.terms[number](sizes) for number in {n: None for name in names for n in self.of.get(name, ())})


def parameter_terms(widths: WidthGraph) -> Terms:
    """The number of parameters of a model; a tied one counts once."""
    constant = 0
    found: list[tuple[Term, set[str]]] = []
    for name, tensor in named_tensors(widths.traced.root).items():
        if isinstance(tensor, nn.Parameter):
            layouts = widths.tensors[name].layouts if name in widths.tensors else ()
            names = {one for layout in layouts for one in atoms(layout)}
            constant += 0 if names else tensor.numel()
            found += [(partial(_entries, layouts), names)] * bool(names)
    return _terms(constant, found)


def flop_terms(widths: WidthGraph) -> Terms:
    """The FLOPs of a forward pass on the example inputs."""
    constant = 0
    found: list[tuple[Term, set[str]]] = []
    for call, prediction in counted(widths):
        term = partial(flops_of, call, prediction)
        read = [value.layouts for _, value in prediction.flow.ins]
        names = {one for layouts in (*read, *prediction.outs) for layout in layouts for one in atoms(layout)}
        constant += 0 if names else term(widths.width)
        found += [(term, names)] * bool(names)
    return _terms(constant, found)


def _entries(layouts: Sequence[Layout], sizes: Sizes) -> int:
    return math.prod(measure(layout, sizes) for layout in layouts)


def _terms(constant: int, found: Sequence[tuple[Term, set[str]]]) -> Terms:
    of: dict[str, list[int]] = {}
    for number, (_, names) in enumerate(found):
        for name in names:
            of.setdefault(name, []).append(number)
    return Terms(constant, tuple(term for term, _ in found), {name: tuple(numbers) for name, numbers in of.items()})
