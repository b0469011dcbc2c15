"""`fxgrow.match`: a small model takes the shape of a large one, loads into it and gives it its function."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import fxgrow
import match_target
from fxgrow import GrowError, PlanError
from tests.check import randomise, relative_error

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
EXACT = 1e-5


class Block(nn.Module):
    def __init__(self, old: int, new: int, hidden: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(old, hidden, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, new, 3, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(new)
        self.down = nn.Conv2d(old, new, 1, stride) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.down is None else self.down(x)))


class Net(nn.Module):
    def __init__(
        self,
        width: int = 4,
        hidden: int = 6,
        depths: tuple[int, ...] = (1, 2),
        *,
        classes: int = 5,
        channels: int = 3,
        kernel: int = 3,
        groups: int = 1,
        stem: str = "",
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, kernel, padding=kernel // 2)
        stages: list[nn.Module] = []
        for number, depth in enumerate(depths):
            old, new = width * 2 ** max(0, number - 1), width * 2**number
            blocks = [
                Block(old if not at else new, new, hidden * 2**number, 2 if number and not at else 1, groups)
                for at in range(depth)
            ]
            stages.append(nn.Sequential(OrderedDict((f"{stem}{at}", block) for at, block in enumerate(blocks))))
        self.stages = nn.ModuleList(stages)
        self.head = nn.Linear(new, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for stage in self.stages:
            x = stage(x)
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


def chain(widths: tuple[int, ...], pools: tuple[int, ...], *, norm: bool = False, activation: Any = nn.ReLU) -> Any:
    layers: list[nn.Module] = []
    old = 3
    for at, width in enumerate(widths):
        layers += [nn.Conv2d(old, width, 3, padding=1), *[nn.BatchNorm2d(width)] * norm, activation()]
        layers += [nn.MaxPool2d(2)] * (at in pools)
        old = width
    features = nn.Sequential(*layers)
    return nn.Sequential(
        OrderedDict(features=features, pool=nn.AdaptiveAvgPool2d(4), flat=nn.Flatten(), head=nn.Linear(old * 16, 4))
    )


def assert_becomes(
    small: nn.Module, large: nn.Module, x: Tensor = X, larger_x: Tensor | None = None, **how: Any
) -> fxgrow.Plan:
    """Plan, apply, load strictly, and compare."""
    small, large = randomise(small), randomise(large)
    plan = fxgrow.match(small, large, x, **how)
    student = fxgrow.apply(fxgrow.Plan.from_json(plan.to_json()), small, x)
    state = student.state_dict()
    assert list(state) == list(large.state_dict())
    large.load_state_dict(state)
    with torch.no_grad():
        old, new = small.eval()(x), large.eval()(x if larger_x is None else larger_x)
    assert relative_error(new[..., : old.shape[-1]], old) <= EXACT
    return plan


REACHED: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "the same shapes": (Net, Net),
    "widths": (Net, lambda: Net(7, 9)),
    "blocks": (Net, lambda: Net(depths=(3, 4))),
    "blocks behind a down-sampling one": (lambda: Net(depths=(1, 1)), lambda: Net(depths=(1, 3))),
    "widths, blocks, kernels and outputs": (Net, lambda: Net(8, 13, (2, 4), classes=9, kernel=5)),
    "blocks whose names have a stem": (lambda: Net(stem="block_"), lambda: Net(5, 6, (2, 3), stem="block_")),
    "a chain": (lambda: chain((4, 6), (1,)), lambda: chain((8, 12), (1,))),
    "a deeper chain": (lambda: chain((4, 6, 6), (0, 2)), lambda: chain((4, 4, 6, 6, 6), (1, 4))),
    "a deeper chain, wider": (lambda: chain((4, 6), (0, 1)), lambda: chain((8, 8, 12, 12, 12), (1, 4))),
    "a deeper chain with norms": (
        lambda: chain((4, 6), (0, 1), norm=True),
        lambda: chain((4, 4, 4, 6, 6), (2, 4), norm=True),
    ),
}


@pytest.mark.parametrize("name", REACHED)
def test_a_small_model_takes_the_shape_of_a_large_one(name: str) -> None:
    small, large = (build() for build in REACHED[name])
    before = copy.deepcopy(small.state_dict())
    assert_becomes(small, large)
    assert before.keys() == small.state_dict().keys()


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_parametrized_layers_match_by_their_class_and_their_parametrizations(norm: Any) -> None:
    def build(width: int, norm: Any = norm) -> nn.Module:
        return nn.Sequential(norm(nn.Linear(3, width)), nn.ReLU(), nn.Linear(width, 2))

    small, large, x = build(4), build(7), torch.randn(5, 3)
    small.eval(), large.eval()
    large.load_state_dict(fxgrow.apply(fxgrow.match(small, large, x), small).state_dict())
    torch.testing.assert_close(large(x), small(x))
    for other in (build(7, lambda layer: layer), build(7, lambda layer: parametrizations.orthogonal(norm(layer)))):
        with pytest.raises(PlanError, match="another function"):
            fxgrow.match(small, other, x)


def test_new_input_channels_come_last_and_have_no_effect() -> None:
    wide = torch.cat([X, torch.randn(2, 2, 16, 16)], 1)
    plan = assert_becomes(Net(), Net(channels=5), X, wide)
    assert [(one.kind, one.old, one.new) for one in plan.io_dims] == [("input", 3, 5)]


def test_numbers_of_heads_are_read_from_the_large_models_attributes() -> None:
    class Attends(nn.Module):
        def __init__(self, dim: int, heads: int) -> None:
            super().__init__()
            self.heads = heads
            self.qkv, self.out, self.head = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), nn.Linear(dim, 2)
            self.embed = nn.Linear(3, dim)

        def forward(self, x: Tensor) -> Tensor:
            x = self.embed(x)
            b, n, c = x.shape
            q, k, v = self.qkv(x).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
            x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))
            return self.head(x)  # type: ignore[no-any-return]

    assert_becomes(Attends(8, 2), Attends(16, 4), torch.randn(2, 5, 3))


def test_the_large_model_may_be_on_meta_or_a_checkpoint(tmp_path: Path) -> None:
    small, large = randomise(Net()), randomise(Net(6, 8, (2, 3)))
    expected = fxgrow.match(small, large, X)
    with torch.device("meta"):
        hollow = Net(6, 8, (2, 3))
    path = tmp_path / "large.safetensors"
    save_file(large.state_dict(), path)
    for other, note in [
        (hollow, "was not run with the student's weights: one of the models has no values"),
        (large.state_dict(), "only the shapes of the checkpoint are known"),
        (path, "only the shapes of large.safetensors are known"),
        (str(path), "only the shapes of large.safetensors are known"),
    ]:
        plan = fxgrow.match(small, other, X)
        assert any(note in line for line in plan.notes)
        assert (plan.groups, plan.changes) == (expected.groups, expected.changes)


# -- what growth cannot bridge ---------------------------------------------------------------------


def normed(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.GroupNorm(4, width), nn.ReLU(), nn.Conv2d(width, 5, 3))


REFUSED: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module], str]] = {
    "other groups": (
        lambda: Net(8, 8),
        lambda: Net(8, 8, groups=4),
        r"stages.0.0.conv2.groups, stages.1.0.conv2.groups, .*: 1 -> 4: another function",
    ),
    "smaller": (lambda: Net(8), lambda: Net(6), r"stem.weight: 8x3x3x3 -> 6x3x3x3 would shrink"),
    "fewer blocks": (
        lambda: Net(depths=(2, 2)),
        lambda: Net(depths=(2, 1)),
        r"stages.1.1.conv1, .*: Net has no weight",
    ),
    "fewer stages": (lambda: Net(), lambda: Net(depths=(1,)), r"head.weight: 5x8 -> 5x4 would shrink"),
    "more stages": (
        lambda: Net(),
        lambda: Net(depths=(1, 2, 1)),
        r"head.weight\[1\], head.in_features: 8 -> 16 is no size of stages.1.0.conv2",
    ),
    "another activation": (
        lambda: chain((4, 6), (1,)),
        lambda: chain((4, 6), (1,), activation=nn.GELU),
        r"features.1, features.3: ReLU -> GELU: another function",
    ),
    "another kernel parity": (
        lambda: Net(kernel=3),
        lambda: Net(kernel=4),
        "stem: no new kernel: equal zeros are added on both sides: 3 can become 5, 7, ..., not 4",
    ),
    "larger groups of a norm": (
        lambda: normed(8),
        lambda: normed(12),
        r"\(1 difference;.*\n +'0/row' cannot be widened to 3: only whole multiples of 2 are exact: a group norm",
    ),
    "no norms": (lambda: chain((4, 6), (1,)), lambda: chain((4, 6), (1,), norm=True), "features"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_difference_that_growth_cannot_bridge_is_listed_with_its_reason(name: str) -> None:
    small, large, reason = REFUSED[name]
    with pytest.raises(PlanError, match=reason) as caught:
        fxgrow.match(small(), large(), X)
    assert "does not become" in str(caught.value)


class Other(Block):
    """A block of another class with another layer."""

    def __init__(self, old: int, new: int, hidden: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(old, new, hidden, stride, groups)
        self.conv3 = nn.Conv2d(new, new, 1)


def with_other_blocks() -> nn.Module:
    large = Net(depths=(1, 3))
    for stage in large.stages:
        for number, block in enumerate(stage):
            stage[number] = Other(block.conv1.in_channels, block.conv2.out_channels, block.conv1.out_channels)
    return large


def test_blocks_of_another_class_are_the_reason_and_stand_there_once() -> None:
    with pytest.raises(PlanError) as caught:
        fxgrow.match(Net(), with_other_blocks(), X)
    lines = str(caught.value).splitlines()
    assert lines[1] == "  stages.0.0, stages.1.0, stages.1.1: Block -> Other: another class"
    assert not [line for line in lines if "flat is for" in line or line.startswith("  Deepen(")]


def test_partial_says_each_reason_once_with_the_names_that_it_is_for() -> None:
    plan = fxgrow.match(Net(8, 8), Net(8, 8, groups=4), X, partial=True)
    notes = [note for note in plan.notes if note.startswith("not as in Net: ")]
    of_groups = [note for note in notes if note.endswith("1 -> 4: another function")]
    assert len(of_groups) == 1
    assert all(f"stages.{place}.conv2.groups" in of_groups[0] for place in ("0.0", "1.0", "1.1"))
    assert len(notes) == len({note.rpartition(": ")[2] for note in notes})


class Scaled(nn.Sequential):
    def __init__(self, width: int, scale: float) -> None:
        super().__init__(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale  # type: ignore[no-any-return]


def test_a_large_model_that_computes_something_else_with_these_shapes_is_refused() -> None:
    x = torch.randn(3, 4)
    assert_becomes(Scaled(4, 2.0), Scaled(8, 2.0), x)
    with pytest.raises(PlanError, match="with the student's weights Scaled computes something else"):
        fxgrow.match(randomise(Scaled(4, 2.0)), Scaled(8, 2.5), x)


def test_what_can_be_reached_is_planned_with_partial_and_the_rest_is_noted() -> None:
    small, large = randomise(Net(4, 6)), Net(8, 6, (1, 2, 1))
    plan = fxgrow.match(small, large, X, partial=True)
    assert plan.width("stem").new == 8
    assert any("not as in Net: stages.2.0.conv1" in note for note in plan.notes)
    student = fxgrow.apply(plan, small, X)
    assert relative_error(student.eval()(X), small.eval()(X)) <= EXACT


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_large_model_may_have_another_dtype(dtype: torch.dtype) -> None:
    plan = fxgrow.match(randomise(Net()), Net(6, 8).to(dtype), X)
    assert plan.width("stem").new == 6


def test_tensors_that_the_large_model_alone_ties_are_noticed() -> None:
    class Words(nn.Module):
        def __init__(self, hidden: int, *, tied: bool) -> None:
            super().__init__()
            self.embed, self.hidden, self.back = nn.Embedding(7, 4), nn.Linear(4, hidden), nn.Linear(hidden, 4)
            self.head = nn.Linear(4, 7, bias=False)
            if tied:
                self.head.weight = self.embed.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.back(torch.relu(self.hidden(self.embed(x)))))  # type: ignore[no-any-return]

    x = torch.tensor([[1, 2, 3]])
    assert fxgrow.match(Words(5, tied=True), Words(8, tied=True), x).grown_widths
    large = Words(8, tied=True)
    with torch.device("meta"):
        on_meta = Words(8, tied=True)
    for given in (large, on_meta, large.state_dict()):
        with pytest.raises(PlanError, match=r"head.weight: .* has one tensor for it and embed.weight"):
            fxgrow.match(Words(5, tied=False), given, x)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("ours", [False, True])
def test_a_layer_that_all_blocks_share_is_shared_by_those_that_are_new(ours: bool, device: str) -> None:
    class Block(nn.Module):
        def __init__(self, shared: nn.Module) -> None:
            super().__init__()
            self.a, self.shared, self.b = nn.Linear(6, 8), shared, nn.Linear(8, 6)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.b(self.shared(self.a(x)).relu())  # type: ignore[no-any-return]

    def build(blocks: int, *, tied: bool) -> nn.Module:
        one = nn.Linear(8, 8)
        return nn.Sequential(*[Block(one if tied else nn.Linear(8, 8)) for _ in range(blocks)]).double()

    x = torch.randn(3, 6, dtype=torch.float64)
    small, large = build(2, tied=ours), build(4, tied=True)
    if not ours:
        with pytest.raises(PlanError, match=r"1\.shared\.weight.* has one tensor for it and 0\.shared\.weight"):
            fxgrow.match(small, large.to(device), x)
        return
    plan = fxgrow.match(small, build(4, tied=True).to(device), x)
    large.load_state_dict(fxgrow.apply(plan, small).state_dict())
    torch.testing.assert_close(large(x), small(x), rtol=1e-10, atol=1e-10)


def test_models_without_tensors_have_nothing_to_match() -> None:
    assert not fxgrow.match(nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU()), torch.randn(2, 3)).grown_widths


def test_neither_model_is_changed() -> None:
    small, large = randomise(Net()), randomise(Net(6, 8, (2, 3)))
    before = [copy.deepcopy(model.state_dict()) for model in (small, large)]
    large.train(), small.eval()
    large.stem.eval()
    fxgrow.match(small, large, X)
    for model, state in zip((small, large), before, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), state.values(), strict=True))
    assert [large.training, large.stem.training, small.training] == [True, False, False]


@pytest.mark.parametrize(
    ("small", "large", "reason"),
    [
        (Net().state_dict(), Net(), "small is the trained model"),
        (Net(), 3, "large is a model, its state_dict or the path of a checkpoint, not an int"),
        (Net(), {"stem.weight": 3}, "large is no state_dict: 'stem.weight' is an int, not a tensor"),
        (Net(), "missing.safetensors", "missing.safetensors"),
    ],
)
def test_what_is_no_model_is_refused(small: Any, large: Any, reason: str) -> None:
    with pytest.raises(GrowError, match=reason):
        fxgrow.match(small, large, X)


def test_training_goes_on_with_the_optimizer_of_the_small_model() -> None:
    small, large = randomise(chain((4, 6), (0, 1), norm=True)), chain((6, 6, 9), (1, 2), norm=True)
    optimizer = torch.optim.Adam(small.parameters(), 1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        small(X).square().mean().backward()
        optimizer.step()
    student = fxgrow.apply(fxgrow.match(small, large, X), small, X, optimizer=optimizer)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in student.parameters()}
    before = copy.deepcopy(student.state_dict())
    optimizer.zero_grad()
    student(X).square().mean().backward()
    optimizer.step()
    assert all(not torch.equal(before[name], p) for name, p in student.named_parameters())


def test_a_checkpoint_grown_by_the_plan_loads_into_the_large_model(tmp_path: Path) -> None:
    small, large = randomise(chain((4, 6), (0, 1), norm=True)), chain((6, 6, 9), (1, 2), norm=True)
    plan = fxgrow.match(small, large, X)
    files = [tmp_path / f"{name}.safetensors" for name in ("small", "large")]
    save_file(small.state_dict(), files[0])
    fxgrow.grow_checkpoint(plan, *files)
    large.load_state_dict(load_file(files[1]))
    assert relative_error(large.eval()(X), small.eval()(X)) <= EXACT


def test_the_example_trains_on_from_a_matched_network(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["match_target.py", "--epochs", "1"])
    match_target.main()
    said = capsys.readouterr().out.splitlines()
    shares = [float(line.split()[-1].rstrip("%")) for line in said[-4:]]
    assert shares[0] == shares[1]
    assert "stem      kernel 3x3 -> 5x5" in "\n".join(said)
