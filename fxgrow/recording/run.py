"""What a model does: its tapes on meta tensors, in each mode, checked for state that no graph would keep."""

from __future__ import annotations

import operator
import traceback
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..base.isolation import same_randomness
from ..base.torch_private import pytree
from ..errors import GrowError, TraceError
from ..model.call_args import bind
from ..model.copies import clone_owned, clone_shared, named_tensors, plain_tensors
from ..model.example_inputs import ModelInputs, for_a_run
from ..model.provenance import NOT_THEIRS
from ..model.tree import MODES, Mode
from .runner import watched
from .tape import Call, Shape, Tape


@dataclass(frozen=True, slots=True)
class ModelRun:
    """What one run did.

    Attributes:
        calls: Its calls.
        result: The digests of what it left behind.
        stateful: The modules that keep something in attributes which the next run sees.
    """

    calls: list[Call]
    result: tuple[tuple[int, Shape], ...]
    stateful: frozenset[str] = frozenset()


class RunError(TraceError):
    """The model itself fails on the inputs."""


def run_model(model: nn.Module, inputs: ModelInputs) -> tuple[dict[Mode, ModelRun], ModelInputs]:
    """The model's own tape in each mode that it runs in; train mode may need a larger batch."""
    try:
        return {mode: record(model, mode, inputs) for mode in MODES}, inputs
    except RunError as error:
        for candidate in (inputs.doubled(), inputs):
            tapes: dict[Mode, ModelRun] = {}
            for mode in MODES:
                with suppress(RunError):
                    tapes[mode] = record(model, mode, candidate)
            if len(tapes) == 2 or (tapes and candidate is inputs and not inputs.guessed):
                return tapes, candidate
        raise error from None


def record(model: nn.Module, mode: Mode, inputs: ModelInputs) -> ModelRun:
    """What a model does in a mode; it is on the meta device, or runs for real.

    Raises:
        RunError: It fails.
    """
    root = clone_owned(model) if inputs.real else clone_shared(model)
    root.train(mode == "train")
    before = _attributes(root)
    run = _record_once(root, mode, inputs)
    changed = [key for key, value in _attributes(root).items() if not _same(before.get(key, root), value)]
    if changed and _record_once(root, mode, inputs).result != run.result:
        return replace(run, stateful=frozenset(path for path, _ in changed))
    return run


def _record_once(root: nn.Module, mode: Mode, inputs: ModelInputs) -> ModelRun:
    names = named_tensors(root)
    args, kwargs = for_a_run((inputs.args, dict(inputs.kwargs)))
    given = named_inputs(bind(root, ModelInputs(args, kwargs)))
    tape = Tape({**names, **given}, plain_tensors(root), real=inputs.real)
    try:
        with same_randomness(), torch.no_grad(), tape, watched(root, tape):
            result = root(*args, **kwargs)
    except GrowError:
        raise
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        where = "" if inputs.real else " on the meta device"
        raise RunError(
            f"{type(root).__name__} does not run on {inputs} in {mode} mode{where}: "
            f"{type(error).__name__}: {reason}{source_location(error)}"
        ) from error
    return ModelRun(tape.calls, tape.result(result, {**names, **given}))


def _attributes(root: nn.Module) -> dict[tuple[str, str], Any]:
    return {
        (path, key): _content(value)
        for path, module in root.named_modules()
        for key, value in vars(module).items()
        if not key.startswith("_") and key != "training"
    }


@dataclass(frozen=True, slots=True)
class _Content:
    """What a container holds, kept so that its entries stay themselves; an iterator is never what it was."""

    entries: tuple[Any, ...] | None


def _content(value: Any) -> Any:
    if isinstance(value, dict):
        return _Content((*value.keys(), *value.values()))
    if isinstance(value, list | set):
        return _Content(tuple(value))
    return _Content(None) if hasattr(value, "__next__") else value


def _same(before: Any, after: Any) -> bool:
    if not isinstance(before, _Content) or not isinstance(after, _Content):
        return before is after
    if before.entries is None or after.entries is None:
        return False
    return len(before.entries) == len(after.entries) and all(map(operator.is_, before.entries, after.entries))


def tape_of(root: nn.Module, arguments: Any, *, real: bool) -> Tape:
    """A tape that knows the parameters, buffers and inputs of a run by name."""
    return Tape({**named_tensors(root), **named_inputs(arguments)}, plain_tensors(root), real=real)


def named_inputs(structure: Any) -> dict[str, Tensor]:
    """The tensors of an input structure, each with a name of its own."""
    tensors = [leaf for leaf in pytree.tree_leaves(structure) if isinstance(leaf, Tensor)]
    return {f"input {i}": tensor for i, tensor in enumerate(tensors)}


def source_location(error: BaseException) -> str:
    """Where in the user's code an error arose: the last frame that is neither of torch nor of this package."""
    theirs = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(NOT_THEIRS)]
    return f" (at {theirs[-1].filename}:{theirs[-1].lineno}: {theirs[-1].line})" if theirs else ""
