"""torch's counter of FLOPs, imported when FLOPs are counted.

It imports triton where that is there, with every build for CUDA: .2 s, twice what all of fxgrow takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode


def formulas() -> Mapping[Any, Callable[..., Any]]:
    """The formula of each operator that has FLOPs."""
    from torch.utils.flop_counter import flop_registry  # noqa: PLC0415 - see above

    return flop_registry


def new_counter() -> FlopCounterMode:
    """A counter that prints nothing."""
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415 - see above

    return FlopCounterMode(display=False)
