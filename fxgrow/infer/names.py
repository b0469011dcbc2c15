"""Names of widths: what a person calls each of them, and what earlier versions called it.

A width has the name of the first layer that makes it: a convolution, a linear layer, the vectors of an embedding. What
no layer makes and the code reads from an attribute of a module is named after that: "num_heads of blocks.0.attn". The
factors of what a layer makes for an attention are "heads of blocks.0.attn.qkv" and "blocks.0.attn.qkv per head". All
else is named after the place where it first occurs.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from ..layouts.layout import Block, Layout, Var, atoms, is_fixed, of, only_atom, substitute
from ..model.layer_kinds import ATTENTIONS, EMBEDDING, EMBEDDINGS, LINEAR_MAPS, is_layer_class
from ..model.stated import stated_size
from ..model.tree import module_at
from ..ops import KERNEL, Value
from .attributes import Attribute
from .findings import BETWEEN, CARRY, CONTRACT, Findings, FixedDims, Flow, Lifted, Prediction
from .groups import Constraint

INPUT_OF = "input of "  # before the name of a layer: the width that it reads
MAPS = tuple(kind for layer in LINEAR_MAPS for kind in layer.classes)
ROWS_OF = "rows of "  # before the name of an embedding: the number of its vectors


Dimension = tuple[str, int, Var]  # a parameter or buffer, its dimension, and the variable that this is


class Names:
    """The names of the variables.

    Attributes:
        of: The name of each variable.
        former: The name that earlier versions gave it.
    """

    def __init__(self, findings: Findings, root: nn.Module, classes: Mapping[str, type]) -> None:
        self.resolve: Callable[[Layout], Layout] = findings.unifier.resolve
        self.of: dict[Var, str] = {}
        self.former: dict[Var, str] = {}
        self._taken: set[str] = set()
        self._formerly_taken: set[str] = set()
        dimensions = list(_dimensions(findings))
        self._meant = _Meant(findings, dimensions, root, classes)
        self._named: dict[Layout, Layout] = {}
        self._known: dict[int, tuple[Value, Value]] = {}  # by the id of what is named, which is kept
        for produced in (True, False):
            for tensor, dim, var in dimensions:
                roles = findings.roles.get((tensor, dim), set())
                if var not in self.of and (len(findings.tensors[tensor]) > 1 and CARRY in roles) is produced:
                    self.give(var, _place(tensor, dim, produced=produced, contracted=CONTRACT in roles))

    def in_terms_of(self, resolve: Callable[[Layout], Layout]) -> Names:
        """The same names for what another unifier makes of the same variables."""
        twin = copy.copy(self)
        twin.resolve, twin.of, twin.former = resolve, dict(self.of), dict(self.former)
        twin._taken, twin._formerly_taken = set(self._taken), set(self._formerly_taken)
        twin._named, twin._known = {}, {}
        return twin

    def give(self, var: Var, place: str) -> str:
        """Name a variable, of which it is known where it first occurs."""
        former = self.former[var] = _unique(place, self._formerly_taken, "{} #{}")
        self._formerly_taken.add(former)
        meant = self._meant.name(var, place)
        name = next((one for one in (meant, former) if one and one not in self._taken), "")
        self.of[var] = name or _unique(meant or former, self._taken, "{} ({})")
        self._taken.add(self.of[var])
        return self.of[var]

    def layout(self, layout: Layout) -> Layout:
        """The layout in terms of names."""
        named = self._named.get(layout)
        if named is None:
            named = self._named[layout] = substitute(self.resolve(layout), self._atom)
        return named

    def _atom(self, var: Var) -> Layout:
        return of(self.of.get(var) or self.give(var, var.name.replace(".weight[0]", "")))

    def fixed(self, one: FixedDims, lifted: Lifted) -> FixedDims:
        """In terms of names, without the dimensions that may grow."""
        dims = tuple([dim for dim in one.dims if dim not in lifted.inputs])
        return FixedDims(dims, tuple(map(self.layout, one.layouts)), one.reason)

    def constraints(self, stated: list[Constraint]) -> tuple[Constraint, ...]:
        """In terms of names, each once."""
        named = dict.fromkeys((self.layout(layout), reason) for layout, reason in stated)
        return tuple((layout, reason) for layout, reason in named if not is_fixed(layout))

    def prediction(self, prediction: Prediction) -> Prediction:
        """In terms of names."""
        outs = tuple(tuple(self.layout(la) for la in layouts) for layouts in prediction.outs)
        expected = tuple(
            (arg, self.layout(front), back and self.layout(back)) for arg, front, back in prediction.expected
        )
        ins = tuple(layout for la in prediction.ins if not is_fixed(layout := self.layout(la)))
        flow = self._flow(prediction.flow)
        return Prediction(ins, outs, expected, prediction.sized, flow, decided=prediction.decided)

    def _flow(self, flow: Flow) -> Flow:
        ins, outs = (tuple([(key, self._value(v)) for key, v in known]) for known in (flow.ins, flow.outs))
        return Flow(flow.linear, ins, outs, flow.contracts, flow.norm, flow.mutates, flow.numbers, flow.floating)

    def _value(self, value: Value) -> Value:
        known = self._known.get(id(value))
        if known is None:
            layouts = tuple([self.layout(la) for la in value.layouts])
            named = replace(value, layouts=layouts)
            known = self._known[id(value)] = (value, named)
        return known[1]


def _dimensions(findings: Findings) -> Iterator[Dimension]:
    """The (parameter or buffer, dimension) that are one variable, which is no kernel size."""
    for tensor, layouts in findings.tensors.items():
        for dim, layout in enumerate(layouts):
            var = only_atom(findings.unifier.resolve(layout))
            if isinstance(var, Var) and KERNEL not in findings.unifier.reasons(var):
                yield tensor, dim, var


def _place(tensor: str, dim: int, *, produced: bool, contracted: bool) -> str:
    layer = _layer(tensor)
    return layer if produced else f"{INPUT_OF}{layer}" if contracted else f"{tensor}[{dim}]"


def _layer(tensor: str) -> str:
    return tensor.rpartition(".")[0] or tensor


def _unique(name: str, taken: set[str], form: str) -> str:
    unique, number = name, 2
    while unique in taken:
        unique, number = form.format(name, number), number + 1
    return unique


class _Meant:
    """What a person calls a variable, where that is not the place at which it first occurs.

    It is told by the structure of the model, and not by which widths are pinned: a request lifts some pins, and no name
    changes with that.
    """

    def __init__(
        self, findings: Findings, dimensions: Sequence[Dimension], root: nn.Module, classes: Mapping[str, type]
    ) -> None:
        self._findings = findings
        self._dimensions = dimensions
        self._mains: dict[str, int | None] = {}
        self._root = root
        self._classes = classes
        self._names: dict[Var, str] = {}
        blocks = list(self._blocks())
        heads = {factor for _, block in blocks for factor in block[:-1] if isinstance(factor, Var)}
        self._of_layers(but=heads)  # an embedding of positions may be one number for each head
        self._of_attributes()
        self._of_factors(blocks)
        self._of_bare_parameters()

    def name(self, var: Var, place: str) -> str:
        """The name; the empty one where the place is what it is known by."""
        return self._names.get(var, "") or (part_name(place, var.size) if "[" in place else "")

    def _of_layers(self, but: Container[Var]) -> None:
        """The widths that layers make; then the numbers of vectors of embeddings."""
        for made in (True, False):
            for tensor, dim, var in self._dimensions:
                main = self._main(tensor)
                if main is not None and dim == main and made:
                    if not (self._is_embedding(tensor) and var in but):
                        self._names.setdefault(var, _layer(tensor))
                elif main is not None and dim < main and not made and self._is_embedding(tensor):
                    self._names.setdefault(var, f"{ROWS_OF}{_layer(tensor)}")

    def _of_attributes(self) -> None:
        """The sizes that the user's code reads from attributes: numbers of heads and their sizes."""
        read = {var for tensor, dim, var in self._dimensions if self._only_contracted(tensor, dim)}
        for attribute in self._findings.attributes:
            kind = self._classes.get(attribute.module, object)
            if is_layer_class(kind) and kind not in ATTENTIONS:
                continue
            for layout in attribute.layouts if len(attribute.layouts) == 1 else ():
                var = only_atom(self._findings.unifier.resolve(layout))
                if isinstance(var, Var) and var not in read and self._states(attribute, var):
                    self._names.setdefault(var, f"{attribute.name} of {attribute.module or 'the model'}")

    def _states(self, attribute: Attribute, var: Var) -> bool:
        """Whether the module has the attribute; what a rule says of a matrix product is no attribute of the caller."""
        return stated_size(module_at(self._root, attribute.module), attribute.name) == var.size

    def _blocks(self) -> Iterator[tuple[str, Block]]:
        """(weight, block) of what the layers make that is a product."""
        for tensor, layouts in self._findings.tensors.items():
            main = self._main(tensor)
            for block in () if main is None else self._findings.unifier.resolve(layouts[main]):
                if len(block) > 1:
                    yield tensor, block

    def _of_factors(self, blocks: Iterable[tuple[str, Block]]) -> None:
        """The factors of what a layer makes for an attention, heads and their sizes; of the fewest factors first."""
        for tensor, block in sorted(blocks, key=lambda one: len(one[1])):
            *counts, last = [factor for factor in block if not isinstance(factor, int)]
            if not counts or not self._are_heads(block, counts[-1]):
                continue
            layer = _layer(tensor)
            for number, var in enumerate(counts):
                if isinstance(var, Var):
                    what = "heads" if number == len(counts) - 1 else "groups"
                    grouped = what == "heads" and number and self._names.get(counts[0], "").startswith("heads")
                    self._names.setdefault(var, f"{what}{' per group' if grouped else ''} of {layer}")
            if isinstance(last, Var):
                self._names.setdefault(last, f"{layer} per head")

    def _are_heads(self, block: Block, count: Any) -> bool:
        """Whether activations are multiplied over the size of a row, or its number of rows is called so already."""
        reasons = [reason for var in atoms((block[1:],)) for reason in self._findings.unifier.reasons(var)]
        return any(BETWEEN in reason for reason in reasons) or "head" in self._names.get(count, "").partition(" of ")[0]

    def _of_bare_parameters(self) -> None:
        """The dimensions of parameters that are no weights of a layer, such as tokens and position tables."""
        for tensor, dim, var in self._dimensions:
            bare = len(self._findings.tensors[tensor]) > 1 and self._main(tensor) is None
            if bare and not self._is_of(tensor, MAPS) and not self._only_contracted(tensor, dim):
                self._names.setdefault(var, f"{tensor}[{dim}]")

    def _main(self, tensor: str) -> int | None:
        """The dimension that the name of a weight means; None for what is summed over nowhere and is no embedding's."""
        if tensor not in self._mains:
            self._mains[tensor] = self._meant_dimension(tensor)
        return self._mains[tensor]

    def _meant_dimension(self, tensor: str) -> int | None:
        if self._is_embedding(tensor):
            return EMBEDDING.weight_sizes["embedding_dim"]
        roles = [self._findings.roles.get((tensor, dim), set()) for dim in range(len(self._findings.tensors[tensor]))]
        if not any(CONTRACT in some for some in roles):
            return None
        carried = [dim for dim, some in enumerate(roles) if CARRY in some]
        return min(carried, key=lambda dim: CONTRACT in roles[dim], default=None)  # groups are a factor of what is read

    def _is_embedding(self, tensor: str) -> bool:
        return self._is_of(tensor, EMBEDDINGS)

    def _is_of(self, tensor: str, classes: tuple[type, ...]) -> bool:
        """Whether it is the weight of a layer of some classes."""
        path, _, name = tensor.rpartition(".")
        return name == "weight" and issubclass(self._classes.get(path, object), classes)

    def _only_contracted(self, tensor: str, dim: int) -> bool:
        return self._findings.roles.get((tensor, dim), set()) == {CONTRACT}


def part_name(place: str, size: int) -> str:
    """A part of a layer's channels by its first and last: "attn.qkv[768:1536]" of "attn.qkv.weight[1][768:][:768]"."""
    found = re.fullmatch(r"(.+?)(?:\.weight\[\d\])?((?:\[\d*:\d*\])+)", place)
    if found is None or (found[2].count("[") < 2 and ".weight[" not in place):
        return ""
    start = sum(int(first) for first in re.findall(r"\[(\d+):\]", found[2]))
    return f"{found[1]}[{start}:{start + size}]"
