"""What a lenient trace puts in the place of code of torch that is there for the backward, and that takes no proxies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.utils.checkpoint as checkpoints

from ..base.replacing import Target
from ..base.torch_private import checkpoint_steps_names
from ..recording.backward import forward_of


def _apply_forward(cls: type, *args: Any, **kwargs: Any) -> Any:
    """What the forward of an autograd Function gives."""
    if cls is checkpoints.CheckpointFunction:
        function, _preserved, *given = args
        return function(*given)
    return forward_of(cls, args, kwargs)[0]


def _saves_nothing(*_args: Any, **_kwargs: Any) -> Iterator[None]:
    """What goes on before a function that is checkpointed, and after it."""
    yield


FORWARD_ALONE: tuple[Target, ...] = (
    (torch.autograd.Function, "apply", classmethod(_apply_forward)),
    *((checkpoints, name, _saves_nothing) for name in checkpoint_steps_names if hasattr(checkpoints, name)),
)
