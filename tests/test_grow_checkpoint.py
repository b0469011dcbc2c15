"""A checkpoint grown file to file has the bits of growing in memory, or is refused before anything is written."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import fxgrow
from fxgrow import methods
from fxgrow.rewrite import fill
from tests.analysed import Output
from tests.check import randomise
from tests.decoders import Config, Decoder
from tests.golden_net import golden_inputs, golden_net, golden_plan
from tests.nets import NETS
from tests.sharded_nets import IDS, NEW, Stream
from tests.test_module_depth import Referred

OUTPUTS: tuple[Output, ...] = ("graph", "module")
KILLS = int(os.environ.get("FXGROW_KILLS", "4"))  # 200 were tried, see docs/scale.md
SOME = [name for number, name in enumerate(NETS) if number % 12 == 0]


def saved(model: nn.Module, path: Path) -> None:
    """A model's tensors, each under its first name, as safetensors wants them."""
    tensors = {id(t): (name, t) for name, t in reversed(model.state_dict(keep_vars=True).items())}
    save_file({name: t.detach().contiguous() for name, t in tensors.values()}, path, {"format": "pt"})


def differences(found: Mapping[str, Tensor], student: nn.Module) -> list[str]:
    """Where a file has other bits than a student; empty where it has the same, and loads into it as a whole."""
    expected = student.state_dict()
    wrong = [f"{name} is not the student's" for name in found.keys() - expected.keys()]
    for name in found.keys() & expected.keys():
        mine, theirs = found[name], expected[name]
        if mine.dtype != theirs.dtype or not (torch.equal(mine, theirs) or theirs.isnan().any()):
            wrong.append(f"{name} has other entries")
    kept = {tensor.data_ptr() for name, tensor in expected.items() if name in found}
    left = [name for name, tensor in expected.items() if tensor.numel() and tensor.data_ptr() not in kept]
    return wrong + [f"{name} is missing" for name in left]


def grown_both_ways(model: nn.Module, plan: fxgrow.Plan, x: Any, folder: Path, **how: Any) -> list[str]:
    """Where a file grown from a model's, and what is left in its folder, differ from growing in memory."""
    saved(model, folder / "teacher.safetensors")
    plan = fxgrow.Plan.from_json(plan.to_json())
    fxgrow.grow_checkpoint(plan, folder / "teacher.safetensors", folder / "student.safetensors", **how)
    files = {path.name for path in folder.iterdir()} ^ {"student.safetensors", "teacher.safetensors"}
    return [*differences(load_file(folder / "student.safetensors"), fxgrow.apply(plan, model, x)), *files]


@pytest.mark.parametrize("method", methods.names())
@pytest.mark.parametrize("name", ["res_net", "shuffle_chain", "vit_multihead_attention", "autoencoder"])
def test_the_bits_are_those_of_growing_in_memory(name: str, method: str, tmp_path: Path) -> None:
    net = NETS[name]
    teacher, x = randomise(net.make()), net.inputs()
    plan = fxgrow.plan(fxgrow.widths(teacher, x), 2.0, method=method, seed=3)
    assert not grown_both_ways(teacher, plan, x, tmp_path, threads=2)


SPECS: list[Any] = [fxgrow.Widen("embed", 17, indivisible="average"), *[fxgrow.Outputs(9, new=new) for new in NEW]]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_entries_that_depend_on_whole_tensors(spec: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fill, "PART", 48)
    teacher = randomise(Stream(10))
    plan = fxgrow.plan(fxgrow.widths(teacher, IDS), [spec, {"up": 17}])
    assert not grown_both_ways(teacher, plan, IDS, tmp_path, threads=2)


@pytest.mark.parametrize("name", SOME)
def test_every_kind_of_net_grows_file_to_file(name: str, tmp_path: Path) -> None:
    net = NETS[name]
    teacher, x = randomise(net.make()), net.inputs()
    found = fxgrow.widths(teacher, x)
    grows = [width.name for width in found.groups if found.state(width.name).startswith(("can", "grows"))]
    plan = fxgrow.plan(found, 2.0 if grows else 1.0)
    assert not grown_both_ways(teacher, plan, x, tmp_path)


@pytest.mark.parametrize("output", OUTPUTS)
def test_blocks_new_layers_and_kernels_as_well(output: Output, tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher, ids = Decoder(Config()), torch.arange(12).view(1, 12)
    spec = [1.5, fxgrow.Deepen("layers.1", blocks=2)] if output == "module" else [1.5]
    assert not grown_both_ways(teacher, fxgrow.plan(fxgrow.widths(teacher, ids, output="module"), spec), ids, tmp_path)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_chain_of_plans_with_every_kind_of_change(threads: int, tmp_path: Path) -> None:
    assert not grown_both_ways(randomise(golden_net()), golden_plan(), golden_inputs(), tmp_path, threads=threads)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_checkpoint_in_another_floating_dtype_keeps_it(dtype: torch.dtype, tmp_path: Path) -> None:
    net = NETS["res_net"]
    plan = fxgrow.plan(fxgrow.widths(net.make(), net.inputs()), 1.5)
    x = tuple(t.to(dtype) for t in net.inputs())
    assert not grown_both_ways(randomise(net.make()).to(dtype), plan, x, tmp_path)


@pytest.mark.parametrize(
    "dtype", ["float8_e4m3fn", "float8_e5m2fnuz", "float8_e4m3fnuz", "float8_e8m0fnu", "int8", "bool"]
)
def test_stored_dtypes_are_read_and_written(dtype: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    model.register_buffer("stored", torch.ones(8).to(getattr(torch, dtype)))
    plan = fxgrow.plan(fxgrow.widths(model, torch.randn(2, 6)), 1.5)
    save_file(model.state_dict(), tmp_path / "small.safetensors")
    fxgrow.grow_checkpoint(plan, tmp_path / "small.safetensors", tmp_path / "large.safetensors")
    larger = load_file(tmp_path / "large.safetensors")
    assert larger["0.weight"].shape == (12, 6)
    assert larger["stored"].dtype == model.stored.dtype
    assert torch.equal(larger["stored"].view(torch.uint8), model.stored.view(torch.uint8))


def test_large_tensors_are_made_by_blocks(tmp_path: Path) -> None:
    teacher = nn.Sequential(nn.Linear(300, 1100), nn.ReLU(), nn.Linear(1100, 1500), nn.ReLU(), nn.Linear(1500, 7))
    for method in ("split", "zero_out"):
        plan = fxgrow.plan(fxgrow.widths(teacher, torch.randn(2, 300)), 2.0, method=method)
        (tmp_path / method).mkdir()
        assert not grown_both_ways(teacher, plan, torch.randn(2, 300), tmp_path / method, threads=2)


# -- several files ---------------------------------------------------------------------------------


def sharded(model: nn.Module, folder: Path, number: int) -> Path:
    """A model in several files with an index, as transformers writes them."""
    folder.mkdir()
    state = model.state_dict()
    files = {name: f"model-{i % number + 1:05}-of-{number:05}.safetensors" for i, name in enumerate(state)}
    for file in set(files.values()):
        save_file({name: state[name] for name in state if files[name] == file}, folder / file, {"format": "pt"})
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 0, "colour": "red"}, "weight_map": files}))
    return index


def test_several_files_with_an_index_become_as_many(tmp_path: Path) -> None:
    teacher = randomise(golden_net())
    index = sharded(teacher, tmp_path / "small", 3)
    (tmp_path / "large").mkdir()
    fxgrow.grow_checkpoint(golden_plan(), index, tmp_path / "large" / index.name)
    written = json.loads((tmp_path / "large" / index.name).read_text())
    assert {path.name for path in (tmp_path / "large").iterdir()} == {path.name for path in index.parent.iterdir()}
    found = {}
    for file in set(written["weight_map"].values()):
        part = load_file(tmp_path / "large" / file)
        assert {written["weight_map"][name] for name in part} == {file}
        found |= part
    assert not differences(found, fxgrow.apply(golden_plan(), teacher, golden_inputs()))
    assert written["metadata"] == {"total_size": sum(t.nbytes for t in found.values()), "colour": "red"}


def test_several_files_can_become_one(tmp_path: Path) -> None:
    teacher = randomise(golden_net())
    fxgrow.grow_checkpoint(golden_plan(), sharded(teacher, tmp_path / "small", 2), tmp_path / "large.safetensors")
    assert not differences(
        load_file(tmp_path / "large.safetensors"), fxgrow.apply(golden_plan(), teacher, golden_inputs())
    )


# -- files of torch.save ---------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "state_dict", "model"])
def test_a_file_of_torch_save_keeps_what_is_beside_the_weights(key: str | None, tmp_path: Path) -> None:
    teacher = randomise(golden_net())
    state = teacher.state_dict()
    torch.save(state if key is None else {"epoch": 3, key: state, "note": ["a", None]}, tmp_path / "teacher.pt")
    fxgrow.grow_checkpoint(golden_plan(), tmp_path / "teacher.pt", tmp_path / "student.pt")
    found = torch.load(tmp_path / "student.pt", weights_only=True)
    if key is not None:
        assert (found["epoch"], found["note"]) == (3, ["a", None])
        found = found[key]
    student = fxgrow.apply(golden_plan(), teacher, golden_inputs())
    assert not differences(found, student)
    student.load_state_dict(found)
    mapped = torch.load(tmp_path / "student.pt", weights_only=True, mmap=True)
    assert not differences(mapped if key is None else mapped[key], student)


def test_views_in_a_file_of_torch_save_are_read_where_they_lie(tmp_path: Path) -> None:
    net = NETS["res_net"]
    teacher = randomise(net.make())
    rows = torch.randn(40, 50)
    state = {
        name: (torch.stack([t, t], -1)[..., 1] if t.ndim > 1 else rows.flatten()[9 : 9 + t.numel()].view(t.shape))
        if t.is_floating_point()
        else t
        for name, t in teacher.state_dict().items()
    }
    teacher.load_state_dict(state)
    plan = fxgrow.plan(fxgrow.widths(teacher, net.inputs()), 2.0)
    torch.save(state, tmp_path / "teacher.pt")
    fxgrow.grow_checkpoint(plan, tmp_path / "teacher.pt", tmp_path / "student.pt")
    assert not differences(torch.load(tmp_path / "student.pt"), fxgrow.apply(plan, teacher, net.inputs()))


@pytest.mark.parametrize(("old", "new"), [(".pt", ".safetensors"), (".safetensors", ".pt"), (".bin", ".pth")])
def test_a_format_can_become_the_other(old: str, new: str, tmp_path: Path) -> None:
    teacher = randomise(golden_net())
    source, target = tmp_path / f"teacher{old}", tmp_path / f"student{new}"
    torch.save(teacher.state_dict(), source) if old != ".safetensors" else saved(teacher, source)
    fxgrow.grow_checkpoint(golden_plan(), source, target)
    found = load_file(target) if new == ".safetensors" else torch.load(target, weights_only=True)
    assert not differences(found, fxgrow.apply(golden_plan(), teacher, golden_inputs()))


def test_what_torch_cannot_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    torch.save(golden_net().state_dict(), path)
    whole = path.read_bytes()
    wrong = [whole[:10], whole[: len(whole) // 2], whole[:-1], b"", b"text"]
    for data in wrong:
        path.write_bytes(data)
        with pytest.raises(fxgrow.GrowError, match=r"torch\.load reads no weights"):
            fxgrow.grow_checkpoint(golden_plan(), path, tmp_path / "student.pt")
    for holding in (3, [1, 2], {"model": {"a": 3}}, {}):
        torch.save(holding, path)
        with pytest.raises(fxgrow.GrowError, match="holds no state_dict"):
            fxgrow.grow_checkpoint(golden_plan(), path, tmp_path / "student.pt")
    torch.save(golden_net().state_dict(), path, _use_new_zipfile_serialization=False)
    with pytest.raises(fxgrow.GrowError, match=r"of the format before torch 1\.6; load it with torch\.load and save"):
        fxgrow.grow_checkpoint(golden_plan(), path, tmp_path / "student.pt")
    torch.save({"0.weight": torch.ones(2), "_extra_state": {"n": 1}}, path)
    with pytest.raises(fxgrow.GrowError, match=r"holds no state_dict of tensors alone \('_extra_state'\)"):
        fxgrow.grow_checkpoint(golden_plan(), path, tmp_path / "student.pt")
    torch.save(golden_net(), path)  # a pickled model: its class would run
    with pytest.raises(fxgrow.GrowError, match=r"torch\.load reads no weights"):
        fxgrow.grow_checkpoint(golden_plan(), path, tmp_path / "student.pt")
    assert [file.name for file in tmp_path.iterdir()] == ["teacher.pt"]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_names_of_a_wrapped_model_stay_so(prefix: str, suffix: str, tmp_path: Path) -> None:
    teacher = randomise(golden_net())
    state = {prefix + name: t for name, t in teacher.state_dict().items()}
    source, target = tmp_path / f"teacher{suffix}", tmp_path / f"student{suffix}"
    torch.save(state, source) if suffix == ".pt" else save_file(state, source)
    fxgrow.grow_checkpoint(golden_plan(), source, target)
    found = torch.load(target) if suffix == ".pt" else load_file(target)
    assert all(name.startswith(prefix) for name in found)
    found = {name.removeprefix(prefix): t for name, t in found.items()}
    assert not differences(found, fxgrow.apply(golden_plan(), teacher, golden_inputs()))


# -- ties ------------------------------------------------------------------------------------------


class Tied(nn.Module):
    """Two layers of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 6, bias=False)
        self.head = nn.Linear(6, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(torch.relu(self.second(torch.relu(self.first(torch.relu(self.stem(x)))))))
        return result


X = torch.randn(2, 5)


@pytest.mark.parametrize("names", [("first.weight",), ("second.weight",), ("first.weight", "second.weight")])
def test_a_tied_tensor_may_have_any_of_its_names(names: tuple[str, ...], tmp_path: Path) -> None:
    teacher = Tied()
    plan = fxgrow.plan(fxgrow.widths(teacher, X), 2.0)
    one = {"first.weight", "second.weight"}
    state = {name: t.clone() for name, t in teacher.state_dict().items() if name not in one or name in names}
    save_file(state, tmp_path / "teacher.safetensors")
    fxgrow.grow_checkpoint(plan, tmp_path / "teacher.safetensors", tmp_path / "student.safetensors")
    found = load_file(tmp_path / "student.safetensors")
    assert found.keys() == state.keys()
    assert not differences(found, fxgrow.apply(plan, teacher, X))


def test_tied_tensors_are_one_in_a_file_of_torch_save(tmp_path: Path) -> None:
    teacher = Tied()
    plan = fxgrow.plan(fxgrow.widths(teacher, X), 2.0)
    torch.save(teacher.state_dict(), tmp_path / "teacher.pt")
    fxgrow.grow_checkpoint(plan, tmp_path / "teacher.pt", tmp_path / "student.pt")
    found = torch.load(tmp_path / "student.pt")
    assert found["first.weight"].data_ptr() == found["second.weight"].data_ptr()
    assert not differences(found, fxgrow.apply(plan, teacher, X))


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("shared", [{"gain": nn.Parameter(torch.ones(8))}, {"shared": nn.BatchNorm1d(8)}])
def test_what_blocks_share_is_one_in_their_clones_too(shared: Any, output: Output, tmp_path: Path) -> None:
    teacher, x = Referred(**shared), torch.randn(5, 8)
    student = fxgrow.grow(teacher, [fxgrow.Deepen("blocks", blocks=2), {"blocks.0.a": 20}], x, output=output)
    plan = fxgrow.plan_of(student)
    assert plan is not None
    torch.save(teacher.state_dict(), tmp_path / "teacher.pt")
    fxgrow.grow_checkpoint(plan, tmp_path / "teacher.pt", tmp_path / "student.pt")
    found, state = torch.load(tmp_path / "student.pt"), student.state_dict()
    assert not differences(found, student)
    for name in state:
        one_in_file = {other for other in found if found[other].data_ptr() == found[name].data_ptr()}
        assert one_in_file == {other for other in state if state[other].data_ptr() == state[name].data_ptr()}
    saved(teacher, tmp_path / "teacher.safetensors")
    fxgrow.grow_checkpoint(plan, tmp_path / "teacher.safetensors", tmp_path / "student.safetensors")
    assert not differences(load_file(tmp_path / "student.safetensors"), student)


def test_tied_tensors_that_differ_are_refused(tmp_path: Path) -> None:
    teacher = Tied()
    plan = fxgrow.plan(fxgrow.widths(teacher, X), 2.0)
    state = {name: t.clone() for name, t in teacher.state_dict().items()}
    state["second.weight"][3, 2] += 1
    save_file(state, tmp_path / "teacher.safetensors")
    assert "one tensor" in refusal(plan, tmp_path)


# -- refused before anything is written ------------------------------------------------------------


def refusal(plan: Any, folder: Path, *, source: str = "teacher", target: str = "student") -> str:
    """Why a checkpoint is not grown; the files in its folder are as before."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    paths = [folder / f"{name}.safetensors" for name in (source, target)]
    with pytest.raises(fxgrow.GrowError) as error:
        fxgrow.grow_checkpoint(plan, *paths)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return str(error.value)


@pytest.fixture
def small(tmp_path: Path) -> tuple[fxgrow.Plan, dict[str, Tensor]]:
    """A plan, and the teacher's tensors, which lie in teacher.safetensors."""
    teacher = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3))
    saved(teacher, tmp_path / "teacher.safetensors")
    return fxgrow.plan(fxgrow.widths(teacher, torch.randn(2, 3, 8, 8)), 2.0), teacher.state_dict()


Small = tuple[fxgrow.Plan, dict[str, Tensor]]


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("3.weight", None, "lacks '3.weight'"),
        ("1.num_batches_tracked", None, "lacks '1.num_batches_tracked'"),
        ("3.weight", torch.zeros(5, 4, 3, 5), "expects '3.weight' of shape"),
        ("3.bias", torch.zeros(6), "expects '3.bias' of shape"),
        ("1.num_batches_tracked", torch.tensor(1.0), "as int64"),
        ("0.weight", torch.zeros(4, 3, 3, 3, dtype=torch.int8), "as a floating dtype"),
        ("other", torch.zeros(2), "has 'other'"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(
    small: Small, name: str, value: Tensor | None, why: str, tmp_path: Path
) -> None:
    plan, state = small
    changed = {n: t for n, t in {**state, name: value}.items() if t is not None}
    save_file(changed, tmp_path / "teacher.safetensors")
    assert why in refusal(plan, tmp_path)


def test_what_is_no_whole_file_is_refused(small: Small, tmp_path: Path) -> None:
    plan, _ = small
    path = tmp_path / "teacher.safetensors"
    whole = path.read_bytes()
    for cut in (0, 5, 8, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert "cannot read" in refusal(plan, tmp_path)
    path.write_bytes(whole + b"more")
    assert "cannot read" in refusal(plan, tmp_path)
    path.unlink()
    assert "there is no file" in refusal(plan, tmp_path)


def test_the_teachers_own_file_is_no_target(small: Small, tmp_path: Path) -> None:
    plan, _ = small
    assert "would be lost" in refusal(plan, tmp_path, target="teacher")
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "teacher.safetensors")
    assert "would be lost" in refusal(plan, tmp_path, target="link")
    assert "there is no folder" in refusal(plan, tmp_path, target="gone/student")


def test_a_full_disk_is_known_before_anything_is_written(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    plan, _ = small
    monkeypatch.setattr("os.posix_fallocate", full)
    assert "No space left" in refusal(plan, tmp_path)


def test_a_plan_of_an_older_version_is_refused(small: Small, tmp_path: Path) -> None:
    data = json.loads(small[0].to_json())
    del data["stored"]
    assert "plan again" in refusal(fxgrow.Plan.from_json(json.dumps({**data, "version": "1.2"})), tmp_path)


@pytest.mark.parametrize("plan", [None, "plan.json", []])
def test_what_is_no_plan_is_refused(small: Small, plan: Any, tmp_path: Path) -> None:
    assert "apply" in refusal(plan, tmp_path)


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", None])
def test_what_is_no_number_of_threads_is_refused(small: Small, threads: Any, tmp_path: Path) -> None:
    with pytest.raises(fxgrow.GrowError, match="threads"):
        fxgrow.grow_checkpoint(
            small[0], tmp_path / "teacher.safetensors", tmp_path / "student.safetensors", threads=threads
        )


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"0.weight": "../x.safetensors"}}']
)
def test_what_is_no_index_is_refused(small: Small, text: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(text)
    with pytest.raises(fxgrow.GrowError, match="cannot read"):
        fxgrow.grow_checkpoint(small[0], path, tmp_path / "student.safetensors")


def test_an_index_that_names_what_is_not_there_is_refused(small: Small, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"gone": "teacher.safetensors"}}))
    with pytest.raises(fxgrow.GrowError, match="do not both have"):
        fxgrow.grow_checkpoint(small[0], path, tmp_path / "student.safetensors")


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError])
@pytest.mark.parametrize("threads", [1, 2])
def test_whatever_ends_it_nothing_is_left(
    small: Small, error: type[BaseException], threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise error("now")

    monkeypatch.setattr("fxgrow.rewrite.fill._gather", fails)
    with pytest.raises(fxgrow.GrowError if error is RuntimeError else error):
        fxgrow.grow_checkpoint(
            small[0], tmp_path / "teacher.safetensors", tmp_path / "student.safetensors", threads=threads
        )
    assert [path.name for path in tmp_path.iterdir()] == ["teacher.safetensors"]


# -- killed ----------------------------------------------------------------------------------------

RUN = """
import sys, fxgrow
plan = fxgrow.Plan.from_json(open(sys.argv[1]).read())
print("begins", flush=True)
while True:
    fxgrow.grow_checkpoint(plan, sys.argv[2], sys.argv[3])
"""


def test_a_run_that_is_killed_leaves_no_target_or_a_whole_one(tmp_path: Path) -> None:
    teacher = nn.Sequential(nn.Linear(200, 1000), nn.ReLU(), nn.Linear(1000, 900), nn.ReLU(), nn.Linear(900, 7))
    plan = fxgrow.plan(fxgrow.widths(teacher, torch.randn(2, 200)), 2.0)
    source, target = tmp_path / "teacher.safetensors", tmp_path / "student.safetensors"
    saved(teacher, source)
    (tmp_path / "plan.json").write_text(plan.to_json())
    student = fxgrow.apply(plan, teacher)
    draw = random.Random(0)
    for _ in range(KILLS):
        target.unlink(missing_ok=True)
        command = [sys.executable, "-c", RUN, str(tmp_path / "plan.json"), str(source), str(target)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent)
        assert process.stdout is not None
        assert process.stdout.readline() == b"begins\n"
        time.sleep(draw.uniform(0, 0.2))
        process.kill()
        process.wait()
        process.stdout.close()
        if target.exists():
            assert not differences(load_file(target), student)
