"""What `grow` and `apply` are asked for beside the model, its inputs and the growth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import GrowError
from ..state.warmup import checked_steps


@dataclass(frozen=True, slots=True)
class Options:
    """The options, as `fxgrow.grow` describes them and as a user gives them; `steps` checks one.

    Attributes:
        optimizer: The optimizer, or a list of them.
        reset: Whether its state is dropped.
        calibration: Batches for the statistics of new norms.
        warmup: The steps of the warm-up of new entries.
        resize: A function that sets what the plan left.
    """

    optimizer: Any = None
    reset: bool = False
    calibration: Iterable[Any] | None = None
    warmup: object = 0
    resize: Any = None

    def steps(self) -> int:
        """The steps of the warm-up.

        Raises:
            GrowError: `warmup` is no number of steps, or it or `reset` is given without an optimizer.
        """
        steps = checked_steps(self.warmup)
        if self.optimizer is None and (steps or self.reset):
            raise GrowError(f"{'warmup' if steps else 'reset'} is about an optimizer, and none is given: optimizer=...")
        return steps
