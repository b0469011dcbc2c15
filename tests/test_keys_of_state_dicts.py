"""A file of `torch.save` may hold the model's state_dict under any key; two that may be meant are refused by name."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fxgrow
from tests.check import randomise
from tests.golden_net import golden_inputs, golden_net, golden_plan
from tests.test_files_of_torch_save import refusal
from tests.test_grow_checkpoint import differences

KEYS = (
    "params",
    "params_ema",
    "net",
    "network",
    "generator",
    "weights",
    "state_dict_ema",
    "module",
    "model_state_dict",
)


def state() -> dict[str, Any]:
    """The weights of a net."""
    return dict(randomise(golden_net()).state_dict())


def assert_grown_under(key: str, whole: dict[str, Any], path: Path) -> None:
    """The file grows in what it holds under a key, and keeps what else it holds."""
    torch.save(whole, path)
    target = path.with_name("student.pt")
    fxgrow.grow_checkpoint(golden_plan(), path, target)
    teacher = golden_net()
    teacher.load_state_dict({name.removeprefix("module."): t for name, t in whole[key].items()})
    student = fxgrow.apply(golden_plan(), teacher, golden_inputs())
    found = torch.load(target, weights_only=True)
    assert list(found) == list(whole)
    assert not differences({name.removeprefix("module."): t for name, t in found[key].items()}, student)
    others = {name for name in whole if name != key}
    assert {name: found[name] for name in others} == {name: whole[name] for name in others}


@pytest.mark.parametrize("key", KEYS)
def test_the_state_dict_is_found_under_any_key(key: str, tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    assert_grown_under(key, {key: state()}, path)
    assert_grown_under(key, {"epoch": 3, "model": {"depth": 2, "names": ["a"]}, key: state(), "empty": {}}, path)
    assert_grown_under(key, {key: {f"module.{name}": t for name, t in state().items()}, "step": 1}, path)


def test_an_optimizer_beside_any_key_grows(tmp_path: Path) -> None:
    teacher = randomise(golden_net())
    optimizer = torch.optim.SGD(teacher.parameters(), 0.1, momentum=0.9)
    teacher(golden_inputs()).sum().backward()
    optimizer.step()
    found = []
    for key in ("net", "model"):
        torch.save({key: teacher.state_dict(), "optim": optimizer.state_dict()}, tmp_path / "teacher.pt")
        fxgrow.grow_checkpoint(golden_plan(), tmp_path / "teacher.pt", tmp_path / "student.pt")
        found.append(torch.load(tmp_path / "student.pt"))
    one, other = (each["optim"]["state"] for each in found)
    assert all(torch.equal(one[n]["momentum_buffer"], other[n]["momentum_buffer"]) for n in one)
    assert not differences(found[0]["net"], fxgrow.apply(golden_plan(), teacher, golden_inputs()))


@pytest.mark.parametrize(
    "keys",
    [("params", "params_ema"), ("model", "model_ema"), ("state_dict", "state_dict_ema"), ("net", "model", "ema")],
)
def test_two_state_dicts_that_fit_are_refused_with_their_keys(keys: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    first = state()
    torch.save({key: copy.deepcopy(first) for key in keys}, path)
    why = refusal(path)
    assert f"several state_dicts, under {', '.join(map(repr, keys[:-1]))} and {keys[-1]!r}" in why
    assert f"torch.save(torch.load(path)[{keys[0]!r}], new_path)" in why
    assert_grown_under(keys[-1], {keys[-1]: first}, path)


def test_a_state_dict_of_another_model_beside_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    torch.save({"critic": nn.Linear(2, 3).state_dict(), "net": state()}, path)
    assert "tensors beside the state_dict and optimizers, under 'critic'" in refusal(path)


def test_state_dicts_of_other_models_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    other = nn.Linear(2, 3).state_dict()
    torch.save({"net": other}, path)
    assert "the checkpoint has 'weight', which the teacher of this plan" in refusal(path)
    torch.save({"net": other, "critic": other}, path)
    assert "several state_dicts, under 'net' and 'critic'" in refusal(path)
    torch.save({"net": {**state(), "note": "a"}}, path)
    assert "holds no state_dict" in refusal(path)


def test_match_reads_the_shapes_under_any_key(tmp_path: Path) -> None:
    small, large = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), nn.Sequential(nn.Linear(3, 6), nn.Linear(6, 2))
    expected = fxgrow.match(small, large, torch.randn(2, 3))
    for state_dict in (large.state_dict(), large.to("meta").state_dict()):  # shapes are enough
        torch.save({"net": state_dict, "step": 3}, tmp_path / "large.pt")
        assert fxgrow.match(small, tmp_path / "large.pt", torch.randn(2, 3)).sizes == expected.sizes
    torch.save({"net": state_dict, "ema": state_dict}, tmp_path / "large.pt")
    with pytest.raises(fxgrow.GrowError, match="several state_dicts, under 'net' and 'ema'"):
        fxgrow.match(small, tmp_path / "large.pt", torch.randn(2, 3))
