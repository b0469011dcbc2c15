"""What a lenient trace puts in the place of torch's code for the backward, which takes no proxies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch.utils.checkpoint as checkpoints

from ..base.autograd_functions import functions_applied
from ..base.replacing import Target
from ..base.torch_private import checkpoint_steps_names
from ..recording.backward import forward_of, ones_for


def _apply_both(tracer: Any, cls: Any, *args: Any, **kwargs: Any) -> Any:
    """What the forward of an autograd Function gives; its backward runs beside it, as in the runs of the model."""
    if cls is checkpoints.CheckpointFunction:
        function, _preserved, *given = args
        return function(*given)
    result, context = forward_of(cls, args, kwargs)
    try:
        cls.backward(context, *ones_for(result))
    except Exception:  # noqa: BLE001 - whatever a backward raises that meets proxies
        tracer.loses = True
    return result


def _saves_nothing(*_args: Any, **_kwargs: Any) -> Iterator[None]:
    """What goes on before a function that is checkpointed, and after it."""
    yield


def lenient_autograd(tracer: Any) -> list[Target]:
    """What takes proxies of a lenient tracer, which is told where a backward does not."""

    def apply(cls: type, _apply: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _apply_both(tracer, cls, *args, **kwargs)

    steps = [(checkpoints, name, _saves_nothing) for name in checkpoint_steps_names if hasattr(checkpoints, name)]
    return [*functions_applied(apply), *steps]
