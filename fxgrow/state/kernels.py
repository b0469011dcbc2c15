"""The state of a kernel that is enlarged: zeros or means around the old entries, which keep theirs."""

from __future__ import annotations

from collections.abc import Collection

import torch.nn.functional as F
from torch import Tensor

from ..plans.changes import Enlarge
from .moments import Grow, Moment, by_parts


def around(change: Enlarge) -> Grow:
    """The function that grows the state of a kernel's weight."""

    def grow(tensor: Tensor, moment: Moment, reduced: Collection[int] = ()) -> Tensor:
        first = tensor.ndim - len(change.old)  # (out, in, *kernel)
        padding: list[int] = []
        for axis in reversed(range(len(change.old))):
            more = 0 if first + axis in reduced else (change.new[axis] - change.old[axis]) // 2
            padding += [more, more]
        start = moment.of_fresh(tensor)
        return by_parts(tensor, lambda part: F.pad(part, padding, value=start))

    return grow
