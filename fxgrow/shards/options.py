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
        release: Whether the teacher's memory is given back meanwhile.
    """

    optimizer: Any = None
    reset: bool = False
    calibration: Iterable[Any] | None = None
    warmup: object = 0
    resize: Any = None
    release: bool = False

    def check_keeps(self) -> None:
        """Check that the teacher of a model that is not sharded is to be kept.

        Raises:
            GrowError: It is not.
        """
        if self.release:
            raise GrowError(
                "release=True gives back the parts of a model sharded by fully_shard, and this one is not; where "
                "memory is short, a checkpoint grows file to file: fxgrow.grow_checkpoint"
            )

    def steps(self) -> int:
        """The steps of the warm-up.

        Raises:
            GrowError: `warmup` is no number of steps, or it or `reset` is given without an optimizer.
        """
        steps = checked_steps(self.warmup)
        if self.optimizer is None and (steps or self.reset):
            raise GrowError(f"{'warmup' if steps else 'reset'} is about an optimizer, and none is given: optimizer=...")
        return steps
