"""Tensors and a text in one safetensors file, written whole or not at all."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import GrowError, in_words

KEY = "fxgrow"  # of the text in the file's metadata


def write(path: Path, tensors: Mapping[str, Tensor], beside: Mapping[str, Tensor], text: str) -> None:
    """Write a file under a temporary name beside it, and rename that.

    Args:
        path: The file.
        tensors: The model's.
        beside: Others, of which some may share memory with the model's or with one another: these are written twice.
        text: The text.

    Raises:
        GrowError: It cannot be written.
    """
    safetensors = _module("safetensors.torch")
    apart = {name: _apart(tensor) for name, tensor in tensors.items()}
    held = {_memory(tensor) for tensor in apart.values()}
    for name, tensor in beside.items():
        apart[name] = _apart(tensor)
        if tensor.numel() and _memory(apart[name]) in held:
            apart[name] = apart[name].clone()
        held.add(_memory(apart[name]))
    unfinished = temporary(path)
    try:
        safetensors.save_file(apart, unfinished, {KEY: text})
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except KeyError as error:  # safetensors looks the dtype up
        wrong = next((name for name, tensor in apart.items() if tensor.dtype in error.args), None)
        why = in_words(error) if wrong is None else f"safetensors keeps no {apart[wrong].dtype}, and {wrong!r} holds it"
        raise GrowError(f"cannot write {path}: {why}") from error
    except Exception as error:
        raise GrowError(f"cannot write {path}: {in_words(error)}") from error
    finally:
        with suppress(OSError):
            unfinished.unlink()


def temporary(path: Path) -> Path:
    """The name of a file until it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _apart(tensor: Tensor) -> Tensor:
    """The tensor in memory of its own, row by row: the format knows no strides, signs to come and shared memory."""
    tensor = tensor.detach().resolve_conj().resolve_neg()
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if whole and tensor.is_contiguous() else tensor.clone(memory_format=torch.contiguous_format)


def _memory(tensor: Tensor) -> tuple[torch.device, int]:
    """What tensors that have one memory have in common."""
    return tensor.device, tensor.data_ptr()


def read(path: Path, device: torch.device) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file, on a device, and its text; "" where it has none.

    Raises:
        GrowError: It cannot be read.
    """
    safetensors = _module("safetensors")
    if not path.is_file():
        raise GrowError(f"there is no file {path}")
    try:
        with safetensors.safe_open(path, "pt", device=str(device)) as file:
            names = list(file.keys())
            # A copy each: in the file they lie at any byte, where kernels round otherwise, and may go with the file.
            return {name: file.get_tensor(name).clone() for name in names}, (file.metadata() or {}).get(KEY, "")
    except Exception as error:
        raise GrowError(f"cannot read {path}: {in_words(error)}") from error


def _module(name: str) -> Any:
    if importlib.util.find_spec("safetensors") is None:
        raise GrowError("students are kept in safetensors files, which need safetensors: pip install 'fxgrow[save]'")
    return importlib.import_module(name)
