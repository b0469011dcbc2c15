"""Files in the safetensors format: eight bytes with the length of a header, the header as JSON, and the data.

The library reads and writes whole tensors; here they are made in the place where they lie. It still checks each file
that is read. Format: https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import GrowError, in_words
from .mapped import Mapped
from .outline import Info

DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8",
    "U16": "uint16", "U32": "uint32", "U64": "uint64", "BOOL": "bool", "C64": "complex64",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E8M0": "float8_e8m0fnu",
}  # fmt: skip
NAMES: dict[torch.dtype, str] = {getattr(torch, ours): theirs for theirs, ours in DTYPES.items()}
METADATA = "__metadata__"
LENGTH = struct.Struct("<Q")


class SafetensorsSource:
    """A file that is read.

    Attributes:
        infos: Its tensors by name.
        metadata: The texts in its header.
    """

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            GrowError: It is not there, is cut off, or is no safetensors file.
        """
        header, first = _header(path)
        self.metadata: Mapping[str, str] = header.pop(METADATA, {})
        self.infos: Mapping[str, Info] = {
            name: Info(tuple(entry["shape"]), _dtype(path, entry["dtype"])) for name, entry in header.items()
        }
        self._mapped = Mapped(path)
        self._starts = {name: first + entry["data_offsets"][0] for name, entry in header.items()}

    def tensor(self, name: str) -> Tensor:
        """A tensor, whose data are read where it is."""
        return self._mapped.tensor(self.infos[name], self._starts[name])

    def forget(self) -> None:
        """Give back the memory of what was read."""
        self._mapped.forget()


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a file, and the byte where its data begin."""
    if importlib.util.find_spec("safetensors") is None:
        raise GrowError("safetensors files need safetensors: pip install 'fxgrow[save]'")
    if not path.is_file():
        raise GrowError(f"there is no file {path}")
    safetensors = importlib.import_module("safetensors")
    try:
        with safetensors.safe_open(path, "pt"):  # checks the header, the places of tensors and the length of the file
            pass
        with path.open("rb") as file:
            length: int = LENGTH.unpack(file.read(LENGTH.size))[0]
            header: dict[str, Any] = json.loads(file.read(length))
    except Exception as error:
        raise GrowError(f"cannot read {path}: {in_words(error)}") from error
    return header, LENGTH.size + length


def _dtype(path: Path, name: str) -> torch.dtype:
    if name not in DTYPES:
        raise GrowError(f"cannot read {path}: it has a tensor of the dtype {name!r:.20}")
    dtype: torch.dtype = getattr(torch, DTYPES[name])
    return dtype


class SafetensorsTarget:
    """A file that is written under another name, and gets its own when it is whole."""

    def __init__(self, path: Path, infos: Mapping[str, Info], metadata: Mapping[str, str]) -> None:
        """Make it, with its header and without data.

        Args:
            path: Where it is made.
            infos: Its tensors by name.
            metadata: The texts in its header.

        Raises:
            GrowError: It cannot be made, or the format has no such tensors.
        """
        if wrong := next((name for name, info in infos.items() if info.dtype not in NAMES), None):
            raise GrowError(f"safetensors files hold no {infos[wrong].dtype} as {wrong!r} is")
        self.infos = infos
        header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
        starts: dict[str, int] = {}
        end = 0
        for name, info in sorted(infos.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):
            starts[name] = end
            end += info.bytes
            offsets = [starts[name], end]
            header[name] = {"dtype": NAMES[info.dtype], "shape": list(info.shape), "data_offsets": offsets}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (math.ceil(len(text) / 8) * 8 - len(text))
        first = LENGTH.size + len(text)
        self._starts = {name: first + start for name, start in starts.items()}
        self.mapped = Mapped(path, size=first + end)
        self.mapped.write(LENGTH.pack(len(text)) + text)

    def write(self, name: str, start: int, data: Tensor) -> None:
        """Write entries of a tensor, row by row, from its entry `start` on."""
        self.mapped.write_tensor(data, self._starts[name] + start * data.itemsize)

    def tensor(self, name: str) -> Tensor:
        """A tensor, whose data go to the file."""
        return self.mapped.tensor(self.infos[name], self._starts[name])
