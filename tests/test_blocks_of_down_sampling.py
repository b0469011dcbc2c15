"""New blocks behind a stage's only block, which down-samples: stride 1, the stage's widths, no projection."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from benchmarks.torchvision_shim import import_torchvision
from fxgrow import Deepen, Kernel, PlanError, Widen
from tests.check import randomise, relative_error, run
from tests.test_blocks import images
from tests.test_module_depth import EXACT, assert_all_learn, deepened, plan_of, with_torchvision
from tests.thinned import THOROUGH

X = images(2, 3, 16, 16)


class Down(nn.Module):
    """A residual block as many write it: the ways of the shortcut differ."""

    def __init__(self, old: int, new: int, stride: int = 2, way: str = "none") -> None:
        super().__init__()
        self.way, self.stride = way, stride
        self.norm = nn.BatchNorm2d(old)
        self.conv1 = nn.Conv2d(old, new, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(new)
        self.conv2 = nn.Conv2d(new, new, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(new)
        projection = nn.Conv2d(old, new, 1, stride, bias=way == "one layer")
        self.shortcut: Any = projection if way == "one layer" else nn.Sequential(projection, nn.BatchNorm2d(new))
        if way == "pooled":
            self.shortcut = nn.Sequential(nn.AvgPool2d(stride), nn.Conv2d(old, new, 1))
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(new, 2, 1), nn.ReLU(), nn.Conv2d(2, new, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "before":
            return self.shortcut(x) + self.conv2(F.relu(self.bn1(self.conv1(F.relu(self.norm(x))))))  # type: ignore[no-any-return]
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.way == "gated":
            y = y * torch.sigmoid(self.gate(y))
        if self.way == "none":
            return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))
        return F.relu(y + self.shortcut(x))


class Net(nn.Module):
    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(x)  # type: ignore[no-any-return]


def net(way: str = "none", stride: int = 2, old: int = 4) -> Any:
    torch.manual_seed(0)
    first = [] if old == 4 else [nn.Conv2d(4, old, 1)]
    return randomise(Net(*first, Down(old, 6, stride, way)).double()).eval()


WAYS = ["none", "one layer", "pooled", "gated", "before", "sequence"]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_write_the_shortcut(way: str) -> None:
    student = deepened(net(way), Deepen("blocks.0", blocks=2), X)
    assert [type(block) for block in student.blocks] == [Down] * 3
    for block in list(student.blocks)[1:]:
        assert block.conv1.weight.shape == (6, 6, 3, 3)
        assert block.conv1.stride == (1, 1)
        assert block.conv1.in_channels == 6
        assert block.stride == 1
        assert not list(block.shortcut.parameters() if block.shortcut is not None else ())
    assert not torch.equal(student.blocks[1].conv1.weight, student.blocks[2].conv1.weight)
    assert student.blocks[0].conv1.stride == (2, 2)


@pytest.mark.parametrize(("stride", "old"), [(1, 4), (2, 6)])
def test_blocks_that_change_only_the_width_or_only_the_size(stride: int, old: int) -> None:
    student = deepened(net(stride=stride, old=old), Deepen("blocks", blocks=1), X)
    place = len(student.blocks) - 2
    same = torch.equal(*(block.conv1.weight[:, :4] for block in list(student.blocks)[place:]))
    assert same == (old == 6)  # a weight of the old shape is a copy


@with_torchvision
@pytest.mark.parametrize("kind", ["BasicBlock", pytest.param("Bottleneck", marks=THOROUGH)])
def test_a_resnet_of_single_blocks_becomes_the_deeper_one_of_its_builder(kind: str) -> None:
    models = import_torchvision().models.resnet
    torch.manual_seed(0)
    teacher = randomise(models.ResNet(getattr(models, kind), [1, 1, 1, 1]).double()).eval()
    x = images(2, 3, 32, 32)
    student = deepened(teacher, Deepen("layer*", blocks=1), x)
    deeper = models.ResNet(getattr(models, kind), [2, 2, 2, 2]).double()
    deeper.load_state_dict(student.state_dict())
    for mode in ("eval", "train"):
        assert relative_error(run(teacher, x, mode), run(deeper, x, mode)) <= EXACT
    assert_all_learn(student, x)
    again = deepened(student, Deepen("layer2", blocks=1), x)
    assert len(again.layer2) == 3


def test_a_block_that_keeps_the_shape_is_cloned_rather_than_the_one_before_it() -> None:
    torch.manual_seed(0)
    plain = deepened(net(), Deepen("blocks.0", blocks=1), X)
    with torch.no_grad():
        plain.blocks[1].bn2.weight.fill_(0.5)
    student = deepened(plain, Deepen("blocks", blocks=1), X)
    (change,) = plan_of(student).steps[-1].changes
    assert change.original == "blocks.1"
    assert change.kept_shape is None


@pytest.mark.parametrize("more", [Widen("blocks.*", 1.5), Kernel("blocks.0.conv1", 5), Deepen("blocks.0.conv2")])
@pytest.mark.parametrize("way", ["none", "before"])
def test_with_any_other_change_in_one_plan_and_from_file_to_file(way: str, more: Any, tmp_path: Path) -> None:
    teacher = net(way)
    student = deepened(teacher, [more, Deepen("blocks.0", blocks=2)], X)
    plan = plan_of(student)
    fxgrow.save(student, tmp_path / "saved.safetensors")
    loaded = fxgrow.load(tmp_path / "saved.safetensors", lambda: net(way)).model
    torch.save(teacher.state_dict(), tmp_path / "teacher.pt")
    fxgrow.grow_checkpoint(plan, tmp_path / "teacher.pt", tmp_path / "student.pt")
    state = student.state_dict()
    for other in (loaded.state_dict(), torch.load(tmp_path / "student.pt")):
        assert other.keys() == state.keys()
        assert all(torch.equal(other[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.RMSprop])
def test_the_optimizer_trains_the_new_block(kind: Callable[..., torch.optim.Optimizer]) -> None:
    teacher = net().train()
    optimizer = kind(teacher.parameters(), 1e-3)
    steps = [_step(teacher, optimizer) for _ in range(3)]
    student = fxgrow.grow(teacher, Deepen("blocks.0", blocks=1), X, output="module", optimizer=optimizer)
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert trained == set(map(id, student.parameters()))
    before = {name: p.detach().clone() for name, p in student.blocks[1].named_parameters()}  # type: ignore[index, union-attr]
    steps += [_step(student, optimizer) for _ in range(4)]
    assert all(map(torch.isfinite, map(torch.tensor, steps)))
    after = dict(student.blocks[1].named_parameters())  # type: ignore[index, union-attr]
    assert not any(torch.equal(after[name], before[name]) for name in ("conv1.weight", "conv2.weight", "bn2.weight"))


def _step(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    optimizer.zero_grad()
    loss = model(X).square().mean()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


class Unfit(Down):
    """Blocks of which no clone keeps the shape."""

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "no skip":
            return F.relu(self.conv2(self.conv1(x)))
        if self.way == "scaled":
            return self.bn2(self.conv1(x)) + 2 * self.shortcut(x)  # type: ignore[no-any-return]
        return self.bn2(self.conv1(x)) + self.shortcut(F.relu(self.norm(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("way", ["no skip", "scaled", "norm in the skip"])
def test_blocks_without_such_a_clone_are_refused(way: str) -> None:
    teacher = randomise(Net(Unfit(4, 6, 2, way)).double()).eval()
    with pytest.raises(PlanError, match=r"blocks\.0: .*without its projection"):
        fxgrow.grow(teacher, Deepen("blocks.0", blocks=1), X, output="module")


def test_a_layer_that_the_model_also_holds_elsewhere_stays_as_it_is() -> None:
    teacher = net()
    teacher.again = teacher.blocks[0].conv1
    student = deepened(teacher, Deepen("blocks.0", blocks=1), X)
    assert student.again is student.blocks[0].conv1
    assert student.again.stride == (2, 2)
    assert student.blocks[1].conv1.stride == (1, 1)


def test_widths_that_part_while_the_block_is_cloned() -> None:
    student = deepened(net(old=6), [Widen("blocks.1.bn2", 1.5), Deepen("blocks.1", blocks=1)], X)
    assert student.blocks[2].conv1.in_channels == student.blocks[1].conv2.out_channels == 9
    assert student.blocks[1].conv1.in_channels == 6


def _file() -> Any:
    return json.loads(fxgrow.plan(fxgrow.widths(net(), X, output="module"), Deepen("blocks.0", blocks=1)).to_json())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("strides", ["nothing"]),
        ("strides", ["bn1"]),
        ("strides", ["shortcut.0"]),
        ("inputs", ["conv1", "conv1"]),
        ("inputs", ["nothing"]),
        ("inputs", ["conv2", "conv1"]),
        ("inputs", []),
        ("shortcut", "conv1"),
        ("shortcut", "a.b"),
        ("like", "conv2"),
        ("like", "shortcut.7"),
        ("instead", "zeros"),
    ],
)
def test_a_file_that_names_other_layers_is_refused(field: str, value: Any) -> None:
    data = _file()
    assert field in data["changes"][0]["kept_shape"]
    fxgrow.apply(fxgrow.Plan.from_json(json.dumps(data)), net(), X)
    data["changes"][0]["kept_shape"][field] = value
    with pytest.raises(PlanError):
        fxgrow.apply(fxgrow.Plan.from_json(json.dumps(data)), net(), X)
