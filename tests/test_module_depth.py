"""Depth in the user's own class: clones as entries of containers, what counts them, larger kernels, and refusals."""

from __future__ import annotations

import copy
import functools
import importlib.util
import json
import pickle
from collections.abc import Callable, Container
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from benchmarks.torchvision_shim import import_torchvision
from fxgrow import Deepen, Kernel, Plan, PlanError, Widen
from fxgrow.depth import insert as insertion
from tests.check import randomise, relative_error, run
from tests.decoders import Cache, Config, Decoder
from tests.test_blocks import CLOSINGS, WAYS, Block, Stack, images
from tests.thinned import pairs, thinned

EXACT = 1e-10
with_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed"
)


def torchvision_net(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return randomise(getattr(import_torchvision().models, name)(**options).double()).eval()


def plan_of(student: nn.Module) -> Plan:
    plan = fxgrow.plan_of(student)
    assert plan is not None
    return plan


def deepened(teacher: nn.Module, spec: Any, x: Any) -> Any:
    """An exact student of the teacher's class, whose plan goes through a file and makes the same student again."""
    names = list(teacher.state_dict())
    student = fxgrow.grow(teacher, spec, x, output="module")
    assert type(student) is type(teacher)
    assert max(fxgrow.verify(teacher, student, x).errors.values()) <= EXACT
    plan = plan_of(student).steps[-1]
    assert plan.preserves_function
    again = fxgrow.apply(Plan.from_json(plan.to_json()), teacher, x)
    assert list(again.state_dict()) == list(student.state_dict())
    assert all(map(torch.equal, again.state_dict().values(), student.state_dict().values()))
    assert list(teacher.state_dict()) == names
    return student


def assert_all_learn(student: nn.Module, x: Any) -> None:
    """With all parameters moved, each gets a gradient: what a clone holds is used."""
    student = randomise(copy.deepcopy(student)).train()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    result = student(**x) if isinstance(x, dict) else student(x)
    (result["logits"] if isinstance(result, dict) else result).square().sum().backward()
    assert not [name for name, parameter in student.named_parameters() if parameter.grad is None]


# -- torchvision ---------------------------------------------------------------------------------------


@with_torchvision
def test_a_resnet_becomes_the_deeper_resnet_that_its_builder_makes() -> None:
    teacher, x = torchvision_net("resnet18"), images(2, 3, 64, 64)
    student = deepened(teacher, Deepen("layer3", blocks=2), x)
    assert [name for name, _ in student.layer3.named_children()] == ["0", "1", "2", "3"]
    assert {type(block) for block in student.layer3} == {type(teacher.layer3[0])}
    models = import_torchvision().models.resnet
    deeper = models.ResNet(models.BasicBlock, [2, 2, 4, 2]).double()
    deeper.load_state_dict(student.state_dict())
    for mode in ("eval", "train"):
        assert relative_error(run(teacher, x, mode), run(deeper, x, mode)) <= EXACT
    assert_all_learn(student, x)


@with_torchvision
def test_hooks_on_blocks_are_called_for_clones() -> None:
    teacher, x = torchvision_net("resnet18"), images(2, 3, 64, 64)
    student = deepened(teacher, Deepen("layer3", blocks=2), x)
    called: list[int] = []
    for number, block in enumerate(student.layer3):
        block.register_forward_hook(lambda module, args, result, number=number: called.append(number))
    student(x)
    assert called == [0, 1, 2, 3]


@with_torchvision
def test_a_plan_makes_students_of_other_checkpoints_and_chains_to_the_next_plan() -> None:
    teacher, x = torchvision_net("resnet18"), images(2, 3, 64, 64)
    first = deepened(teacher, Deepen("layer3", blocks=1), x)
    second = deepened(first, [Deepen("layer3", blocks=1), Deepen("layer1.0", blocks=1), Widen("layer4.*", 1.5)], x)
    chain = plan_of(second)
    assert chain.steps[0] == plan_of(first)
    other = randomise(copy.deepcopy(teacher), seed=5)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    student = fxgrow.apply(chain, other, x)
    assert len(student.layer3) == 4
    assert len(student.layer1) == 3
    assert max(fxgrow.verify(other, student, x).errors.values()) <= EXACT
    names = list(student.state_dict())
    assert list(chain.renumbered(names).values()) == names


@with_torchvision
@thinned("deeper stages of a module")
@pytest.mark.parametrize(
    ("name", "stages", "size"),
    [
        ("resnet50", [f"layer{i}" for i in (1, 2, 3, 4)], 64),
        ("mobilenet_v2", ["features.3", "features.5", "features.8", "features.12", "features.15"], 64),
        ("efficientnet_b0", [f"features.{i}" for i in (2, 3, 4, 5, 6)], 64),
        ("convnext_tiny", [f"features.{i}" for i in (1, 3, 5, 7)], 32),
        ("swin_t", [f"features.{i}" for i in (1, 3, 5, 7)], 64),
        ("regnet_y_400mf", [f"trunk_output.block{i}" for i in (2, 3, 4)], 64),
        ("mobilenet_v3_small", ["features.5", "features.8", "features.11"], 64),
    ],
)
def test_one_block_deeper_per_stage(name: str, stages: list[str], size: int) -> None:
    teacher, x = torchvision_net(name), images(2, 3, size, size)
    student = deepened(teacher, [Deepen(stage, blocks=1) for stage in stages], x)
    assert len(plan_of(student).new_modules) == len(stages)
    assert len(list(student.modules())) > len(list(teacher.modules()))


@with_torchvision
def test_a_deeper_vision_transformer_loads_into_its_builder() -> None:
    transformer = import_torchvision().models.VisionTransformer
    small, large = (
        randomise(transformer(64, 16, layers, 4, 32, 64, num_classes=10).double()).eval() for layers in (2, 5)
    )
    x = images(2, 3, 64, 64)
    student = deepened(small, Deepen("encoder.layers", blocks=3), x)
    assert [name for name, _ in student.encoder.layers.named_children()] == [f"encoder_layer_{n}" for n in range(5)]
    names = plan_of(student).renumbered(student.state_dict())
    assert all(name == renumbered for name, renumbered in names.items())
    large.load_state_dict(student.state_dict())
    assert relative_error(run(small, x, "eval"), run(large, x, "eval")) <= EXACT


# -- ways to write a block -------------------------------------------------------------------------------


@pytest.mark.parametrize(("case", "closing"), pairs(WAYS, CLOSINGS))
def test_every_way_to_write_a_block(case: tuple[str, set[str]], closing: Callable[[], nn.Module] | None) -> None:
    way, zeros = case
    torch.manual_seed(0)
    blocks = [Block(closing() if closing is not None else None, way) for _ in range(2)]
    teacher = randomise(Stack(*blocks).double()).eval()
    x = images(2, 3, 8, 8)
    for pattern, new in (("stage", (1, 3)), ("stage.0", (1, 2))):
        student = deepened(teacher, Deepen(pattern, blocks=2), x)
        assert {frozenset(change.fills) for change in plan_of(student).changes} == {frozenset(zeros)}
        assert tuple(plan_of(student).new_modules) == tuple(f"stage.{number}" for number in new)
        if way != "in place":  # which the teacher cannot train either
            student.train()(x).square().sum().backward()
        for path in plan_of(student).new_modules:  # what is zero learns at once
            for name in zeros:
                assert not student.get_parameter(f"{path}.{name}").any()
                if way == "in place":
                    continue
                if "bias" not in name:
                    assert student.get_parameter(f"{path}.{name}").grad.any()


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize(
    ("old", "clones", "new"), [(3, 1, [3]), (3, 2, [2, 4]), (3, 3, [1, 3, 5]), (3, 5, [1, 3, 4, 6, 7]), (1, 2, [1, 2])]
)
def test_clones_are_spread_over_a_stage(output: Any, old: int, clones: int, new: list[int]) -> None:
    """Nets whose new blocks stand between the old ones end lower than with all of them at the end (docs/results.md)."""
    torch.manual_seed(0)
    blocks = [Block(None, "plain") for _ in range(old)]
    teacher, x = randomise(Stack(*blocks).double()).eval(), images(2, 3, 8, 8)
    student = fxgrow.grow(teacher, Deepen("stage", blocks=clones), x, output=output)
    assert relative_error(run(student, x, "eval"), run(teacher, x, "eval")) <= EXACT
    behind = [block for change in plan_of(student).changes for block in [change.block] * len(change.paths)]
    assert behind == [f"stage.{n - at - 1}" for at, n in enumerate(new)]
    if output == "module":
        assert [n for n, block in enumerate(student.stage) if not block.conv2.weight.any()] == new


@pytest.mark.parametrize(
    ("way", "closing", "reason"),
    [
        ("plain", nn.GELU, "changes the values of the skip connection"),
        ("plain", nn.Tanh, "changes the values of the skip connection"),
        ("dropout on the skip", None, "no zeros in parameters make zero"),
        ("no skip", None, "on the way"),
        ("softmax", None, "no zeros in parameters make zero"),
        ("pre-activation in place", None, "changes the values of the skip connection|not the identity"),
    ],
)
def test_blocks_that_would_change_something_are_refused(way: str, closing: Any, reason: str) -> None:
    blocks = [Block(closing() if closing else None, way) for _ in range(2)]
    teacher = randomise(Stack(*blocks).double()).eval()
    with pytest.raises(PlanError, match=reason):
        fxgrow.grow(teacher, Deepen("stage.0", blocks=1), images(2, 3, 8, 8), output="module")


def test_a_block_with_a_projection_gets_clones_without_it() -> None:
    teacher = randomise(Stack(*[Block(None, "projection") for _ in range(2)]).double()).eval()
    student = fxgrow.grow(teacher, Deepen("stage.0", blocks=1), images(2, 3, 8, 8), output="module")
    torch.testing.assert_close(student(images(2, 3, 8, 8)), teacher(images(2, 3, 8, 8)), rtol=1e-10, atol=1e-12)
    assert len(student.get_submodule("stage")) == 3  # type: ignore[arg-type]


class Written(nn.Module):
    """A block whose forward is given."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.gain = nn.Conv2d(6, 6, 3, padding=1), nn.Parameter(torch.rand(6, 1, 1))
        self.bias, self.written = nn.Parameter(torch.zeros(6)), forward

    def forward(self, x: Tensor) -> Tensor:
        return self.written(self, x)


WRITTEN: dict[str, tuple[str, Callable[[Any, Tensor], Tensor]]] = {
    "weights that are computed": ("", lambda s, x: x + F.conv2d(x, s.conv.weight * 2, s.bias, padding=1)),
    "a gain of one and more": ("", lambda s, x: x + (1 + s.gain) * F.normalize(s.conv(x), dim=1)),
    "alpha of the branch": ("", lambda s, x: torch.add(x, s.conv(x), alpha=0.5)),
    "a view of the input": ("", lambda s, x: (x.flatten(2) + s.conv(x).flatten(2)).view(x.shape)),
    "a norm behind the zeros": ("a norm makes small values large", lambda s, x: x + F.group_norm(s.conv(x), 2)),
    "a scaled skip": ("not the sum|changes the values", lambda s, x: 0.5 * x + s.conv(x)),
    "a subtracted skip": ("changes the values", lambda s, x: s.conv(x) - x),
    "relu before the skip": ("not the identity", lambda s, x: F.relu(x) + s.conv(F.relu(x))),
    "alpha of the skip": ("changes the values", lambda s, x: torch.add(s.conv(x), x, alpha=0.5)),
    "a constant in the branch": ("no zeros in parameters", lambda s, x: x + (s.conv(x) + 0.1)),
    "written to before": ("changes the values", lambda s, x: x.add_(1.0) + s.conv(x)),
    "written to through a view": ("not the identity", lambda s, x: (x.view(x.shape).mul_(0.5), x + s.conv(x))[1]),
    "rolled": ("changes the values", lambda s, x: x.flatten(2).roll(1, 2).view(x.shape) + s.conv(x)),
    "no branch": ("no branch", lambda s, x: x.clone()),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_blocks_are_tried_on_numbers(name: str) -> None:
    reason, forward = WRITTEN[name]
    teacher = randomise(Stack(Written(forward), Written(forward)).double()).eval()
    x = images(2, 3, 8, 8)
    if reason:
        with pytest.raises(PlanError, match=reason):
            fxgrow.grow(teacher, Deepen("stage", blocks=1), x, output="module")
    else:
        deepened(teacher, Deepen("stage", blocks=2), x)


def test_a_gain_of_one_and_more_is_minus_one_in_a_clone() -> None:
    _, forward = WRITTEN["a gain of one and more"]
    teacher = randomise(Stack(Written(forward), Written(forward)).double()).eval()
    student = deepened(teacher, Deepen("stage", blocks=1), images(2, 3, 8, 8))
    assert bool((student.stage[2].gain == -1).all())
    assert plan_of(student).changes[0].minus_ones == ("gain",)


def test_hooks_on_a_block_are_seen() -> None:
    x = images(2, 3, 8, 8)
    for change, exact in ((lambda result: result * 3, False), (lambda result: result.clone(), True)):
        blocks = [Block(nn.ReLU()) for _ in range(2)]
        for block in blocks:
            block.register_forward_hook(lambda module, args, result, change=change: change(result))
        teacher = randomise(Stack(*blocks).double()).eval()
        if exact:
            deepened(teacher, Deepen("stage", blocks=1), x)
        else:
            with pytest.raises(PlanError):
                fxgrow.grow(teacher, Deepen("stage", blocks=1), x, output="module")


# -- containers ------------------------------------------------------------------------------------------


class Written2(nn.Module):
    """A stem, blocks in a container, and a head, with a forward that is given."""

    def __init__(self, container: nn.Module, forward: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = nn.Conv2d(3, 6, 3), container, nn.Conv2d(6, 4, 1)
        self.written = forward

    def forward(self, x: Tensor) -> Any:
        return self.written(self, self.stem(x))


def _in_order(s: Any, x: Tensor) -> Tensor:
    for block in s.blocks.values() if isinstance(s.blocks, nn.ModuleDict) else s.blocks:
        x = block(x)
    return s.head(x)


def _with_features(s: Any, x: Tensor) -> Any:
    features = []
    for block in s.blocks:
        x = block(x)
        features.append(x)
    return s.head(x), features


def _picked(s: Any, x: Tensor) -> Any:
    result, features = _with_features(s, x)
    return result, features[1]


def _by_place(s: Any, x: Tensor) -> Tensor:
    return s.head(s.blocks[2](s.blocks[1](s.blocks[0](x))))


def _backwards(s: Any, x: Tensor) -> Tensor:
    for block in reversed(s.blocks):
        x = block(x)
    return s.head(x)


def _scaled_by_place(s: Any, x: Tensor) -> Tensor:
    for place, block in enumerate(s.blocks):
        x = block(x) / (1 + place)
    return s.head(x)


def _half(s: Any, x: Tensor) -> Tensor:
    for block in s.blocks[: len(s.blocks) // 2]:
        x = block(x)
    return s.head(x)


def _dense(s: Any, x: Tensor) -> Tensor:
    total = x
    for block in s.blocks:
        x = block(x)
        total = total + x
    return s.head(total)


def _blocks(number: int = 3) -> list[nn.Module]:
    blocks = [Block(nn.ReLU()) for _ in range(number)]
    for block in blocks:
        del block.free, block.scale
    return list(blocks)


def _net(forward: Callable[[Any, Tensor], Any], container: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(0)
    return randomise(Written2(container or nn.ModuleList(_blocks()), forward).double()).eval()


@pytest.mark.parametrize("forward", [_in_order, _with_features])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_clones_are_entries_of_a_module_list(place: int, forward: Callable[[Any, Tensor], Any]) -> None:
    teacher, x = _net(forward), images(2, 3, 8, 8)
    student = deepened(teacher, Deepen(f"blocks.{place}", blocks=2), x)
    assert [name for name, _ in student.blocks.named_children()] == ["0", "1", "2", "3", "4"]
    own = teacher.blocks[place].conv1.weight
    assert all(torch.equal(student.blocks[at].conv1.weight, own) for at in range(place, place + 3))
    if forward is _in_order:
        assert_all_learn(student, x)


def test_clones_are_entries_of_a_module_dict() -> None:
    teacher = _net(_in_order, nn.ModuleDict(dict(zip("abc", _blocks(), strict=True))))
    student = deepened(teacher, [Deepen("blocks.a", blocks=1), Deepen("blocks.b", blocks=2)], images(2, 3, 8, 8))
    assert list(student.blocks) == ["a", "a_deeper1", "b", "b_deeper1", "b_deeper2", "c"]


def test_clones_of_several_entries_stand_behind_their_originals() -> None:
    teacher, x = _net(_in_order), images(2, 3, 8, 8)
    specs: list[Any] = [Deepen("blocks.*", blocks=2), [Deepen(f"blocks.{i}", blocks=2) for i in (2, 0, 1)]]
    for spec in specs:
        student = deepened(teacher, spec, x)
        kept = [student.blocks[at] for at in (0, 3, 6)]
        pairs = zip(kept, teacher.blocks, strict=True)
        assert all(torch.equal(new.conv2.weight, old.conv2.weight) for new, old in pairs)
        assert not any(student.blocks[at].conv2.weight.any() for at in (1, 2, 4, 5, 7, 8))


@pytest.mark.parametrize(
    ("forward", "place", "reason"),
    [
        (_picked, 0, r"its result lacks \[1\]"),
        (_by_place, 0, "head runs aten"),
        (_by_place, 2, "nothing calls blocks.3"),
        (_scaled_by_place, 0, "not the identity"),
        (_half, 2, "nothing calls"),
        (_dense, 1, "add runs aten"),
        (_backwards, 1, "not the identity"),
    ],
)
def test_code_that_does_another_thing_with_more_entries_is_refused(
    forward: Callable[[Any, Tensor], Any], place: int, reason: str
) -> None:
    with pytest.raises(PlanError, match=reason):
        fxgrow.grow(_net(forward), Deepen(f"blocks.{place}", blocks=1), images(2, 3, 8, 8), output="module")


def test_half_of_the_blocks_may_be_the_block_and_its_clone() -> None:
    student = deepened(_net(_half), Deepen("blocks.0", blocks=1), images(2, 3, 8, 8))
    assert len(student.blocks) == 4


def test_a_clone_before_its_block_is_exact_where_the_block_keeps_all_values() -> None:
    blocks = [Block(None) for _ in range(3)]
    student = deepened(_net(_backwards, nn.ModuleList(blocks)), Deepen("blocks.1", blocks=1), images(2, 3, 8, 8))
    assert len(student.blocks) == 4


def test_features_before_the_clone_are_picked_as_before() -> None:
    student = deepened(_net(_picked), Deepen("blocks.2", blocks=1), images(2, 3, 8, 8))
    assert len(student.blocks) == 4


class Referring(nn.Module):
    """A block that knows modules outside, without having them registered."""

    def __init__(self, shared: nn.Module | None = None, gain: nn.Parameter | None = None) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 12), nn.Linear(12, 8)
        self.norm = nn.LayerNorm(8) if shared is None else shared
        self.gain = nn.Parameter(torch.ones(8)) if gain is None else gain
        self.known: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        factor = self.known[0].head.weight.mean() if self.known else 1.0
        return x + self.b(F.relu(self.a(self.norm(x) * self.gain * factor)))


class Referred(nn.Module):
    def __init__(self, **shared: Any) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Referring(**shared) for _ in range(3)])
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


KNOWN: dict[str, Callable[[Any, Any], None]] = {
    "in a list": lambda block, model: block.known.append(model),
    "past the registration": lambda block, model: vars(block).update(known=[SimpleNamespace(head=model.head)]),
    "in a tuple": lambda block, model: setattr(block, "known", (model,)),
    "a neighbour that knows the model": lambda block, model: block.known.append(
        SimpleNamespace(head=model.head, next=model.blocks[1], tensors=[model.head.bias])
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_clone_knows_the_modules_that_its_block_knows(name: str) -> None:
    """A copy of them would be a hidden model, which computes and does not learn."""
    torch.manual_seed(0)
    teacher = randomise(Referred().double()).eval()
    for block in teacher.blocks:
        KNOWN[name](block, teacher)
    student = deepened(teacher, [Deepen("blocks.2", blocks=2), Deepen("blocks.0", blocks=1)], images(5, 8))
    assert len(student.blocks) == 6
    for model, place in ((student, 2), (deepened(student, Deepen("blocks.1", blocks=1), images(5, 8)), 3)):
        known = [block.known[0] for block in model.blocks]
        assert {id(one.head) for one in known} == {id(model.head)}
        if name == "a neighbour that knows the model":
            assert {id(one.next) for one in known} == {id(model.blocks[place])}
            assert {id(one.tensors[0]) for one in known} == {id(model.head.bias)}


def test_what_blocks_share_their_clones_share() -> None:
    torch.manual_seed(0)
    norm, gain = nn.LayerNorm(8), nn.Parameter(torch.ones(8))
    teacher, x = randomise(Referred(shared=norm, gain=gain).double()).eval(), images(5, 8)
    norm.bias.requires_grad_(False)
    student = deepened(teacher, Deepen("blocks", blocks=2), x)
    assert len({id(block.norm.weight) for block in student.blocks}) == len({id(b.gain) for b in student.blocks}) == 1
    assert len({id(block.a.weight) for block in student.blocks}) == 5
    assert len(list(student.parameters())) == len(list(teacher.parameters())) + 2 * 4
    assert [n for n, p in student.named_parameters() if not p.requires_grad] == ["blocks.0.norm.bias"]
    optimizer = torch.optim.SGD([p for p in teacher.parameters() if p.requires_grad], momentum=0.9)
    student = fxgrow.grow(teacher, Deepen("blocks", blocks=2), x, output="module", optimizer=optimizer)
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in student.parameters() if p.requires_grad)


def test_what_is_zero_in_a_clone_is_its_own() -> None:
    torch.manual_seed(0)
    teacher, x = Referred().double(), images(5, 8)
    for block in teacher.blocks[1:]:
        block.b = teacher.blocks[0].b
    student = deepened(randomise(teacher).eval(), Deepen("blocks", blocks=2), x)
    assert torch.equal(student.blocks[0].b.weight, teacher.blocks[0].b.weight)
    assert [bool(block.b.weight.any()) for block in student.blocks] == [True, False, False, True, True]
    assert len({id(block.b.weight) for block in student.blocks}) == 3


def test_buffers_that_blocks_share_are_each_clones_own() -> None:
    """A batch norm that the clones called, too, would count their batches."""
    torch.manual_seed(0)
    teacher, x = randomise(Referred(shared=nn.BatchNorm1d(8)).double()).eval(), images(5, 8)
    student = deepened(teacher, Deepen("blocks.2", blocks=2), x)
    for mode in ("eval", "train", "eval after train"):
        assert relative_error(run(student, x, mode), run(teacher, x, mode)) <= EXACT
    assert student.blocks[0].norm is student.blocks[2].norm
    assert student.blocks[3].norm.weight is student.blocks[2].norm.weight
    assert student.blocks[3].norm.running_mean is not student.blocks[2].norm.running_mean


def test_a_block_outside_of_containers_is_refused() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.block, self.head = nn.Conv2d(3, 6, 3), Block(nn.ReLU()), nn.Conv2d(6, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.block(self.stem(x)))

    with pytest.raises(PlanError, match="no entry of a Sequential, ModuleList or ModuleDict"):
        fxgrow.grow(randomise(Plain().double()), Deepen("block", blocks=1), images(2, 3, 8, 8), output="module")


def test_a_block_that_is_called_twice_is_refused() -> None:
    block = Block(nn.ReLU())
    teacher = _net(_in_order, nn.ModuleList([block, block]))
    with pytest.raises(PlanError, match="called 2 times"):
        fxgrow.grow(teacher, Deepen("blocks.0", blocks=1), images(2, 3, 8, 8), output="module")


def test_widths_kernels_and_clones_in_one_plan_in_any_order() -> None:
    teacher, x = _net(_in_order), images(2, 3, 8, 8)
    requests: list[Any] = [1.5, Deepen("blocks.1", blocks=1), Kernel("blocks.1.conv1", 5)]
    for spec in (requests, requests[::-1]):
        student = deepened(teacher, spec, x)
        for at in (1, 2):
            assert student.blocks[at].conv1.weight.shape[2:] == (5, 5)
            assert len(student.blocks[at].bn1.weight) == 12


def test_larger_kernels_keep_the_class() -> None:
    teacher, x = _net(_in_order), images(2, 3, 8, 8)
    student = deepened(teacher, Kernel("blocks", 5), x)
    assert {block.conv1.kernel_size for block in student.blocks} == {(5, 5)}


def test_code_that_reads_the_size_of_a_kernel_is_refused() -> None:
    teacher = _net(lambda s, x: _in_order(s, x) * s.blocks[0].conv1.kernel_size[0])
    with pytest.raises(PlanError, match="reads its size"):
        fxgrow.grow(teacher, Kernel("blocks.0.conv1", 5), images(2, 3, 8, 8), output="module")


def test_students_are_copied_and_pickled_and_deepened_again() -> None:
    teacher, x = randomise(Decoder().double()).eval(), {"ids": torch.arange(5)[None]}
    student = deepened(teacher, Deepen("layers", blocks=1), x)
    for again in (student, pickle.loads(pickle.dumps(student)), copy.deepcopy(student)):
        deeper = fxgrow.grow(again, Deepen("layers", blocks=2), x, output="module")
        assert max(fxgrow.verify(again, deeper, x).errors.values()) <= EXACT
        assert len(deeper.layers) == deeper.config.num_hidden_layers == 6
        assert [layer.layer_idx for layer in deeper.layers] == list(range(6))


def test_frozen_blocks_have_clones_that_learn() -> None:
    teacher = _net(_in_order).requires_grad_(False)
    student = deepened(teacher, Deepen("blocks.1", blocks=1), images(2, 3, 8, 8))
    learns = {name for name, parameter in student.named_parameters() if parameter.requires_grad}
    assert learns == {name for name, _ in student.named_parameters() if name.startswith("blocks.2.")}


# -- decoders --------------------------------------------------------------------------------------------


def decoder(**options: Any) -> Decoder:
    torch.manual_seed(0)
    net = randomise(Decoder(Config(**options)).double())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return net.eval()


SPECS: dict[str, tuple[Any, int]] = {
    "the last": (Deepen("layers", blocks=2), 5),
    "the first": (Deepen("layers.0", blocks=2), 5),
    "each": (Deepen("layers.*", blocks=1), 6),
    "two": ([Deepen("layers.0", blocks=1), Deepen("layers.1", blocks=2)], 6),
    "and wider": ([Deepen("layers.1", blocks=1), Widen("layers.*.mlp.up", 1.5)], 4),
}


ASKS: dict[str, dict[str, Any]] = {
    "default": {},
    "without cache": {"use_cache": False},
    "all hidden": {"all_hidden": True},
}


@pytest.mark.parametrize(("case", "asks"), pairs(SPECS, ASKS))
def test_a_decoder_gets_deeper_with_its_cache(case: tuple[Any, int], asks: dict[str, Any]) -> None:
    spec, number = case
    teacher, ids = decoder(), torch.arange(3, 10)[None]
    student = deepened(teacher, spec, {"ids": ids, **asks})
    assert len(student.layers) == student.config.num_hidden_layers == len(student.config.layer_types) == number
    assert [layer.self_attn.layer_idx for layer in student.layers] == list(range(number))
    assert [layer.kind for layer in student.layers] == student.config.layer_types
    assert teacher.config == Config()
    for use_cache in (True, False):
        expected = teacher.generate(ids, 9, use_cache)
        assert torch.equal(student.generate(ids, 9, use_cache), expected)
    assert_all_learn(student, {"ids": ids, **asks})


def test_each_step_with_a_cache_gives_the_teachers_logits() -> None:
    teacher, ids = decoder(), torch.arange(3, 10)[None]
    student = deepened(teacher, Deepen("layers.0", blocks=1), {"ids": ids})
    caches = [Cache(net.config) for net in (teacher, student)]
    for tokens in (ids, ids[:, :1], ids[:, 3:4]):
        theirs, ours = (net(tokens, cache=cache) for net, cache in zip((teacher, student), caches, strict=True))
        assert relative_error(ours["logits"], theirs["logits"]) <= EXACT
    assert len(caches[1].layers) == 4


def test_a_config_that_all_modules_share_stays_one() -> None:
    student = deepened(decoder(), Deepen("layers", blocks=2), {"ids": torch.arange(5)[None]})
    assert {id(layer.self_attn.config) for layer in student.layers} == {id(student.config)}


def test_clones_whose_numbers_do_not_follow_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: the layers keep their numbers, so that a clone writes over the cache of its original."""
    monkeypatch.setattr(insertion, "recount", lambda root, recounts: None)
    with pytest.raises(PlanError):
        fxgrow.grow(decoder(), Deepen("layers", blocks=1), {"ids": torch.arange(5)[None]}, output="module")


def test_clones_in_the_wrong_place_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: entries change places."""
    right = insertion.number_through

    def wrong(container: nn.Module, named: Callable[[str], str], flat: Container[str]) -> None:
        right(container, named, flat)
        first, *others = container._modules.items()
        container._modules.clear()
        container._modules.update([*others, first])

    monkeypatch.setattr(insertion, "number_through", wrong)
    with pytest.raises(PlanError, match="computes something else"):
        fxgrow.grow(_net(_in_order), Deepen("blocks.1", blocks=1), images(2, 3, 8, 8), output="module")


def test_a_clone_whose_branch_is_not_zero_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: the parameters keep their values."""
    monkeypatch.setattr(insertion, "fill", lambda tensor, value: None)
    teacher, x = _net(_in_order), images(2, 3, 8, 8)
    student = fxgrow.grow(teacher, Deepen("blocks", blocks=1), x, output="module")
    assert min(fxgrow.verify(teacher, student, x).errors.values()) > 1e-3


# -- what counts blocks ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frozen:
    n_layers: int = 3
    heads: int = 3


class Counting(nn.Module):
    """Blocks with numbers from a first one on, in one container or two, and what counts them."""

    def __init__(self, counts: Any, first: int = 0, more: int = 0, name: str = "index") -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1)
        self.blocks, self.others = nn.ModuleList(_blocks()), nn.ModuleList(_blocks(more))
        for number, block in enumerate([*self.blocks, *self.others], first):
            setattr(block.conv1, name, number)
        self.counts = counts

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in (*self.blocks, *self.others):
            x = block(x)
        return self.head(x)


def _counted(counts: Any, spec: Any = None, **options: Any) -> tuple[Any, Any]:
    teacher = randomise(Counting(counts, **options).double()).eval()
    return teacher, deepened(teacher, spec or Deepen("blocks.0", blocks=2), images(2, 3, 8, 8))


@pytest.mark.parametrize(("name", "first"), pairs(["index", "layer_idx", "block_id", "layer"], [0, 1, 7]))
def test_numbers_of_blocks_follow_wherever_they_begin(name: str, first: int) -> None:
    _, student = _counted(None, first=first, name=name)
    assert [getattr(block.conv1, name) for block in student.blocks] == [first + i for i in range(5)]


def test_numbers_go_on_in_the_next_container() -> None:
    for more in (1, 2):
        _, student = _counted(None, more=more)
        assert [block.conv1.index for block in student.others] == [5, 6][:more]


def test_numbers_that_are_no_places_stay() -> None:
    _, student = _counted(None, name="dilation_rate")
    assert [block.conv1.dilation_rate for block in student.blocks] == [0, 0, 0, 1, 2]


@pytest.mark.parametrize(
    ("counts", "read"),
    [
        (Frozen(), lambda counts: counts.n_layers),
        (SimpleNamespace(depth=3, width=3), lambda counts: counts.depth),
        ({"num_layers": 3, "classes": 3}, lambda counts: counts["num_layers"]),
        (SimpleNamespace(text=SimpleNamespace(num_blocks=3)), lambda counts: counts.text.num_blocks),
        (SimpleNamespace(text={"n_blocks": 3}), lambda counts: counts.text["n_blocks"]),
    ],
    ids=["frozen dataclass", "namespace", "dict", "nested", "a dict in an object"],
)
def test_counts_follow_in_objects_of_every_kind(counts: Any, read: Callable[[Any], int]) -> None:
    teacher, student = _counted(counts)
    assert (read(student.counts), read(teacher.counts)) == (5, 3)
    unchanged = {"heads", "width", "classes"} & set(counts if isinstance(counts, dict) else vars(counts))
    for name in unchanged:
        assert (student.counts[name] if isinstance(counts, dict) else getattr(student.counts, name)) == 3


def test_what_may_count_two_containers_stays_and_is_told() -> None:
    """Three blocks here and three there: the number may be that of each."""
    _, student = _counted(SimpleNamespace(num_layers=3), more=3)
    assert student.counts.num_layers == 3
    assert any("counts.num_layers (3)" in note for note in plan_of(student).notes)


def test_two_names_for_one_number_stay_and_are_told() -> None:
    _, student = _counted(SimpleNamespace(num_layers=3, num_blocks=3))
    assert vars(student.counts) == {"num_layers": 3, "num_blocks": 3}
    assert any("counts.num_layers (3)" in note and "counts.num_blocks (3)" in note for note in plan_of(student).notes)


def test_a_count_of_both_containers_follows_where_both_get_as_deep() -> None:
    spec = [Deepen("blocks.0", blocks=2), Deepen("others.0", blocks=2)]
    _, student = _counted(SimpleNamespace(num_layers=3), spec, more=3)
    assert student.counts.num_layers == 5


def test_lists_of_words_follow_and_lists_of_numbers_stay() -> None:
    counts = SimpleNamespace(layer_types=["a", "b", "c"], layer_sizes=[4, 5, 6], block_names=("x", "y", "z"))
    _, student = _counted(counts)
    assert student.counts.layer_types == ["a", "a", "a", "b", "c"]
    assert student.counts.block_names == ("x", "x", "x", "y", "z")
    assert student.counts.layer_sizes == [4, 5, 6]


class Shared(SimpleNamespace):
    """A config of which a copy is itself, as that of a frozen global one may be."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Shared:
        return self


def test_an_object_that_copies_of_the_model_share_is_never_written_to() -> None:
    counts = Shared(num_layers=3)
    _counted(counts)
    assert counts.num_layers == 3


@functools.cache
def _file_of_a_deeper_decoder() -> str:
    return plan_of(deepened(decoder(), Deepen("layers", blocks=1), {"ids": torch.arange(5)[None]})).to_json()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "config.__class__"),
        ("name", "training"),
        ("name", "_modules"),
        ("new", -1),
        ("new", 10**9),
        ("copied", [7]),
    ],
)
def test_a_file_that_counts_what_is_no_count_is_refused(field: str, value: Any) -> None:
    data = json.loads(_file_of_a_deeper_decoder())
    data["recounts"][0][field] = value
    with pytest.raises(PlanError):
        Plan.from_json(json.dumps(data))


# -- tables and drawings -----------------------------------------------------------------------------------


def test_tables_and_drawings_name_modules_as_the_student_does(tmp_path: Any) -> None:
    teacher, x = _net(_in_order), images(2, 3, 8, 8)
    found = fxgrow.widths(teacher, x, output="module")
    plan = fxgrow.plan(found, [Deepen("blocks.0", blocks=1), Widen("blocks.1.conv1", 1.5)])
    student = fxgrow.apply(plan, teacher, x)
    assert "blocks.1" in str(plan)
    tables = [fxgrow.summary(what, x, teacher=teacher) for what in (student, plan)]
    assert str(tables[0]) == str(tables[1])
    rows = {row.layer: row for row in tables[0].rows}
    assert rows["blocks.1.conv1"].new
    assert rows["blocks.2.conv1"].width == (8, 12)
    for level in ("groups", "blocks", "layers", "ops"):
        for what in (found, (found, plan), student):
            fxgrow.draw(what, tmp_path / "drawing.dot", level=level)


# -- optimizers ---------------------------------------------------------------------------------------------


def _trained(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor) -> None:
    for _ in range(3):
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_state_of_an_optimizer_moves_with_the_numbers_of_blocks(place: int) -> None:
    teacher, x = _net(_in_order).train(), images(2, 3, 8, 8)
    optimizer = torch.optim.AdamW(teacher.parameters(), 1e-3)
    _trained(teacher, optimizer, x)
    old = {name: dict(optimizer.state[p]) for name, p in teacher.named_parameters()}
    student = fxgrow.grow(teacher, Deepen(f"blocks.{place}", blocks=2), x, output="module", optimizer=optimizer)
    plan = plan_of(student)
    mine = dict(student.named_parameters())
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == set(map(id, mine.values()))
    for name, state in old.items():
        moved = optimizer.state[mine[plan.student_name(name)]]
        assert torch.equal(moved["exp_avg"], state["exp_avg"]), name
        assert torch.equal(moved["exp_avg_sq"], state["exp_avg_sq"]), name
    for path in plan.new_modules:
        for name, parameter in student.get_submodule(path).named_parameters():
            assert not optimizer.state[parameter]["exp_avg"].any(), name
    _trained(student, optimizer, x)


def test_a_clone_joins_the_group_of_its_block() -> None:
    teacher, x = _net(_in_order), images(2, 3, 8, 8)
    groups = [{"params": block.parameters(), "lr": 10.0**-at} for at, block in enumerate(teacher.blocks, 1)]
    rest = [*teacher.stem.parameters(), *teacher.head.parameters()]
    optimizer = torch.optim.SGD([*groups, {"params": rest}], 1e-4, momentum=0.9)
    _trained(teacher, optimizer, x)
    spec = [Deepen("blocks.0", blocks=1), Deepen("blocks.2", blocks=1)]
    student = fxgrow.grow(teacher, spec, x, output="module", optimizer=optimizer)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert [rates[id(block.conv1.weight)] for block in student.blocks] == [0.1, 0.1, 0.01, 0.001, 0.001]


def test_a_saved_student_is_loaded_as_deep_as_it_was(tmp_path: Any) -> None:
    teacher, ids = decoder(), torch.arange(3, 10)[None]
    student = deepened(teacher, Deepen("layers.0", blocks=2), {"ids": ids})
    fxgrow.save(student, tmp_path / "student.safetensors")
    loaded = fxgrow.load(tmp_path / "student.safetensors", decoder).model
    assert isinstance(loaded, Decoder)
    assert loaded.config.num_hidden_layers == 5
    assert torch.equal(loaded.generate(ids, 5), student.generate(ids, 5))


class Dropped(nn.Module):
    """A residual block whose branch is left out at random, in train mode for most batches of two."""

    def __init__(self, keep: float, kernel: int) -> None:
        super().__init__()
        self.keep = keep
        self.conv, self.bn = nn.Conv2d(4, 4, kernel, padding=kernel // 2), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        if self.training:
            y = y * torch.empty(len(x), 1, 1, 1, device=x.device).bernoulli_(self.keep).div_(self.keep)
        return x + y


def test_blocks_that_are_left_out_at_random_are_cloned_whatever_is_drawn() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(*[Dropped(0.3, 2 * at + 1) for at in range(8)]))
    x = torch.randn(2, 3, 5, 5)
    for at in range(8):
        (clone,) = plan_of(fxgrow.grow(model, Deepen(f"1.{at}", blocks=1), x, output="module")).changes
        assert (clone.block, clone.zeros, clone.kept_shape) == (f"1.{at}", ("bn.bias", "bn.weight"), None)
