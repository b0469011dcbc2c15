"""The figures of a model's layers at one time, before or after growth: classes, shapes, parameters and FLOPs.

In: a trace, and the plan from which the figures before or after growth follow. Out: `Figures`, by module path.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn

from ..capture.ladder import trace_model
from ..capture.traced import Traced
from ..costs.flops import flops_by_module
from ..model.copies import clone_shared, clone_to_run, named_tensors
from ..model.tree import Mode, graph_for, set_mode
from ..model.walk import named_modules
from ..plans.growth_plan import Plan
from ..rewrite.student import assemble
from ..rewrite.student_inputs import padded, padded_inputs
from ..rewrite.tensors import replacements
from ..spec.patterns import module_of


@dataclass(frozen=True)
class Figures:
    """The figures of a model, by module path.

    Attributes:
        kinds: The class name of each module.
        shapes: The shape of each parameter and buffer.
        parameters: The names of the parameters.
        flops: The FLOPs of each module's own code; None if they are not known.
    """

    kinds: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    parameters: frozenset[str]
    flops: Mapping[str, int] | None

    def renamed(self, name: Callable[[str], str]) -> Figures:
        """The same under other names."""
        kinds, shapes = ({name(key): value for key, value in table.items()} for table in (self.kinds, self.shapes))
        flops = None if self.flops is None else {name(path): number for path, number in self.flops.items()}
        return Figures(kinds, shapes, frozenset(map(name, self.parameters)), flops)  # type: ignore[arg-type]

    def layers(self) -> list[str]:
        """The modules with parameters or FLOPs, in the order of the model."""
        own = {*map(module_of, self.parameters), *(self.flops or {})}
        return [path for path in self.kinds if path in own]

    def parameters_of(self, path: str) -> int | None:
        """The number of parameters of a module without its submodules; None if there is no such module."""
        return self._counts[path] if path in self.kinds else None

    @cached_property
    def _counts(self) -> Counter[str]:
        """The numbers of parameters of all modules without their submodules."""
        counts: Counter[str] = Counter()
        for name in self.parameters:
            counts[module_of(name)] += math.prod(self.shapes[name])
        return counts

    def flops_of(self, path: str) -> int | None:
        """The FLOPs of a module's own code; None if they are not known or there is no such module."""
        return self.flops.get(path, 0) if self.flops is not None and path in self.kinds else None

    def totals(self) -> tuple[int, int | None]:
        """The numbers of parameters and of FLOPs of the model."""
        counted = sum(math.prod(self.shapes[name]) for name in self.parameters)
        return counted, sum(self.flops.values()) if self.flops is not None else None


def _figures(root: nn.Module, traced: Traced, graphs: Any, arguments: Mapping[str, Any]) -> Figures:
    """The figures of a traced model, or of the student that was built from its trace."""
    mode: Mode = "eval" if "eval" in traced.tapes else "train"
    set_mode(root, mode)
    kinds = {path: type(module).__name__ for path, module in named_modules(root, duplicates=True)}
    kinds.update({path: kind.__name__ for path, kind in traced.classes.items() if path in kinds})
    tensors = named_tensors(root)
    return Figures(
        {**kinds, "": traced.class_name},
        {name: tuple(tensor.shape) for name, tensor in tensors.items()},
        frozenset(name for name, tensor in tensors.items() if isinstance(tensor, nn.Parameter)),
        flops_by_module(root, graph_for(graphs, mode), arguments, real=traced.inputs.real),
    )


def figures_of(traced: Traced) -> Figures:
    """The figures of a model that was traced."""
    return _figures(_root(traced), traced, traced.graphs, traced.arguments)


def _root(traced: Traced) -> nn.Module:
    """A module tree to run on, whose mode can be set without changing the model."""
    return clone_to_run(traced.root, real=traced.inputs.real)


def figures_after(plan: Plan, traced: Traced) -> Figures:
    """The figures of the student that a plan describes, built on the tensors of the trace (usually meta)."""
    root = clone_shared(traced.root, replacements(plan, traced.root))
    student = assemble(root, traced, plan, plan.model)
    if plan.next is None:
        return _figures(student, traced, student.graphs, padded(plan, traced.arguments))
    inputs = padded_inputs([plan], student, traced.inputs)
    return figures_after(
        plan.next, trace_model(student, inputs, leaf_modules=plan.next.leaf_modules, output=plan.next.output)
    )


def figures_before(plan: Plan, after: Figures) -> Figures:
    """The figures of a student's teacher, reconstructed from the plan; FLOPs are not known."""
    new = tuple(f"{path}." for path in plan.new_modules)
    kinds = {path: kind for path, kind in after.kinds.items() if not f"{path}.".startswith(new)}
    shapes = {name: shape for name, shape in after.shapes.items() if module_of(name) in kinds}
    for number, step in reversed([*enumerate(plan.steps)]):
        for change in step.changes:
            for path, (kernel, _) in change.kernels.items():
                if (weight := plan.student_name(f"{path}.weight", number)) in shapes:
                    shapes[weight] = (*shapes[weight][: -len(kernel)], *kernel)
        for tensor in step.tensors:
            if (name := plan.student_name(tensor.name, number)) in shapes:
                shapes[name] = tuple(map(step.old_size, tensor.layouts))
    return Figures(kinds, shapes, after.parameters & shapes.keys(), None)
