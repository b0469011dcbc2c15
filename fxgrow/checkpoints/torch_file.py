"""Files of `torch.save`: a zip archive of a pickle and the storages, which torch writes without the data.

Read by torch with `weights_only=True`, so that nothing in a file is run; with fake tensors, so that no data are read,
which know where in the file theirs begin.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..base.torch_private import fake_mode, place_in_file, pytree
from ..errors import GrowError, in_words
from .mapped import Mapped
from .outline import Info

KEYS = ("state_dict", "model", "model_state_dict")  # under which training scripts keep a state_dict


class TorchSource:
    """A file that is read.

    Attributes:
        infos: The tensors of its state_dict by name.
        whole: All that it holds, with fake tensors.
        key: Under which key the state_dict is in it; None where it is the whole.
    """

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            GrowError: It is not there, torch cannot read it, or it holds no state_dict, or more tensors than that.
        """
        if not path.is_file():
            raise GrowError(f"there is no file {path}")
        self.whole = _loaded(path)
        self.key = next((key for key in KEYS if _is_state(self.whole, key)), None)
        state = self.whole if self.key is None else self.whole[self.key]
        if not isinstance(state, Mapping) or not state or not all(map(_is_entry, state.items())):
            raise GrowError(f"{path} holds no state_dict")
        if self.key is not None and (more := _other_tensors(self.whole, self.key)):
            raise GrowError(
                f"{path} holds tensors beside the state_dict, under {more!r:.60}, and how they grow is not known; save "
                "the state_dict alone, or let apply(..., optimizer=) grow an optimizer"
            )
        self.state: Mapping[str, Tensor] = state
        self.infos: Mapping[str, Info] = {name: Info(tuple(t.shape), t.dtype) for name, t in state.items()}
        self._mapped = Mapped(path)

    def tensor(self, name: str) -> Tensor:
        """A tensor, whose data are read where it is."""
        fake = self.state[name]
        if not fake.numel():
            return torch.empty(fake.shape, dtype=fake.dtype)
        start = place_in_file(fake)
        reach = int(1 + sum((n - 1) * stride for n, stride in zip(fake.shape, fake.stride(), strict=True)))
        return self._mapped.tensor(Info((reach,), fake.dtype), start).as_strided(fake.shape, fake.stride())

    def forget(self) -> None:
        """Give back the memory of what was read."""
        self._mapped.forget()


def _loaded(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:  # cut off, its directory at the end is missing
            archive.namelist()
        with fake_mode():
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise GrowError(f"torch.load reads no weights from {path}: {in_words(error)}") from error


def _is_state(whole: Any, key: str) -> bool:
    return isinstance(whole, Mapping) and isinstance(whole.get(key), Mapping)


def _is_entry(entry: tuple[Any, Any]) -> bool:
    return isinstance(entry[0], str) and isinstance(entry[1], Tensor) and entry[1].layout == torch.strided


def _other_tensors(whole: Mapping[str, Any], key: str) -> str:
    """The key of the first entry beside the state_dict that holds tensors; "" for none."""
    others = {name: entry for name, entry in whole.items() if name != key}
    return next(
        (name for name, entry in others.items() if any(isinstance(t, Tensor) for t in pytree.tree_leaves(entry))), ""
    )


class TorchTarget:
    """A file that is written under another name, and gets its own when it is whole."""

    def __init__(
        self, path: Path, infos: Mapping[str, Info], source: TorchSource | None, ties: Mapping[str, str]
    ) -> None:
        """Make it, without data.

        Args:
            path: Where it is made.
            infos: Its tensors by name.
            source: The teacher's file, whose other entries it has, too; None where that is in another format.
            ties: The names of tensors that are another one, and the name of that.

        Raises:
            GrowError: It cannot be made.
        """
        self.infos, self._ties = infos, ties
        try:
            with fake_mode():
                state: dict[str, Tensor] = {}
                for name, info in infos.items():
                    first = ties.get(name, name)
                    state[name] = state[first] if first != name else torch.empty(info.shape, dtype=info.dtype)
                whole = state if source is None or source.key is None else {**source.whole, source.key: state}
                with torch.serialization.skip_data(materialize_fake_tensors=True):
                    torch.save(whole, path)
        except Exception as error:
            raise GrowError(f"cannot write {path}: {in_words(error)}") from error
        self.mapped = Mapped(path, size=path.stat().st_size, made=True)
        made = TorchSource(path)
        self._starts = {name: place_in_file(tensor) for name, tensor in made.state.items() if tensor.numel()}

    def write(self, name: str, start: int, data: Tensor) -> None:
        """Write entries of a tensor, row by row, from its entry `start` on."""
        if name not in self._ties:
            self.mapped.write_tensor(data, self._starts[name] + start * data.itemsize)

    def tensor(self, name: str) -> Tensor:
        """A tensor, whose data go to the file."""
        return self.mapped.tensor(self.infos[name], self._starts[name])
