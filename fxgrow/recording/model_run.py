"""What the model itself does in each mode, and whether it keeps state that no graph would keep."""

from __future__ import annotations

import operator
import traceback
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ..errors import GrowError, TraceError
from ..model.copies import clone_to_run
from ..model.example_inputs import ModelInputs
from ..model.provenance import NOT_THEIRS
from ..model.tree import MODES, Mode
from .run import ModelRun, TapedRun
from .tape import Tape


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
    root = clone_to_run(model, real=inputs.real)
    root.train(mode == "train")
    before = _attributes(root)
    run = _record_once(root, mode, inputs)
    changed = [key for key, value in _attributes(root).items() if not _same(before.get(key, root), value)]
    if changed and _record_once(root, mode, inputs).result != run.result:
        return replace(run, stateful=frozenset(path for path, _ in changed))
    return run


def _record_once(root: nn.Module, mode: Mode, inputs: ModelInputs) -> ModelRun:
    run = TapedRun(root, inputs, Tape, real=inputs.real)
    try:
        result = run.module()
    except GrowError:
        raise
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        where = "" if inputs.real else " on the meta device"
        raise RunError(
            f"{type(root).__name__} does not run on {inputs} in {mode} mode{where}: "
            f"{type(error).__name__}: {reason}{source_location(error)}"
        ) from error
    return ModelRun(run.tape.calls, run.digests(result))


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


def source_location(error: BaseException) -> str:
    """Where in the user's code an error arose: the last frame that is neither of torch nor of this package."""
    theirs = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(NOT_THEIRS)]
    return f" (at {theirs[-1].filename}:{theirs[-1].lineno}: {theirs[-1].line})" if theirs else ""
