"""A model on several forms of inputs: the same tree, run once for each form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from torch import nn

from ..errors import TraceError
from ..model.example_inputs import ExampleInputs, Forms
from ..model.tree import Output
from .ladder import trace_model
from .traced import Traced


def trace_forms(
    model: nn.Module,
    example_inputs: ExampleInputs | None = None,
    *,
    leaf_modules: Iterable[str | type] = (),
    output: Output = "graph",
) -> Traced:
    """Trace a model on each form of inputs that is given, as `trace_model` does on one.

    Raises:
        TraceError: It does not run on one of them, or several are given for a graph.
    """
    if not isinstance(example_inputs, Forms):
        return trace_model(model, example_inputs, leaf_modules=leaf_modules, output=output)
    if len(example_inputs.examples) > 1 and output != "module":
        raise TraceError(
            "a graph holds the path of one form of inputs; for several forms grow with output='module', "
            "whose student runs the model's own code"
        )
    leaves = list(leaf_modules)
    first, *others = [
        trace_model(model, example, leaf_modules=leaves, output=output) for example in example_inputs.examples
    ]
    notes = dict.fromkeys(note for one in (first, *others) for note in one.notes)
    return replace(first, forms=tuple(others), notes=tuple(notes))
