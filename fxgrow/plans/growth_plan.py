"""The plan: what growth does to each width, parameter, literal and attribute, as pure data.

No tensors: a plan is JSON both ways, the same on every device and rank, and applies to the model, an
average of it, an optimizer's state or a checkpoint.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .. import methods
from ..base.decode import DecodeError, decode, encode
from ..base.isolation import no_collection
from ..base.tables import COLUMNS
from ..base.wording import a_type
from ..errors import PlanError
from ..layouts.index_map import index_map
from ..layouts.layout import Layout, atoms, measure
from ..model.example_data import CallData, why_invalid
from ..model.example_inputs import brief
from ..model.fixed_sizes import FixedSize
from ..model.tree import Output
from ..spec.parse import parse
from . import serial, text, validation
from .changes import StructuralChange, renumbered
from .costs import Amount, Cost, LayerCost, cost_of, joined
from .entries import (
    CloneOutput,
    Edit,
    IoDimPlan,
    MadeWith,
    PlanForm,
    Recount,
    Resize,
    Skipped,
    StatedSize,
    Stored,
    TensorPlan,
    Width,
)
from .numbering import Numbering


@dataclass(frozen=True, repr=False)
class Plan:
    """All that growth changes, which `fxgrow.plan` gives and `fxgrow.apply` takes.

    Public are `to_json()`, `from_json()`, `then()`, `steps`, `renumbered()`, `grown_widths` (each with `name`, `old`,
    `new` and `method`), `width()`, `parameters`, `flops`, `cost()`, `preserves_function`, `skipped` (each with `name`
    and `reason`), `model`, `inputs`, `spec`, `seed`, `method`, `output`, `leaf_modules`, `notes`, `made_with`,
    `to_text()` and `str()`. All else is opaque: the later stages read it, and it may change in any version.

    Attributes:
        model: The class of the teacher.
        inputs: The example inputs that the widths were inferred with, in words.
        example: The same as data, tensors by shape and dtype; None where they hold something else.
        leaf_modules: The modules that the user asked to keep as calls.
        output: What the student is: a graph, or a module of the model's own class.
        code: A fingerprint of the model's graphs.
        layers: A fingerprint of the settings of the layers that they call; empty in plans of versions before 1.8.
        spec: The requests, as plain data.
        seed: The seed of every random draw.
        method: The default method.
        groups: The width groups of all tensors that change, grown or not.
        tensors: The parameters and buffers that change.
        edits: The literals of the graphs that change.
        resizes: The attributes of modules that change.
        skipped: The widths and layers that were not grown, and why.
        notes: Notes for the user.
        changes: New layers, cloned blocks and larger kernels, made after the widths have grown.
        recounts: The attributes that say how many blocks there are, or which one a module is in.
        stated: The sizes that the code states and its forward does not read.
        clone_outputs: The tensors that the student returns beside those of the teacher, because it has clones.
        io_dims: Where inputs and outputs of the model grow.
        stored: The tensors of the teacher's `state_dict`; empty in plans of versions before 1.3.
        order: Where the student has new modules, its parameters, each once, in the order of `named_parameters()`. Empty
            in plans of versions before 1.6.
        forms: Further forms of inputs that it was made with; empty in plans of versions before 1.8.
        next: The plan for the student that this one makes.
        sizes: The sizes that inputs of the student must have, because its code mixes them with widths that grow.
        costs: What each module costs before and after growth; empty in plans of versions before 1.5. Comparisons of
            plans ignore them: bytes depend on the dtype of the model.
        made_with: The versions of fxgrow, torch and Python that made it. Comparisons of plans ignore it.
    """

    model: str
    inputs: str
    example: CallData | None
    leaf_modules: tuple[str, ...]
    output: Output
    code: str
    spec: Any
    seed: int
    method: str
    groups: tuple[Width, ...]
    tensors: tuple[TensorPlan, ...]
    edits: tuple[Edit, ...]
    resizes: tuple[Resize, ...]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    changes: tuple[StructuralChange, ...] = ()
    recounts: tuple[Recount, ...] = ()
    stated: tuple[StatedSize, ...] = ()
    clone_outputs: tuple[CloneOutput, ...] = ()
    io_dims: tuple[IoDimPlan, ...] = ()
    sizes: tuple[FixedSize, ...] = ()
    stored: tuple[Stored, ...] = ()
    order: tuple[str, ...] = ()
    forms: tuple[PlanForm, ...] = ()
    next: Plan | None = None
    layers: str = field(default="", compare=False)
    costs: tuple[LayerCost, ...] = field(default=(), compare=False)
    made_with: MadeWith = field(default_factory=MadeWith, compare=False)

    @functools.cached_property
    def _by_name(self) -> Mapping[str, Width]:
        return {width.name: width for width in self.groups}

    @property
    def grown_widths(self) -> tuple[Width, ...]:
        """The width groups that grow."""
        return tuple(width for width in self.groups if width.new > width.old)

    @functools.cached_property
    def fresh(self) -> frozenset[str]:
        """The groups whose new channels are no replicas: those of inputs and outputs, and those with such a method."""
        filled = {width.name for width in self.grown_widths if not methods.method(width.method).replicas}
        return frozenset({io_dim.group for io_dim in self.io_dims} | filled)

    @property
    def preserves_function(self) -> bool:
        """Whether all of it preserves the function, at least in eval mode."""
        return (
            all(methods.method(width.method).preserves_function for width in self.grown_widths)
            and all(change.exact_modes for change in self.changes)
            and (self.next is None or self.next.preserves_function)
        )

    @property
    def other_changes(self) -> int:
        """The number of new layers and clones and of larger kernels."""
        return sum(len(change.new_paths) or 1 for change in self.changes)

    @property
    def parameters(self) -> Amount:
        """The number of parameters before growth and after it.

        Raises:
            PlanError: The plan does not say, since it was made before version 1.5 of the format.
        """
        return self.cost().parameters

    @property
    def flops(self) -> Amount | None:
        """The FLOPs of a forward pass on the example inputs, before and after; None where they are not known.

        Raises:
            PlanError: As for `parameters`.
        """
        return self.cost().flops

    def cost(self) -> Cost:
        """What growth costs by module and in all: parameters, FLOPs, bytes. No student is made.

        Raises:
            PlanError: As for `parameters`.
        """
        first, last = self.steps[0], self.steps[-1]
        if not all(step.costs for step in (first, last)):
            raise PlanError("the plan does not say what growth costs; it was made before version 1.5: plan again")
        if first is last or self.next is None:
            return cost_of(self.costs)
        before = {self.student_name(one.name, 1): one for one in first.costs}
        none = LayerCost("", flops=(0, 0))
        return cost_of(joined(before.get(one.name, none), one) for one in last.costs)

    @property
    def steps(self) -> tuple[Plan, ...]:
        """This plan and those that follow it, each on its own."""
        return (self,) if self.next is None else self._chain

    @functools.cached_property
    def _chain(self) -> tuple[Plan, ...]:
        """The steps of a plan with others after it."""
        return (dataclasses.replace(self, next=None), *(self.next.steps if self.next is not None else ()))

    def renumbered(self, names: Iterable[str]) -> dict[str, str]:
        """The student's names in a model whose blocks are numbered through, as its deeper builder has them.

        Args:
            names: Of the student's parameters and buffers, in its order (its `state_dict`).

        Returns:
            For each its name where `layer1.1_deeper1`, the clone of `layer1.1`, is `layer1.2`, and so on.

        Raises:
            PlanError: These are no names.
        """
        given = list(names) if isinstance(names, Iterable) else [names]
        if isinstance(names, str) or not all(isinstance(name, str) for name in given):
            raise PlanError(f"renumbered takes the names in a state_dict, not {names!r:.80}")
        clones = {path for step in self.steps for change in step.changes for path in getattr(change, "paths", ())}
        return renumbered(given, clones)

    def student_name(self, name: str, step: int = 0) -> str:
        """The student's name of a module or tensor, from that in a step's plan: clones move it on in its container."""
        for later in self.steps[step:]:
            name = later.numbering(name)
        return name

    @functools.cached_property
    def numbering(self) -> Numbering:
        """The names in the student of this plan alone, without those that follow it."""
        return Numbering.of(self.changes)

    @functools.cached_property
    def new_modules(self) -> Mapping[str, str]:
        """The modules that only the student has, by their paths in it, each with what it is a clone of, or ""."""
        return {
            self.student_name(path, number): change.original
            for number, step in enumerate(self.steps)
            for change in step.changes
            for path in change.new_paths
        }

    def then(self, other: Plan) -> Plan:
        """This plan, and then another, made for the student of this one.

        Raises:
            PlanError: The other is no plan.
        """
        if not isinstance(other, Plan):
            raise PlanError(f"then takes a Plan, not {a_type(other)}")
        return dataclasses.replace(self, next=other if self.next is None else self.next.then(other))

    def width(self, name: str) -> Width:
        """A group by name.

        Raises:
            PlanError: The plan has no such group.
        """
        try:
            return self._by_name[name]
        except (KeyError, TypeError):
            raise PlanError(f"the plan has no width {brief(name)}; it has {brief([*self._by_name])}") from None

    def method_of(self, name: str) -> str:
        """How a group's new channels are filled; "" where it does not grow."""
        return self._by_name[name].method if name in self._by_name else ""

    def new_size(self, layout: Layout) -> int:
        """The size of a dimension in the student."""
        return measure(layout, lambda name: self._by_name[name].new)

    def old_size(self, layout: Layout) -> int:
        """The size of a dimension in the teacher."""
        return measure(layout, lambda name: self._by_name[name].old)

    def index(
        self, layout: Layout, others: Callable[[str], int] | None = None, *, without: Container[str] = ()
    ) -> tuple[Tensor, Tensor]:
        """For each index of a grown dimension the old one that it copies, and whether it is the old one.

        The last `Width.mean_channels` of a width copy none; what the index says of them does not count.

        Args:
            layout: The dimension's layout.
            others: The width of groups that the plan does not name because they are in no parameter.
            without: Groups whose new channels are left out.
        """

        def old(name: str) -> int:
            return self._by_name[name].old if name in self._by_name or others is None else others(name)

        def mapping(name: str) -> Tensor:
            return torch.arange(old(name)) if name in without else self._mapping(name, old(name))

        return index_map(layout, old, mapping)

    def kept(self, layout: Layout, others: Callable[[str], int], *, without: Container[str]) -> Tensor:
        """The positions in a grown dimension that are left without the new channels of some groups, int64."""

        def new(name: str) -> int:
            return self._by_name[name].new if name in self._by_name else others(name)

        def mapping(name: str) -> Tensor:
            return torch.arange(self._by_name[name].old if name in without else new(name))

        return index_map(layout, new, mapping)[0]

    def _mapping(self, name: str, old: int) -> Tensor:
        width = self._by_name.get(name) or Width(name, old, old)
        return torch.cat([torch.arange(width.old), torch.tensor(width.copies, dtype=torch.int64)])

    def grows(self, layout: Layout) -> bool:
        """Whether a dimension changes."""
        return any(
            name in self._by_name and self._by_name[name].new > self._by_name[name].old for name in atoms(layout)
        )

    # -- JSON ------------------------------------------------------------------------------------

    def to_json(self, *, indent: int | None = None) -> str:
        """The plan as JSON text."""
        return serial.write(encode(self), indent)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what `to_json` wrote.

        The text may come from anyone: each field is checked against its type and its meaning (`check`).

        Raises:
            PlanError: It is not a plan, or one of a version that cannot be read; the message names the field.
        """
        try:
            with no_collection():  # nearly all that is read is kept
                data, leniency = serial.read(text)
                plan = decode(cls, data, leniency=leniency)
            plan.check()
        except DecodeError as error:
            raise PlanError(f"this is no plan: {error}") from None
        except RecursionError:
            raise PlanError("this is no plan that can be read: it is nested too deep") from None
        return plan

    def check(self) -> None:
        """Check the meaning of every field.

        Raises:
            PlanError: The plan contradicts itself, or states what no model has.
        """
        if len(self.steps) > validation.MOST_PLANS:
            raise PlanError(f"the plan is a chain of {len(self.steps)} plans; at most {validation.MOST_PLANS} are read")
        for step in self.steps:
            methods.method(step.method)
            parse(step.spec)
            validation.check_widths(step.groups)
            validation.check_tensors(step.tensors, step._by_name)
            validation.check_io_dims(step.io_dims, step._by_name)
            validation.check_sizes(step.sizes)
            validation.check_stored(step.stored, step.tensors, step._by_name)
            validation.check_edits(step.edits, step.resizes)
            validation.check_changes(step.changes, step.output)
            validation.check_recounts(step.recounts)
            validation.check_stated(step.stated)
            validation.check_costs(step.costs)
            validation.check_order(step.order)
            examples = [one for one in (step.example, *[form.example for form in step.forms]) if one is not None]
            reason = next(filter(None, map(why_invalid, examples)), "")
            if reason:
                raise PlanError(f"the plan's example inputs are none: {reason}")

    # -- for readers -----------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<{text.line(self)}>"

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self, columns: int = COLUMNS) -> str:
        """The plan as text of under 60 lines, with the rest counted.

        Args:
            columns: Of the terminal: longer sentences are wrapped, and names shortened in their middle.
        """
        return text.as_text(self, columns)

    def _repr_html_(self) -> str:
        return text.as_html(self)
