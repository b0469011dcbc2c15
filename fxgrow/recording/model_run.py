"""What the model itself does in each mode, and whether it keeps state that no graph would keep."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..base.content import digest, storage_of
from ..base.progress import step
from ..errors import GrowError, TraceError, in_words
from ..model.copies import Inventory, clone_to_run, inventory
from ..model.example_inputs import ModelInputs, inputs_hint
from ..model.kept_state import attributes_of, counts, is_same, who_keeps
from ..model.provenance import NOT_THEIRS, in_package
from ..model.tree import MODES, Mode
from .answers import GRADIENTS, Answers
from .failures import Shared, failures_noted
from .recall import Recall
from .returned import plain_values
from .run import ModelRun, TapedRun
from .switching import switched
from .tape import Tape


class RunError(TraceError):
    """The model itself fails on the inputs."""


def run_model(
    model: nn.Module,
    inputs: ModelInputs,
    theirs: Mapping[str, Tensor],
    recall: Recall | None = None,
    known: Inventory | None = None,
) -> tuple[dict[Mode, ModelRun], ModelInputs]:
    """The model's own tape in each mode that it runs in; train mode may need a larger batch.

    Args:
        model: A copy of the model.
        inputs: The example inputs.
        theirs: The parameters and buffers of the model itself, which no run of the copy may read.
        recall: Of runs of the model.
        known: What the copy consists of, where that is known.

    Raises:
        RunError: It runs in no mode.
        TraceError: The copy is no model of its own: it reads what is the model's, or asks for a state.
    """
    try:
        return {mode: record(model, mode, inputs, theirs, recall, known) for mode in MODES}, inputs
    except RunError as error:
        for candidate in (inputs.doubled(), inputs):
            tapes: dict[Mode, ModelRun] = {}
            for mode in MODES:
                with suppress(RunError):
                    tapes[mode] = record(model, mode, candidate, theirs, recall, known)
            if len(tapes) == 2 or (tapes and candidate is inputs and not inputs.guessed):
                return tapes, candidate
        raise error from None


def record(
    model: nn.Module,
    mode: Mode,
    inputs: ModelInputs,
    theirs: Mapping[str, Tensor],
    recall: Recall | None = None,
    known: Inventory | None = None,
) -> ModelRun:
    """What a model does in a mode; it is on the meta device, or runs for real.

    Raises:
        RunError: It fails.
        TraceError: It reads one of `theirs`, or computes something else where gradients are recorded.
    """
    root = clone_to_run(model, real=inputs.real, known=known)
    held, switching = _switched(root, mode)
    before, kinds = attributes_of(held.paths), _kinds(held)
    run, answers, held = _record_once(root, mode, inputs, held, theirs, recall=recall)
    if answers.hooks:
        raise TraceError(f"{type(model).__name__} registers a hook on a gradient (at {answers.hooks[0]})")
    first = attributes_of(held.paths)
    changed = [key for key, value in first.items() if not is_same(before.get(key, root), value)]
    if changed:
        repeated, _, held = _record_once(root, mode, inputs, held, recall=recall)
        again = repeated.result != run.result
        second = {} if again else attributes_of(held.paths)
        state = [key for key in changed if again or counts(first[key], second.get(key))]
        run = replace(run, stateful=frozenset(who_keeps(root, path, key) for path, key in state))
    run = replace(run, stateful=run.stateful | switching)
    if _kinds(held) != kinds:  # as after `self.layer.float()(x)` or `self.norm.eval()(x)`
        run = replace(run, stateful=run.stateful | {""})
    for question, line in answers.asked.items():
        _check_answer(model, mode, inputs, run, question, line, recall)
    return run


def _kinds(held: Inventory) -> tuple[dict[str, torch.dtype], list[bool]]:
    """The dtypes of the tensors and the modes of the modules, which a call in a graph would not change."""
    return {name: t.dtype for name, t in held.tensors.items()}, [module.training for _, module in held.paths]


def _switched(root: nn.Module, mode: Mode) -> tuple[Inventory, frozenset[str]]:
    try:
        return switched(root, mode)
    except TraceError:
        raise
    except Exception as error:
        raise RunError(f"{type(root).__name__} does not switch to {mode} mode: {in_words(error)}") from error


def _check_answer(
    model: nn.Module,
    mode: Mode,
    inputs: ModelInputs,
    run: ModelRun,
    question: str,
    line: str,
    recall: Recall | None,
) -> None:
    """Refuse a model that computes something else where a question about global state has the other answer.

    Raises:
        TraceError: It does, or it does not run then.
    """

    def other(opposite: frozenset[str], *, gradients: bool) -> tuple[ModelRun, Answers]:
        root = clone_to_run(model, real=inputs.real)
        held, _ = _switched(root, mode)
        return _record_once(root, mode, inputs, held, opposite=opposite, gradients=gradients, recall=recall)[:2]

    asks = f"{type(model).__name__} asks {question} (at {line})"
    try:
        if question == GRADIENTS:  # both with gradients recorded, where torch may choose other operators
            run, _ = other(frozenset((question,)), gradients=True)
            opposite, answers = other(frozenset(), gradients=True)
            if answers.hooks:
                raise TraceError(f"{asks} and registers a hook on a gradient (at {answers.hooks[0]})")
        else:
            opposite, _ = other(frozenset((question,)), gradients=False)
    except RunError as error:
        raise TraceError(f"{asks}, and does not run where the answer is the other one: {error}") from error
    if opposite.result != run.result:
        raise TraceError(
            f"{asks}, and computes something else where the answer is the other one; fxgrow takes only one path"
        )


def _record_once(
    root: nn.Module,
    mode: Mode,
    inputs: ModelInputs,
    held: Inventory,
    theirs: Mapping[str, Tensor] | None = None,
    *,
    opposite: frozenset[str] = frozenset(),
    gradients: bool = False,
    recall: Recall | None = None,
) -> tuple[ModelRun, Answers, Inventory]:
    """What a tree that consists of this does, what its code asked, and what it consists of afterwards."""
    run = TapedRun(
        root, inputs, Tape, real=inputs.real, opposite=opposite, gradients=gradients, recall=recall, known=held
    )
    marked = [(name, tensor, dict(vars(tensor))) for name, tensor in run.tensors.items()]
    try:
        with step(f"recording in {mode} mode"), failures_noted(run.tape) as shared:
            result = run.module()
        if run.tape.failure is not None:  # and the model has caught it
            raise run.tape.failure
    except GrowError:
        raise
    except Exception as error:
        where = "" if inputs.real else " on the meta device"
        raise RunError(
            f"{type(root).__name__} does not run on {inputs} in {mode} mode{where}: "
            f"{in_words(error)}{source_location(error)}{inputs_hint((inputs.args, dict(inputs.kwargs)))}"
        ) from error
    finally:
        run.tape.failure = None  # its traceback holds the tape
    digests = run.digests(result)  # which also reads what no call has read
    _check_memory(root, shared)
    _check_marks(marked)
    held = inventory(root)
    _check_own(root, held, run, theirs or {})
    return ModelRun(run.tape.calls, digests, plain_values(result), written=run.written()), run.answers, held


def _check_memory(root: nn.Module, shared: Shared) -> None:
    """Check that a run wrote to no tensor beside torch's operators, which a tape would not see.

    Raises:
        TraceError: It did.
    """
    for tensor, before, line in shared:
        if digest(tensor) != before:
            raise TraceError(
                f"{type(root).__name__} shares the memory of a tensor with numpy (at {line}), and writes into it; "
                "work on a copy"
            )


def _check_marks(marked: list[tuple[str, Tensor, dict[str, Any]]]) -> None:
    """Check that a run put no attributes on parameters and buffers, which a student would not have, or another.

    Raises:
        TraceError: It did.
    """
    for name, tensor, before in marked:
        new = [key for key, value in vars(tensor).items() if value is not before.get(key, marked)]
        if new or len(before) != len(vars(tensor)):
            vars(tensor).clear()
            vars(tensor).update(before)
            what = f"the attribute {new[0]!r}" if new else "an attribute"
            raise TraceError(f"forward changes {what} of the tensor {name!r}, which is state that no state_dict holds")


def _check_own(root: nn.Module, held: Inventory, run: TapedRun[Tape], theirs: Mapping[str, Tensor]) -> None:
    """Check that a copy of a model read none of the model's own tensors.

    Raises:
        TraceError: It did, because something that a copy shares with the model holds them.
    """
    own = set(map(id, held.tensors.values()))
    memory = {storage_of(t): name for name, t in theirs.items() if id(t) not in own}
    for tensor in run.tape.met():
        name = memory.get(storage_of(tensor))
        if name is not None and id(tensor) not in own:
            raise TraceError(
                f"{type(root).__name__} reads {name!r} by another way than through its modules (a closure, a weak "
                "reference, a global variable), so that a student would compute with the teacher's; let it read "
                f"self.{name}"
            )
    if theirs and run.tape.strangers and not run.tape.real:
        where = run.tape.strangers[0][1]
        raise TraceError(
            f"{type(root).__name__} reads a tensor on the meta device that no operation made ({where}), so that its "
            "numbers are not known"
        )


def explain(error: BaseException) -> str:
    """An exception in one line, with the place in the user's code."""
    reason = in_words(error)
    told = reason.partition(": ")[2] if isinstance(error, TraceError) else reason
    return f"{told}{source_location(error)}"


def source_location(error: BaseException) -> str:
    """Where in the user's code an error arose: the last frame that is neither of torch nor of this package."""
    theirs = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(NOT_THEIRS)]
    return f" (at {in_package(theirs[-1].filename)}:{theirs[-1].lineno}: {theirs[-1].line})" if theirs else ""
