"""Growth by a schedule in a Lightning `Trainer` (the extra `lightning`): `lightning` or `pytorch_lightning`.

The network is an attribute of the LightningModule. At a growth its student takes its place there, and the optimizers of
the trainer, with Lightning's own wrappers and the schedulers, train it on. A checkpoint of Lightning holds the plans; a
run that goes on from it (`ckpt_path=`) first grows the new network by those that it lacks, so that the weights fit.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from ..errors import GrowError
from ..model.copies import named_parameters
from ..model.tree import module_at
from ..model.walk import modules, named_modules
from ..plans.growth_plan import Plan
from ..rewrite.apply_plans import apply_plans
from ..rewrite.lineage import plan_left, plan_of
from ..state.warmup import resume_warmup, warmup_state
from .schedule import GrowthSchedule

_HOOK = "on_load_checkpoint"
_PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def _package() -> Any:
    """The package that the user has imported, or else has."""
    loaded = [name for name in _PACKAGES if name in sys.modules]
    there = [name for name in _PACKAGES if importlib.util.find_spec(name.partition(".")[0]) is not None]
    if not loaded + there:
        raise ImportError("fxgrow.training.lightning needs Lightning: pip install 'fxgrow[lightning]'")
    return importlib.import_module((loaded + there)[0])


class GrowthCallback(_package().Callback):  # type: ignore[misc]
    """Grows the network of a LightningModule by a schedule.

    Args:
        schedule: When, and what. Its steps are the trainer's `global_step`; its epochs those of training.
        attribute: The path of the network in the LightningModule ("model", "net.backbone").
        monitor: The logged metric that a `Plateau` looks at.

    Example:
        >>> from fxgrow.training.lightning import GrowthCallback  # doctest: +SKIP
        >>> schedule = fxgrow.GrowthSchedule({1000: 1.5}, images)  # doctest: +SKIP
        >>> Trainer(callbacks=[GrowthCallback(schedule, "net")])  # doctest: +SKIP
    """

    def __init__(self, schedule: GrowthSchedule[Any], attribute: str = "model", monitor: str | None = None) -> None:
        super().__init__()
        self.schedule, self.attribute, self.monitor = schedule, attribute, monitor
        self._network: nn.Module | None = None
        self._counted = 0
        self._optimizers: Callable[[], Sequence[Any]] = tuple
        self._warmups: Sequence[Any] = ()  # of a checkpoint, until its optimizers are there

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Look for the network, and be there when a checkpoint is loaded: the network grows before its weights come.

        Callbacks get their state after that, so only the LightningModule's own hook is early enough.
        """
        self._network = self._find(pl_module)
        self._counted = trainer.global_step
        self._optimizers = lambda: trainer.optimizers
        theirs = pl_module.on_load_checkpoint

        def grow_first(checkpoint: dict[str, Any]) -> None:
            vars(pl_module).pop(_HOOK, None)
            self._regrow(pl_module, checkpoint)
            theirs(checkpoint)

        vars(pl_module)[_HOOK] = grow_first

    def _regrow(self, pl_module: nn.Module, checkpoint: Mapping[str, Any]) -> None:
        text = checkpoint.get("callbacks", {}).get(self.state_key, {}).get("plan")
        network = self._find(pl_module)
        left = plan_left(Plan.from_json(text), network) if text else None
        if left is not None:
            self._put(pl_module, apply_plans(left, network))

    def on_fit_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """Leave the LightningModule's hook as it was, where no checkpoint was loaded."""
        vars(pl_module).pop(_HOOK, None)

    def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """Go on with the warm-ups of a checkpoint, now that its optimizers are loaded."""
        for optimizer, warmup in zip(trainer.optimizers, self._warmups, strict=False):
            resume_warmup(optimizer, self._find(pl_module), warmup)
        self._warmups = ()

    def teardown(self, trainer: Any, pl_module: nn.Module, stage: str) -> None:
        """The same, at the end of other stages."""
        vars(pl_module).pop(_HOOK, None)

    def on_train_batch_end(self, trainer: Any, pl_module: nn.Module, *_: Any) -> None:
        """Count the steps of the optimizer since the last batch: fewer than batches where gradients are accumulated."""
        for _step in range(trainer.global_step - self._counted):
            self._put(pl_module, self.schedule.step(self._checked(trainer, pl_module), trainer.optimizers))
        self._counted = trainer.global_step

    def on_train_epoch_end(self, trainer: Any, pl_module: nn.Module) -> None:
        """Count an epoch, after its validation."""
        metric = trainer.callback_metrics.get(self.monitor) if self.monitor else None
        network = self._checked(trainer, pl_module)
        self._put(pl_module, self.schedule.epoch(network, trainer.optimizers, metric=metric))

    def state_dict(self) -> dict[str, Any]:
        """What Lightning keeps in its checkpoints."""
        network = self._network
        plan = None if network is None else plan_of(network)
        warmups = [None if network is None else warmup_state(one, network) for one in self._optimizers()]
        return {
            "schedule": self.schedule.state_dict(), "plan": plan and plan.to_json(), "counted": self._counted,
            "warmups": warmups,
        }  # fmt: skip

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where the checkpoint's run was."""
        self.schedule.load_state_dict(state_dict["schedule"])
        self._counted = state_dict["counted"]
        self._warmups = state_dict.get("warmups", ())  # none in checkpoints of before

    def _find(self, pl_module: nn.Module) -> nn.Module:
        try:
            return module_at(pl_module, self.attribute)
        except AttributeError:
            names = ", ".join(name for name, _ in pl_module.named_children())
            raise GrowError(
                f"{type(pl_module).__name__} has no module {self.attribute!r} to grow; it has {names}"
            ) from None

    def _checked(self, trainer: Any, pl_module: nn.Module) -> nn.Module:
        if trainer.world_size > 1 or trainer.strategy.model is not pl_module:
            raise GrowError(
                f"{type(trainer.strategy).__name__} wraps the model, and a wrapper goes on with the parameters that it "
                "had; grow between two runs of the trainer there"
            )
        return self._find(pl_module)

    def _put(self, pl_module: nn.Module, network: nn.Module) -> None:
        if network is not (before := self._find(pl_module)):
            _tie(pl_module, before, network)
        self._network = network
        parent, _, name = self.attribute.rpartition(".")
        holder = module_at(pl_module, parent) if parent else pl_module
        if getattr(holder, name) is not network:
            setattr(holder, name, network)


def _tie(pl_module: nn.Module, network: nn.Module, student: nn.Module) -> None:
    """Let what is beside a network and shares parameters with it share those of its student.

    Raises:
        GrowError: One has another shape now.
    """
    names = {id(parameter): name for name, parameter in named_parameters(network).items()}
    inside = {id(module) for module in modules(network)}
    for path, module in named_modules(pl_module):
        for own, parameter in module._parameters.items() if id(module) not in inside else ():
            if parameter is None or id(parameter) not in names:
                continue
            name = names[id(parameter)]
            grown = student.get_parameter(name)
            if grown.shape != parameter.shape:
                raise GrowError(
                    f"{path}.{own} is {name} of the network, which has grown from {tuple(parameter.shape)} to "
                    f"{tuple(grown.shape)}: grow a module that holds both"
                )
            module._parameters[own] = grown
