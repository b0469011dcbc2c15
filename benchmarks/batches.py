"""Batches of images, without end."""

from collections.abc import Iterator

import torch
from torch import Tensor


def batches(x: Tensor, y: Tensor, size: int, seed: int, *, whole: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (size, 1, H, W) and their classes, in an order that is drawn on the CPU: the same on every device.

    Args:
        x: The images.
        y: Their classes.
        size: Of a batch.
        seed: Of the order.
        whole: Leave out what is too few for a batch after each turn through the images.
    """
    draws = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(x), generator=draws).to(x.device)
        for batch in order[: len(x) // size * size if whole else len(x)].split(size):
            yield x[batch], y[batch]
