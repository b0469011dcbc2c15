"""Checkpoints: a model's `state_dict` in a file, read and written."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..base.file_kinds import CHECKPOINT, other_kind
from ..checkpoints.files import prefix_of
from ..checkpoints.outline import Info
from ..checkpoints.state_dicts import key_of
from ..errors import GrowError
from .usage import UsageError, reported

SAFETENSORS = ".safetensors"


def load(path: str, model: nn.Module) -> nn.Module:
    """Load a checkpoint into a model, which takes the checkpoint's floating dtype where that has one.

    Args:
        path: A `.safetensors` file, or one that `torch.save` wrote, with a `state_dict` in it, or a dict that has it
            under some key.
        model: The model, which is changed and returned.

    Raises:
        UsageError: There is no such file, or it is no checkpoint.
        GrowError: The checkpoint is of another model.
    """
    tensors = _read(path, {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()})
    if prefix := prefix_of(tensors.keys(), model.state_dict().keys()):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    theirs, ours = ({t.dtype for t in some.values() if t.is_floating_point()} for some in (tensors, model.state_dict()))
    if len(theirs) == 1 and theirs != ours:
        model.to(next(iter(theirs)))
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:4]]
        raise GrowError(f"{path} is no checkpoint of {type(model).__name__}: {' '.join(lines)}") from error
    return model


def _read(path: str, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Tensor]:
    if not Path(path).is_file():
        raise UsageError(f"there is no file {path}")
    if other := other_kind(path, CHECKPOINT):
        raise UsageError(f"no weights in {path}{other}")
    if path.endswith(SAFETENSORS):
        read = _safetensors("load_file")
        with reported(f"safetensors reads no weights from {path}"):
            tensors: Any = read(path)
        return dict(tensors)
    with reported(f"torch.load reads no weights from {path}"):
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    for _ in range(2):  # a "model" in a "state_dict"
        key = key_of(Path(path), tensors, lambda infos: _fits(infos, shapes))
        tensors = tensors if key is None else tensors[key]
    if not isinstance(tensors, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in tensors.items()
    ):
        raise UsageError(f"{path} holds no state_dict")
    return tensors


def _fits(infos: Mapping[str, Info], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether tensors are those of a model, or of the model in a wrapper, by their names and shapes."""
    prefix = prefix_of(infos, shapes)
    return {name.removeprefix(prefix): info.shape for name, info in infos.items()} == shapes


def save(model: nn.Module, path: str) -> None:
    """Write a model's `state_dict` as the name of the file says: `.safetensors`, or with `torch.save`.

    Raises:
        UsageError: It cannot be written, or safetensors is not installed.
    """
    tensors = model.state_dict()
    write: Callable[[Any, str], Any] = torch.save
    if path.endswith(SAFETENSORS):  # which takes no two names for one memory
        write = _safetensors("save_file")
        tensors = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    with reported(f"cannot write {path}"):
        write(tensors, path)


def _safetensors(function: str) -> Callable[..., Any]:
    if importlib.util.find_spec("safetensors") is None:
        raise UsageError(f"{SAFETENSORS} files need safetensors: pip install 'fxgrow[save]', or use a .pt file")
    loaded: Callable[..., Any] = getattr(importlib.import_module("safetensors.torch"), function)
    return loaded
