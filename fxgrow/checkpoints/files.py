"""Which format a checkpoint has, by its name: one file, several with an index, or what `torch.save` writes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import GrowError, in_words
from ..state.files import temporary
from .fill_file import Source
from .outline import Grown, Info, Made
from .safetensors_file import SafetensorsSource, SafetensorsTarget
from .state_dicts import Fits
from .torch_file import TorchSource, TorchTarget

SAFETENSORS = ".safetensors"
INDEX = ".safetensors.index.json"
MAP = "weight_map"


def opened(path: Path, fits: Fits = lambda infos: False) -> Source:
    """A checkpoint that is read.

    Args:
        path: The file.
        fits: Whether tensors are the model's, where that is known and a file may hold several models.

    Raises:
        GrowError: It is none that can be read.
    """
    if path.name.endswith(INDEX):
        return ShardedSource(path)
    return SafetensorsSource(path) if path.name.endswith(SAFETENSORS) else TorchSource(path, fits)


class ShardedSource:
    """Several files with an index.

    Attributes:
        infos: Their tensors by name.
        shards: The file of each.
        metadata: What the index says beside it.
    """

    def __init__(self, path: Path) -> None:
        """Open them.

        Raises:
            GrowError: The index or a file cannot be read, or they do not fit.
        """
        index = _index(path)
        self.shards: Mapping[str, str] = index[MAP]
        self.metadata: Mapping[str, Any] = index.get("metadata", {})
        self._files = {name: SafetensorsSource(path.parent / name) for name in dict.fromkeys(self.shards.values())}
        held = {name for file in self._files.values() for name in file.infos}
        if differ := sorted(held ^ self.shards.keys()):
            raise GrowError(f"the index {path} and its files do not both have {differ[0]!r}")
        self.infos: Mapping[str, Info] = {name: self._files[file].infos[name] for name, file in self.shards.items()}

    def tensor(self, name: str) -> Tensor:
        """A tensor, whose data are read where it is."""
        return self._files[self.shards[name]].tensor(name)

    def forget(self) -> None:
        """Give back the memory of what was read."""
        for file in self._files.values():
            file.forget()


def _index(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise GrowError(f"there is no file {path}")
    try:
        index = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise GrowError(f"cannot read {path}: {in_words(error)}") from error
    files = index.get(MAP) if isinstance(index, dict) else None
    if not isinstance(files, dict) or not all(isinstance(file, str) and _is_plain(file) for file in files.values()):
        raise GrowError(f"cannot read {path}: it is no index of safetensors files")
    return index


def _is_plain(name: str) -> bool:
    """Whether a name is that of a safetensors file in the same folder: an index may come from anyone."""
    return name == os.path.basename(name) and name.endswith(SAFETENSORS) and name.isprintable()


File = SafetensorsTarget | TorchTarget


class Written:
    """Files that are written under other names, and get their own when all are whole.

    Attributes:
        files: By the name that each is to have.
    """

    def __init__(self, folder: Path, prefix: str = "") -> None:
        """None yet.

        Args:
            folder: Where they are to be.
            prefix: What stands before each name in the files.
        """
        self._folder, self._prefix = folder, prefix
        self.files: dict[str, File] = {}
        self._places: dict[str, File] = {}

    def add(self, name: str, infos: Mapping[str, Info], make: Callable[[Path, Mapping[str, Info]], File]) -> None:
        """Make a file, without its data."""
        named = {self._prefix + tensor: info for tensor, info in infos.items()}
        path = temporary(self._folder / name)
        try:
            self.files[name] = make(path, named)
        except BaseException:
            with suppress(OSError):
                path.unlink()
            raise
        self._places.update(dict.fromkeys(named, self.files[name]))

    def write(self, name: str, start: int, data: Tensor) -> None:
        """Write entries of a tensor, row by row, from its entry `start` on."""
        self._places[self._prefix + name].write(self._prefix + name, start, data)

    def tensor(self, name: str) -> Tensor:
        """A tensor, whose data go to its file."""
        return self._places[self._prefix + name].tensor(self._prefix + name)

    def forget(self) -> None:
        """Give back the memory of what was written."""
        for file in self.files.values():
            file.mapped.forget()

    def finish(self) -> None:
        """Wait for the disk, and give the files their names."""
        for file in self.files.values():
            file.mapped.flush()
        for name in self.files:
            os.replace(temporary(self._folder / name), self._folder / name)

    def give_up(self) -> None:
        """Remove what was written."""
        for name in self.files:
            with suppress(OSError):
                temporary(self._folder / name).unlink()


class Unwrapped:
    """A checkpoint of a model in a wrapper (DistributedDataParallel, torch.compile), with the names of the model.

    Attributes:
        infos: Its tensors by name.
    """

    def __init__(self, source: Source, prefix: str) -> None:
        self._source, self._prefix = source, prefix
        self.infos: Mapping[str, Info] = {name.removeprefix(prefix): info for name, info in source.infos.items()}

    def tensor(self, name: str) -> Tensor:
        """A tensor, whose data are read where it is."""
        return self._source.tensor(self._prefix + name)

    def forget(self) -> None:
        """Give back the memory of what was read."""
        self._source.forget()


WRAPPERS = ("module.", "_orig_mod.")


def prefix_of(names: Collection[str], known: Collection[str]) -> str:
    """What a wrapper puts before each name of a model; "" for none.

    Args:
        names: Those in a checkpoint.
        known: Those of the model.
    """
    prefix = ""
    while names and not any(name.removeprefix(prefix) in known for name in names):
        more = next((w for w in WRAPPERS if all(name.startswith(prefix + w) for name in names)), "")
        if not more:
            return ""
        prefix += more
    return prefix


def shards_of(made: Mapping[str, Made], shards: Mapping[str, str]) -> dict[str, str]:
    """The file of each tensor of the student: that of the tensor that it is made of, or of the one before it.

    Args:
        made: The student's tensors, in order.
        shards: The file of each of the teacher's.
    """
    file = next(iter(shards.values()), "")
    files: dict[str, str] = {}
    for name, one in made.items():
        if isinstance(one.how, Grown):
            file = shards[one.how.source]
        files[name] = file
    return files
