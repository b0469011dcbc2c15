"""Tensors that lie in a file: views of its memory map, whose pages can be given back."""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from ..errors import GrowError, in_words
from .outline import Info


class Mapped:
    """A file in memory, page by page as it is used."""

    def __init__(self, path: Path, *, size: int | None = None, made: bool = False) -> None:
        """Open a file.

        Args:
            path: The file.
            size: None to read it; else it is made anew, with so many bytes that have their place on the disk.
            made: Whether that file is there, and only its bytes are to be written.

        Raises:
            GrowError: It cannot be read, or made.
        """
        self.path, self._written = path, size is not None
        new = os.O_CREAT | os.O_EXCL
        try:
            self._file = os.open(path, os.O_RDONLY if size is None else os.O_RDWR | (0 if made else new), 0o666)
            weakref.finalize(self, os.close, self._file)
            if size is not None:
                os.posix_fallocate(self._file, 0, size)
            # a copy of pages that are written to: torch takes no memory that cannot be
            self.pages = mmap.mmap(self._file, 0, access=mmap.ACCESS_COPY if size is None else mmap.ACCESS_WRITE)
        except Exception as error:
            if size is not None and not isinstance(error, FileExistsError):
                with suppress(OSError):
                    path.unlink()
            raise GrowError(f"cannot {'read' if size is None else 'write'} {path}: {in_words(error)}") from error

    def tensor(self, info: Info, start: int) -> Tensor:
        """The tensor that begins at a byte: a view of the file, row by row."""
        number = info.numel
        if not number:
            return torch.empty(info.shape, dtype=info.dtype)
        if start % info.dtype.itemsize and not self._written:
            apart = torch.frombuffer(self.pages, dtype=torch.uint8, count=info.bytes, offset=start).clone()
            return apart.view(info.dtype).view(info.shape)
        return torch.frombuffer(self.pages, dtype=info.dtype, count=number, offset=start).view(info.shape)

    def write(self, data: bytes, start: int = 0) -> None:
        """Write bytes at a place."""
        self._write(memoryview(data), start)

    def write_tensor(self, data: Tensor, start: int) -> None:
        """Write a tensor's entries, row by row, at a place: faster than to a view, whose pages are mapped first."""
        data = data.resolve_conj().resolve_neg().contiguous()
        there = (ctypes.c_char * data.nbytes).from_address(data.data_ptr())
        self._write(memoryview(there).cast("B"), start)

    def _write(self, data: memoryview, start: int) -> None:
        try:
            while data:
                number = os.pwrite(self._file, data, start)
                data, start = data[number:], start + number
        except OSError as error:
            raise GrowError(f"cannot write {self.path}: {in_words(error)}") from error

    def forget(self) -> None:
        """Give back the memory of all pages; what was written to them stays in the file."""
        self.pages.madvise(mmap.MADV_DONTNEED)

    def flush(self) -> None:
        """Wait until all that was written is on the disk.

        Raises:
            GrowError: It cannot be written.
        """
        try:
            self.pages.flush()
            os.fsync(self._file)
        except OSError as error:
            raise GrowError(f"cannot write {self.path}: {in_words(error)}") from error
