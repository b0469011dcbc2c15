"""What the small model is to become: the names and shapes of the large one's tensors, and its modules if it has any."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from ..base.content import form_of, storage_of
from ..base.wording import a_type
from ..checkpoints.files import opened
from ..errors import PlanError
from ..model.copies import named_tensors, stored
from ..model.supported import check_supported
from .names import Shapes

Large = nn.Module | Mapping[str, Tensor] | str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Target:
    """What the small model is to become.

    Attributes:
        name: Of the large model, for messages.
        shapes: The shapes of its tensors by name.
        tree: The model; None where only its tensors are known.
        tied: Names under which it has a tensor once more, with the first one.
    """

    name: str
    shapes: Shapes
    tree: nn.Module | None
    tied: Mapping[str, str]

    @classmethod
    def of(cls, large: object) -> Target:
        """Read a model, a `state_dict`, or the file of a checkpoint.

        Raises:
            PlanError: It is none of these, or a `state_dict` that holds something else than tensors.
            GrowError: The file cannot be read, or the model holds what fxgrow does not grow.
        """
        if isinstance(large, nn.Module):
            check_supported(large)
            return cls(type(large).__name__, shapes_of(large), large, ties_of(large))
        if isinstance(large, str | os.PathLike):
            infos = opened(Path(large)).infos
            return cls(Path(large).name, {name: info.shape for name, info in infos.items()}, None, {})
        if not isinstance(large, Mapping):
            raise PlanError(f"large is a model, its state_dict or the path of a checkpoint, not {a_type(large)}")
        others = [name for name, tensor in large.items() if not isinstance(name, str) or not isinstance(tensor, Tensor)]
        if others:
            inner = next((name for name in others if isinstance(large[name], Mapping)), None)
            advice = "" if inner is None else f"; if that is the state_dict, give large[{inner!r:.80}]"
            raise PlanError(
                f"large is no state_dict: {others[0]!r:.80} is {a_type(large[others[0]])}, not a tensor{advice}"
            )
        return cls(
            "the checkpoint", {name: tuple(tensor.shape) for name, tensor in large.items()}, None, _shared(large)
        )


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shapes in a model's `state_dict`."""
    return {name: shape for name, shape, *_ in stored(model)}


def ties_of(model: nn.Module) -> dict[str, str]:
    """The names in a model's `state_dict` under which a tensor is there once more, with the first one of each."""
    return {name: first for name, _, _, first, _ in stored(model) if first}


def _shared(state: Mapping[str, Tensor]) -> dict[str, str]:
    """The same for a `state_dict`, whose tied tensors are one memory."""
    first: dict[tuple[object, ...], str] = {}
    tied: dict[str, str] = {}
    for name, tensor in state.items():
        if tensor.numel() and not tensor.is_meta:
            original = first.setdefault((storage_of(tensor), *form_of(tensor)), name)
            if original != name:
                tied[name] = original
    return tied


def has_values(model: nn.Module) -> bool:
    """Whether none of a model's tensors is on the meta device."""
    return not any(tensor.is_meta for tensor in named_tensors(model).values())
