"""An optimizer that trained the teacher trains the student on, with the state of one that had trained it all along."""

import collections
import copy
import functools
import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

import fxgrow
from benchmarks.torchvision_shim import import_torchvision
from tests.check import randomise, relative_error
from tests.thinned import pairs

Make = Callable[[Iterable[Any]], Optimizer]
TINY = 1e-30  # an eps that does not count

OPTIMIZERS: dict[str, Make] = {
    "SGD": lambda p: torch.optim.SGD(p, 0.01),
    "SGD momentum": lambda p: torch.optim.SGD(p, 0.01, momentum=0.9, dampening=0.1),
    "SGD Nesterov": lambda p: torch.optim.SGD(p, 0.01, momentum=0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, 1e-3),
    "Adam amsgrad": lambda p: torch.optim.Adam(p, 1e-3, amsgrad=True),
    "AdamW": lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.1),
    "AdamW foreach": lambda p: torch.optim.AdamW(p, 1e-3, foreach=True),
    "AdamW fused": lambda p: torch.optim.AdamW(p, 1e-3, fused=True),
    "AdamW of a rate in a tensor": lambda p: torch.optim.AdamW(p, torch.tensor(1e-3)),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 1e-3),
    "RMSprop centred": lambda p: torch.optim.RMSprop(p, 1e-3, centered=True, momentum=0.9, eps=TINY),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 1e-3),
    "Adagrad that begins": lambda p: torch.optim.Adagrad(p, 1e-3, initial_accumulator_value=0.1),
    "Adadelta": lambda p: torch.optim.Adadelta(p, eps=TINY),
    "Adamax": lambda p: torch.optim.Adamax(p, 1e-3, eps=TINY),
    "NAdam": lambda p: torch.optim.NAdam(p, 1e-3),
    "RAdam": lambda p: torch.optim.RAdam(p, 1e-3),
    "Adafactor": lambda p: torch.optim.Adafactor(p, 1e-3),
}


def net(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU()]
    return randomise(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 5))).to(dtype)


@functools.cache
def widths() -> fxgrow.WidthGraph:
    """Of the net."""
    return fxgrow.widths(net(), batch(0)[0])


def batch(number: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(number)
    images = torch.randn(6, 3, 9, 9, generator=generator, dtype=torch.float64)
    return images.to(dtype), torch.randint(5, (6,), generator=generator)


def step(model: nn.Module, optimizer: Optimizer, number: int) -> float:
    images, labels = batch(number, next(model.parameters()).dtype)
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def trained(make: Make, steps: int = 4, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Optimizer]:
    model = net(dtype)
    optimizer = make(model.parameters())
    for number in range(steps):
        step(model, optimizer, number)
    return model, optimizer


def all_along(make: Make, plan: fxgrow.Plan, steps: int = 4) -> dict[str, dict[str, Any]]:
    """The state after training the student all along, at the weights that the teacher goes through."""
    teacher = net()
    student = fxgrow.apply(plan, teacher)
    of_teacher, of_student = make(teacher.parameters()), make(student.parameters())
    for number in range(steps):
        with torch.no_grad():
            for mine, grown in zip(student.parameters(), fxgrow.apply(plan, teacher).parameters(), strict=True):
                mine.copy_(grown)
        step(student, of_student, number)
        step(teacher, of_teacher, number)
    return {name: of_student.state[p] for name, p in student.named_parameters()}


def old_entries(plan: fxgrow.Plan, name: str, tensor: Tensor) -> Tensor:
    """Which entries of a student's parameter are old ones or replicas, and so have a past; bool, of its shape."""
    planned = next((t for t in plan.tensors if t.name == name), None)
    known = torch.ones(tensor.shape, dtype=torch.bool)
    for dim, layout in enumerate(planned.layouts if planned else ()):
        kept = plan.kept(layout, lambda _: 0, without=plan.fresh)
        fresh = torch.ones(tensor.shape[dim], dtype=torch.bool)
        fresh[kept] = False
        known.index_fill_(dim, fresh.nonzero().flatten(), False)
    return known


def compared(make: Make, plan: fxgrow.Plan) -> dict[str, float]:
    """For each name in the state the largest error relative to the largest entry, over all parameters."""
    teacher, optimizer = trained(make)
    student = fxgrow.apply(plan, teacher, optimizer=optimizer)
    errors: dict[str, float] = {}
    for name, expected in all_along(make, plan).items():
        parameter = student.get_parameter(name)
        state = optimizer.state[parameter] if expected else {}
        assert state.keys() == expected.keys()
        for key, value in expected.items():
            mine = state[key]
            if not isinstance(value, Tensor):
                assert mine == value
                continue
            assert (mine.shape, mine.dtype) == (value.shape, value.dtype), (name, key)
            chosen = old_entries(plan, name, parameter) if value.shape == parameter.shape else ...
            error = (mine - value)[chosen].abs().max() / value[chosen].abs().max().clamp_min(1e-300)
            errors[key] = max(errors.get(key, 0.0), float(error))
    return errors


@pytest.mark.parametrize("method", ["even", "zero_out"])
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "Adafactor"])
def test_the_state_is_that_of_a_student_trained_all_along(name: str, method: str) -> None:
    plan = fxgrow.plan(widths(), {"0": 13, "3": 1.5}, method=method)
    errors = compared(OPTIMIZERS[name], plan)
    assert all(error < 1e-12 for error in errors.values()), errors
    assert len(errors) >= (0 if name == "SGD" else 1)


@pytest.mark.parametrize(
    ("make", "key", "most"),
    [
        (lambda p: torch.optim.Adadelta(p), "acc_delta", 1.0),
        (lambda p: torch.optim.RMSprop(p, 1e-3, momentum=0.9), "momentum_buffer", 1e-2),
        (lambda p: torch.optim.Adamax(p, 1e-3), "exp_inf", 1e-5),
    ],
    ids=["Adadelta", "RMSprop", "Adamax"],
)
def test_a_state_that_holds_eps_is_near_and_with_a_smaller_one_nearer(make: Make, key: str, most: float) -> None:
    """The page says so: a replica's gradient is 1/k of its channel's, and `eps` is the same."""
    plan = fxgrow.plan(widths(), {"0": 13, "3": 1.5}, method="even")
    errors = compared(make, plan)
    assert 1e-12 < errors.pop(key) < most
    assert all(error < 1e-12 for error in errors.values()), errors


def test_entries_that_are_copied_keep_the_bits_of_an_accumulator() -> None:
    teacher, optimizer = trained(OPTIMIZERS["Adagrad that begins"], dtype=torch.float32)
    before = {n: optimizer.state[p]["sum"].clone() for n, p in teacher.named_parameters()}
    plan = fxgrow.plan(widths(), {"3": 13}, method="even")
    student = fxgrow.apply(plan, teacher, optimizer=optimizer)
    for name, old in before.items():
        new = optimizer.state[student.get_parameter(name)]["sum"]
        same = new[tuple(slice(n) for n in old.shape)] == old
        assert same.any()
        assert same.all() or name.startswith("3.")


def test_groups_that_began_with_several_values_are_refused() -> None:
    teacher = net()
    groups = [{"params": [p], "initial_accumulator_value": n / 10} for n, p in enumerate(teacher.parameters())]
    optimizer = torch.optim.Adagrad(groups, 1e-3)
    step(teacher, optimizer, 0)
    with pytest.raises(fxgrow.GrowError, match="several values as 'initial_accumulator_value'"):
        fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=optimizer)
    fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=optimizer, reset=True)


def test_adafactor_keeps_the_second_moment_that_its_means_stand_for() -> None:
    plan = fxgrow.plan(widths(), 2.0, method="even")
    assert all(error < 1e-12 for error in compared(OPTIMIZERS["Adafactor"], plan).values())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_shares_per_weight_leave_the_state_near(name: str) -> None:
    """With `split` a replica's share of the gradient is 1/k on average, and another for each weight."""
    plan = fxgrow.plan(widths(), 2.0, method="split")
    teacher, optimizer = trained(OPTIMIZERS[name], 8)
    student = fxgrow.apply(plan, teacher, optimizer=optimizer)
    far: dict[str, list[float]] = {}
    for parameter, expected in all_along(OPTIMIZERS[name], plan, 8).items():
        for key, value in expected.items():
            if isinstance(value, Tensor) and value.ndim:
                mine = optimizer.state[student.get_parameter(parameter)][key]
                far.setdefault(key, []).append(float((mine - value).norm() / value.norm()))
    centred = name == "RMSprop centred"  # its momentum is of steps that the first and the second moment make
    assert all(sum(distances) / len(distances) < (0.5 if centred else 0.45) for distances in far.values()), far


def late(make: Make) -> tuple[nn.Module, Optimizer]:
    """A teacher and its optimizer after some training, where second moments are averages of many steps."""
    return copy.deepcopy(_late(make))


@functools.cache
def _late(make: Make) -> tuple[nn.Module, Optimizer]:
    return trained(make, 300)


def largest_loss(model: nn.Module) -> float:
    """Over the batches that `train_on` takes."""
    with torch.no_grad():
        return max(float(F.cross_entropy(model(images), labels)) for images, labels in map(batch, range(4)))


def train_on(
    optimizer: Optimizer, student: nn.Module, plan: fxgrow.Plan, steps: int = 30
) -> tuple[list[float], list[float], list[float]]:
    """The largest step of a new entry and of an old one in units of the rate, and the loss, in each step."""
    new_steps, old_steps, losses = [], [], []
    rate = float(optimizer.param_groups[0]["lr"])
    for number in range(steps):
        before = {name: p.detach().clone() for name, p in student.named_parameters()}
        losses.append(step(student, optimizer, number % 4))
        moved = {name: (p.detach() - before[name]).abs() / rate for name, p in student.named_parameters()}
        old = {name: old_entries(plan, name, p) for name, p in moved.items()}
        new_steps.append(max(float(p[~old[name]].max()) for name, p in moved.items() if not old[name].all()))
        old_steps.append(max(float(p[old[name]].max()) for name, p in moved.items()))
    return new_steps, old_steps, losses


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_new_entries_take_no_larger_steps_than_old_ones(name: str) -> None:
    """Of `zero_out` alone: the other exact methods make replicas, which have a past. Most stay below twice the rate.

    RMSprop and NAdam take longer steps with old entries, too; Adadelta has no rate that is a length.
    """
    plan = fxgrow.plan(widths(), {"0": 13, "3": 1.5}, method="zero_out")
    teacher, optimizer = late(OPTIMIZERS[name])
    before = largest_loss(teacher)
    student = fxgrow.apply(plan, teacher, optimizer=optimizer)
    new, old, losses = train_on(optimizer, student, plan)
    longer = name.startswith(("RMSprop", "NAdam", "Adadelta"))
    assert new[0] <= (max(old) if longer else 1.05), (new, old)
    assert max(new) <= (1.6 * max(old) if longer else 2), (new, old)
    assert max(losses) - before <= 0.15, losses


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_student_of_replicas_trains_on_without_a_rise_of_the_loss(name: str) -> None:
    plan = fxgrow.plan(widths(), {"0": 13, "3": 1.5}, method="split")
    teacher, optimizer = late(OPTIMIZERS[name])
    before = largest_loss(teacher)
    student = fxgrow.apply(plan, teacher, optimizer=optimizer)
    assert max(step(student, optimizer, number % 4) for number in range(30)) - before <= 0.15


def test_zero_second_moments_would_overshoot() -> None:
    """What the test above guards against."""
    plan = fxgrow.plan(widths(), {"0": 13, "3": 1.5}, method="zero_out")
    teacher, optimizer = late(OPTIMIZERS["Adam"])
    student = fxgrow.apply(plan, teacher, optimizer=optimizer)
    for name, parameter in student.named_parameters():
        optimizer.state[parameter]["exp_avg_sq"][~old_entries(plan, name, parameter)] = 0
    new, _, _ = train_on(optimizer, student, plan)
    assert max(new) > 2.5


# -- the same optimizer ----------------------------------------------------------------------------


def grouped(model: nn.Module) -> Optimizer:
    """Weights with decay, the others without, as most training scripts have it."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    return torch.optim.AdamW([{"params": weights}, {"params": others, "weight_decay": 0.0, "lr": 5e-4}], 1e-3)


def holds(optimizer: Optimizer, model: nn.Module) -> bool:
    """Whether an optimizer trains each parameter of a model once, and keeps state for no other."""
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    mine = {id(p) for p in model.parameters()}
    return sorted(held) == sorted(mine) and {id(p) for p in optimizer.state} <= mine


def test_the_same_object_trains_the_student() -> None:
    teacher = net()
    optimizer = grouped(teacher)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for number in range(3):
        step(teacher, optimizer, number)
        schedule.step()
    groups, options = optimizer.param_groups, [{**g, "params": None} for g in optimizer.param_groups]
    before = copy.deepcopy(teacher.state_dict())
    student = fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=optimizer)
    assert optimizer.param_groups is groups
    assert [{**g, "params": None} for g in groups] == options
    assert holds(optimizer, student)
    assert [p.ndim > 1 for p in groups[0]["params"]] == [True] * len(groups[0]["params"])
    rate = groups[1]["lr"]
    losses = [step(student, optimizer, number % 4) for number in range(20)]
    schedule.step()
    assert groups[1]["lr"] < rate
    assert losses[-4:] < losses[:4]
    assert all(torch.equal(t, teacher.state_dict()[n]) for n, t in before.items()), "the teacher trains on"


def test_parameters_keep_their_order_so_that_a_state_dict_fits() -> None:
    teacher, optimizer = trained(OPTIMIZERS["Adam"])
    student = fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=optimizer)
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in student.parameters()]
    other = torch.optim.Adam(student.parameters())
    other.load_state_dict(optimizer.state_dict())
    assert all(torch.equal(other.state[p]["exp_avg"], optimizer.state[p]["exp_avg"]) for p in student.parameters())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_on_is_the_same_as_saving_and_loading(name: str) -> None:
    """In float32: NAdam keeps its products in float32, and loading casts them to the dtype of the weights."""
    teacher, optimizer = trained(OPTIMIZERS[name], dtype=torch.float32)
    student = fxgrow.grow(teacher, 1.5, batch(0, torch.float32)[0], optimizer=optimizer)
    twin = copy.deepcopy(student)
    other = OPTIMIZERS[name](twin.parameters())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for number in range(4):
        assert step(student, optimizer, number) == step(twin, other, number)
    assert all(torch.equal(p, q) for p, q in zip(student.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize(("make", "method"), pairs(OPTIMIZERS, fxgrow.methods.names()))
def test_a_method_that_does_not_keep_the_function_moves_the_state_too(make: Make, method: str) -> None:
    teacher, optimizer = trained(make, 2)
    student = fxgrow.grow(teacher, {"0": 13}, batch(0)[0], optimizer=optimizer, method=method)
    assert holds(optimizer, student)
    assert torch.isfinite(torch.tensor([step(student, optimizer, number) for number in range(3)])).all()


# -- what optimizers hold --------------------------------------------------------------------------


def test_frozen_parameters_and_those_without_state_stay_so() -> None:
    teacher = net()
    teacher.get_parameter("0.weight").requires_grad_(False)
    optimizer = OPTIMIZERS["Adam"](teacher.parameters())
    step(teacher, optimizer, 0)
    student = fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=optimizer)
    frozen = student.get_parameter("0.weight")
    assert not frozen.requires_grad
    assert frozen not in optimizer.state
    before = frozen.clone()
    step(student, optimizer, 1)
    assert torch.equal(frozen, before)


def test_an_optimizer_of_the_head_alone_trains_the_head_alone() -> None:
    teacher = net()
    optimizer = OPTIMIZERS["Adam"](teacher.get_submodule("7").parameters())
    step(teacher, optimizer, 0)
    student = fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=optimizer)
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {
        id(p) for p in student.get_submodule("7").parameters()
    }


def test_parameters_that_are_not_the_models_stay() -> None:
    teacher, temperature = net(), nn.Parameter(torch.ones((), dtype=torch.float64))
    optimizer = torch.optim.Adam([*teacher.parameters(), temperature])
    student = fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=optimizer)
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(p) for p in [*student.parameters(), temperature]}


def test_a_parameter_in_two_groups_stays_in_both() -> None:
    teacher = net()
    optimizer = OPTIMIZERS["SGD momentum"](teacher.parameters())
    shared = teacher.get_parameter("3.weight")
    optimizer.param_groups.append({**optimizer.param_groups[0], "params": [shared], "lr": 1e-4})
    step(teacher, optimizer, 0)
    student = fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=optimizer)
    new = student.get_parameter("3.weight")
    assert optimizer.param_groups[1]["params"] == [new]
    assert sum(p is new for p in optimizer.param_groups[0]["params"]) == 1
    assert optimizer.state[new]["momentum_buffer"].shape == new.shape


def test_state_in_float32_of_bfloat16_weights_stays_in_float32() -> None:
    teacher = net(torch.bfloat16)
    optimizer = OPTIMIZERS["AdamW"](teacher.parameters())
    step(teacher, optimizer, 0)
    for state in optimizer.state.values():
        state.update({key: state[key].float() for key in ("exp_avg", "exp_avg_sq")})
    student = fxgrow.grow(teacher, 1.5, batch(0, torch.bfloat16)[0], optimizer=optimizer)
    state = optimizer.state[student.get_parameter("3.weight")]
    assert state["exp_avg"].dtype == torch.float32
    assert student.get_parameter("3.weight").dtype == torch.bfloat16


def test_a_gradient_scaler_goes_on() -> None:
    teacher = net(torch.float32)
    optimizer, scaler = OPTIMIZERS["Adam"](teacher.parameters()), torch.amp.GradScaler("cpu", init_scale=8.0)

    def scaled(model: nn.Module) -> None:
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(batch(0, torch.float32)[0]), batch(0)[1])).backward()
        scaler.step(optimizer)
        scaler.update()

    scaled(teacher)
    student = fxgrow.grow(teacher, 1.5, batch(0, torch.float32)[0], optimizer=optimizer)
    before = student.get_parameter("3.weight").clone()
    scaled(student)
    assert not torch.equal(student.get_parameter("3.weight"), before)


def test_named_parameters_are_named_on() -> None:
    teacher = net()
    optimizer = torch.optim.Adam(teacher.named_parameters())
    step(teacher, optimizer, 0)
    student = fxgrow.grow(teacher, [1.5, fxgrow.Deepen("3")], batch(0)[0], optimizer=optimizer)
    group = optimizer.param_groups[0]
    by_name = dict(student.named_parameters())
    assert [id(by_name[name]) for name in group["param_names"]] == [id(p) for p in group["params"]]
    assert holds(optimizer, student)


class Holder(nn.Module):
    """A module that holds the one that grows, as Lightning's do."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.net = model

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.net(x) * self.scale
        return result


@pytest.mark.parametrize("output", ["graph", "module"])
def test_names_of_a_module_that_holds_the_model_keep_their_prefix(output: Any) -> None:
    holder = Holder(nn.Sequential(net()))
    groups = [[], []]  # type: ignore[var-annotated]
    for name, p in holder.named_parameters():
        groups[p.ndim > 1].append((name, p))
    optimizer = torch.optim.AdamW([{"params": group} for group in groups], 1e-3)
    step(holder, optimizer, 0)
    for spec in (1.5, fxgrow.Deepen("0.3"), [fxgrow.Deepen("0.0", norm="batch"), fxgrow.Kernel("0.3", 5)]):
        holder.net = fxgrow.grow(
            holder.net, spec, batch(0)[0], optimizer=optimizer, output=output, calibration=[batch(1)[0]]
        )
        by_name = dict(holder.named_parameters())
        held = {
            name: id(p) for g in optimizer.param_groups for name, p in zip(g["param_names"], g["params"], strict=True)
        }
        assert held == {name: id(p) for name, p in by_name.items()}
        step(holder, optimizer, 1)
    state = optimizer.state_dict()
    assert {name for group in state["param_groups"] for name in group["param_names"]} == set(by_name)


def test_names_that_the_user_chose_stay() -> None:
    teacher = net()
    optimizer = torch.optim.AdamW([(f"mine {n}", p) for n, p in enumerate(teacher.parameters())], 1e-3)
    step(teacher, optimizer, 0)
    chosen = list(optimizer.param_groups[0]["param_names"])
    student = fxgrow.grow(teacher, [1.5, fxgrow.Deepen("3")], batch(0)[0], optimizer=optimizer)
    names = optimizer.param_groups[0]["param_names"]
    new = [name for name, _ in student.named_parameters() if name not in dict(teacher.named_parameters())]
    assert [name for name in names if name in chosen] == chosen
    assert [name for name in names if name not in chosen] == new


def test_names_in_a_loaded_optimizer_are_those_that_it_was_made_with(tmp_path: Path) -> None:
    teacher = net()
    optimizer = torch.optim.AdamW(Holder(teacher).net.named_parameters(prefix="net"), 1e-3)
    step(teacher, optimizer, 0)
    student = fxgrow.grow(teacher, [1.5, fxgrow.Deepen("3")], batch(0)[0], optimizer=optimizer)
    fxgrow.save(student, tmp_path / "a.safetensors", optimizer=optimizer)
    loaded = fxgrow.load(
        tmp_path / "a.safetensors", net, optimizer=lambda m: torch.optim.AdamW(m.named_parameters(prefix="net"), 1e-3)
    )
    names = [one.param_groups[0]["param_names"] for one in (loaded.optimizer, optimizer)]
    assert names[0] == names[1] == [name for name, _ in student.named_parameters(prefix="net")]


def test_several_optimizers_are_moved_together() -> None:
    teacher = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).double()
    weights = torch.optim.Muon([p for p in teacher.parameters() if p.ndim == 2], 1e-3)
    others = torch.optim.AdamW([p for p in teacher.parameters() if p.ndim == 1], 1e-3)
    x = torch.randn(5, 6, dtype=torch.float64)

    def both(model: nn.Module) -> None:
        model(x).square().mean().backward()
        for optimizer in (weights, others):
            optimizer.step()
            optimizer.zero_grad()

    both(teacher)
    student = fxgrow.grow(teacher, [1.5, fxgrow.Deepen("2")], x, optimizer=[weights, others])
    assert {id(p) for p in weights.param_groups[0]["params"]} == {id(p) for p in student.parameters() if p.ndim == 2}
    assert {id(p) for p in others.param_groups[0]["params"]} == {id(p) for p in student.parameters() if p.ndim == 1}
    both(student)


# -- depth -----------------------------------------------------------------------------------------


def test_a_new_layer_joins_the_groups_of_the_layer_that_it_follows() -> None:
    teacher = net()
    optimizer = grouped(teacher)
    step(teacher, optimizer, 0)
    student = fxgrow.grow(
        teacher, fxgrow.Deepen("3", norm="batch"), batch(0)[0], optimizer=optimizer, calibration=[batch(1)[0]]
    )
    assert holds(optimizer, student)
    assert all(p.ndim > 1 for p in optimizer.param_groups[0]["params"])
    step(student, optimizer, 1)
    assert all(p in optimizer.state for p in student.parameters())


def test_fused_sgd_takes_the_steps_that_sgd_takes_with_a_new_layer() -> None:
    """Torch's fused SGD takes a step with a momentum for all parameters or for none; a new layer has none yet."""
    x = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    trained = []
    for fused in (False, True):
        torch.manual_seed(0)
        model: nn.Module = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2)).double()
        frozen = model.get_parameter("2.bias").requires_grad_(False)
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True, fused=fused)
        for steps in range(4):
            if steps == 2:
                model = fxgrow.grow(model, fxgrow.Deepen("0"), x, optimizer=optimizer)
                frozen = model.get_parameter("2.bias")
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        assert frozen not in optimizer.state
        trained.append(model.state_dict())
    assert len(trained[0]) == 6
    for name, weight in trained[0].items():
        assert relative_error(weight, trained[1][name]) < 1e-12, name


def test_a_clone_starts_with_the_means_of_its_block() -> None:
    torchvision = import_torchvision()
    teacher = randomise(torchvision.models.resnet18(num_classes=5)).double()
    optimizer, x = OPTIMIZERS["Adam"](teacher.parameters()), torch.randn(2, 3, 64, 64, dtype=torch.float64)
    for _ in range(2):
        optimizer.zero_grad()
        teacher(x).square().mean().backward()
        optimizer.step()
    student = fxgrow.grow(
        teacher, [fxgrow.Deepen("layer1", blocks=1), fxgrow.Widen("layer1.*", 1.5)], x, optimizer=optimizer
    )
    assert holds(optimizer, student)
    block = next(iter(fxgrow.plan_of(student).changes))
    old, new = (student.get_parameter(f"{path}.conv1.weight") for path in (block.block, block.path))
    assert not optimizer.state[new]["exp_avg"].any()
    assert torch.allclose(optimizer.state[new]["exp_avg_sq"], optimizer.state[old]["exp_avg_sq"].mean())
    assert optimizer.state[new]["step"] == optimizer.state[old]["step"] == 2


def test_a_larger_kernel_keeps_the_state_of_the_old_one() -> None:
    teacher, optimizer = trained(OPTIMIZERS["Adam"])
    old = optimizer.state[teacher.get_parameter("3.weight")]
    student = fxgrow.grow(teacher, fxgrow.Kernel("3", 5), batch(0)[0], optimizer=optimizer)
    new = optimizer.state[student.get_parameter("3.weight")]
    assert torch.equal(new["exp_avg"][..., 1:-1, 1:-1], old["exp_avg"])
    assert new["exp_avg"].count_nonzero() == old["exp_avg"].count_nonzero()
    assert torch.equal(new["exp_avg_sq"][..., 1:-1, 1:-1], old["exp_avg_sq"])
    assert torch.allclose(new["exp_avg_sq"][..., 0, :], old["exp_avg_sq"].mean())


def test_a_chain_of_plans_moves_the_state_step_by_step() -> None:
    teacher, optimizer = trained(OPTIMIZERS["Adam"])
    twin, other = copy.deepcopy((teacher, optimizer))
    first = fxgrow.plan(fxgrow.widths(teacher, batch(0)[0]), {"0": 12})
    between = fxgrow.apply(first, teacher, optimizer=optimizer)
    second = fxgrow.plan(fxgrow.widths(between, batch(0)[0]), {"3": 15}, method="split")
    student = fxgrow.apply(second, between, optimizer=optimizer)
    at_once = fxgrow.apply(first.then(second), twin, optimizer=other)
    for p, q in zip(student.parameters(), at_once.parameters(), strict=True):
        assert torch.equal(p, q)
        assert torch.equal(optimizer.state[p]["exp_avg_sq"], other.state[q]["exp_avg_sq"])


# -- refused, and nothing is changed ---------------------------------------------------------------


class Signed(Optimizer):
    """An optimizer that fxgrow does not know."""

    def __init__(self, params: Iterable[Any], lr: float = 1e-3) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    average = self.state[p].setdefault("average", torch.zeros_like(p))
                    p.sub_(average.lerp_(p.grad, 0.1).sign(), alpha=group["lr"])


def test_an_unknown_optimizer_is_refused_or_reset() -> None:
    teacher = net()
    optimizer = Signed(teacher.parameters())
    step(teacher, optimizer, 0)
    held = [id(p) for p in optimizer.param_groups[0]["params"]]
    with pytest.raises(fxgrow.GrowError, match=r"Signed grows is not known.*reset=True"):
        fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=optimizer)
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == held
    student = fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=optimizer, reset=True)
    assert holds(optimizer, student)
    assert not optimizer.state
    step(student, optimizer, 1)


def test_an_unknown_optimizer_can_be_registered() -> None:
    class Other(Signed):
        pass

    fxgrow.state.register(Other, average=fxgrow.state.FIRST)
    with pytest.raises(ValueError, match="registered already"):
        fxgrow.state.register(Other)
    plan = fxgrow.plan(widths(), {"0": 13}, method="even")
    assert compared(Other, plan)["average"] < 1e-12


def test_more_in_the_state_than_is_known_is_refused() -> None:
    teacher, optimizer = trained(OPTIMIZERS["Adam"])
    optimizer.state[teacher.get_parameter("3.weight")]["history"] = torch.zeros(3)
    with pytest.raises(fxgrow.GrowError, match=r"'history' in the state that Adam keeps for '3\.weight'"):
        fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=optimizer)
    assert holds(optimizer, teacher)


def test_an_optimizer_of_another_model_is_refused() -> None:
    with pytest.raises(fxgrow.GrowError, match="trains none of the model's parameters"):
        fxgrow.grow(net(), 1.5, batch(0)[0], optimizer=OPTIMIZERS["Adam"](net().parameters()))


@pytest.mark.parametrize("wrong", ["Adam", 3, torch.optim.Adam, [None], {"a": 1}])
def test_what_is_no_optimizer_is_refused(wrong: Any) -> None:
    with pytest.raises(fxgrow.GrowError, match=r"optimizer is to be a torch\.optim\.Optimizer"):
        fxgrow.grow(net(), 1.5, batch(0)[0], optimizer=wrong)


def test_an_optimizer_with_a_list_of_its_own_is_refused() -> None:
    teacher = net()
    optimizer = OPTIMIZERS["Adam"](teacher.parameters())
    optimizer.masters = {"float32": list(teacher.parameters())}  # type: ignore[attr-defined]
    with pytest.raises(fxgrow.GrowError, match=r"holds '0\.weight' in its attribute 'masters'"):
        fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=optimizer)


class Keeper:
    """An object of the user's, which keeps something."""

    def __init__(self, kept: Any) -> None:
        self.kept = kept


@pytest.mark.parametrize(
    "keep",
    [
        lambda model: model,
        lambda model: Keeper(list(model.parameters())),
        lambda model: {"of": [Keeper(Keeper({"all": tuple(model.parameters())}))]},
        lambda model: Keeper(torch.optim.SGD(model.parameters())),
        lambda model: Keeper(model),
    ],
    ids=["the model", "a list", "deep inside", "an optimizer", "the model in an object"],
)
def test_an_optimizer_with_an_object_that_holds_parameters_is_refused(keep: Any) -> None:
    teacher = net()
    optimizer = OPTIMIZERS["Adam"](teacher.parameters())
    optimizer.mine = keep(teacher)  # type: ignore[attr-defined]
    with pytest.raises(fxgrow.GrowError, match=r"holds '0\.weight' in its attribute 'mine'"):
        fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=optimizer)
    optimizer.mine = Keeper(optimizer)  # type: ignore[attr-defined]
    student = fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=optimizer, warmup=3)
    assert holds(optimizer, fxgrow.grow(student, 1.5, batch(0)[0], optimizer=optimizer))


def clip(*_: Any, parameters: Iterable[Tensor] = ()) -> None:
    nn.utils.clip_grad_norm_(parameters, 1e-3)


class Clipper:
    """What a training script keeps parameters in."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = list(parameters)

    def __call__(self, *_: Any) -> None:
        nn.utils.clip_grad_norm_(self.parameters, 1e-3)

    def clip(self, *_: Any) -> None:
        self(self)


class Slotted:
    """The same, in a slot."""

    __slots__ = ("parameters",)

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = list(parameters)

    def __call__(self, *_: Any) -> None:
        nn.utils.clip_grad_norm_(self.parameters, 1e-3)


def closed_over(parameters: Iterable[Tensor]) -> Callable[..., None]:
    held = list(parameters)

    def hook(*_: Any) -> None:
        nn.utils.clip_grad_norm_(held, 1e-3)

    return hook


def default(parameters: Iterable[Tensor]) -> Callable[..., None]:
    def hook(*_: Any, held: Iterable[Tensor] = tuple(parameters)) -> None:
        nn.utils.clip_grad_norm_(held, 1e-3)

    return hook


HOOKS: dict[str, Callable[[Iterable[Tensor]], Callable[..., Any]]] = {
    "a callable object": Clipper,
    "one with slots": Slotted,
    "a bound method": lambda p: Clipper(p).clip,
    "a partial": lambda p: functools.partial(clip, parameters=list(p)),
    "a partial of a method": lambda p: functools.partial(Clipper(p).clip, 1),
    "a closure": closed_over,
    "a closure in a partial": lambda p: functools.partial(closed_over(p)),
    "a default": default,
    "a queue": lambda p: Clipper(collections.deque(p)).clip,
}


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(
    "register", ["register_step_pre_hook", "register_step_post_hook", "register_state_dict_pre_hook"]
)
@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_that_holds_parameters_is_refused(name: str, register: str, reset: bool) -> None:
    teacher, optimizer = trained(OPTIMIZERS["Adam"], 1)
    handle = getattr(optimizer, register)(HOOKS[name](teacher.parameters()))
    with pytest.raises(fxgrow.GrowError, match=r"holds '0\.weight' in its attribute '_optimizer_\w+hooks'.*anew after"):
        fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=optimizer, reset=reset)
    assert holds(optimizer, teacher)
    handle.remove()
    student = fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=optimizer, reset=reset)
    assert holds(optimizer, student)


def test_hooks_and_wrapped_steps_that_hold_no_parameters_stay() -> None:
    teacher, optimizer = trained(OPTIMIZERS["Adam"], 1)
    counted: list[int] = []
    unset: Any
    optimizer.register_step_post_hook(lambda *_: counted.append(1) if len(counted) < 9 else unset)
    optimizer.register_step_pre_hook(functools.partial(lambda *_, of: None, of=[optimizer]))
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)  # it wraps `optimizer.step`
    student = fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=optimizer, warmup=2)
    student = fxgrow.grow(student, 1.5, batch(0)[0], optimizer=optimizer, warmup=2)
    step(student, optimizer, 0)
    schedule.step()
    assert counted == [1]
    unset = None


class Lookahead(Optimizer):
    """A wrapper with state of its own, for the same parameters."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer, self.param_groups, self.defaults = optimizer, optimizer.param_groups, optimizer.defaults
        held = [p for group in optimizer.param_groups for p in group["params"]]
        self.state = {p: {"slow": p.detach().clone()} for p in held}  # type: ignore[assignment]


class Follower:
    """A wrapper as frameworks have it."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer, self.param_groups = optimizer, list(optimizer.param_groups)


class SlowList(Follower):
    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer)
        self.slow = [(p, p.detach().clone()) for group in optimizer.param_groups for p in group["params"]]


class Frozen(Follower):
    """A wrapper with groups of its own."""

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer)
        self.param_groups = [{**group, "params": list(group["params"])} for group in optimizer.param_groups]


class InnerSGD(Follower):
    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer)
        self.second = torch.optim.SGD([p for group in optimizer.param_groups for p in group["params"]])


@pytest.mark.parametrize("wrap", [Lookahead, SlowList, Frozen, InnerSGD, lambda o: Follower(Lookahead(o))])
def test_a_wrapper_that_holds_parameters_of_its_own_is_refused(wrap: Any) -> None:
    teacher, optimizer = trained(OPTIMIZERS["Adam"])
    wrapper = wrap(optimizer)
    with pytest.raises(fxgrow.GrowError, match=r"holds '0\.weight' in its attribute .*stay the teacher's"):
        fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=wrapper)
    assert holds(optimizer, teacher)
    student = fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=Follower(optimizer))  # type: ignore[call-overload]
    assert holds(optimizer, student)


class SlowWeights(Follower):
    """A wrapper that averages over the last steps, with a tensor for each parameter."""

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer)
        self.slow = [[p.detach().clone() for p in group["params"]] for group in self.param_groups]


class SlowAdam(torch.optim.Adam):
    """An optimizer with such averages."""

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, **options)
        self.averages = {n: p.detach().clone() for n, p in enumerate(self.param_groups[0]["params"])}


class Sharpness(Optimizer):
    """SAM: an optimizer around another one, whose groups it shares, with state of its own for each parameter."""

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, options)
        self.base_optimizer = torch.optim.SGD(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def two_steps(self, loss: Callable[[], Tensor]) -> None:
        loss().backward()
        held = [p for group in self.param_groups for p in group["params"]]
        for p in held:
            self.state[p]["old"] = p.clone()
            p.add_(p.grad, alpha=0.05)
        self.zero_grad()
        with torch.enable_grad():
            loss().backward()
        for p in held:
            p.copy_(self.state[p]["old"])
        self.base_optimizer.step()
        self.zero_grad()


def test_tensors_that_an_optimizer_keeps_for_each_parameter_elsewhere_are_refused() -> None:
    teacher, optimizer = trained(OPTIMIZERS["Adam"])
    with pytest.raises(
        fxgrow.GrowError, match=r"SlowWeights holds a tensor for each parameter in its attribute 'slow'"
    ):
        fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=SlowWeights(optimizer))  # type: ignore[call-overload]
    with pytest.raises(fxgrow.GrowError, match=r"SlowAdam holds .* 'averages', which would keep the teacher's shape;"):
        fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=SlowAdam(teacher.parameters()), reset=True)
    assert holds(optimizer, teacher)
    assert holds(optimizer, fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=optimizer))


def test_of_an_optimizer_around_another_one_that_is_given() -> None:
    teacher = net()
    outer = Sharpness(teacher.parameters(), lr=0.1, momentum=0.9)

    def loss(model: nn.Module) -> Callable[[], Tensor]:
        def of_batch() -> Tensor:
            with torch.enable_grad():
                return F.cross_entropy(model(batch(0)[0]), batch(0)[1])

        return of_batch

    outer.two_steps(loss(teacher))
    with pytest.raises(fxgrow.GrowError, match=r"grow with its 'base_optimizer', .*clear its own state"):
        fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=outer)
    student = fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=outer.base_optimizer)
    outer.state.clear()
    assert holds(outer.base_optimizer, student)
    before = [p.detach().clone() for p in student.parameters()]
    outer.two_steps(loss(student))
    assert all(not torch.equal(p, q) for p, q in zip(student.parameters(), before, strict=True))
    assert {*outer.state_dict()["state"]} == {*range(len(before))}


def test_a_group_whose_options_hold_parameters_is_refused() -> None:
    teacher = net()
    group = {"params": list(teacher.parameters()), "masters": {"all": [(p, 1.0) for p in teacher.parameters()]}}
    with pytest.raises(fxgrow.GrowError, match=r"Adam holds '0\.weight' in its option 'masters'"):
        fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=OPTIMIZERS["Adam"]([group]))


def test_an_optimizer_that_is_given_twice_moves_once() -> None:
    teacher, optimizer = trained(OPTIMIZERS["Adam"])
    twin, other = copy.deepcopy((teacher, optimizer))
    spec = [fxgrow.Widen("0", 13), fxgrow.Deepen("3")]
    student = fxgrow.grow(teacher, spec, batch(0)[0], optimizer=[optimizer, optimizer], warmup=3)
    expected = fxgrow.grow(twin, spec, batch(0)[0], optimizer=other, warmup=3)
    assert holds(optimizer, student)
    for number in range(4):
        assert step(student, optimizer, number) == step(expected, other, number)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError])
@pytest.mark.parametrize("place", ["optimizer._commit", "hand_over.warm_up", "warmup.begin", "hand_over.watch"])
def test_whatever_ends_a_growth_all_optimizers_are_as_before(
    place: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle: the second call fails, or the first where there is one alone."""
    teacher = net()
    parts = [list(teacher.get_submodule(path).parameters()) for path in ("0", "1", "3", "7")]
    optimizers = [OPTIMIZERS["Adam"](parts[0] + parts[1]), OPTIMIZERS["SGD momentum"](parts[2] + parts[3])]
    teacher(batch(0)[0]).square().mean().backward()
    for optimizer in optimizers:
        optimizer.step()
    teacher = fxgrow.grow(teacher, {"0": 10}, batch(0)[0], optimizer=optimizers, warmup=5)
    before = copy.deepcopy([optimizer.state_dict() for optimizer in optimizers])
    twins = copy.deepcopy(teacher), [vars(optimizer)["_fxgrow_warmup"] for optimizer in optimizers]
    module = importlib.import_module(f"fxgrow.state.{place.partition('.')[0]}")
    real, calls = getattr(module, place.partition(".")[2]), []

    def failing(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == (1 if place.startswith("hand_over") else 2):
            raise error("in the middle")
        return real(*args)

    monkeypatch.setattr(module, place.partition(".")[2], failing)
    with pytest.raises((error, fxgrow.GrowError), match="in the middle"):
        fxgrow.grow(teacher, [1.5, fxgrow.Deepen("3")], batch(0)[0], optimizer=optimizers, warmup=3)
    assert len(calls) == (1 if place.startswith("hand_over") else 2)
    held = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in teacher.parameters()}
    for optimizer, state in zip(optimizers, before, strict=True):
        now = optimizer.state_dict()
        assert now["param_groups"] == state["param_groups"]
        assert all(torch.equal(now["state"][n][k], t) for n, s in state["state"].items() for k, t in s.items())
    assert [vars(optimizer)["_fxgrow_warmup"] for optimizer in optimizers] == twins[1]
    teacher(batch(1)[0]).square().mean().backward()
    for optimizer in optimizers:
        optimizer.step()
    assert [warmup.done for warmup in twins[1]] == [1, 1]
    assert any(not torch.equal(p, q) for p, q in zip(teacher.parameters(), twins[0].parameters(), strict=True))


def test_a_growth_that_fails_leaves_the_optimizer_as_it_was() -> None:
    teacher, optimizer = trained(OPTIMIZERS["Adam"])
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(fxgrow.GrowError):
        fxgrow.grow(teacher, {"7": 9}, batch(0)[0], optimizer=optimizer)
    assert holds(optimizer, teacher)
    after = optimizer.state_dict()
    assert all(torch.equal(before["state"][i]["exp_avg"], after["state"][i]["exp_avg"]) for i in before["state"])


def test_lbfgs_starts_anew() -> None:
    teacher = net()
    optimizer = torch.optim.LBFGS(teacher.parameters(), max_iter=2)

    def closure(model: nn.Module) -> Callable[[], Tensor]:
        def loss() -> Tensor:
            optimizer.zero_grad()
            value = F.cross_entropy(model(batch(0)[0]), batch(0)[1])
            value.backward()
            return value

        return loss

    optimizer.step(closure(teacher))
    with pytest.raises(fxgrow.GrowError, match="LBFGS"):
        fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=optimizer)
    student = fxgrow.grow(teacher, 1.5, batch(0)[0], optimizer=optimizer, reset=True)
    before = student.get_parameter("3.weight").clone()
    optimizer.step(closure(student))
    assert not torch.equal(student.get_parameter("3.weight"), before)


def test_new_parameters_stand_where_a_new_optimizer_of_the_student_has_them() -> None:
    """So a `state_dict` fits an optimizer that is made for the student after a restart."""
    teacher = net()
    optimizer = grouped(teacher)
    step(teacher, optimizer, 0)
    spec = [fxgrow.Deepen("0", norm="batch"), fxgrow.Deepen("3")]
    student = fxgrow.grow(teacher, spec, batch(0)[0], optimizer=optimizer, calibration=[batch(1)[0]])
    for mine, others in zip(optimizer.param_groups, grouped(student).param_groups, strict=True):
        assert [id(p) for p in mine["params"]] == [id(p) for p in others["params"]]


# -- warm-up of new entries ------------------------------------------------------------------------


def moved_by(student: nn.Module, optimizer: Optimizer, number: int) -> dict[str, Tensor]:
    before = {name: p.detach().clone() for name, p in student.named_parameters()}
    step(student, optimizer, number)
    return {name: p.detach() - before[name] for name, p in student.named_parameters()}


@pytest.mark.parametrize("name", ["SGD momentum", "AdamW", "RMSprop"])
def test_a_warm_up_shortens_the_steps_of_new_entries_alone(name: str) -> None:
    spec = [fxgrow.Widen("0", 13), fxgrow.Kernel("3", 5), fxgrow.Deepen("3")]
    teacher, optimizer = trained(OPTIMIZERS[name])
    other = copy.deepcopy((teacher, optimizer))
    students = []
    for (model, opt), warmup in (((teacher, optimizer), 4), (other, 0)):
        students.append((fxgrow.grow(model, spec, batch(0)[0], optimizer=opt, method="zero_out", warmup=warmup), opt))
    warm, cold = (moved_by(student, opt, 0) for student, opt in students)
    shortened = 0
    for parameter, movement in cold.items():
        short = torch.isclose(warm[parameter], movement / 4, rtol=1e-6, atol=1e-14) & (movement != 0)
        assert (short | (warm[parameter] == movement)).all(), parameter
        shortened += int(short.sum())
        if "deeper" in parameter:
            assert short[movement != 0].all()
    assert shortened > 100
    student = students[0][0]
    for number in range(3):
        step(student, optimizer, number)
    twin = copy.deepcopy((student, optimizer))  # a copy of an optimizer has no hooks
    assert all(
        torch.equal(a, b)
        for a, b in zip(moved_by(student, optimizer, 3).values(), moved_by(*twin, 3).values(), strict=True)
    )


def test_a_warm_up_lowers_the_rise_of_the_loss() -> None:
    rises = []
    for warmup in (0, 30):
        teacher, optimizer = late(lambda p: torch.optim.Adam(p, 1e-2))
        before = largest_loss(teacher)
        student = fxgrow.grow(teacher, 2.0, batch(0)[0], optimizer=optimizer, warmup=warmup)
        rises.append(max(step(student, optimizer, number % 4) for number in range(30)) - before)
    assert rises[1] < rises[0] / 2


def test_a_second_growth_ends_the_warm_up_of_the_first() -> None:
    teacher, optimizer = trained(OPTIMIZERS["Adam"])
    first = fxgrow.grow(teacher, {"0": 12}, batch(0)[0], optimizer=optimizer, warmup=10)
    step(first, optimizer, 0)
    second = fxgrow.grow(first, {"3": 15}, batch(0)[0], optimizer=optimizer)
    twin = copy.deepcopy((second, optimizer))
    assert all(
        torch.equal(a, b)
        for a, b in zip(moved_by(second, optimizer, 1).values(), moved_by(*twin, 1).values(), strict=True)
    )


class HoldsItsOptimizer(nn.Module):
    """A model that makes its optimizer, as some training loops have it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()
        self.optimizer = torch.optim.AdamW(self.net.parameters(), 1e-2)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@pytest.mark.parametrize("spec", [2.0, fxgrow.Deepen("net.0")])
def test_a_model_that_holds_its_optimizer_holds_the_one_that_went_over(spec: Any) -> None:
    teacher = HoldsItsOptimizer()
    optimizer = teacher.optimizer
    step(teacher, optimizer, 0)
    student = fxgrow.grow(teacher, spec, batch(0)[0], optimizer=optimizer, output="module")
    assert student.optimizer is optimizer
    assert holds(optimizer, student)
    step(student, student.optimizer, 1)


@pytest.mark.parametrize("warmup", [0, 10])
def test_the_growth_of_another_model_does_not_end_a_warm_up(warmup: int) -> None:
    """One optimizer may train several models."""
    models = [net(), net()]
    optimizer = torch.optim.Adam([p for model in models for p in model.parameters()], 1e-2)
    for number in range(2):
        step(models[0], optimizer, number)
    first = fxgrow.grow(models[0], {"0": 12}, batch(0)[0], optimizer=optimizer, method="zero_out", warmup=4)
    second = fxgrow.grow(models[1], {"0": 12}, batch(0)[0], optimizer=optimizer, warmup=warmup)
    twin = copy.deepcopy((first, second, optimizer))
    warm, cold = moved_by(first, optimizer, 2), moved_by(twin[0], twin[2], 2)
    torch.testing.assert_close(warm["0.weight"][8:], cold["0.weight"][8:] / 4)
    torch.testing.assert_close(warm["0.weight"][:8], cold["0.weight"][:8])


@pytest.mark.parametrize(("options", "name"), [({"warmup": 30}, "warmup"), ({"reset": True}, "reset")])
def test_options_of_an_optimizer_without_one_are_refused(options: dict[str, Any], name: str) -> None:
    teacher = net()
    with pytest.raises(fxgrow.GrowError, match=f"{name} is about an optimizer, and none is given"):
        fxgrow.grow(teacher, 1.5, batch(0)[0], **options)
    plan = fxgrow.plan(fxgrow.widths(teacher, batch(0)[0]), 1.5)
    with pytest.raises(fxgrow.GrowError, match=f"{name} is about an optimizer, and none is given"):
        fxgrow.apply(plan, teacher, **options)


@pytest.mark.parametrize("warmup", [-1, 2.5, "30", None])
def test_a_warm_up_of_no_number_of_steps_is_refused(warmup: Any) -> None:
    with pytest.raises(fxgrow.GrowError, match="warmup is a number of steps"):
        fxgrow.grow(net(), 1.5, batch(0)[0], warmup=warmup)
