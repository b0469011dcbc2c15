"""Optimizers in checkpoints, grown file to file: the bits of growing in memory, in torch's format and in ours."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.checkpoints.order import parameter_order
from fxgrow.checkpoints.outline import Info, outline
from fxgrow.state.moments import MomentFilling
from tests.analysed import Output
from tests.check import randomise
from tests.golden_net import golden_inputs, golden_net, golden_plan
from tests.nets import NETS
from tests.thinned import pairs, thinned

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Make = Callable[[Iterable[Any]], torch.optim.Optimizer]
MAKERS: dict[str, Make] = {
    "Adam": lambda p: torch.optim.Adam(p, torch.tensor(1e-3)),  # a rate in a tensor
    "AdamW": lambda p: torch.optim.AdamW(p, 1e-3, amsgrad=True),
    "SGD": lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 1e-3, momentum=0.9, centered=True),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 1e-2, initial_accumulator_value=0.1),
    "Adadelta": torch.optim.Adadelta,
    "Adamax": torch.optim.Adamax,
    "NAdam": torch.optim.NAdam,
    "RAdam": torch.optim.RAdam,
    "Adafactor": torch.optim.Adafactor,
}
SPEC = [1.5, fxgrow.Deepen("3")]


def net() -> nn.Sequential:
    torch.manual_seed(0)
    first = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
    return nn.Sequential(*first, nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(X).square().mean().backward()
    optimizer.step()


def trained(make: Callable[[nn.Module], torch.optim.Optimizer]) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = net()
    optimizer = make(model)
    for _ in range(3):
        step(model, optimizer)
    return model, optimizer


def difference(a: Any, b: Any, at: str = "") -> str:
    """Where two structures differ, to the bit; "" where they do not."""
    if isinstance(a, Tensor):
        return "" if isinstance(b, Tensor) and torch.equal(a, b) and a.dtype == b.dtype else at
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return f"{at}: {[*a]} and {[*b]}"
        return next((found for key in a if (found := difference(a[key], b[key], f"{at}.{key}"))), "")
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return at
        return next(
            (found for i, (p, q) in enumerate(zip(a, b, strict=True)) if (found := difference(p, q, f"{at}[{i}]"))), ""
        )
    return "" if a == b else f"{at}: {a} and {b}"


@pytest.mark.parametrize(
    ("name", "output"), pairs({name: name for name in MAKERS}, {"graph": "graph", "module": "module"})
)
def test_every_optimizer_grows_as_in_memory(name: str, output: Output, tmp_path: Path) -> None:
    teacher, optimizer = trained(lambda model: MAKERS[name](model.parameters()))
    torch.save({"model": teacher.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, tmp_path / "a.pt")
    torch.save(optimizer.state_dict(), tmp_path / "b.pt")
    fxgrow.save(teacher, tmp_path / "c.safetensors", optimizer=optimizer, step=3, order=torch.arange(5))
    student = fxgrow.grow(teacher, SPEC, X, optimizer=optimizer, output=output)
    plan = fxgrow.plan_of(student)
    for file in ("a.pt", "b.pt", "c.safetensors"):
        fxgrow.grow_checkpoint(plan, tmp_path / file, tmp_path / f"grown_{file}")
    whole, alone = torch.load(tmp_path / "grown_a.pt"), torch.load(tmp_path / "grown_b.pt")
    assert difference({**whole["model"]}, {**student.state_dict()}) == ""
    assert difference(whole["optimizer"], optimizer.state_dict()) == ""
    assert difference(alone, optimizer.state_dict()) == ""
    assert whole["epoch"] == 3
    loaded = fxgrow.load(
        tmp_path / "grown_c.safetensors", net, optimizer=lambda model: MAKERS[name](model.parameters())
    )
    assert difference({**loaded.model.state_dict()}, {**student.state_dict()}) == ""
    assert difference(loaded.optimizer.state_dict(), optimizer.state_dict()) == ""
    assert difference(dict(loaded.extra), {"step": 3, "order": torch.arange(5)}) == ""
    step(loaded.model, loaded.optimizer)
    step(student, optimizer)
    assert difference({**loaded.model.state_dict()}, {**student.state_dict()}) == ""


def _groups(model: nn.Module, *, named: bool) -> list[dict[str, Any]]:
    weights = [(name, p) for name, p in model.named_parameters() if p.ndim > 1]
    others = [(name, p) for name, p in model.named_parameters() if p.ndim == 1]
    return [
        {"params": some if named else [p for _, p in some], "weight_decay": decay}
        for some, decay in ((weights, 0.01), (others, 0.0))
    ]


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_groups_have_names_in_the_file_or_from_the_caller(named: bool, wrapped: bool, tmp_path: Path) -> None:
    teacher, optimizer = trained(lambda model: torch.optim.AdamW(_groups(model, named=named), 1e-3))
    prefix = "module." if wrapped else ""
    weights = {prefix + name: tensor for name, tensor in teacher.state_dict().items()}
    stated = optimizer.state_dict()
    for group in stated["param_groups"] if named else ():
        group["param_names"] = [prefix + name for name in group["param_names"]]
    torch.save({"state_dict": weights, "optimizer_states": [stated]}, tmp_path / "a.ckpt")
    names = [[name for name, p in teacher.named_parameters() if (p.ndim > 1) is wide] for wide in (True, False)]
    student = fxgrow.grow(teacher, SPEC, X, optimizer=optimizer, output="module")
    plan = fxgrow.plan_of(student)
    if not named:
        with pytest.raises(fxgrow.GrowError, match=r"groups=\[\[names\], ...\], or make the optimizer of"):
            fxgrow.grow_checkpoint(plan, tmp_path / "a.ckpt", tmp_path / "b.ckpt")
        assert not (tmp_path / "b.ckpt").exists()
        with pytest.raises(fxgrow.GrowError, match="groups= names"):
            fxgrow.grow_checkpoint(plan, tmp_path / "a.ckpt", tmp_path / "b.ckpt", groups=[names[0], names[1][1:]])
        with pytest.raises(fxgrow.GrowError, match=r"another shape|trains"):
            fxgrow.grow_checkpoint(plan, tmp_path / "a.ckpt", tmp_path / "b.ckpt", groups=[names[0][::-1], names[1]])
    fxgrow.grow_checkpoint(plan, tmp_path / "a.ckpt", tmp_path / "b.ckpt", groups=None if named else names)
    found = torch.load(tmp_path / "b.ckpt")
    expected = optimizer.state_dict()
    for group in expected["param_groups"] if named else ():
        group["param_names"] = [prefix + name for name in group["param_names"]]
    assert difference(found["optimizer_states"], [expected]) == ""
    assert difference(found["state_dict"], {prefix + name: t for name, t in student.state_dict().items()}) == ""


def test_a_chain_of_plans_grows_the_optimizer_through_all_of_them(tmp_path: Path) -> None:
    plan, teacher, x = golden_plan(), randomise(golden_net()), golden_inputs()
    parameters = list(teacher.parameters())
    optimizer = torch.optim.Adam(parameters, 1e-3)
    for p in parameters:
        p.grad = torch.randn_like(p)
    optimizer.step()
    torch.save({"model": teacher.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    fxgrow.save(teacher, tmp_path / "a.safetensors", optimizer=optimizer)
    student = fxgrow.apply(plan, teacher, x, optimizer=optimizer)
    fxgrow.grow_checkpoint(plan, tmp_path / "a.pt", tmp_path / "b.pt")
    assert difference(torch.load(tmp_path / "b.pt")["optimizer"], optimizer.state_dict()) == ""
    fxgrow.grow_checkpoint(plan, tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    loaded = fxgrow.load(
        tmp_path / "b.safetensors", golden_net, optimizer=lambda model: torch.optim.Adam(model.parameters(), 1e-3)
    )
    assert difference(loaded.optimizer.state_dict(), optimizer.state_dict()) == ""
    assert difference({**loaded.model.state_dict()}, {**student.state_dict()}) == ""
    assert loaded.plan is not None
    assert loaded.plan.to_json() == plan.to_json()


def inside() -> nn.Sequential:
    """The same net as an entry, whose entries are numbered through."""
    return nn.Sequential(OrderedDict(body=net()))


def test_a_file_of_a_student_keeps_the_chain_of_its_plans(tmp_path: Path) -> None:
    """Also what is frozen, and modes, follow names that new layers move."""
    student = fxgrow.grow(inside(), 1.5, X, output="module")
    student.body[1].eval()
    student.body[5].weight.requires_grad_(False)
    fxgrow.save(student, tmp_path / "a.safetensors")
    wider = fxgrow.grow(student, [fxgrow.Deepen("body.3", flat=True), 2.0], X, output="module")
    fxgrow.grow_checkpoint(fxgrow.plan_of(wider).steps[-1], tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    loaded = fxgrow.load(tmp_path / "b.safetensors", inside)
    assert difference({**loaded.model.state_dict()}, {**wider.state_dict()}) == ""
    assert loaded.plan is not None
    assert len(loaded.plan.steps) == 2
    modes = [{name: module.training for name, module in model.named_modules()} for model in (loaded.model, wider)]
    assert modes[0] == modes[1]
    frozen = [[name for name, p in model.named_parameters() if not p.requires_grad] for model in (loaded.model, wider)]
    assert frozen == [["body.7.weight"]] * 2


@pytest.mark.parametrize("output", ["graph", "module"])
@thinned("parameter order")
@pytest.mark.parametrize("name", NETS)
def test_a_plan_with_new_modules_says_the_order_of_the_students_parameters(name: str, output: Output) -> None:
    case = NETS[name]
    teacher, x = case.make(), case.inputs()
    try:
        student = fxgrow.grow(teacher, fxgrow.Deepen("*"), x, output=output)
    except fxgrow.GrowError:
        return  # nothing gets deeper
    plan = fxgrow.plan_of(student)
    given = {one.name: Info(one.shape, getattr(torch, one.dtype or "float32")) for one in plan.stored}
    assert parameter_order(plan, outline(plan, given)) == [name for name, _ in student.named_parameters()]


def test_a_plan_that_does_not_say_the_order_is_refused(tmp_path: Path) -> None:
    teacher, optimizer = trained(lambda model: torch.optim.Adam(model.parameters()))
    torch.save({"model": teacher.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    plan = fxgrow.plan(fxgrow.widths(teacher, X), SPEC)
    for order in ((), ("0.weight",), (*plan.order, "left")):
        with pytest.raises(fxgrow.GrowError, match=r"in which order its student has its parameters.*plan again"):
            fxgrow.grow_checkpoint(replace(plan, order=order), tmp_path / "a.pt", tmp_path / "b.pt")
    assert not (tmp_path / "b.pt").exists()


class Odd(torch.optim.Optimizer):
    """An optimizer that nobody knows."""

    def __init__(self, params: Iterable[Any], lr: float = 1e-3) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["sign"] = p.grad.sign()


def test_what_is_not_known_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    teacher, optimizer = trained(lambda model: Odd(model.parameters()))
    plan = fxgrow.plan(fxgrow.widths(teacher, X), 1.5)
    torch.save({"model": teacher.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "odd.pt")
    fxgrow.save(teacher, tmp_path / "odd.safetensors", optimizer=optimizer)
    teacher, optimizer = trained(lambda model: torch.optim.Adam(model.parameters()))
    torch.save({"model": teacher.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "right.pt")
    fxgrow.save(teacher, tmp_path / "right.safetensors", optimizer=optimizer)
    average = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    torch.save({"model": teacher.state_dict(), "ema": average}, tmp_path / "average.pt")
    fxgrow.grow(teacher, 1.5, X, optimizer=optimizer, warmup=5)
    student = fxgrow.grow(net(), 1.5, X)
    fxgrow.save(student, tmp_path / "warm.safetensors", optimizer=_warming(student))
    before = sorted(path.name for path in tmp_path.iterdir())
    for source, target, reason in (
        ("odd.pt", "b.pt", "which optimizer of torch has states with sign"),
        ("odd.safetensors", "b.safetensors", "how the state of Odd grows is not known"),
        ("average.pt", "b.pt", "under 'model' and 'ema'"),
        ("right.pt", "b.safetensors", "holds an optimizer, which only files of torch.save do"),
        ("right.safetensors", "b.pt", "is a file of fxgrow.save"),
    ):
        with pytest.raises(fxgrow.GrowError, match=reason):
            fxgrow.grow_checkpoint(plan, tmp_path / source, tmp_path / target)
    again = fxgrow.plan(fxgrow.widths(student, X), 1.5)
    with pytest.raises(fxgrow.GrowError, match="is in the warm-up of new entries"):
        fxgrow.grow_checkpoint(again, tmp_path / "warm.safetensors", tmp_path / "b.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def _warming(model: nn.Module) -> torch.optim.Optimizer:
    """An optimizer in a warm-up."""
    teacher = net()
    optimizer = torch.optim.Adam(teacher.parameters())
    step(teacher, optimizer)
    student = fxgrow.grow(teacher, 1.5, X, optimizer=optimizer, warmup=30)
    model.load_state_dict(student.state_dict())
    for group in optimizer.param_groups:
        group["params"][:] = list(model.parameters())
    return optimizer


def test_a_large_state_is_made_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fxgrow.checkpoints.optimizers.PART", 100)
    for method in ("split", "zero_out"):
        teacher, optimizer = trained(lambda model: torch.optim.Adam(model.parameters(), 1e-3))
        torch.save({"model": teacher.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
        student = fxgrow.grow(teacher, 2.0, X, optimizer=optimizer, method=method)
        parts: list[int] = []
        of = MomentFilling.parts

        def counted(self: Any, *given: Any, of: Any = of, parts: list[int] = parts) -> Iterator[tuple[int, Tensor]]:
            for first, part in of(self, *given):
                parts.append(part.numel())
                yield first, part

        monkeypatch.setattr(MomentFilling, "parts", counted)
        fxgrow.grow_checkpoint(fxgrow.plan_of(student), tmp_path / "a.pt", tmp_path / f"{method}.pt")
        monkeypatch.setattr(MomentFilling, "parts", of)
        assert difference(torch.load(tmp_path / f"{method}.pt")["optimizer"], optimizer.state_dict()) == ""
        assert len(parts) > 20
        assert max(parts) <= 16 * 9  # a row is never cut


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_new_layers_have_a_momentum_in_a_file_of_fused_sgd(kind: str, tmp_path: Path) -> None:
    """Torch's fused SGD takes a step with a momentum for all parameters or for none."""

    def make(model: nn.Module) -> torch.optim.Optimizer:
        model.get_parameter("0.weight").requires_grad_(False)
        return torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, fused=True)

    teacher, optimizer = trained(make)
    teacher.double()
    for state in optimizer.state.values():
        state["momentum_buffer"] = state["momentum_buffer"].double()
    torch.save({"model": teacher.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    torch.save(optimizer.state_dict(), tmp_path / "alone.pt")
    fxgrow.save(teacher, tmp_path / "a.safetensors", optimizer=optimizer)
    plan = fxgrow.plan(fxgrow.widths(teacher, X.double()), [fxgrow.Widen("0", 12), fxgrow.Deepen("3")])
    target = tmp_path / f"b.{kind}"
    fxgrow.grow_checkpoint(plan, tmp_path / f"a.{kind}", target)
    fxgrow.grow_checkpoint(plan, tmp_path / "alone.pt", tmp_path / "alone_b.pt")
    student = fxgrow.apply(plan, teacher, optimizer=optimizer)
    assert len(list(student.parameters())) > len(list(teacher.parameters()))
    if kind == "pt":
        loaded, whole = fxgrow.apply(plan, net().double()), torch.load(target)
        loaded.load_state_dict(whole["model"])
        second = make(loaded)
        second.load_state_dict(whole["optimizer"])
    else:
        made = fxgrow.load(target, net, optimizer=make)
        loaded, second = made.model, made.optimizer
    assert difference(torch.load(tmp_path / "alone_b.pt"), optimizer.state_dict()) == ""
    assert difference(second.state_dict(), optimizer.state_dict()) == ""
    for model, one in ((loaded, second), (student, optimizer)):
        for _ in range(2):
            one.zero_grad()
            model(X.double()).square().mean().backward()
            one.step()
    assert difference({**loaded.state_dict()}, {**student.state_dict()}) == ""


def adam_like(name: str, **options: Any) -> type[torch.optim.Optimizer]:
    """An optimizer from elsewhere that keeps what Adam keeps, under the names of Adam, and has options of its own."""

    class Other(torch.optim.Optimizer):
        def __init__(self, params: Iterable[Any]) -> None:
            defaults = {"lr": 1e-3, "betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": 0.0, "maximize": False}
            super().__init__(params, defaults | options)

        def step(self, closure: Any = None) -> None:
            for p in [p for group in self.param_groups for p in group["params"] if p.grad is not None]:
                self.state[p] = {"step": torch.ones(()), "exp_avg": p.grad / 2, "exp_avg_sq": p.grad.square()}

    Other.__name__ = name
    return Other


OF_ADAM = {"amsgrad": False, "foreach": None, "capturable": False, "differentiable": False, "fused": None}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ADOPT", {"clip_exp": 0.333, "decoupled": False, "caution": False}),
        ("Adam", OF_ADAM | {"decoupled_weight_decay": False, "caution": False}),
        ("Lookahead", OF_ADAM | {"lookahead_k": 6}),
        ("SparseAdam", {"clip": 1.0}),
    ],
)
def test_an_optimizer_from_elsewhere_is_refused_in_a_file_as_in_memory(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    teacher, optimizer = trained(lambda model: adam_like(name, **options)(model.parameters()))
    plan = fxgrow.plan(fxgrow.widths(teacher, X), 1.5)
    torch.save({"model": teacher.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    fxgrow.save(teacher, tmp_path / "a.safetensors", optimizer=optimizer)
    for suffix in ("pt", "safetensors"):
        with pytest.raises(fxgrow.GrowError, match=r"is not known"):
            fxgrow.grow_checkpoint(plan, tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}")
        assert not (tmp_path / f"b.{suffix}").exists()
    with pytest.raises(fxgrow.GrowError, match="grows is not known"):
        fxgrow.grow(teacher, 1.5, X, optimizer=optimizer)


def test_options_of_schedulers_tags_and_older_releases_leave_an_optimizer_known(tmp_path: Path) -> None:
    def make(model: nn.Module) -> torch.optim.Optimizer:
        weights = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim == 1]
        tagged = [{"params": weights, "tag": "decay", "scale": 2.0}, {"params": others, "tag": "none"}]
        return torch.optim.AdamW(tagged, 1e-3)

    teacher, optimizer = trained(make)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=9)
    stated = optimizer.state_dict()
    for group in stated["param_groups"]:
        del group["decoupled_weight_decay"]
    torch.save({"model": teacher.state_dict(), "optimizer": stated}, tmp_path / "a.pt")
    fxgrow.save(teacher, tmp_path / "a.safetensors", optimizer=optimizer)
    plan = fxgrow.plan(fxgrow.widths(teacher, X), SPEC)
    names = [[name for name, p in teacher.named_parameters() if (p.ndim > 1) is wide] for wide in (True, False)]
    fxgrow.grow_checkpoint(plan, tmp_path / "a.pt", tmp_path / "b.pt", groups=names)
    fxgrow.grow_checkpoint(plan, tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    fxgrow.apply(plan, teacher, optimizer=optimizer)
    assert difference(torch.load(tmp_path / "b.pt")["optimizer"]["state"], optimizer.state_dict()["state"]) == ""


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_a_rate_that_groups_share_is_one_tensor_in_a_grown_file(kind: str, tmp_path: Path) -> None:
    def make(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(_groups(model, named=True), torch.tensor(1e-2))

    teacher, optimizer = trained(make)
    torch.save({"model": teacher.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    fxgrow.save(teacher, tmp_path / "a.safetensors", optimizer=optimizer)
    plan = fxgrow.plan(fxgrow.widths(teacher, X), SPEC)
    fxgrow.grow_checkpoint(plan, tmp_path / f"a.{kind}", tmp_path / f"b.{kind}")
    fxgrow.apply(plan, teacher, optimizer=optimizer)
    if kind == "pt":
        stated = torch.load(tmp_path / "b.pt")["optimizer"]
    else:
        stated = fxgrow.load(tmp_path / "b.safetensors", net, optimizer=make).optimizer.state_dict()
    assert difference(stated, optimizer.state_dict()) == ""
    assert stated["param_groups"][0]["lr"] is stated["param_groups"][1]["lr"]


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_state_of_no_parameter_is_kept_where_it_is_of_numbers_and_else_refused(kind: str, tmp_path: Path) -> None:
    def make(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters())

    teacher, optimizer = trained(make)
    plan = fxgrow.plan(fxgrow.widths(teacher, X), SPEC)
    state: Any = optimizer.state
    state["all"] = {"k": 1, "t": torch.tensor(2.0)}

    def grow() -> None:
        torch.save({"model": teacher.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
        fxgrow.save(teacher, tmp_path / "a.safetensors", optimizer=optimizer)
        fxgrow.grow_checkpoint(plan, tmp_path / f"a.{kind}", tmp_path / f"b.{kind}")

    grow()
    if kind == "pt":
        stated = torch.load(tmp_path / "b.pt")["optimizer"]
    else:
        stated = fxgrow.load(tmp_path / "b.safetensors", net, optimizer=make).optimizer.state_dict()
    assert difference(stated["state"]["all"], {"k": 1, "t": torch.tensor(2.0)}) == ""
    state["all"]["of the teacher"] = torch.zeros(8)
    with pytest.raises(fxgrow.GrowError, match=r"'all' in the state of \w+ grows is not known"):
        grow()
    with pytest.raises(fxgrow.GrowError, match="'all' in the state of Adam grows is not known"):
        fxgrow.apply(plan, teacher, optimizer=optimizer)
    del state["all"]["of the teacher"]
    fxgrow.apply(plan, teacher, optimizer=optimizer)
    assert difference(stated, optimizer.state_dict()) == ""
