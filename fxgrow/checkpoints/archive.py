"""The zip archive that `torch.save` writes: what it holds, and where in the file the data of its tensors lie.

In: a file. Out: what its pickle holds, with fake tensors, which have no data. No data are read.

Under fake tensors torch computes where data lie from the order in which the pickle names them. That is right only in
archives that are as torch wrote them, and in that order. So torch is given an outline of the archive, in memory, whose
records of data are empty. It says of each tensor which record it belongs to. The place of that record is taken from the
file's own directory and checked.
"""

from __future__ import annotations

import pickle
import struct
import sys
import zipfile
from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor
from torch.serialization import LoadEndianness

from ..base.file_kinds import CHECKPOINT, other_kind
from ..base.torch_private import fake_mode, place_in_file
from ..errors import GrowError, in_words

AGAIN = "load it with torch.load and save it again with torch.save"
READ = ("data.pkl", "version", ".data/version", ".data/serialization_id")  # records that torch reads for the pickle
LEFT_OUT = (".format_version", ".storage_alignment")  # they let torch compute places

_KINDS = {  # what makes tensors of other kinds, in the pickle, and what they are; the first that is there is told
    b"_rebuild_qtensor": "quantized tensors",
    b"_rebuild_nested_tensor": "nested tensors",
    b"_rebuild_njt": "nested tensors",
    b"_rebuild_from_type": "tensors of a class of their own",
}
_OLD = pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, then the lengths of the name and of what is beside it


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the archive.

    Attributes:
        name: Its name.
        start: Where in the file its bytes begin.
        size: How many they are.
        compressed: Whether they are compressed, so that the file does not hold the data as they are.
    """

    name: str
    start: int
    size: int
    compressed: bool


class Archive:
    """A file of `torch.save`.

    Attributes:
        whole: All that it holds, with fake tensors.
    """

    def __init__(self, path: Path) -> None:
        """Read all but the data.

        Raises:
            GrowError: torch cannot read it, or not on this machine.
        """
        self._path, outline = path, BytesIO()
        try:
            with zipfile.ZipFile(path) as archive, path.open("rb") as file:  # cut off, its directory is missing
                outline, self._records = _outline(archive, file)
            with fake_mode():
                self.whole: Any = torch.load(outline, map_location="cpu", weights_only=True, mmap=False)
        except GrowError as error:
            raise GrowError(f"no weights can be read from {path}: {error}") from error
        except Exception as error:
            why = other_kind(path, CHECKPOINT) or _held_kind(outline, error) or f": {in_words(error)}"
            if _is_old(path):
                why = f", which is of the format before torch 1.6; {AGAIN}"
            raise GrowError(f"torch.load reads no weights from {path}{why}") from error

    def start(self, fake: Tensor, what: str) -> int:
        """Where in the file a tensor begins, bytes.

        Args:
            fake: One of those in `whole`.
            what: What it is, for messages.

        Raises:
            GrowError: Its data are not in the file as they are.
        """
        record = self._record(fake, what)
        first = int(fake.storage_offset() * fake.itemsize)
        if first < 0 or first + reach(fake) * fake.itemsize > record.size:
            raise GrowError(f"{self._path} is broken: {record.name} is too short for {what}")
        return record.start + first

    def _record(self, fake: Tensor, what: str) -> Record:
        if fake.device.type == "meta":
            raise GrowError(f"{self._path} has no data of {what}, which is on meta; save the file with its data")
        place = place_in_file(fake)
        if place is None:
            kind = type(fake).__name__
            raise GrowError(f"{what} in {self._path} is a {kind}, whose data are not known; save plain tensors")
        record = self._records.get(place)
        if record is None:
            raise GrowError(f"{self._path} has no record with the data of {what}; {AGAIN}")
        if record.compressed:
            raise GrowError(f"{self._path} is compressed, so {what} cannot be read where it lies; {AGAIN}")
        return record


def reach(tensor: Tensor) -> int:
    """How many entries of its storage a tensor spans, from its first one on; it has at least one."""
    return int(1 + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True)))


def _outline(archive: zipfile.ZipFile, file: BinaryIO) -> tuple[BytesIO, dict[int, Record]]:
    """An archive in memory whose records of data are empty, and the file's records by where these begin in it.

    Raises:
        GrowError: The archive is not as one of torch is, or its numbers are not in this machine's order of bytes.
    """
    entries = archive.infolist()
    if double := [name for name, number in Counter(archive.namelist()).items() if number > 1]:
        raise GrowError(f"it holds {double[0]!r} twice")
    folder = entries[0].filename.partition("/")[0] + "/" if entries else ""
    _check_byte_order(archive, file, folder)
    outline, records = BytesIO(), dict[int, Record]()
    with zipfile.ZipFile(outline, "w") as copy:
        for entry in entries:
            name = entry.filename.removeprefix(folder)
            if name in LEFT_OUT:
                continue
            content = _content(archive, file, entry) if name in READ else b""
            copy.writestr(zipfile.ZipInfo(entry.filename), sys.byteorder if name == "byteorder" else content)
            if not content:
                records[outline.tell()] = _record(archive, file, entry)
    outline.seek(0)
    return outline, records


def _record(archive: zipfile.ZipFile, file: BinaryIO, entry: zipfile.ZipInfo) -> Record:
    """Where an entry of the directory lies.

    Raises:
        GrowError: It does not lie there.
    """
    if entry.compress_type != zipfile.ZIP_STORED:
        return Record(entry.filename, 0, 0, compressed=True)
    archive.open(entry).close()  # raises where what lies there has another name, or is encrypted
    file.seek(entry.header_offset)
    _, name, more = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    start = entry.header_offset + _LOCAL_HEADER.size + name + more
    if entry.compress_size != entry.file_size or start + entry.file_size > file.seek(0, 2):
        raise GrowError(f"{entry.filename!r} is not as long as the directory says")
    return Record(entry.filename, start, entry.file_size, compressed=False)


def _content(archive: zipfile.ZipFile, file: BinaryIO, entry: zipfile.ZipInfo) -> bytes:
    """The bytes of an entry; a checksum is not looked at, which torch can be told to leave out."""
    record = _record(archive, file, entry)
    if record.compressed:
        return archive.read(entry)
    file.seek(record.start)
    return file.read(record.size)


def _check_byte_order(archive: zipfile.ZipFile, file: BinaryIO, folder: str) -> None:
    """Refuse numbers in the order of bytes of another kind of machine: torch would turn them round, in no data.

    Raises:
        GrowError: They are.
    """
    default = torch.serialization.get_default_load_endianness() or LoadEndianness.LITTLE
    order = {LoadEndianness.LITTLE: "little", LoadEndianness.BIG: "big"}.get(default, sys.byteorder)
    if f"{folder}byteorder" in archive.namelist():
        order = _content(archive, file, archive.getinfo(f"{folder}byteorder")).decode(errors="replace")
    if order != sys.byteorder:
        raise GrowError(f"its order of bytes is {order!r:.20}, and this machine's is {sys.byteorder!r}; {AGAIN}")


def _held_kind(outline: BytesIO, error: Exception) -> str:
    """What tensors keep an archive from being read without data, if there are any; else ""."""
    kind = next((kind for name, kind in _KINDS.items() if name in outline.getvalue()), "")
    if not kind or isinstance(error, pickle.UnpicklingError):  # it may not be read, whatever it is
        return ""
    return f": it holds {kind}, which cannot be read where they lie; save plain tensors"


def _is_old(path: Path) -> bool:
    """Whether a file begins as torch wrote them before they were zip archives: a pickle of a number."""
    with path.open("rb") as file:
        return file.read(len(_OLD)) == _OLD
