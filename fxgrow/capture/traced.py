"""A model as graphs: what tracing makes, and every later stage reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from ..model.copies import clone_shared, clone_to_run
from ..model.example_inputs import ModelInputs
from ..model.layer_kinds import is_layer, is_layer_class, settings_of
from ..model.tree import MODE_OVERRIDES, Mode, Output, graph_for, keep, skeleton
from ..model.walk import named_modules, submodule
from ..recording.run import ModelRun
from .proxy import guard


@dataclass(frozen=True, slots=True)
class Traced:
    """A model as graphs, which `fxgrow.trace` gives and `fxgrow.widths` takes.

    Public are `graphs`, `inputs`, `class_name`, `leaf_modules`, `output`, `notes` and `str()`. All else is
    opaque: the later stages read it, and it may change in any version.

    Attributes:
        root: The module tree that the graphs run on, with every tensor on the meta device.
        graphs: A graph per mode; one entry ("eval") where both modes compute the same.
        modes: The modes to run for every operation that the model can do to be seen.
        inputs: The example inputs, on meta.
        arguments: The same by the names of the arguments of `forward`, defaults filled in.
        tapes: What the model itself ran in each mode that it runs in.
        class_name: The class of the model.
        classes: The class of each module by its path.
        leaf_modules: The modules that stay calls in the graphs.
        asked: Those of them that were asked for.
        opaque: Whether the model is one call.
        runs_code: Whether code of the user's classes runs inside the graphs.
        output: What a student is to be: a graph, or a module of the model's own class.
        constants: Tensors that tracing put on the root.
        overrides: Per mode, the modules that `train()` and `eval()` leave in another mode.
        infinite: The parameters and buffers of the model that hold infinities or NaN.
        notes: What a user should know of the tracing.
        forms: The same model on further forms of inputs.
        code: The model itself, or a copy, where code of the user's classes stays a call in the graphs.
    """

    root: nn.Module
    graphs: Mapping[Mode, fx.Graph]
    modes: tuple[Mode, ...]
    inputs: ModelInputs
    arguments: Mapping[str, Any]
    tapes: Mapping[Mode, ModelRun]
    class_name: str
    classes: Mapping[str, type]
    leaf_modules: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()
    opaque: bool = False
    runs_code: bool = True
    output: Output = "graph"
    constants: Mapping[str, Tensor] | None = None
    overrides: Mapping[Mode, Mapping[str, bool]] | None = None
    infinite: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    forms: tuple[Traced, ...] = ()
    code: nn.Module | None = None

    def graph(self, mode: Mode) -> fx.Graph:
        """The graph that runs in a mode."""
        return graph_for(self.graphs, mode)

    def fresh(self) -> nn.Module:
        """The root for one run: a copy where code of the user's runs, which may keep state on it."""
        return self.to_run(self.root)

    def to_run(self, root: nn.Module) -> nn.Module:
        """What one run of these graphs needs of a tree of our own: a copy, if the run may leave something on it."""
        return clone_to_run(root, real=self.inputs.real) if self.inputs.real or self.runs_code else root

    def tree(self, model: nn.Module, replace: Mapping[int, Tensor] | None = None) -> nn.Module:
        """The module tree that the graphs run on, made of a copy of a model of the same code.

        Args:
            model: The model, with whose tensors the tree is made.
            replace: By `id` of a tensor of the model, what is in its place, wherever the model or its hooks hold it.
        """
        copied = clone_shared(model, replace)
        if self.opaque:
            root = keep(copied)
        else:
            root = skeleton(copied, self.leaf_modules)
            root.__dict__.update(self.constants or {})
        root.__dict__[MODE_OVERRIDES] = self.overrides or {}
        return root

    def fingerprint(self) -> str:
        """A hash of what the model computes: the same for every copy of it, on every device, in every process."""
        lines = [
            f"{mode} {n.op} {n.name} {getattr(n.target, '__name__', n.target)} "
            f"{n.args[:2] if n.target is guard else n.args} {n.kwargs}"
            for mode in sorted(self.graphs)
            for n in self.graphs[mode].nodes
        ]
        if self.runs_code and not self.inputs.real:
            lines += [f"{c.op} {c.inputs} {c.constants} {c.shapes}" for run in self.tapes.values() for c in run.calls]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    @property
    def inputs_in_words(self) -> str:
        """The example inputs, of every form."""
        return " or ".join(str(form.inputs) for form in (self, *self.forms))

    def layers(self) -> str:
        """A hash of what the layers of torch.nn in the graphs were made with, which `fingerprint` does not see."""
        if self.opaque:
            return ""
        layers = [(path, module) for path, module in named_modules(self.root) if is_layer_class(type(module))]
        lines = [f"{path} {settings_of(module)}" for path, module in layers]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        if self.opaque:
            return f"Traced {self.class_name}: as one call, inputs {self.inputs_in_words}"
        nodes = sum(1 for _ in self.graphs["eval"].nodes)
        both = "one graph for both modes" if len(self.graphs) == 1 else "a graph for each mode"
        return f"Traced {self.class_name}: {nodes} nodes, {both}, inputs {self.inputs}"


def any_code(root: nn.Module, leaf_modules: Iterable[str]) -> bool:
    """Whether code of the user's classes runs in some leaf."""
    return any(not is_layer(submodule(root, leaf)) for leaf in leaf_modules)
