"""Files of `torch.save` that were packed anew or hold unusual tensors are read as torch.load reads them, or refused."""

from __future__ import annotations

import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
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


# -- tensors of other layouts ----------------------------------------------------------------------


class Wave(nn.Module):
    """A complex layer, and a real one."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(3, 4, dtype=torch.complex64), nn.Linear(4, 4)
        self.register_buffer("phase", torch.randn(4, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.outer(torch.relu((self.inner(x + 0j)).abs()) * torch.view_as_real(self.phase)[:, 0])
        return result


def conjugated(t: Tensor) -> Tensor:
    """The same entries, as the conjugate of what is in memory."""
    return t.conj().resolve_conj().conj() if t.is_complex() else t


def negated(t: Tensor) -> Tensor:
    """The same entries, as the opposite of what is in memory."""
    return t if t.is_complex() else torch.complex(t, -t).conj().imag


def both(t: Tensor) -> Tensor:
    """The same entries, as the opposite of the conjugate of what is in memory."""
    return torch._neg_view(t.neg().conj().resolve_conj().conj()) if t.is_complex() else t


def turned(t: Tensor) -> Tensor:
    """The same entries, column by column."""
    return t.mT.contiguous().mT if t.ndim > 1 else t


def inner_part(t: Tensor) -> Tensor:
    """The same entries, within a larger tensor."""
    room = torch.zeros([n + 2 for n in t.shape], dtype=t.dtype)
    part = room[tuple(slice(1, -1) for _ in t.shape)]
    return part.copy_(t)


def expanded(t: Tensor) -> Tensor:
    """The first entry, for all."""
    return t.flatten()[:1].view([1] * t.ndim).expand(t.shape)


LAYOUTS = [conjugated, negated, both, turned, inner_part, expanded, nn.Parameter, nn.Buffer]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tensors_are_read_with_their_signs_and_strides(layout: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    teacher, x = Wave(), torch.randn(2, 3)
    plan = fxgrow.plan(fxgrow.widths(teacher, x), {"inner": 6})
    state = {name: layout(t) for name, t in teacher.state_dict().items()}
    assert layout is expanded or all(torch.equal(state[name], t) for name, t in teacher.state_dict().items())
    torch.save(state, tmp_path / "teacher.pt")
    teacher.load_state_dict(state)
    fxgrow.grow_checkpoint(plan, tmp_path / "teacher.pt", tmp_path / "student.pt")
    assert not differences(torch.load(tmp_path / "student.pt"), fxgrow.apply(plan, teacher))


def test_an_optimizers_tensors_are_read_with_their_signs(tmp_path: Path) -> None:
    teacher, x = Wave(), torch.randn(2, 3)
    optimizer = torch.optim.SGD(teacher.parameters(), 0.1, momentum=0.9)
    teacher(x).sum().backward()
    optimizer.step()
    plan = fxgrow.plan(fxgrow.widths(teacher, x), {"inner": 6})
    found = []
    for layout in (torch.clone, negated, conjugated):
        saved = optimizer.state_dict()
        saved["state"] = {n: {key: layout(t) for key, t in state.items()} for n, state in saved["state"].items()}
        torch.save({"model": teacher.state_dict(), "optimizer": saved}, tmp_path / "teacher.pt")
        fxgrow.grow_checkpoint(plan, tmp_path / "teacher.pt", tmp_path / "student.pt")
        found.append(torch.load(tmp_path / "student.pt")["optimizer"]["state"])
    for n, state in found[0].items():
        assert torch.equal(state["momentum_buffer"], found[1][n]["momentum_buffer"])
        assert torch.equal(state["momentum_buffer"], found[2][n]["momentum_buffer"])


def test_fxgrow_save_writes_tensors_with_their_signs(tmp_path: Path) -> None:
    teacher, x = Wave(), torch.randn(2, 3)
    student = fxgrow.grow(teacher, {"inner": 6}, x)
    extra = {"plain": torch.randn(3), "wave": torch.randn(3, dtype=torch.complex64)}
    for layout in (conjugated, negated, both):
        given = {name: layout(t) for name, t in extra.items()}
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.data = layout(parameter.data)
        fxgrow.save(student, tmp_path / "student.safetensors", **given)
        loaded = fxgrow.load(tmp_path / "student.safetensors", Wave)
        assert all(torch.equal(loaded.extra[name], t) for name, t in extra.items())
        state = student.state_dict()
        assert all(torch.equal(t, state[name]) for name, t in loaded.model.state_dict().items())


# -- tensors without data in the file --------------------------------------------------------------


def test_a_tensor_on_meta_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    teacher = saved_net(path)
    state = teacher.state_dict()
    for name in list(state)[::9]:
        for whole in ({**state, name: state[name].to("meta")}, {"model": {**state, name: state[name].to("meta")}}):
            torch.save(whole, path)
            assert f"no data of {name!r}, which is on meta" in refusal(path)
    torch.save({"none": torch.empty(0, device="meta")}, path)
    assert "no data of 'none', which is on meta" in refusal(path)


def test_an_optimizers_tensor_on_meta_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    teacher = saved_net(path)
    optimizer = torch.optim.SGD(teacher.parameters(), 0.1, momentum=0.9)
    teacher(golden_inputs()).sum().backward()
    optimizer.step()
    saved = optimizer.state_dict()
    saved["state"][1]["momentum_buffer"] = saved["state"][1]["momentum_buffer"].to("meta")
    torch.save({"model": teacher.state_dict(), "optimizer": saved}, path)
    assert "no data of a tensor of an optimizer, which is on meta" in refusal(path)


class Named(Tensor):
    """A class of the user's own."""


def quantized() -> Tensor:
    """A tensor in eight bits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch will drop them
        return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8)


def nested(layout: torch.layout) -> Tensor:
    """Rows of different lengths."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls them a prototype
        return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=layout)


KINDS = {
    "quantized tensors": quantized,
    "nested tensors": lambda: nested(torch.jagged),
    "nested tensors, which": lambda: nested(torch.strided),
    "tensors of a class of their own": lambda: torch.ones(2).as_subclass(Named),
}


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_of_other_kinds_are_refused_as_what_they_are(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    teacher = saved_net(path)
    torch.save({**teacher.state_dict(), "other": KINDS[kind]()}, path)
    with torch.serialization.safe_globals([Named]):
        assert f"it holds {kind}" in refusal(path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_default_device_changes_nothing(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    teacher = saved_net(path)
    target = tmp_path / f"student{suffix}"
    with torch.device("meta"):
        fxgrow.grow_checkpoint(golden_plan(), path, target)
    student = fxgrow.apply(golden_plan(), teacher, golden_inputs())
    assert not differences(torch.load(target) if suffix == ".pt" else load_file(target), student)
