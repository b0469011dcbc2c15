"""New blocks behind a stage's only block that has no skip connection, because it changes the shape: they have one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow import Deepen, Kernel, PlanError, Widen
from tests.check import randomise
from tests.test_blocks import images
from tests.test_blocks_of_down_sampling import Net
from tests.test_module_depth import assert_all_learn, deepened, plan_of

X = images(2, 3, 16, 16)


class Inverted(nn.Module):
    """A block of MobileNetV2 and of EfficientNet; with `expand` 1 it has no first convolution."""

    def __init__(self, old: int, new: int, stride: int, expand: int, *, gate: bool = True, bias: bool = False) -> None:
        super().__init__()
        hidden = old * expand
        self.has_skip = stride == 1 and old == new
        layers: list[nn.Module] = []
        if expand > 1:
            layers += [nn.Conv2d(old, hidden, 1, bias=bias), nn.BatchNorm2d(hidden), nn.SiLU()]
        layers += [nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=bias), nn.BatchNorm2d(hidden), nn.SiLU()]
        self.body = nn.Sequential(*layers)
        gates = [nn.AdaptiveAvgPool2d(1), nn.Conv2d(hidden, 2, 1), nn.ReLU(), nn.Conv2d(2, hidden, 1), nn.Sigmoid()]
        self.gate = nn.Sequential(*gates) if gate else None
        self.project = nn.Sequential(nn.Conv2d(hidden, new, 1, bias=False), nn.BatchNorm2d(new))

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        y = y if self.gate is None else y * self.gate(y)
        y = self.project(y)
        return x + y if self.has_skip else y  # type: ignore[no-any-return]


KINDS: dict[str, dict[str, Any]] = {
    "expanded": {"expand": 3},
    "depthwise first": {"expand": 1},
    "depthwise first, with biases and without a gate": {"expand": 1, "gate": False, "bias": True},
    "the same size": {"expand": 2, "stride": 1},
}


def net(kind: str = "expanded") -> Any:
    torch.manual_seed(0)
    how = {"stride": 2, **KINDS[kind]}
    return randomise(Net(Inverted(4, 6, **how)).double()).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_a_clone_has_the_skip_connection_that_its_block_lacks(kind: str) -> None:
    student = deepened(net(kind), Deepen("blocks.0", blocks=2), X)
    assert [block.has_skip for block in student.blocks] == [False, True, True]
    for block in list(student.blocks)[1:]:
        convs = [layer for layer in block.body if isinstance(layer, nn.Conv2d)]
        assert convs[0].in_channels == 6
        assert all(layer.stride == (1, 1) for layer in convs)
        assert convs[-1].groups == convs[-1].in_channels == convs[-1].weight.shape[0]
    assert_all_learn(student, X)


@pytest.mark.parametrize(
    "more", [1.5, Widen("blocks.*", 2.0), Kernel("blocks.0.body.*", 5), Deepen("blocks.0.project.0")]
)
@pytest.mark.parametrize("kind", ["expanded", "depthwise first, with biases and without a gate"])
def test_with_any_other_change_in_one_plan_and_from_file_to_file(kind: str, more: Any, tmp_path: Path) -> None:
    teacher = net(kind)
    requests = [more, Deepen("blocks.0", blocks=2)]
    if isinstance(more, Kernel) and kind == "expanded":
        requests[0] = Kernel("blocks.0.body.3", 5)
    student = deepened(teacher, requests, X)
    fxgrow.save(student, tmp_path / "saved.safetensors")
    loaded = fxgrow.load(tmp_path / "saved.safetensors", lambda: net(kind)).model
    torch.save(teacher.state_dict(), tmp_path / "teacher.pt")
    fxgrow.grow_checkpoint(plan_of(student), tmp_path / "teacher.pt", tmp_path / "student.pt")
    state = student.state_dict()
    for other in (loaded.state_dict(), torch.load(tmp_path / "student.pt")):
        assert other.keys() == state.keys()
        assert all(torch.equal(other[name], tensor) for name, tensor in state.items())


def test_the_optimizer_trains_the_new_block() -> None:
    teacher = net("depthwise first").train()
    optimizer = torch.optim.AdamW(teacher.parameters(), 1e-3)

    def step(model: nn.Module) -> None:
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()

    step(teacher)
    student = fxgrow.grow(teacher, Deepen("blocks.0", blocks=1), X, output="module", optimizer=optimizer)
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == set(map(id, student.parameters()))
    before = {name: p.detach().clone() for name, p in student.blocks[1].named_parameters()}  # type: ignore[index, union-attr]
    step(student)
    step(student)
    after = dict(student.blocks[1].named_parameters())  # type: ignore[index, union-attr]
    assert not any(torch.equal(after[name], before[name]) for name in before)


SHAPES = {
    "body.0.weight": (20, 6, 1, 1), "body.1.weight": (20,), "body.1.bias": (20,), "body.1.running_mean": (20,),
    "body.1.running_var": (20,), "body.3.weight": (20, 1, 3, 3), "body.4.weight": (20,), "body.4.bias": (20,),
    "body.4.running_mean": (20,), "body.4.running_var": (20,), "gate.1.weight": (2, 20, 1, 1),
    "gate.3.weight": (20, 2, 1, 1), "gate.3.bias": (20,), "project.0.weight": (6, 20, 1, 1),
}  # fmt: skip


def test_a_clone_takes_the_shapes_that_are_asked_for() -> None:
    student = deepened(net(), Deepen("blocks.0", blocks=1, shapes=SHAPES), X)
    state = student.blocks[1].state_dict()
    assert all(tuple(state[name].shape) == shape for name, shape in SHAPES.items())
    (block,) = fxgrow.Plan.from_json(plan_of(student).to_json()).changes
    assert dict(block.kept_shape.shapes) == SHAPES  # type: ignore[union-attr]


def test_a_larger_model_with_wider_new_blocks_is_matched() -> None:
    small = net()
    large = Net(Inverted(4, 6, 2, 3), Inverted(6, 6, 1, 4)).double()
    large.load_state_dict(fxgrow.apply(fxgrow.match(small, large, X), small, X).state_dict())
    assert torch.allclose(large.eval()(X), small(X), atol=1e-12)


@pytest.mark.parametrize(
    "shapes",
    [{"body.0.weight": (20, 6, 1, 1)}, {"nothing": (3,)}, {"body.0.weight": (20,)}, {"gate.1.weight": (2, 3, 1, 1)}],
)
def test_shapes_that_make_no_block_are_refused(shapes: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(PlanError):
        fxgrow.grow(net(), Deepen("blocks.0", blocks=1, shapes=shapes), X, output="module")


@pytest.mark.parametrize("shapes", ["6", {"a": 3}, {"a": (0,)}, {3: (3,)}, {"a": ()}])
def test_what_is_no_shape_is_refused(shapes: Any) -> None:
    with pytest.raises(PlanError, match="shape"):
        Deepen("blocks.0", blocks=1, shapes=shapes)


class Never(Inverted):
    """A block whose attribute says something else."""

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.body(x)) * (2 if self.has_skip else 1)  # type: ignore[no-any-return]


def test_an_attribute_that_makes_no_skip_connection_is_not_taken_for_one() -> None:
    teacher = randomise(Net(Never(4, 6, 2, 2)).double()).eval()
    with pytest.raises(PlanError, match=r"blocks\.0: "):
        fxgrow.grow(teacher, Deepen("blocks.0", blocks=1), X, output="module")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("flag", "training"),
        ("flag", "_secret"),
        ("flag", "nothing"),
        ("flag", ""),
        ("strides", ["nothing"]),
        ("like", "body.1"),
        ("shortcut", "project"),
        ("inputs", ["body.0"]),
        ("dims", [["body.0.weight", [9]]]),
        ("dims", [["body.0.weight", [4]]]),
        ("dims", [["nothing.weight", [1]]]),
        ("dims", [["body.0.weight", [1]], ["body.0.weight", [1]]]),
        ("dims", []),
        ("shapes", [["body.0.weight", [10**9, 6, 1, 1]]]),
        ("shapes", [["body.0.weight", []]]),
    ],
)
def test_a_file_that_names_other_layers_is_refused(field: str, value: Any) -> None:
    made = fxgrow.plan(fxgrow.widths(net(), X, output="module"), Deepen("blocks.0", blocks=1))
    data = json.loads(made.to_json())
    assert field in data["changes"][0]["kept_shape"]
    fxgrow.apply(fxgrow.Plan.from_json(json.dumps(data)), net(), X)
    data["changes"][0]["kept_shape"][field] = value
    with pytest.raises(PlanError):
        fxgrow.apply(fxgrow.Plan.from_json(json.dumps(data)), net(), X)
