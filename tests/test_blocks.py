"""Clones of residual blocks: exact in both modes, of the deeper builder's shape, refused where they would not be."""

import copy
import functools
import importlib.util
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from benchmarks.torchvision_shim import import_torchvision
from fxgrow import Deepen, Inputs, Kernel, Plan, PlanError, Widen
from fxgrow.depth import insert as insertion
from fxgrow.plans.changes import Repeat
from fxgrow.rewrite.student import student_of
from tests.check import assert_exact, randomise, relative_error, run
from tests.depth_cases import REQUESTS as REQUESTS_FOR_LAYERS
from tests.thinned import THOROUGH, pairs, thinned

EXACT = 1e-10
with_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed"
)


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def builder(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return randomise(getattr(import_torchvision().models, name)(**options).double()).eval()


def deepened(teacher: nn.Module, spec: Any, x: Tensor) -> nn.Module:
    student = fxgrow.grow(teacher, spec, x)
    errors = fxgrow.verify(teacher, student, x).errors
    assert max(errors.values()) <= EXACT
    plan = fxgrow.plan_of(student)
    assert plan.preserves_function
    assert Plan.from_json(plan.to_json()) == plan
    return student


def clones(student: nn.Module) -> list[str]:
    return [
        p for change in fxgrow.plan_of(student).steps[-1].changes if isinstance(change, Repeat) for p in change.paths
    ]


# -- torchvision ---------------------------------------------------------------------------------------


@with_torchvision
@pytest.mark.parametrize(
    ("small", "large", "added"),
    [
        ("resnet18", "resnet34", (1, 2, 4, 1)),
        pytest.param("resnet50", "resnet101", (0, 0, 17, 0), marks=THOROUGH),
    ],
)
def test_a_resnet_becomes_the_deeper_one_and_loads_into_its_builder(
    small: str, large: str, added: tuple[int, ...]
) -> None:
    teacher, x = builder(small), images(2, 3, 64, 64)
    student = deepened(teacher, [Deepen(f"layer{i}", blocks=n) for i, n in enumerate(added, 1) if n], x)
    deeper = builder(large)
    count = [sum(p.numel() for p in model.parameters()) for model in (student, deeper)]
    assert count[0] == count[1]
    names = fxgrow.plan_of(student).renumbered(student.state_dict())
    deeper.load_state_dict({names[name]: tensor for name, tensor in student.state_dict().items()})
    for training in (False, True):
        models = [copy.deepcopy(model).train(training) for model in (teacher, deeper)]
        ours, theirs = (model(x) for model in models)
        assert torch.equal(ours, theirs)


@with_torchvision
@thinned("deeper stages of a graph")
@pytest.mark.parametrize(
    ("name", "stages", "size"),
    [
        ("mobilenet_v2", ["features.3", "features.5", "features.8", "features.12", "features.15"], 64),
        pytest.param("efficientnet_b0", [f"features.{i}" for i in (2, 3, 4, 5, 6)], 64, marks=THOROUGH),
        ("convnext_tiny", [f"features.{i}" for i in (1, 3, 5, 7)], 32),
        pytest.param("swin_t", [f"features.{i}" for i in (1, 3, 5, 7)], 64, marks=THOROUGH),
        ("regnet_y_400mf", [f"trunk_output.block{i}" for i in (2, 3, 4)], 64),
        ("mobilenet_v3_small", ["features.5", "features.8", "features.11"], 64),
    ],
)
def test_one_block_deeper_per_stage(name: str, stages: list[str], size: int) -> None:
    teacher = builder(name)
    x = images(2, 3, size, size)
    student = deepened(teacher, [Deepen(stage, blocks=1) for stage in stages], x)
    assert len(clones(student)) == len(stages)


@with_torchvision
def test_a_deeper_mobilenet_and_vit_load_into_deeper_builders() -> None:
    x = images(2, 3, 64, 64)
    teacher = builder("mobilenet_v2")
    student = deepened(teacher, [Deepen("features.3", blocks=1), Deepen("features.9", blocks=2)], x)
    stages = [(1, 16, 1, 1), (6, 24, 3, 2), (6, 32, 3, 2), (6, 64, 6, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    deeper = builder("mobilenet_v2", inverted_residual_setting=[list(stage) for stage in stages])
    names = fxgrow.plan_of(student).renumbered(student.state_dict())
    deeper.load_state_dict({names[name]: tensor for name, tensor in student.state_dict().items()})
    assert torch.equal(deeper.eval()(x), teacher(x))

    transformer = import_torchvision().models.VisionTransformer
    small, large = (
        randomise(transformer(64, 16, layers, 4, 32, 64, num_classes=10).double()).eval() for layers in (2, 5)
    )
    student = deepened(small, Deepen("encoder.layers", blocks=3), x)
    names = fxgrow.plan_of(student).renumbered(student.state_dict())
    large.load_state_dict({names[name]: tensor for name, tensor in student.state_dict().items()})
    assert torch.equal(large.eval()(x), small(x))


@functools.cache
def inferred(name: str) -> tuple[nn.Module, fxgrow.WidthGraph, Tensor]:
    teacher, x = builder(name), images(2, 3, 64, 64)
    return teacher, fxgrow.widths(teacher, x), x


@with_torchvision
@pytest.mark.parametrize("asked", REQUESTS_FOR_LAYERS)
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer2.1.conv1"),
        ("mobilenet_v3_small", "features.4.block.1.0"),
        ("squeezenet1_1", "features.3.squeeze"),
    ],
)
def test_every_kind_of_layer_in_real_models(name: str, layer: str, asked: str) -> None:
    teacher, found, x = inferred(name)
    plan = fxgrow.plan(found, Deepen(layer, **REQUESTS_FOR_LAYERS[asked]))
    student = student_of(found.traced, plan, teacher, [2 * x])
    (change,) = plan.changes
    for mode in ("eval", "train"):
        error = relative_error(run(teacher, x, mode), run(student, x, mode))
        assert (error <= EXACT) is (mode in change.exact_modes)


@with_torchvision
def test_dense_blocks_are_no_residual_blocks() -> None:
    with pytest.raises(PlanError, match="not the sum of its input and other terms"):
        fxgrow.grow(builder("densenet121"), Deepen("features.denseblock1", blocks=1), images(2, 3, 64, 64))


# -- hand-made -----------------------------------------------------------------------------------------


class Block(nn.Module):
    """A residual block with an activation of choice at its end, or none; ways of writing the sum."""

    def __init__(self, closing: nn.Module | None = None, way: str = "plain") -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.closing, self.way = nn.Conv2d(8, 6, 3, padding=1), closing, way
        self.drop = nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.full((6, 1, 1), 0.3))
        self.free = nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "pre-activation in place":
            x = F.relu(x, inplace=True)
        y = self.conv2(F.relu(self.bn1(self.conv1(F.relu(x) if self.way == "pre-activation" else x))))
        if self.way == "dropout on the branch":
            y = self.drop(y)
        if self.way == "layer scale":
            y = self.scale * y
        if self.way == "gate":
            y = y * torch.sigmoid(self.free(y.mean((2, 3), keepdim=True)))
        if self.way == "half":
            y = 0.5 * F.avg_pool2d(y, 3, 1, 1)
        if self.way == "softmax":
            y = torch.softmax(y, 1)
        if self.way == "projection":
            x = self.free(x)
        if self.way == "dropout on the skip":
            x = self.drop(x)
        if self.way == "two":
            return x + y, y
        if self.way == "in place":
            x += y
            z = x
        elif self.way == "two steps":
            z = x + y
            z = z + self.free(z)
        elif self.way == "no skip":
            z = y
        else:
            z = y + x
        return self.closing(z) if self.closing is not None else z


class Stack(nn.Module):
    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.stem, self.stage, self.head = nn.Conv2d(3, 6, 3), nn.Sequential(*blocks), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stage(self.stem(x))
        return self.head(y[0] * y[1] if isinstance(y, tuple) else y)


ZEROS = {  # of ways to write a block: what is zero in its clones
    "plain": {"conv2.weight", "conv2.bias"},
    "pre-activation": {"conv2.weight", "conv2.bias"},
    "dropout on the branch": {"conv2.weight", "conv2.bias"},
    "layer scale": {"scale"},
    "gate": {"conv2.weight", "conv2.bias"},
    "half": {"conv2.weight", "conv2.bias"},
    "in place": {"conv2.weight", "conv2.bias"},
    "two steps": {"conv2.weight", "conv2.bias", "free.weight", "free.bias"},
}
WAYS = {way: (way, zeros) for way, zeros in ZEROS.items()}


CLOSINGS: dict[str, Callable[[], nn.Module] | None] = {
    "none": None,
    "ReLU": nn.ReLU,
    "ReLU6": nn.ReLU6,
    "Hardtanh": nn.Hardtanh,
    "in place": lambda: nn.ReLU(inplace=True),
}


@pytest.mark.parametrize(("case", "closing"), pairs(WAYS, CLOSINGS))
def test_every_way_to_write_a_block(case: tuple[str, set[str]], closing: Callable[[], nn.Module] | None) -> None:
    way, zeros = case
    torch.manual_seed(0)
    blocks = [Block(closing() if closing is not None else None, way) for _ in range(2)]
    teacher = randomise(Stack(*blocks).double()).eval()
    x = images(2, 3, 8, 8)
    for pattern, new in (
        ("stage", ["stage.0_deeper1", "stage.1_deeper1"]),
        ("stage.0", ["stage.0_deeper1", "stage.0_deeper2"]),
    ):
        student = deepened(teacher, Deepen(pattern, blocks=2), x)
        changes = fxgrow.plan_of(student).changes
        assert {frozenset(change.zeros) for change in changes} == {frozenset(zeros)}
        assert [path for change in changes for path in change.paths] == new
        student.train()(x).square().sum().backward()
        for path in new:  # what is zero learns at once
            for name in zeros:
                assert student.get_parameter(f"{path}.{name}").abs().sum() == 0
                if "bias" not in name:
                    assert student.get_parameter(f"{path}.{name}").grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("way", "closing", "reason"),
    [
        ("plain", nn.GELU, "changes the values of the skip connection"),
        ("plain", nn.Tanh, "changes the values of the skip connection"),
        ("projection", None, "on the way"),
        ("dropout on the skip", None, "on the way"),
        ("no skip", None, "on the way"),
        ("softmax", None, "no zeros in parameters make zero"),
        ("pre-activation in place", None, "is not the identity in"),
        ("two", None, "2 of its values are used"),
    ],
)
def test_blocks_that_would_change_something_are_refused(way: str, closing: Any, reason: str) -> None:
    blocks = [Block(closing() if closing else None, way) for _ in range(1 if way == "two" else 2)]
    teacher = randomise(Stack(*blocks).double()).eval()
    with pytest.raises(PlanError, match=reason):
        fxgrow.grow(teacher, Deepen("stage.0", blocks=1), images(2, 3, 8, 8))


def test_modules_that_blocks_share_stay_shared() -> None:
    relu = nn.ReLU()
    teacher = randomise(Stack(Block(relu), Block(relu), Block(relu)).double()).eval()
    x = images(2, 3, 8, 8)
    for pattern in ("stage.0", "stage.1", "stage"):
        student = deepened(teacher, Deepen(pattern, blocks=1), x)
        assert student.get_submodule("stage.0.closing") is student.get_submodule("stage.1.closing")


def test_a_block_that_changes_the_shape_is_refused() -> None:
    class Wider(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 6, 1)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.conv(x)  # of one channel it makes six

    teacher = randomise(nn.Sequential(nn.Conv2d(3, 1, 1), Wider(), nn.Conv2d(6, 2, 1)).double()).eval()
    with pytest.raises(PlanError, match="another shape"):
        fxgrow.grow(teacher, Deepen("1", blocks=1), images(2, 3, 8, 8))


def test_blocks_and_widths_and_layers_in_one_plan() -> None:
    teacher = randomise(Stack(Block(nn.ReLU()), Block(nn.ReLU())).double()).eval()
    x = images(2, 3, 8, 8)
    student = deepened(teacher, [1.5, Deepen("stage", blocks=1), Deepen("stage.1.conv1")], x)
    for path in ("stage.1", "stage.1_deeper1"):
        assert student.get_parameter(f"{path}.conv1.weight").shape[0] == 12


def test_students_deepen_again_also_when_they_were_saved() -> None:
    teacher = randomise(Stack(Block(nn.ReLU()), Block(nn.ReLU())).double()).eval()
    x = images(2, 3, 8, 8)
    student = deepened(teacher, Deepen("stage", blocks=1), x)
    for again in (student, pickle.loads(pickle.dumps(student)), copy.deepcopy(student)):
        deeper = deepened(again, [Deepen("stage", blocks=1), Widen("stage.1_deeper1.conv1", 1.5)], x)
        assert clones(deeper) == ["stage.1_deeper2"]
        chain = fxgrow.plan_of(deeper)
        assert len(chain.steps) == 2
        names = list(chain.renumbered(deeper.state_dict()).values())
        assert "stage.3.conv1.weight" in names
        assert len(set(names)) == len(names)


def test_containers_stay_lists_of_their_blocks() -> None:
    teacher = randomise(Stack(Block(nn.ReLU()), Block(nn.ReLU())).double()).eval()
    student = deepened(teacher, Deepen("stage.0", blocks=1), images(2, 3, 8, 8))
    assert [name for name, _ in student.get_submodule("stage").named_children()] == ["0", "0_deeper1", "1"]


def test_clones_that_are_asked_for_twice_follow_each_other() -> None:
    teacher = randomise(Stack(Block(nn.ReLU()), Block(nn.ReLU())).double()).eval()
    student = deepened(teacher, [Deepen("stage.0", blocks=1), Deepen("stage.0", blocks=2)], images(2, 3, 8, 8))
    names = [name for name, _ in student.get_submodule("stage").named_children()]
    assert names == ["0", "0_deeper1", "0_deeper2", "0_deeper3", "1"]
    run = dict.fromkeys(str(n.target).split(".")[1] for n in student.graph.nodes if str(n.target).startswith("stage."))
    assert list(run) == names


def test_a_clone_whose_branch_is_not_zero_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = randomise(Stack(Block(nn.ReLU()), Block(nn.ReLU())).double()).eval()
    x = images(2, 3, 8, 8)
    monkeypatch.setattr(insertion, "fill", lambda tensor, value: None)
    student = fxgrow.grow(teacher, Deepen("stage", blocks=1), x)
    assert min(fxgrow.verify(teacher, student, x).errors.values()) > 1e-3


# -- clones among other changes --------------------------------------------------------------------------

REQUESTS = {
    "a layer in the block": Deepen("stage.1.conv1"),
    "a layer at its end": Deepen("stage.1.conv2"),
    "a layer before it": Deepen("stem"),
    "a layer in the block before": Deepen("stage.0.conv2"),
    "its clone": Deepen("stage.1", blocks=1),
    "clones of the block before": Deepen("stage.0", blocks=2),
    "clones of the block behind": Deepen("stage.2", blocks=1),
    "a larger kernel": Kernel("stage.1.conv1", 5),
    "widths": Widen("stage.1.conv1", 1.5),
    "more inputs": Inputs("x", 5),
}


def assert_everything_learns(student: nn.Module, x: Tensor) -> None:
    """With all parameters moved no parameter is without a gradient: each is used where its module stands."""
    student = randomise(copy.deepcopy(student)).train()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    student(x).square().sum().backward()
    idle = [name for name, parameter in student.named_parameters() if parameter.grad is None]
    assert not idle
    dead = [name for name, parameter in student.named_parameters() if not parameter.grad.any() and ".free" not in name]
    assert not dead


@pytest.mark.parametrize("asked", REQUESTS)
def test_clones_and_any_other_change_in_any_order(asked: str) -> None:
    blocks = [Block(nn.ReLU()) for _ in range(3)]
    for block in blocks:
        del block.free, block.scale
    teacher = randomise(Stack(*blocks).double()).eval()
    x = images(2, 3, 8, 8)
    for spec in ([REQUESTS[asked], Deepen("stage.1", blocks=2)], [Deepen("stage.1", blocks=2), REQUESTS[asked]]):
        student = deepened(teacher, spec, x)
        assert_everything_learns(student, images(2, 5 if "inputs" in asked else 3, 8, 8))


def test_adjacent_blocks_are_cloned_where_they_stand() -> None:
    """With other weights the student is what the deeper builder makes of them, so the wires are right, too."""
    teacher = randomise(Stack(*[Block(nn.ReLU()) for _ in range(3)]).double()).eval()
    x = images(2, 3, 8, 8)
    for spec in (Deepen("stage.*", blocks=2), [Deepen(f"stage.{i}", blocks=2) for i in (2, 0, 1)]):
        student = deepened(teacher, spec, x)
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
        deeper = Stack(*[Block(nn.ReLU()) for _ in range(9)]).double().eval()
        names = fxgrow.plan_of(student).renumbered(student.state_dict())
        deeper.load_state_dict({names[name]: tensor for name, tensor in student.state_dict().items()})
        assert torch.allclose(deeper(x), student(x), atol=1e-12)


@with_torchvision
def test_every_stage_of_a_deepened_resnet_deepens_again() -> None:
    student, x = builder("resnet18"), images(2, 3, 32, 32)
    for stage in ("layer1", "layer2", "layer1", "layer4"):
        student = deepened(student, [Deepen(stage, blocks=1), Deepen(f"{stage}.0.conv1")], x)
    assert clones(student) == ["layer4.1_deeper1"]
    deepened(pickle.loads(pickle.dumps(student)), Deepen("layer1.1_deeper1", blocks=1), x)


def test_frozen_blocks_have_clones_that_learn() -> None:
    teacher = randomise(Stack(Block(nn.ReLU()), Block(nn.ReLU())).double()).eval().requires_grad_(False)
    student = deepened(teacher, Deepen("stage", blocks=1), images(2, 3, 8, 8))
    learns = {name for name, parameter in student.named_parameters() if parameter.requires_grad}
    assert learns == {name for name, _ in student.named_parameters() if "_deeper1" in name}


# -- what an analysis alone would get wrong ---------------------------------------------------------------


class Written(nn.Module):
    """A block whose forward is given."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.bias = nn.Conv2d(6, 6, 3, padding=1), nn.Parameter(torch.zeros(6))
        self.norm, self.skip = nn.BatchNorm2d(6), nn.Identity()
        self.register_buffer("mask", torch.rand(6, 1, 1))
        self.written = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.written(self, x)


def _conv(self: Any, x: Tensor) -> Tensor:
    return F.relu(self.conv(x))


WRITTEN: dict[str, tuple[bool, Callable[[Any, Tensor], Tensor]]] = {
    "identity module on the skip": (True, lambda s, x: s.skip(x) + s.norm(_conv(s, x))),
    "contiguous skip": (True, lambda s, x: x.contiguous() + s.norm(_conv(s, x))),
    "buffer times branch": (True, lambda s, x: x + s.mask * s.norm(_conv(s, x))),
    "computed weight": (False, lambda s, x: x + F.conv2d(x, s.conv.weight - s.conv.weight.mean(), s.bias, padding=1)),
    "norm without weight": (False, lambda s, x: x + F.group_norm(s.conv(x), 2, None, s.bias)),
    "relu before the skip": (False, lambda s, x: F.relu(x) + s.conv(F.relu(x))),
    "two activations": (False, lambda s, x: F.relu(F.hardtanh(x) + s.conv(x))),
    "alpha": (False, lambda s, x: torch.add(s.conv(x), x, alpha=0.5)),
    "alpha of the branch": (True, lambda s, x: torch.add(x, s.conv(x), alpha=0.5)),
    "a constant in the branch": (False, lambda s, x: x + (s.conv(x) + 0.1)),
    "written to before": (False, lambda s, x: x.add_(1.0) + s.conv(x)),
    "written to through a view": (False, lambda s, x: (x.view(x.shape).mul_(0.5), x + s.conv(x))[1]),
    "divided by what is zero": (False, lambda s, x: x + s.bias[:, None, None] * s.conv(x / s.bias[:, None, None])),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_blocks_are_tried_on_numbers(name: str) -> None:
    exact, forward = WRITTEN[name]
    teacher = randomise(Stack(Written(forward), Written(forward)).double()).eval()
    x = images(2, 3, 8, 8)
    if exact:
        deepened(teacher, Deepen("stage", blocks=2), x)
    else:
        with pytest.raises(PlanError):
            fxgrow.grow(teacher, Deepen("stage", blocks=1), x)


class Misnamed(nn.Module):
    """A block whose last affine operation has a factor called `bias` and an addend called `weight`."""

    def __init__(self, shape: tuple[int, ...], branch: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.bias, self.weight, self.branch = nn.Parameter(torch.rand(shape)), nn.Parameter(torch.rand(6)), branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x, self.bias, self.weight)


MISNAMED: dict[str, tuple[tuple[int, ...], Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
    "convolution": ((6, 6, 1, 1), F.conv2d),
    "linear": ((6, 6), lambda x, a, b: F.linear(x.transpose(1, 3), a, b).transpose(1, 3)),
    "group norm": ((6,), lambda x, a, b: F.group_norm(x, 2, a, b)),
    "group norm of torch": ((6,), lambda x, a, b: torch.group_norm(x, 2, a, b)),
    "layer norm of torch": ((6,), lambda x, a, b: torch.layer_norm(x.transpose(1, 3), (6,), a, b).transpose(1, 3)),
    "instance norm": ((6,), lambda x, a, b: F.instance_norm(x, weight=a, bias=b)),
}


@pytest.mark.parametrize("name", MISNAMED)
def test_what_makes_a_branch_zero_is_known_by_its_use_and_not_by_its_name(name: str) -> None:
    shape, branch = MISNAMED[name]
    teacher = randomise(Stack(*[Misnamed(shape, branch) for _ in range(2)]).double()).eval()
    (change,) = fxgrow.plan_of(deepened(teacher, Deepen("stage.1", blocks=1), images(2, 3, 8, 8))).changes
    assert set(change.zeros) == {"bias", "weight"}


@pytest.mark.parametrize("name", ["convolution", "linear", "group norm of torch"])
def test_a_factor_alone_makes_a_branch_zero_whatever_its_name(name: str) -> None:
    shape, branch = MISNAMED[name]
    blocks = [Misnamed(shape, lambda x, a, b: branch(x * b[:, None, None], a, None)) for _ in range(2)]
    teacher = randomise(Stack(*blocks).double()).eval()
    (change,) = fxgrow.plan_of(deepened(teacher, Deepen("stage.1", blocks=1), images(2, 3, 8, 8))).changes
    assert set(change.zeros) == {"bias"}


@pytest.mark.parametrize("name", ["group norm", "group norm of torch", "instance norm"])
def test_an_addend_alone_makes_no_branch_zero_whatever_its_name(name: str) -> None:
    _, branch = MISNAMED[name]
    blocks = [Misnamed((6,), lambda x, a, b: branch(x * a[:, None, None], None, b)) for _ in range(2)]
    teacher = randomise(Stack(*blocks).double()).eval()
    with pytest.raises(PlanError, match="no zeros in parameters make zero"):
        fxgrow.grow(teacher, Deepen("stage.1", blocks=1), images(2, 3, 8, 8))


@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
def test_tails_with_computed_weights_are_refused(norm: str) -> None:
    blocks = [Block(nn.ReLU()) for _ in range(2)]
    for block in blocks:
        getattr(nn.utils.parametrizations, norm)(block.conv2)
    teacher = randomise(Stack(*blocks).double()).eval()
    with pytest.raises(PlanError):
        fxgrow.grow(teacher, Deepen("stage", blocks=1), images(2, 3, 8, 8))


def test_hooks_on_a_tail_are_seen() -> None:
    blocks = [Block(nn.ReLU()) for _ in range(2)]
    for block in blocks:
        block.conv2.register_forward_hook(lambda module, args, result: result + 2)
    teacher = randomise(Stack(*blocks).double()).eval()
    with pytest.raises(PlanError):
        fxgrow.grow(teacher, Deepen("stage", blocks=1), images(2, 3, 8, 8))


def test_students_with_clones_can_be_exported() -> None:
    teacher = randomise(Stack(Block(nn.ReLU()), Block(nn.ReLU())).double()).eval()
    x = images(2, 3, 8, 8)
    student = deepened(teacher, [Deepen("stage", blocks=1), Deepen("stem")], x)
    assert torch.allclose(torch.export.export(student, (x,)).module()(x), teacher(x), atol=1e-12)


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm])
def test_a_branch_that_ends_in_a_norm_needs_parameters_of_the_norm(norm: type[nn.Module], output: str) -> None:
    """Zeros before a norm without any are the identity, which the first step would undo: refused in both forms."""

    class Block(nn.Module):
        def __init__(self, *, affine: bool) -> None:
            super().__init__()
            self.a, self.b, self.norm = nn.Linear(8, 8), nn.Linear(8, 8), norm(8, elementwise_affine=affine)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.norm(self.b(torch.relu(self.a(x))))

    x = torch.randn(5, 8, dtype=torch.float64)
    for affine in (True, False):
        stage = nn.Sequential(Block(affine=affine), Block(affine=affine))
        teacher = randomise(nn.Sequential(stage, nn.Linear(8, 3)).double())
        if affine:
            assert_exact(teacher, fxgrow.grow(teacher, Deepen("0", blocks=1), x, output=output), x, 1e-10)
        else:
            with pytest.raises(
                fxgrow.PlanError, match="it is the identity, but not near it: a norm makes small values"
            ):
                fxgrow.grow(teacher, Deepen("0", blocks=1), x, output=output)


class Rotated(nn.Module):
    """A residual block that multiplies its branch by a table, a plain attribute of a dtype of its own."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 6)
        self.table = torch.linspace(0.5, 1.5, 8, dtype=dtype)

    def forward(self, x: Tensor) -> Any:
        mixed = F.scaled_dot_product_attention(*[(self.first(x) * self.table)[:, None]] * 3)[:, 0]
        return x + self.last(mixed)


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_a_block_with_a_plain_table_in_any_precision_is_cloned(dtype: torch.dtype, output: Any) -> None:
    """The trial of a clone runs in single precision, and attention takes no mixture."""
    teacher = nn.Sequential(nn.Linear(3, 6), nn.Sequential(Rotated(dtype), Rotated(dtype)), nn.Linear(6, 2)).double()
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    student = fxgrow.grow(teacher, Deepen("1", blocks=1), x, output=output)
    assert len(student.get_submodule("1")) == 3
    assert_exact(teacher, student, x, EXACT)
