"""The width graph: which dimensions belong together, and why."""

from __future__ import annotations

import difflib
import html
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..base.fitted import fitted_text, paragraph
from ..base.roles import Role, TensorKind
from ..base.tables import COLUMNS, html_table
from ..base.wording import first_of
from ..capture.traced import Traced
from ..errors import WidthError
from ..layouts.layout import Equality, InputDim, Layout, Places, atoms
from ..model.layer_kinds import named_size
from ..model.tree import Mode
from ..ops import KERNEL
from ..recording.call import Call
from ..recording.returned import Returned
from .attributes import Attribute
from .explanations import Explanation
from .findings import CARRY, Findings, FixedDims, Prediction
from .groups import Constraints, Group, can_grow, constrain
from .literals import Literal
from .row_moments import KeptRows
from .ties import Ties


@dataclass(frozen=True, slots=True)
class TensorWidths:
    """A parameter or buffer: the layout of each dimension, whether that is carried or contracted, and what it is.

    Attributes:
        name: Its name.
        layouts: The layout of each dimension.
        roles: Whether each is carried or contracted.
        kind: What the tensor is.
        made: The dimension that its name means, if that is not the first one that is carried.
        kept: Which moments of its rows have to stay the same, where it is standardised before it is summed over.
        zeroed: The dimensions whose new entries count as zero, whatever the method; `zero` is what they are.
    """

    name: str
    layouts: tuple[Layout, ...]
    roles: tuple[Role, ...]
    kind: TensorKind = "other"
    made: int | None = None
    kept: KeptRows | None = None
    zeroed: tuple[int, ...] = ()
    zero: float = 0.0


@dataclass(frozen=True, slots=True)
class OtherRun:
    """What the model does for other inputs than the first example's: of other sizes, or of another form.

    Attributes:
        traced: The model with these inputs.
        changed: The dimensions of inputs that differ.
        sizes: The size of each width, also of those that only occur there.
        calls: Per mode, the calls of the teacher.
        returned: Per mode, what it leaves behind.
        predictions: Per mode and call, what the student's must look like.
        nodes: Of another form, the layouts of each node's result.
        places: Where the number of dimensions differs, as in `Variant`.
    """

    traced: Traced
    changed: frozenset[InputDim]
    sizes: Mapping[str, int]
    calls: Mapping[Mode, list[Call]]
    returned: Mapping[Mode, Returned]
    predictions: Mapping[Mode, list[Prediction]]
    nodes: Mapping[tuple[Mode, str], Any] | None = None
    places: Mapping[str, Places] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, repr=False)
class WidthGraph:
    """Every width of a model, which `fxgrow.widths` gives and `fxgrow.plan` takes.

    Public are `groups` (each with `name`, `size`, `members` and `pinned`), `why()`, `state()`, `width()`, `traced`,
    `to_text()` and `str()`. All else is opaque: the later stages read it, and it may change in any version.

    Attributes:
        traced: The model as graphs. The attributes from here on are opaque.
        groups_by_name: The width groups by name, in the order of the model's parameters.
        tensors: The layouts and roles of each parameter and buffer.
        nodes: The layouts of each node's result, by (mode, node).
        calls: Per mode, the calls of the teacher.
        returned: Per mode, what the teacher leaves behind, value by value.
        predictions: For each of them, what the student's must look like.
        literals: Sizes stated in the graphs.
        attributes: Sizes stated by modules.
        constraints: What has to be true of new channels: layouts and where.
        inputs: The layouts of each input, by the names of `record.named_inputs`.
        outputs: Per mode, the layouts of each tensor that the model returns.
        ties: Which dimensions operators tied, and which operators.
        fixed: Dimensions of inputs whose sizes must stay if some widths grow.
        trials: What the model does for other sizes of the inputs, where one was analysed.
        forms: What it does for each further form of inputs.
        equal: Sizes that the code makes equal, whatever grows.
        findings: What inference found, from which `freeze.lift` makes the graph with other inputs and outputs; None
            where no model was run.
        preferred: The widths that grow where only one factor of a dimension may; others than these where none is one.
    """

    traced: Traced
    groups_by_name: Mapping[str, Group]
    tensors: Mapping[str, TensorWidths]
    nodes: Mapping[tuple[Mode, str], Any]
    calls: Mapping[Mode, list[Call]]
    returned: Mapping[Mode, Returned]
    predictions: Mapping[Mode, list[Prediction]]
    literals: tuple[Literal, ...]
    attributes: tuple[Attribute, ...]
    constraints: Constraints
    inputs: Mapping[str, tuple[Layout, ...]]
    outputs: Mapping[Mode, tuple[tuple[Layout, ...], ...]]
    ties: Ties
    fixed: tuple[FixedDims, ...] = ()
    trials: tuple[OtherRun, ...] = field(default=(), compare=False)
    forms: tuple[OtherRun, ...] = field(default=(), compare=False)
    equal: tuple[Equality, ...] = ()
    findings: Findings | None = field(default=None, compare=False)
    preferred: frozenset[str] = frozenset()

    @property
    def groups(self) -> tuple[Group, ...]:
        """The width groups that are a dimension of some layer, in the order of the model."""
        return tuple(g for g in self.groups_by_name.values() if g.members and self.is_width(g))

    def is_width(self, group: Group) -> bool:
        """Whether it is no kernel size, and no dimension of size 1 as in (C, 1, 1) or of a token in a table."""
        if KERNEL in group.pinned:
            return False
        if group.size != 1 or not group.pinned:
            return True
        layouts = [self.tensors[t].layouts[d] for t, d in group.members]
        return ((group.name,),) not in layouts or any((group.name,) not in layout for layout in layouts)

    def width(self, name: str) -> int:
        """The width of a group in the teacher.

        Raises:
            WidthError: There is no such group.
        """
        return self._group(name).size

    def named(self, name: str) -> str:
        """The name of a width, from that or from the one that it had in earlier versions; else as it is."""
        if name in self.groups_by_name:
            return name
        return next((group.name for group in self.groups_by_name.values() if name and group.former == name), name)

    def _group(self, name: str) -> Group:
        try:
            return self.groups_by_name[self.named(name)]
        except (KeyError, TypeError):
            close = difflib.get_close_matches(str(name), self.groups_by_name, 3)
            raise WidthError(f"no width group {name!r:.80}{'; close: ' if close else ''}{', '.join(close)}") from None

    def value(self, mode: Mode, node: str) -> Any:
        """What is known of a node's result in a mode, or in the mode that was run for both; None where nothing is."""
        return next((v for m in (mode, *self.traced.modes) if (v := self.nodes.get((m, node))) is not None), None)

    def each_form(self) -> tuple[WidthGraph, ...]:
        """This graph, and the same widths on each further form of inputs."""
        return (self, *map(self.elsewhere, self.forms))

    def elsewhere(self, other: OtherRun) -> WidthGraph:
        """The same widths with what the model does for other inputs."""
        more = {name: Group(name, size, (), ()) for name, size in other.sizes.items()}
        return replace(
            self,
            traced=other.traced,
            groups_by_name={**more, **self.groups_by_name},
            calls=other.calls,
            returned=other.returned,
            predictions=other.predictions,
            nodes=self.nodes if other.nodes is None else other.nodes,
        )

    def pin(self, names: Iterable[str], reason: str) -> WidthGraph:
        """The same graph with more groups pinned, and what follows from that."""
        chosen = set(names)
        named = {
            n: replace(g, pinned=(*g.pinned, reason)) if n in chosen else g for n, g in self.groups_by_name.items()
        }
        return replace(
            self, groups_by_name=constrain(named, self.constraints, layouts_of(self.tensors), self.preferred)
        )

    def tie(self, together: Mapping[frozenset[str], str]) -> WidthGraph:
        """The same graph with groups that have to grow by one factor, and why."""
        more = tuple((tuple((name,) for name in sorted(names)), reason) for names, reason in together.items())
        if not more:
            return self
        stated = replace(self.constraints, uniform=(*self.constraints.uniform, *more))
        named = self._constrained(self.groups_by_name, stated)
        return replace(self, groups_by_name=named, constraints=stated)

    def _constrained(self, named: Mapping[str, Group], stated: Constraints) -> Mapping[str, Group]:
        return constrain(named, stated, layouts_of(self.tensors), self.preferred)

    def alike(self, path: str, but: Container[str], *names: Iterable[str]) -> list[tuple[tuple[str, ...], ...]]:
        """The corresponding groups in the other modules of a module's class.

        Args:
            path: The module.
            but: Modules to leave out.
            names: Several collections of groups that are parts of the module.

        Returns:
            For each other module, the groups that correspond to each collection.
        """
        kind = self.traced.classes.get(path)
        inside = f"{path}."
        parts: dict[str, tuple[str, int, int]] = {}
        for tensor in self.tensors.values():
            if path and tensor.name.startswith(inside):
                for dim, layout in enumerate(tensor.layouts):
                    for position, name in enumerate(atoms(layout)):
                        parts.setdefault(name, (tensor.name.removeprefix(inside), dim, position))
        others = []
        for other, its_kind in self.traced.classes.items():
            if its_kind is kind and other != path and other not in but:
                theirs = [[self._part(other, *parts[name]) for name in some if name in parts] for some in names]
                others.append(tuple(tuple(dict.fromkeys(filter(None, some))) for some in theirs))
        return [theirs for theirs in others if theirs[0]]

    def inside(self, path: str) -> list[str]:
        """The groups that are a part of a module's parameters and buffers."""
        own = [t.layouts for t in self.tensors.values() if path and t.name.startswith(f"{path}.")]
        return list(dict.fromkeys(name for layouts in own for layout in layouts for name in atoms(layout)))

    def _part(self, path: str, tensor: str, dim: int, position: int) -> str:
        own = self.tensors.get(f"{path}.{tensor}")
        inside = list(atoms(own.layouts[dim])) if own is not None and dim < len(own.layouts) else []
        return inside[position] if position < len(inside) else ""

    def produced(self, tensor: str) -> Layout:
        """The layout of the width that a parameter makes.

        It is the first dimension that is carried and can grow, as not the rows of a table that are looked up by number,
        nor one value that is broadcast over all channels. The rows of a weight that are an output are meant even so.
        """
        own = self.tensors[tensor]
        if own.made is not None:
            return own.layouts[own.made]
        carried = [la for la, role in zip(own.layouts, own.roles, strict=True) if role == CARRY and any(atoms(la))]
        return carried[0] if carried else own.layouts[0] if own.layouts else ()

    def named_size(self, module: str) -> Layout | None:
        """The layout of the size that a layer is known by: of its vectors, its hidden state or its embedding.

        None for all other modules, and where that size is a number.
        """
        size = named_size(self.traced.classes.get(module, object))
        stated = (at.layouts[0] for at in self.attributes if size and (at.module, at.name) == (module, size))
        return next((layout for layout in stated if any(atoms(layout))), None)

    def why(self, a: str, b: str | None = None) -> str:
        """Why two layers share a width (the chain of operators that ties them), or why one must stay.

        Of one layer it tells of the width that it makes first, and then of all others that its parameters have, such
        as the one that it reads.

        Args:
            a: A module or parameter name, a width group, or a glob over these.
            b: Another one, or None.

        Returns:
            A line for each width or each operator, wrapped at 80 columns.

        Raises:
            WidthError: There is no such name.
        """
        return paragraph(self.explanation(a, b))

    def explanation(self, a: str, b: str | None = None) -> str:
        """What `why` says, with a line for each width or each operator, however long."""
        return Explanation(self).of(a, b)

    def state(self, name: str) -> str:
        """Whether a width can grow, and why not: "must stay: ...", "can grow to any width".

        Raises:
            WidthError: There is no such group.
        """
        group = self._group(name)
        if group.pinned:
            return "must stay: " + "; ".join(group.pinned)
        if group.deferred_to:
            return f"fixed: this dimension is a product with {group.deferred_to}, which grows instead{BY_NAME}"
        if group.uniform:
            return "grows by whole multiples: " + "; ".join(group.uniform)
        return "can grow to any width"

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self, columns: int = COLUMNS) -> str:
        """The widths as text in so many columns of a terminal."""
        return f"{paragraph(self._title(), columns)}\n{fitted_text((_HEADINGS, self._rows()), columns)}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<p><b>{html.escape(self._title())}</b></p>{html_table(_HEADINGS, self._rows())}"

    def _title(self) -> str:
        grow = sum(can_grow(g) for g in self.groups)
        inputs = self.traced.inputs_in_words
        return f"{self.traced.class_name}: {len(self.groups)} widths, {grow} can grow; inputs {inputs}"

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        for group in self.groups:
            layers = list(dict.fromkeys(t.rpartition(".")[0] or t for t, _ in group.members))
            rows.append((group.name, str(group.size), first_of(layers, 3), self.state(group.name)))
        return rows


BY_NAME = ", unless this one is asked for by its name"
_HEADINGS = ("width", "size", "layers", "can it grow?")


def layouts_of(tensors: Mapping[str, TensorWidths]) -> list[Layout]:
    """Of all their dimensions."""
    return [layout for tensor in tensors.values() for layout in tensor.layouts]
