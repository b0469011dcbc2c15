"""Growth by a schedule in the `Trainer` of transformers (the extra `transformers`).

That trainer holds its model in several places, so the object stays and takes over what its student is made of: its
modules, parameters, attributes and config. The schedule is one of `output="module"`.

A checkpoint folder of the trainer gets a file with the plans. A run that goes on from it grows the new model first:

    callback = GrowthCallback(schedule)
    callback.resume(model, "out/checkpoint-500")
    trainer = Trainer(model, ..., callbacks=[callback])
    trainer.train(resume_from_checkpoint="out/checkpoint-500")
"""

from __future__ import annotations

import functools
import json
import os
from collections import OrderedDict
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from ..errors import GrowError, PlanError
from ..model.walk import modules
from ..plans.growth_plan import Plan
from ..rewrite.apply_plans import apply_plans
from ..rewrite.lineage import plan_left, plan_of
from ..state.warmup import resume_warmup, warmup_state
from .schedule import GrowthSchedule

FILE, WARMUP = "fxgrow_growth.json", "fxgrow_warmup.pt"  # in a checkpoint folder


class GrowthCallback(TrainerCallback):
    """Grows the model of a `Trainer` by a schedule.

    Args:
        schedule: When, and what, with `output="module"`. Its steps are those of the optimizer. A `Plateau` looks at
            `monitor` after each evaluation, which counts as an epoch does.
        monitor: A metric of the evaluation ("eval_loss").

    Raises:
        PlanError: The schedule makes graphs.
    """

    def __init__(self, schedule: GrowthSchedule[Any], monitor: str | None = None) -> None:
        if schedule.output != "module":
            raise PlanError('a Trainer keeps the model\'s class: make the schedule with output="module"')
        self.schedule, self.monitor = schedule, monitor
        self._warmup: Any = None  # of a checkpoint, until its optimizer is there

    def resume(self, model: nn.Module, folder: str | os.PathLike[str]) -> None:
        """Grow a model in place to what the one in a checkpoint folder was, and go on with the schedule there.

        The model may be new, or have been grown already as the other one was at some time.

        Raises:
            GrowError: The folder has no file of this callback, or the model is another one.
        """
        try:
            data = json.loads(Path(folder, FILE).read_text(encoding="utf-8"))
            state, text = data["schedule"], data["plan"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise GrowError(f"{folder} has no {FILE} that can be read: {error}") from error
        left = plan_left(Plan.from_json(text), model) if text else None
        if left is not None:
            become(model, apply_plans(left, model))
        self.schedule.load_state_dict(state)
        warmup = Path(folder, WARMUP)
        self._warmup = torch.load(warmup, weights_only=True) if warmup.is_file() else None

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Refuse what wraps the model in every process, and go on with the warm-up of a checkpoint."""
        ranks = torch.distributed
        if ranks.is_available() and ranks.is_initialized() and ranks.get_world_size() > 1:
            raise GrowError("a Trainer of several processes wraps the model; grow between two runs there")
        if given.get("optimizer") is not None:  # loaded by now
            resume_warmup(given["optimizer"], given["model"], self._warmup)
            self._warmup = None

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Count a step of the optimizer."""
        self._take(given, self.schedule.step(given["model"], given.get("optimizer")))

    def on_epoch_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Count an epoch, where no metric is monitored."""
        if self.monitor is None:
            self._take(given, self.schedule.epoch(given["model"], given.get("optimizer")))

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **given: Any) -> None:
        """Look at the metric."""
        if self.monitor is not None and given.get("optimizer") is not None:
            metric = (metrics or {}).get(self.monitor)
            self._take(given, self.schedule.epoch(given["model"], given["optimizer"], metric=metric))

    def on_save(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Put the plans beside the trainer's checkpoint."""
        plan = plan_of(given["model"])
        folder = Path(args.output_dir, f"checkpoint-{state.global_step}")
        data = {"schedule": self.schedule.state_dict(), "plan": plan and plan.to_json()}
        if folder.is_dir():
            Path(folder, FILE).write_text(json.dumps(data), encoding="utf-8")
            warmup = warmup_state(given["optimizer"], given["model"]) if given.get("optimizer") is not None else None
            if warmup is not None:
                torch.save(warmup, folder / WARMUP)

    def _take(self, given: dict[str, Any], student: nn.Module) -> None:
        if student is not given["model"]:
            become(given["model"], student)


def become(model: nn.Module, student: nn.Module) -> None:
    """Make a model what its student is; the object stays. The student is used up.

    Raises:
        GrowError: They are of different classes.
    """
    if type(model) is not type(student):
        raise GrowError(f"a {type(model).__name__} cannot become a {type(student).__name__}")
    for module in modules(student):
        for name, value in list(vars(module).items()):
            if (meant := _of(value, student, model)) is not value:
                vars(module)[name] = meant
    vars(model).clear()
    vars(model).update(vars(student))


_DEEPEST = 4  # containers within containers, in which an attribute may hold the model


def _of(value: Any, student: nn.Module, model: nn.Module, depth: int = 0) -> Any:
    """The same with the model where the student is meant, as in a bound `forward`, which accelerate puts there."""
    if value is student:
        return model
    if isinstance(value, MethodType):
        return MethodType(value.__func__, model) if value.__self__ is student else value
    parts = _parts(value) if depth < _DEEPEST else None
    if parts is None:
        return value
    meant = [_of(part, student, model, depth + 1) for part in parts]
    if all(new is old for new, old in zip(meant, parts, strict=True)):
        return value
    if isinstance(value, functools.partial):
        return functools.partial(meant[0], *meant[1], **meant[2])
    return type(value)(zip(value, meant, strict=True) if isinstance(value, dict) else meant)


def _parts(value: Any) -> list[Any] | None:
    """What a container or a partial function holds; None of all else."""
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if type(value) in (dict, OrderedDict):
        return list(value.values())
    return list(value) if type(value) in (list, tuple) else None
