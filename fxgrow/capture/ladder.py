"""From a model to its graph in up to three attempts; the result of each is compared with the model.

1. FX with proxies that carry values (`tracer`): control flow on shapes follows the example inputs.
2. The smallest submodule that cannot be traced, or whose trace computes something else, becomes a leaf.
3. The whole model is one call (`model.opaque`).

The comparison is of tapes: the ATen calls of the model and of its trace on meta tensors, and the values that each call
reads. A trace that lost a skip connection or took another branch has another tape.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace

from torch import nn

from ..base.generators import same_randomness
from ..base.isolation import no_collection
from ..base.progress import step
from ..errors import TraceError
from ..model.copies import Inventory, inventory, on_meta
from ..model.example_inputs import ExampleInputs, ModelInputs, as_inputs, as_real_inputs
from ..model.guesses import guesses
from ..model.layer_kinds import is_hooked
from ..model.sharded import is_sharded, whole
from ..model.shared_memory import buffers_that_share, check_apart, check_written
from ..model.supported import check_supported, leaf_references
from ..model.tree import MODES, Output
from ..model.walk import named_modules
from ..recording.constants import infinite_tensors
from ..recording.model_run import RunError, run_model
from ..recording.recall import Recall
from .draft import Draft
from .notes import NUMBERS, UNSEEN
from .traced import Traced


def trace_model(
    model: nn.Module,
    example_inputs: ExampleInputs | None = None,
    *,
    leaf_modules: Iterable[str | type] = (),
    output: Output = "graph",
) -> Traced:
    """Trace a model in both modes; the model itself is not touched.

    Args:
        model: Any module with real floating-point parameters, which may be parts of larger tensors (FSDP2).
        example_inputs: A tensor, a tuple of arguments, a dict of keyword arguments; None: guessed from
            the first layer, trying usual sizes on the meta device.
        leaf_modules: Names or classes of submodules to keep as calls.
        output: "module" keeps the whole model as one call.

    Raises:
        TraceError: The model does not run on the inputs, or holds what fxgrow does not grow.
    """
    if is_sharded(model):
        model = whole(model)
    held = check_supported(model)
    if output not in ("graph", "module"):
        raise TraceError(f"output is 'graph' or 'module', not {output!r}")
    leaves = _named_leaves(model, leaf_modules)
    with step("tracing"):
        if example_inputs is not None:
            return _trace_example(model, held, example_inputs, leaves, output)
        return _trace_guess(model, held, leaves, output)


def _trace_guess(model: nn.Module, held: Inventory, leaves: frozenset[str], output: Output) -> Traced:
    """Trace on the first guess of inputs that runs.

    Raises:
        TraceError: None does.
    """
    tried: list[str] = []
    why = ""
    for guess in guesses(model):
        try:
            return _trace(model, held, guess, leaves, output)
        except RunError as error:
            tried.append(str(guess))
            why = str(error)
    raise TraceError(f"no input that was tried ran; give example_inputs. Tried {'; '.join(tried)}. Last: {why}")


def _trace_example(
    model: nn.Module, held: Inventory, example: ExampleInputs, leaves: frozenset[str], output: Output
) -> Traced:
    """Trace on meta; where not both modes run there, for real: the model may ask for the numbers in tensors.

    Raises:
        TraceError: It runs on neither.
    """
    why: tuple[str, BaseException | None] = "", None  # not the error itself, whose traceback holds all of its frames
    meta_trace: Traced | None = None
    try:
        meta_trace = _trace(model, held, as_inputs(example), leaves, output)
    except RunError as error:
        why = str(error), error.__cause__
    if meta_trace is not None and len(meta_trace.tapes) == len(MODES):
        return meta_trace
    inputs = as_real_inputs(example)
    on_meta = inputs is None or any(t.is_meta for t in held.tensors.values())
    if inputs is not None and not on_meta:
        try:
            real = _trace(model, held, inputs, leaves, output)
            if meta_trace is None or len(real.tapes) > len(meta_trace.tapes):
                return replace(real, notes=(*real.notes, NUMBERS))
        except RunError as error:
            why = str(error), error.__cause__
    if meta_trace is not None:
        return meta_trace
    advice = "; if its control flow depends on tensor values, give real example_inputs" if on_meta else ""
    raise TraceError(f"{why[0]}{advice}") from why[1]


def _named_leaves(model: nn.Module, wanted: Iterable[str | type]) -> frozenset[str]:
    paths: set[str] = set()
    leaves = leaf_references(wanted)
    modules = dict(named_modules(model)) if leaves else {}
    for leaf in leaves:
        names = [n for n, m in modules.items() if n and (n == leaf or (isinstance(leaf, type) and isinstance(m, leaf)))]
        if not names:
            raise TraceError(f"leaf_modules names {leaf!r:.80}, but the model has no such module")
        paths.update(names)
    return frozenset(paths)


def _trace(model: nn.Module, held: Inventory, inputs: ModelInputs, leaves: frozenset[str], output: Output) -> Traced:
    theirs = held.tensors
    infinite = infinite_tensors(theirs)
    check_apart(theirs)
    shared = buffers_that_share(held)
    if not inputs.real:
        model = on_meta(model, held)
        held = inventory(model)
    with same_randomness(), nullcontext() if inputs.real else no_collection():
        recall = Recall() if inputs.real else None
        tapes, inputs = run_model(model, inputs, theirs, recall, held)
        drawn = Draft(model, held, inputs, tapes, leaves, infinite, recall)
        for run in tapes.values():
            check_written(shared, run.written)
            leaves |= run.stateful
        if output == "module":
            own = drawn.as_opaque("")
            return replace(own, output=output, notes=(*own.notes, f"the model's own code runs{UNSEEN}"))
        if is_hooked(model):
            return drawn.as_opaque("it has hooks of its own")
        try:
            return drawn.climb(leaves)
        except TraceError as error:
            return drawn.as_opaque(str(error))
