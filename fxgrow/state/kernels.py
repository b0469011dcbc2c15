"""The state of a kernel that is enlarged: zeros or means around the old entries, which keep theirs."""

from __future__ import annotations

from collections.abc import Collection

import torch.nn.functional as F
from torch import Tensor

from ..plans.changes import KernelSize
from .moments import Grow, Moment, by_parts


def around(old: KernelSize, new: KernelSize) -> Grow:
    """The function that grows the state of the weight of a kernel that gets a larger size."""

    def grow(tensor: Tensor, moment: Moment, reduced: Collection[int] = ()) -> Tensor:
        first = tensor.ndim - len(old)  # (out, in, *kernel)
        padding: list[int] = []
        for axis in reversed(range(len(old))):
            more = 0 if first + axis in reduced else (new[axis] - old[axis]) // 2
            padding += [more, more]
        start = moment.of_fresh(tensor)
        return by_parts(tensor, lambda part: F.pad(part, padding, value=start))

    return grow
