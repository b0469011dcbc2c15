"""Files of `torch.save`: a zip archive of a pickle and the storages, which torch writes without the data.

Read by torch with `weights_only=True`, so that nothing in a file is run; with fake tensors, so that no data are read.
Where these lie is known from the archive (`Archive`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..base.torch_private import fake_mode, pytree
from ..errors import GrowError, in_words
from .archive import Archive, reach
from .mapped import Mapped
from .outline import Info
from .state_dicts import Fits, infos_of, is_entry, key_of, other_than_tensors
from .torch_optimizers import TorchBeside, TorchOptimizers, find


class TorchSource:
    """A file that is read.

    Attributes:
        infos: The tensors of its state_dict by name.
        whole: All that it holds, with fake tensors.
        key: Under which key the state_dict is in it; None where it is the whole.
        optimizers: Those of torch that it holds, too; None for none.
    """

    def __init__(self, path: Path, fits: Fits = lambda infos: False) -> None:
        """Open it.

        Args:
            path: The file.
            fits: Whether tensors are the model's, where that is known.

        Raises:
            GrowError: It is not there, torch cannot read it, or it holds no state_dict, or more tensors than that.
        """
        if not path.is_file():
            raise GrowError(f"there is no file {path}")
        self._archive = Archive(path)
        self.whole: Any = self._archive.whole
        found = find(self.whole)
        self.optimizers = TorchOptimizers(found, self._data) if found else None
        self.key = None if () in found else key_of(path, self.whole, fits)
        state = {} if () in found else self.whole if self.key is None else self.whole[self.key]
        if not isinstance(state, Mapping) or not (state or found) or not all(map(is_entry, state.items())):
            raise GrowError(f"{path} holds no state_dict{other_than_tensors(state)}")
        known = {self.key, *(at[0] for at in found if at)}
        if self.key is not None and (more := _other_tensors(self.whole, known)):
            raise GrowError(
                f"{path} holds tensors beside the state_dict and optimizers, under {more!r:.60}, and how they grow is "
                "not known; save the file without them"
            )
        self.state: Mapping[str, Tensor] = state
        self.infos: Mapping[str, Info] = infos_of(state)
        self._optimizers = dict(found)
        self._mapped = Mapped(path)

    def check_places(self) -> None:
        """Whether the data of all tensors can be read.

        Raises:
            GrowError: Those of one cannot.
        """
        beside = [leaf for leaf in pytree.tree_leaves(self._optimizers) if isinstance(leaf, Tensor)]
        named = [(repr(name), fake) for name, fake in self.state.items()]
        for what, fake in [*named, *(("a tensor of an optimizer", fake) for fake in beside)]:
            if fake.numel() or fake.device.type == "meta":
                self._archive.start(fake, what)

    def tensor(self, name: str) -> Tensor:
        """A tensor, whose data are read where it is."""
        return self._data(self.state[name])

    def _data(self, fake: Tensor) -> Tensor:
        if not fake.numel():
            return torch.empty(fake.shape, dtype=fake.dtype)
        start = self._archive.start(fake, "a tensor")
        held = self._mapped.tensor(Info((reach(fake),), fake.dtype), start).as_strided(fake.shape, fake.stride())
        held = held.conj().resolve_conj() if fake.is_conj() else held  # entries as they are in memory, to be conjugated
        return held.neg() if fake.is_neg() else held

    def forget(self) -> None:
        """Give back the memory of what was read."""
        self._mapped.forget()


def _other_tensors(whole: Mapping[str, Any], known: Collection[str | int | None]) -> str:
    """The key of the first entry beside what is known that holds tensors; "" for none."""
    others = {name: entry for name, entry in whole.items() if name not in known}
    return next(
        (name for name, entry in others.items() if any(isinstance(t, Tensor) for t in pytree.tree_leaves(entry))), ""
    )


class TorchTarget:
    """A file that is written under another name, and gets its own when it is whole."""

    def __init__(
        self,
        path: Path,
        infos: Mapping[str, Info],
        source: TorchSource | None,
        ties: Mapping[str, str],
        beside: TorchBeside | None = None,
    ) -> None:
        """Make it, without data.

        Args:
            path: Where it is made.
            infos: Its tensors by name.
            source: The teacher's file, whose other entries it has, too; None where that is in another format.
            ties: The names of tensors that are another one, and the name of that.
            beside: The student's optimizers; None for none.

        Raises:
            GrowError: It cannot be made.
        """
        self.infos, self._ties = {**infos, **({} if beside is None else beside.infos)}, ties
        try:
            with fake_mode():
                tensors: dict[str, Tensor] = {}
                for name, info in self.infos.items():
                    first = ties.get(name, name)
                    made = partial(torch.empty_strided, info.shape, info.strides, dtype=info.dtype)
                    tensors[name] = tensors[first] if first != name else made()
                state = {name: tensors[name] for name in infos}
                whole = state if source is None or source.key is None else {**source.whole, source.key: state}
                if beside is not None and source is not None:
                    whole = beside.placed(source.whole if source.key is None else whole, tensors)
                with torch.serialization.skip_data(materialize_fake_tensors=True):
                    torch.save(whole, path)
        except Exception as error:
            raise GrowError(f"cannot write {path}: {in_words(error)}") from error
        self.mapped = Mapped(path, size=path.stat().st_size, made=True)
        names = {id(tensor): name for name, tensor in reversed(tensors.items())}
        archive = Archive(path)
        both = zip(pytree.tree_leaves(whole), pytree.tree_leaves(archive.whole), strict=True)
        self._starts = {
            names[id(fake)]: archive.start(written, names[id(fake)])
            for fake, written in both
            if id(fake) in names and fake.numel()
        }

    def write(self, name: str, start: int, data: Tensor) -> None:
        """Write entries of a tensor, row by row, from its entry `start` on."""
        info = self.infos[name]
        if name in self._ties or not data.numel():
            return
        if not info.order:
            self.mapped.write_tensor(data, self._starts[name] + start * data.itemsize)
            return
        row, there = torch.Size(info.shape[1:]).numel(), self.tensor(name)
        if start % row == 0 and data.numel() % row == 0:
            there.narrow(0, start // row, data.numel() // row).copy_(data.reshape(-1, *info.shape[1:]))
        else:
            places = torch.arange(start, start + data.numel())
            there[torch.unravel_index(places, info.shape)] = data.flatten()

    def tensor(self, name: str) -> Tensor:
        """A tensor, whose data go to the file."""
        info = self.infos[name]
        entries = self.mapped.tensor(Info((info.numel,), info.dtype), self._starts[name])
        return entries.as_strided(info.shape, info.strides)
