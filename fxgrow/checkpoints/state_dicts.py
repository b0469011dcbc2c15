"""Which entry of a file of `torch.save` is the model's `state_dict`.

Scripts keep it under keys of their own, at times with an average of the weights beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..base.wording import first_of
from ..errors import GrowError
from ..model.strides import order_of
from .outline import Info

KEYS = ("state_dict", "model", "model_state_dict")  # under which training scripts keep a state_dict
Fits = Callable[[Mapping[str, Info]], bool]  # whether tensors are those of the model, by their names and shapes


def infos_of(state: Mapping[str, Tensor]) -> dict[str, Info]:
    """The shapes and dtypes of tensors, and how they lie in memory."""
    return {name: Info(tuple(tensor.shape), tensor.dtype, order_of(tensor)) for name, tensor in state.items()}


def is_entry(entry: tuple[Any, Any]) -> bool:
    """Whether a pair is a name and a dense tensor."""
    return isinstance(entry[0], str) and isinstance(entry[1], Tensor) and entry[1].layout == torch.strided


def states_in(whole: Any) -> dict[str, Mapping[str, Tensor]]:
    """The state_dicts that a mapping holds, by their keys."""
    entries = whole.items() if isinstance(whole, Mapping) else ()
    return {key: held for key, held in entries if isinstance(key, str) and _is_state(held)}


def _is_state(held: Any) -> bool:
    return isinstance(held, Mapping) and bool(held) and all(map(is_entry, held.items()))


def key_of(path: Path, whole: Any, fits: Fits) -> str | None:
    """Under which key the model's state_dict is; None where it is the whole, or there is none.

    The one whose tensors are the model's. Where none is: the first of `KEYS` that holds one, or the only one.

    Args:
        path: The file, for messages.
        whole: What it holds.
        fits: Whether tensors are the model's.

    Raises:
        GrowError: Several may be meant.
    """
    states = states_in(whole)
    meant = [key for key, state in states.items() if fits(infos_of(state))]
    if not meant:
        meant = [key for key in KEYS if key in states][:1] or list(states)
    if not meant:  # one that is none, which is told then
        meant = [key for key in KEYS if isinstance(whole, Mapping) and isinstance(whole.get(key), Mapping)][:1]
    if len(meant) > 1:
        names = f"{', '.join(f'{key!r:.60}' for key in meant[:-1])} and {meant[-1]!r:.60}"
        raise GrowError(
            f"{path} holds several state_dicts, under {names}, and which one is meant is not known; save the one that "
            f"is in a file of its own: torch.save(torch.load(path)[{meant[0]!r:.60}], new_path)"
        )
    return next(iter(meant), None)


def other_than_tensors(state: Any) -> str:
    """What entries beside tensors keep a mapping from being a state_dict, if any tensors are there."""
    if not isinstance(state, Mapping) or not any(map(is_entry, state.items())):
        return ""
    others = [f"{name!r:.60}" for name in state if not is_entry((name, state[name]))]
    return f" of tensors alone ({first_of(others, 3)}); save the file without the others"
