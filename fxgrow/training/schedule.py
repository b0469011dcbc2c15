"""A schedule of growths, for a loop of the user's own and for the callbacks of frameworks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from .. import methods
from ..api import LeafModules, Resize, grow, plan, reasons, widths
from ..base.scalars import as_int, as_number
from ..base.wording import a_type
from ..errors import GrowError, PlanError, TraceError
from ..model.copies import clone_owned, on_meta
from ..model.example_inputs import ExampleInputs
from ..model.supported import leaf_references
from ..model.tree import Output
from ..model.walk import named_modules
from ..plans.growth_plan import Plan
from ..rewrite.lineage import plan_of
from ..rewrite.student import check_calibration, student_of
from ..spec.parse import Spec, parse
from ..state.optimizer import Optimizers
from ..state.warmup import checked_steps
from .triggers import Epoch, Plateau, Step, Trigger, in_time, trigger

Key = TypeVar("Key", bound="int | Trigger")


class GrowthSchedule(Generic[Key]):
    """Growths at steps, at epochs or at plateaus of a metric.

    Public are `step`, `epoch`, `rehearse`, `state_dict`, `load_state_dict`, `steps`, `epochs` and `finished`.

    Example:
        >>> import fxgrow, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> optimizer = torch.optim.Adam(model.parameters())
        >>> schedule = fxgrow.GrowthSchedule({2: 1.5, fxgrow.Epoch(1): {"0": 16}}, torch.randn(5, 4))
        >>> for batch in torch.randn(3, 5, 4):
        ...     optimizer.zero_grad()
        ...     model(batch).square().mean().backward()
        ...     optimizer.step()
        ...     model = schedule.step(model, optimizer)
        >>> model = schedule.epoch(model, optimizer)
        >>> model.get_submodule("0"), schedule.finished
        (Linear(in_features=4, out_features=16, bias=True), True)
    """

    def __init__(
        self,
        growths: Mapping[Key, Spec],
        example_inputs: ExampleInputs | None = None,
        *,
        seed: int = 0,
        method: str = methods.DEFAULT,
        output: Output = "graph",
        leaf_modules: LeafModules = (),
        calibration: Iterable[ExampleInputs] | None = None,
        reset: bool = False,
        warmup: int = 0,
        resize: Resize | None = None,
        progress: bool | None = False,
    ) -> None:
        """A schedule that has not begun.

        Args:
            growths: When (an int for steps, `Step`, `Epoch` or `Plateau`) and what, as for `grow`.
            example_inputs: As for `grow`, of the model at each growth.
            seed: As for `grow`.
            method: As for `grow`.
            output: As for `grow`.
            leaf_modules: As for `grow`.
            calibration: As for `grow`; gone through at each growth that calibrates, so no iterator where several do.
            reset: As for `grow`.
            warmup: As for `grow`.
            resize: As for `grow`; called after each growth.
            progress: As for `grow`; by default no bar, since a loop has its own.

        Raises:
            PlanError: It is no schedule, or a specification is none.
            TraceError: `leaf_modules` are none.
        """
        if not isinstance(growths, Mapping) or not growths:
            raise PlanError(
                f"a schedule is a mapping of steps, epochs or plateaus to what grows, not {a_type(growths)}"
            )
        self._growths: list[tuple[Trigger, Spec]] = [(trigger(key), spec) for key, spec in growths.items()]
        asked = [parse(spec) for _, spec in self._growths]
        calibrating = [one for one in asked if any(getattr(request, "calibrated", False) for request in one)]
        if isinstance(calibration, Iterator) and len(calibrating) > 1:
            raise PlanError(
                f"{len(calibrating)} growths of the schedule are calibrated, and an iterator is empty after the first: "
                "give a list of batches or a DataLoader"
            )
        checked_steps(warmup)
        self._example_inputs = example_inputs
        self._options: dict[str, Any] = {
            "seed": seed, "method": method, "output": output, "leaf_modules": leaf_references(leaf_modules),
            "calibration": calibration, "reset": reset, "warmup": warmup, "resize": resize, "progress": progress,
        }  # fmt: skip
        self.steps = self.epochs = 0
        self._done: list[int] = []
        self._best: float | None = None
        self._waited = 0

    @property
    def finished(self) -> bool:
        """Whether all growths were made."""
        return len(self._done) == len(self._growths)

    @property
    def output(self) -> Output:
        """What the students are."""
        output: Output = self._options["output"]
        return output

    def step(self, model: nn.Module, optimizer: Optimizers | None = None) -> nn.Module:
        """Count a step of the optimizer, and grow where that is due.

        Args:
            model: The model that is trained.
            optimizer: Its optimizer, or a list of them, as for `grow`.

        Returns:
            The model that is to be trained from now on: the same, or its student.

        Raises:
            GrowError: As `grow`; the growth is then still due.
        """
        self.steps += 1
        return self._grown(model, optimizer)

    def epoch(self, model: nn.Module, optimizer: Optimizers | None = None, *, metric: float | None = None) -> nn.Module:
        """Count an epoch, and grow where that is due.

        Args:
            model: As for `step`.
            optimizer: As for `step`.
            metric: What a `Plateau` looks at: a loss or an accuracy, a number or a tensor of one.

        Returns:
            As `step`.

        Raises:
            GrowError: As `step`.
            PlanError: There is a plateau and no metric.
        """
        self._watch(metric)
        self.epochs += 1
        return self._grown(model, optimizer)

    def rehearse(self, model: nn.Module) -> Plan | None:
        """Make all growths that are still to come on a copy without data, so that a wrong one is found before training.

        They are made in the order of the mapping, steps and epochs each by their numbers. No batch of `calibration` is
        run. Where the code of the model asks for the numbers in tensors, the copy has data.

        Args:
            model: The model that is to be trained.

        Returns:
            The chain of plans that makes what the model is to become, from its first teacher on; None where no growth
            is still to come.

        Raises:
            GrowError: As `grow`, with the growth that it is about.
        """
        if self.finished:
            return None
        try:
            return plan_of(self._rehearsed(on_meta(model)))
        except TraceError:
            return plan_of(self._rehearsed(clone_owned(model)))

    def _rehearsed(self, copied: nn.Module) -> nn.Module:
        for when, spec in in_time([entry for n, entry in enumerate(self._growths) if n not in self._done]):
            try:
                copied = self._trial(copied, spec)
            except GrowError as error:
                raise type(error)(f"the growth at {when}: {error}") from error
        return copied

    def _trial(self, model: nn.Module, spec: Spec) -> nn.Module:
        """What a growth makes, without what depends on data: no new norm is calibrated."""
        options = self._options
        traced = {key: options[key] for key in ("output", "leaf_modules", "progress")}
        planned = {key: options[key] for key in ("seed", "method", "progress")}
        found = widths(model, self._example_inputs, **traced)
        proposal = plan(found, spec, **planned)
        check_calibration(proposal, options["calibration"])
        with reasons("grow"):
            return student_of(found.traced, proposal, model)

    def _watch(self, metric: object) -> None:
        plateau = self._plateau()
        if plateau is None:
            return
        value = as_number(metric.item() if isinstance(metric, Tensor) and metric.numel() == 1 else metric)
        if value is None:
            raise PlanError(f"the schedule has a Plateau, so epoch takes a metric, a number, not {metric!r:.60}")
        if plateau.improves(value, self._best):
            self._best, self._waited = value, 0
        else:
            self._waited += 1

    def _plateau(self) -> Plateau | None:
        """The plateau that is waited for."""
        open_ones = [when for number, (when, _) in enumerate(self._growths) if number not in self._done]
        return next((when for when in open_ones if isinstance(when, Plateau)), None)

    def _is_due(self, when: Trigger) -> bool:
        if isinstance(when, Step):
            return self.steps >= when.number
        if isinstance(when, Epoch):
            return self.epochs >= when.number
        return when is self._plateau() and self._waited >= when.patience

    def _grown(self, model: nn.Module, optimizer: Optimizers | None) -> nn.Module:
        """The model after all growths that are due; one that fails behind another is left for the next call to tell."""
        given = model
        for number, (when, spec) in enumerate(self._growths):
            if number not in self._done and self._is_due(when):
                self._check_lineage(model)
                options = self._options if optimizer is not None else {**self._options, "warmup": 0, "reset": False}
                try:
                    model = grow(model, spec, self._example_inputs, optimizer=optimizer, **options)
                except GrowError:
                    if model is given:
                        raise
                    return model  # which the optimizer trains
                self._done.append(number)
                if isinstance(when, Plateau):
                    self._best, self._waited = None, 0
        return model

    def _check_lineage(self, model: nn.Module) -> None:
        """Whether a model can be the student of the growths that were made.

        Raises:
            GrowError: Neither it nor anything in it was grown.
        """
        if self._done and all(plan_of(module) is None for _, module in named_modules(model)):
            raise GrowError(
                f"the schedule has made {len(self._done)} of its growths, and this {type(model).__name__} was never "
                "grown: go on with the model that step and epoch return, and take a new schedule for another model"
            )

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule stands, as plain data, which `fxgrow.save` and `torch.save` keep."""
        return {
            "steps": self.steps, "epochs": self.epochs, "done": list(self._done), "best": self._best,
            "waited": self._waited, "growths": len(self._growths),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another schedule of the same growths stood. The model is that of then: load it apart.

        Raises:
            PlanError: The state is none, or one of another schedule.
        """
        expected = self.state_dict()
        if not isinstance(state, Mapping) or state.keys() != expected.keys():
            raise PlanError(f"the state of a schedule has {', '.join(expected)}; this is {state!r:.80}")
        done = state["done"]
        numbers = [as_int(state[key]) for key in ("steps", "epochs", "waited")]
        counts = [number for number in numbers if number is not None and number >= 0]
        known = isinstance(done, list) and all(as_int(n) in range(len(self._growths)) for n in done)
        once = known and len(set(done)) == len(done)
        best = as_number(state["best"])
        best_is_known = state["best"] is None or (best is not None and not math.isnan(best))
        if state["growths"] != len(self._growths) or not once or len(counts) < len(numbers) or not best_is_known:
            raise PlanError(f"the state is that of another schedule than this one of {len(self._growths)} growths")
        self.steps, self.epochs, self._waited = counts
        self._done, self._best = list(done), state["best"]
