"""Files of `torch.save` that were packed anew or hold unusual tensors are read as torch.load reads them, or refused."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.serialization import LoadEndianness

import fxgrow
from tests.check import randomise
from tests.golden_net import golden_inputs, golden_net, golden_plan
from tests.test_grow_checkpoint import differences

Records = Mapping[str, bytes]
OTHER = {"little": "big", "big": "little"}[sys.byteorder]


def records_of(path: Path) -> Records:
    """What a file holds, by the names that torch gives to its records."""
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write(path: Path, records: Records, how: int = zipfile.ZIP_STORED) -> None:
    """Write records as any program for zip archives does, without the alignment of torch."""
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in records.items():
            archive.writestr(f"archive/{name}", content)


def saved_net(path: Path) -> nn.Module:
    """A net whose weights are in a file of torch.save."""
    teacher = randomise(golden_net())
    torch.save(teacher.state_dict(), path)
    return teacher


def assert_grown(teacher: nn.Module, path: Path) -> None:
    """A file grows to one with the bits of growing in memory what torch.load reads from it."""
    teacher.load_state_dict(torch.load(path, weights_only=True))
    target = path.with_name("student.pt")
    fxgrow.grow_checkpoint(golden_plan(), path, target)
    student = fxgrow.apply(golden_plan(), teacher, golden_inputs())
    assert not differences(torch.load(target, weights_only=True), student)


def refusal(path: Path) -> str:
    """Why a file is not grown; nothing is written."""
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(fxgrow.GrowError) as error:
        fxgrow.grow_checkpoint(golden_plan(), path, path.with_name("student.pt"))
    assert before == {file.name: file.read_bytes() for file in path.parent.iterdir()}
    return str(error.value)


# -- where the data lie ----------------------------------------------------------------------------


def reverse(records: Records) -> Records:
    """Records in the opposite order."""
    return dict(reversed(records.items()))


def swap_data(records: Records) -> Records:
    """Records of data in the opposite order, and the others where they were."""
    data = [name for name in records if name.startswith("data/")]
    others = iter(reversed(data))
    order = [next(others) if name in data else name for name in records]
    return {name: records[name] for name in order}


def unmarked(records: Records) -> Records:
    """Records without those that later releases of torch added."""
    return {name: record for name, record in records.items() if name[0] != "." and name != "byteorder"}


def longer(records: Records) -> Records:
    """Records with others between them, which torch does not look at."""
    return {name: record for first in records for name, record in ((first, records[first]), (f"x{first}", b"abc"))}


@pytest.mark.parametrize("order", [dict, reverse, swap_data, unmarked, longer])
def test_records_are_read_where_the_archive_says(order: Callable[[Records], Records], tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    teacher = saved_net(path)
    write(path, order(records_of(path)))
    assert_grown(teacher, path)


def test_records_that_torch_wrote_in_another_order_are_read(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    teacher = saved_net(path)
    records = swap_data(records_of(path))
    writer = torch._C.PyTorchFileWriter(str(path))
    for name, content in records.items():
        if name not in ("version", ".data/serialization_id"):  # it writes these itself
            writer.write_record(name, content, len(content))
    writer.write_end_of_file()
    assert_grown(teacher, path)


@pytest.mark.parametrize("alignment", [1, 8, 4096])
def test_any_alignment_of_torch_is_read(alignment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.utils.serialization.config.save, "storage_alignment", alignment)
    path = tmp_path / "teacher.pt"
    teacher = saved_net(path)
    assert_grown(teacher, path)


def test_archives_without_checksums_are_read(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    torch.serialization.set_crc32_options(False)
    try:
        teacher = saved_net(path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert_grown(teacher, path)


def test_compressed_records_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    saved_net(path)
    records = records_of(path)
    for how in (zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        write(path, records, how)
        assert "is compressed, so" in (why := refusal(path))
        assert "load it with torch.load and save it again with torch.save" in why


def test_an_archive_whose_pickle_alone_is_compressed_is_read(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    teacher = saved_net(path)
    records = records_of(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            archive.writestr(f"archive/{name}", content, zipfile.ZIP_DEFLATED if name == "data.pkl" else None)
    assert_grown(teacher, path)


def test_records_that_do_not_hold_the_data_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    saved_net(path)
    records = records_of(path)
    write(path, {**records, "data/1": records["data/1"][:-1]})
    assert "is broken: archive/data/1 is too short for" in refusal(path)
    write(path, {name: record for name, record in records.items() if name != "data/1"})
    assert "torch.load reads no weights" in refusal(path)
    write(path, records)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("archive/data/1", b"1")
    assert "holds 'archive/data/1' twice" in refusal(path)


def test_records_that_lie_elsewhere_than_the_directory_says_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    saved_net(path)
    write(path, records_of(path))
    whole, name = path.read_bytes(), b"archive/data/1"
    assert whole.count(name) > 1
    path.write_bytes(whole.replace(name, b"archive/data/x", 1))
    assert "no weights" in refusal(path)
    directory = whole.rindex(b"PK\1\2", 0, whole.rindex(name))
    for at, number in ((directory + 20, 1 << 20), (directory + 24, 1 << 20), (directory + 42, 7), (directory + 8, 1)):
        path.write_bytes(whole[:at] + number.to_bytes(4, "little") + whole[at + 4 :])
        assert "no weights" in refusal(path)


# -- the order of bytes ----------------------------------------------------------------------------


def test_numbers_in_the_order_of_bytes_of_another_machine_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    saved_net(path)
    records = records_of(path)
    for order in (OTHER, "middle"):
        write(path, {**records, "byteorder": order.encode()})
        assert f"its order of bytes is '{order}', and this machine's is '{sys.byteorder}'" in refusal(path)


def test_where_a_file_does_not_say_its_order_of_bytes_it_is_as_for_torch(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    teacher = saved_net(path)
    records = records_of(path)
    assert records["byteorder"].decode() == sys.byteorder
    write(path, unmarked(records))
    before = torch.serialization.get_default_load_endianness()
    try:
        torch.serialization.set_default_load_endianness(LoadEndianness.NATIVE)
        assert_grown(teacher, path)
        torch.serialization.set_default_load_endianness(LoadEndianness[OTHER.upper()])
        assert f"its order of bytes is '{OTHER}'" in refusal(path)
        write(path, records)
        assert_grown(teacher, path)
    finally:
        torch.serialization.set_default_load_endianness(before)
