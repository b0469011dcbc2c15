"""A running average of a model grows by the model's plan, and averages on."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import fxgrow
from benchmarks.torchvision_shim import import_torchvision
from tests.test_optimizers import OPTIMIZERS, batch, net, step

X = batch(0)[0]


class OwnAverage(nn.Module):
    """As timm's ModelEmaV3: a copy as `module`, and an update over the state dicts."""

    def __init__(self, model: nn.Module, decay: float = 0.5) -> None:
        super().__init__()
        self.module = copy.deepcopy(model).eval()
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        for mine, new in zip(self.module.state_dict().values(), model.state_dict().values(), strict=True):
            mine.lerp_(new, 1 - self.decay) if mine.is_floating_point() else mine.copy_(new)

    def forward(self, x: torch.Tensor) -> Any:
        return self.module(x)


def timm_average(model: nn.Module) -> Any:
    import_torchvision()  # timm imports it, and that fails beside a CPU build of torch
    return pytest.importorskip("timm.utils", reason="timm is not installed").ModelEmaV3(model, decay=0.5)


AVERAGES: dict[str, Callable[[nn.Module], Any]] = {
    "mean": AveragedModel,
    "EMA with buffers": lambda m: AveragedModel(m, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True),
    "of the user's own": OwnAverage,
    "timm": timm_average,
}


def update(average: Any, model: nn.Module) -> None:
    (average.update if hasattr(average, "update") else average.update_parameters)(model)


@pytest.mark.parametrize("name", AVERAGES)
def test_an_average_grows_and_averages_on(name: str) -> None:
    model = net()
    optimizer, average = OPTIMIZERS["Adam"](model.parameters()), AVERAGES[name](model)
    for number in range(3):
        step(model, optimizer, number)
        update(average, model)
    spec = [{"0": 12, "3": 1.5}, fxgrow.Deepen("3")]
    student = fxgrow.grow(model, spec, X, optimizer=optimizer)
    plan = fxgrow.plan_of(student)
    assert plan is not None
    grown = fxgrow.apply(plan, average)
    assert type(grown) is type(average)
    average.eval()
    grown.eval()
    assert torch.allclose(grown(X), average(X), rtol=1e-10, atol=1e-12)
    assert grown.module.get_parameter("0.weight").shape[0] == 12
    assert average.module.get_parameter("0.weight").shape[0] == 8
    before = copy.deepcopy(average.state_dict())
    step(student, optimizer, 3)
    update(grown, student)
    assert all(torch.equal(t, before[n]) for n, t in average.state_dict().items()), "the old average is as before"
    counts = [int(one.n_averaged) for one in (grown, average) if hasattr(one, "n_averaged")]
    assert counts in ([], [4, 3])


def test_a_plain_copy_grows_by_the_plan() -> None:
    model, student = net(), fxgrow.grow(net(), 1.5, X)
    plan = fxgrow.plan_of(student)
    assert plan is not None
    other = copy.deepcopy(model)
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(0.5)
    assert torch.allclose(fxgrow.apply(plan, other)(X), other(X), rtol=1e-10, atol=1e-12)


def test_what_is_tied_to_its_model_is_refused_with_the_way_in() -> None:
    model = net()
    plan = fxgrow.plan(fxgrow.widths(model, X), 1.5)
    with pytest.raises(fxgrow.PlanError, match=r"DataParallel is tied .*give model\.module"):
        fxgrow.apply(plan, nn.DataParallel(model))


def test_a_model_whose_child_is_called_module_is_no_average() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module, self.head = net(), nn.Linear(5, 3).double()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.head(self.module(x))
            return result

    model = Outer()
    student = fxgrow.apply(fxgrow.plan(fxgrow.widths(model, X), {"module.0": 12}), model)
    assert student.get_parameter("module.0.weight").shape[0] == 12
    alone = nn.ModuleDict({"module": net()})
    alone.forward = lambda x: alone["module"](x)  # type: ignore[method-assign, assignment]
    with pytest.raises(fxgrow.GrowError):
        fxgrow.apply(fxgrow.plan(fxgrow.widths(model, X), {"head": 4}), alone)


@pytest.mark.parametrize("name", AVERAGES)
@pytest.mark.parametrize(
    "spec", [fxgrow.Deepen("3"), fxgrow.Kernel("3", 5), [fxgrow.Deepen("0"), fxgrow.Kernel("3", 5)]], ids=str
)
def test_an_average_follows_a_plan_that_changes_no_width(name: str, spec: Any) -> None:
    model = net()
    average = AVERAGES[name](model)
    student = fxgrow.grow(model, spec, X)
    plan = fxgrow.plan_of(student)
    assert plan is not None
    grown = fxgrow.apply(plan, average)
    assert type(grown) is type(average)
    update(grown, student)
    grown.eval()
    average.eval()
    assert torch.allclose(grown(X), average(X), rtol=1e-10, atol=1e-12)
    assert grown.module.state_dict().keys() == student.state_dict().keys()
