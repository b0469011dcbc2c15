"""Group norms with as many groups, each of more channels: replicas inside of each group, where that is asked for."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from tests.check import assert_exact, randomise, relative_error

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
OUTPUTS: tuple[Literal["graph", "module"], ...] = ("graph", "module")


def chain(width: int = 8, groups: int = 4) -> nn.Module:
    norm = nn.GroupNorm(groups, width)
    return nn.Sequential(nn.Conv2d(3, width, 3), norm, nn.SiLU(), nn.Conv2d(width, 5, 3)).double()


class Residual(nn.Module):
    """The block of a U-Net for diffusion: two group norms, and an embedding of the time."""

    def __init__(self, old: int, new: int, groups: int, time: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, old), nn.Conv2d(old, new, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(groups, new), nn.Conv2d(new, new, 3, padding=1)
        self.time, self.skip = nn.Linear(time, new), nn.Conv2d(old, new, 1) if old != new else nn.Identity()

    def forward(self, x: Tensor, t: Tensor) -> Any:
        h = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(t))[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class UNet(nn.Module):
    """Two levels, whose activations are concatenated on the way up, so that groups reach over the joint."""

    def __init__(self, width: int, levels: tuple[int, int], groups: int) -> None:
        super().__init__()
        a, b, time = width * levels[0], width * levels[1], 3 * width
        self.time, self.stem = nn.Linear(6, time), nn.Conv2d(3, width, 3, padding=1)
        self.down1, self.down2 = Residual(width, a, groups, time), Residual(a, b, groups, time)
        self.middle, self.up2 = Residual(b, b, groups, time), Residual(2 * b, b, groups, time)
        self.up1, self.norm, self.head = Residual(a + b, a, groups, time), nn.GroupNorm(groups, a), nn.Conv2d(a, 3, 1)

    def forward(self, x: Tensor, t: Tensor) -> Any:
        t = self.time(t)
        one = self.down1(self.stem(x), t)
        two = self.down2(F.avg_pool2d(one, 2), t)
        h = self.up2(torch.cat([self.middle(two, t), two], 1), t)
        h = self.up1(torch.cat([F.interpolate(h, scale_factor=2.0), one], 1), t)
        return self.head(F.silu(self.norm(h)))


def unet_inputs() -> tuple[Tensor, Tensor]:
    return IMAGES, torch.randn(2, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("method", ["auto", "split", "even"])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(("spec", "channels"), [({"0/row": 2.0}, 16), ({"0/row": 6}, 24), ([{"0/row": 2.0}, 2.0], 16)])
def test_the_channels_in_each_group_grow_by_their_name(
    spec: fxgrow.Spec, channels: int, output: Literal["graph", "module"], method: str
) -> None:
    teacher = randomise(chain())
    student = fxgrow.grow(teacher, spec, IMAGES, output=output, method=method)
    (norm,) = [module for module in student.modules() if isinstance(module, nn.GroupNorm)]
    assert (norm.num_groups, norm.num_channels) == (4, channels)
    assert_exact(teacher, student, IMAGES, 1e-10)


def test_more_groups_stay_the_default_and_both_can_grow() -> None:
    widths = fxgrow.widths(chain(), IMAGES)
    assert "unless this one is asked for by its name" in " ".join(widths.why("0/row").split())
    assert [width.name for width in fxgrow.plan(widths, {"0": 2.0}).grown_widths] == ["0/rows"]
    teacher = randomise(chain())
    student = fxgrow.grow(teacher, {"0/row": 2.0, "0/rows": 2.0}, IMAGES)
    (norm,) = [module for module in student.modules() if isinstance(module, nn.GroupNorm)]
    assert (norm.num_groups, norm.num_channels) == (8, 32)
    assert_exact(teacher, student, IMAGES, 1e-10)


def test_a_layer_and_the_channels_in_its_groups_that_ask_for_one_factor_grow_by_it_once() -> None:
    plan = fxgrow.plan(fxgrow.widths(chain(), IMAGES), {"0": 2.0, "0/row": 2.0})
    assert {width.name: width.new for width in plan.grown_widths} == {"0/row": 4}


@pytest.mark.parametrize("name", ["1", "1.weight", "0"])
def test_the_name_of_a_layer_means_what_grows_by_default(name: str) -> None:
    """The channels between two grouped convolutions are named after the first."""
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(), nn.Conv2d(8, 4, 1)).double()
    widths = fxgrow.widths(net, IMAGES)
    plan = fxgrow.plan(widths, {name: 2.0})
    assert plan.grown_widths
    assert not any(widths.groups_by_name[width.name].deferred_to for width in plan.grown_widths)


def test_replicas_are_as_many_for_each_channel_of_a_group() -> None:
    plan = fxgrow.plan(fxgrow.widths(chain(), IMAGES), {"0/row": 5})
    assert plan.width("0/row").new == 6
    assert any("only whole multiples of 2 are exact: a group norm" in note for note in plan.notes)


@pytest.mark.parametrize("method", ["zero_out", "random_init"])
def test_fresh_channels_in_a_group_are_refused_or_told_from_exact_ones(method: str) -> None:
    teacher = randomise(chain())
    try:
        student = fxgrow.grow(teacher, {"0/row": 2.0}, IMAGES, method=method)
    except fxgrow.PlanError:
        return
    exact = fxgrow.verify(teacher, student, IMAGES).exact
    plan = fxgrow.plan_of(student)
    assert plan is not None
    assert exact is not any("not function-preserving" in note for note in plan.notes)


def test_a_larger_model_with_as_many_groups_is_matched() -> None:
    small, large = randomise(chain(8)), chain(16)
    large.load_state_dict(fxgrow.apply(fxgrow.match(small, large, IMAGES), small).state_dict())
    assert relative_error(large(IMAGES), small(IMAGES)) <= 1e-10
    with pytest.raises(fxgrow.PlanError, match="only whole multiples of 2 are exact: a group norm"):
        fxgrow.match(small, chain(12), IMAGES)
    larger = chain(24, 12)  # more groups of as many channels
    larger.load_state_dict(fxgrow.apply(fxgrow.match(small, larger, IMAGES), small).state_dict())
    assert relative_error(larger(IMAGES), small(IMAGES)) <= 1e-10


@pytest.mark.parametrize(
    ("width", "levels", "groups"), [(8, (1, 1), 4), (8, (1, 2), 4), (8, (1, 3), 4), (20, (1, 2), 10)]
)
def test_a_unet_takes_the_shape_of_a_wider_one_with_as_many_groups(
    width: int, levels: tuple[int, int], groups: int
) -> None:
    small, large = randomise(UNet(width, levels, groups).double()), UNet(2 * width, levels, groups).double()
    plan = fxgrow.match(small, large, unet_inputs())
    assert plan.grown_widths
    large.load_state_dict(fxgrow.apply(plan, small).state_dict())
    assert relative_error(large(*unet_inputs()), small(*unet_inputs())) <= 1e-10
    large.train()(*unet_inputs()).square().mean().backward()
    assert all(parameter.grad is not None for parameter in large.parameters())


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_factor_beside_others_in_a_concatenation_grows_by_its_name(output: Literal["graph", "module"]) -> None:
    teacher = randomise(UNet(8, (1, 2), 4).double())
    widths = fxgrow.widths(teacher, unet_inputs(), output=output)
    plan = fxgrow.plan(widths, {"stem/row": 2.0})
    assert plan.width("stem/row").new == 4
    assert_exact(teacher, fxgrow.apply(plan, teacher), unet_inputs(), 1e-10)
