"""Growths by a schedule: in a loop of the user's own, and in frameworks."""

import copy
import functools
import json
import pickle
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fxgrow
from benchmarks.torchvision_shim import import_torchvision
from fxgrow.state.warmup import resume_warmup
from tests.test_optimizers import OPTIMIZERS, batch, holds, net, step

X = batch(0)[0]


def run(
    schedule: fxgrow.GrowthSchedule[Any], model: nn.Module, optimizer: torch.optim.Optimizer, steps: int
) -> nn.Module:
    for number in range(steps):
        step(model, optimizer, number)
        model = schedule.step(model, optimizer)
    return model


def sizes(model: nn.Module) -> tuple[int, int]:
    return model.get_parameter("0.weight").shape[0], model.get_parameter("3.weight").shape[0]


def test_growths_are_made_when_they_are_due() -> None:
    model = net()
    optimizer = OPTIMIZERS["AdamW"](model.parameters())
    schedule = fxgrow.GrowthSchedule({2: {"0": 12}, fxgrow.Step(4): {"3": 15}, fxgrow.Epoch(1): {"0": 16}}, X)
    seen = []
    for number in range(5):
        model = run(schedule, model, optimizer, 1)
        seen.append(sizes(model))
        assert holds(optimizer, model), number
    assert seen == [(8, 12), (12, 12), (12, 12), (12, 15), (12, 15)]
    assert not schedule.finished
    model = schedule.epoch(model, optimizer)
    assert sizes(model) == (16, 15)
    assert schedule.finished
    plan = fxgrow.plan_of(model)
    assert plan is not None
    assert len(plan.steps) == 3


def test_a_growth_that_fails_behind_another_leaves_the_model_that_the_optimizer_trains() -> None:
    model = net()
    optimizer = OPTIMIZERS["AdamW"](model.parameters())
    schedule = fxgrow.GrowthSchedule({1: {"0": 12}, fxgrow.Step(1): {"0": 10}}, X)
    model = run(schedule, model, optimizer, 1)
    assert sizes(model) == (12, 12)
    assert holds(optimizer, model)
    with pytest.raises(fxgrow.GrowError):  # still due, and told now
        schedule.step(model, optimizer)
    assert holds(optimizer, model)


def test_a_rehearsal_gives_the_plans_and_leaves_all_as_it_was() -> None:
    model = net()
    before = copy.deepcopy(model.state_dict())
    schedule = fxgrow.GrowthSchedule({2: {"0": 12}, fxgrow.Plateau(3): {"3": 15}, fxgrow.Epoch(1): {"0": 16}}, X)
    plan = schedule.rehearse(model)
    assert plan is not None
    assert len(plan.steps) == 3
    assert schedule.state_dict() == fxgrow.GrowthSchedule(dict.fromkeys(range(1, 4), 1.5), X).state_dict()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    student = run(schedule, model, OPTIMIZERS["AdamW"](model.parameters()), 2)
    left = schedule.rehearse(student)
    assert left is not None
    assert [[width.new for width in step.grown_widths] for step in left.steps] == [[12], [15], [16]]
    assert sizes(fxgrow.apply(plan, net())) == (16, 15)
    assert sizes(student) == (12, 12)


def test_a_schedule_that_is_finished_has_nothing_to_rehearse() -> None:
    schedule = fxgrow.GrowthSchedule({1: {"0": 12}}, X)
    student = schedule.step(net())
    assert schedule.finished
    assert schedule.rehearse(student) is None


def test_a_rehearsal_finds_a_growth_that_cannot_be_made() -> None:
    schedule = fxgrow.GrowthSchedule({2: {"0": 12}, fxgrow.Epoch(40): {"gone": 15}}, X)
    with pytest.raises(fxgrow.PlanError, match=r"growth at Epoch.*40.*gone"):
        schedule.rehearse(net())


def test_a_rehearsal_is_in_the_order_of_the_run() -> None:
    growths: dict[Any, Any] = {4: {"0": 16}, fxgrow.Epoch(9): {"3": 20}, 2: {"0": 12}, fxgrow.Epoch(1): {"3": 15}}
    schedule, model = fxgrow.GrowthSchedule(growths, X), net()
    plan = schedule.rehearse(model)
    assert plan is not None
    assert [width.new for step in plan.steps for width in step.grown_widths] == [12, 15, 16, 20]
    assert sizes(run(schedule, model, OPTIMIZERS["SGD"](model.parameters()), 4)) == (16, 12)


def test_norms_that_are_calibrated_later_are_rehearsed() -> None:
    spec = fxgrow.Deepen("0", kind="identity", norm="batch", calibrated=True)
    batches = iter([X])
    schedule, model = fxgrow.GrowthSchedule({1: spec}, X, calibration=batches), net()
    plan = schedule.rehearse(model)
    student = run(schedule, model, OPTIMIZERS["SGD"](model.parameters()), 1)
    assert plan == fxgrow.plan_of(student)
    with pytest.raises(fxgrow.PlanError, match=r"growth at Step.*is to be calibrated: give batches"):
        fxgrow.GrowthSchedule({1: spec}, X).rehearse(net())


def test_an_iterator_of_batches_is_not_for_two_growths_that_calibrate() -> None:
    first, second = (fxgrow.Deepen(layer, kind="identity", norm="batch", calibrated=True) for layer in ("0", "3"))
    with pytest.raises(fxgrow.PlanError, match=r"2 growths .* are calibrated.*give a list of batches or a DataLoader"):
        fxgrow.GrowthSchedule({1: first, 2: second}, X, calibration=iter([X, X]))
    schedule, model = fxgrow.GrowthSchedule({1: first, 2: second}, X, calibration=[X]), net()
    run(schedule, model, OPTIMIZERS["SGD"](model.parameters()), 3)
    assert schedule.finished
    one, model = fxgrow.GrowthSchedule({1: first, 2: {"3": 12}}, X, calibration=iter([X])), net()
    run(one, model, OPTIMIZERS["SGD"](model.parameters()), 3)
    assert one.finished


def test_a_model_that_asks_for_numbers_is_rehearsed() -> None:
    class Asking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x) if float(x.abs().sum()) > 0 else x

    model = Asking()
    before = copy.deepcopy(model.state_dict())
    schedule = fxgrow.GrowthSchedule({1: {"net.0": 12}, 2: {"net.0": 16}}, X)
    plan = schedule.rehearse(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert plan == fxgrow.plan_of(run(schedule, model, OPTIMIZERS["SGD"](model.parameters()), 2))
    with pytest.raises(fxgrow.GrowError, match=r"growth at Step.*gone"):
        fxgrow.GrowthSchedule({1: {"gone": 12}}, X).rehearse(model)


def test_sizes_that_a_class_states_follow_at_each_growth() -> None:
    def state(student: nn.Module, plan: fxgrow.Plan) -> None:
        told.append((sizes(student), len(plan.grown_widths)))

    told: list[Any] = []
    schedule = fxgrow.GrowthSchedule({1: {"0": 12}, 2: {"3": 15}}, X, resize=state)
    model = net()
    run(schedule, model, OPTIMIZERS["SGD"](model.parameters()), 2)
    assert told == [((12, 12), 1), ((12, 15), 1)]


def test_plateaus_come_one_after_another() -> None:
    model = net()
    schedule = fxgrow.GrowthSchedule({fxgrow.Plateau(2): {"0": 12}, fxgrow.Plateau(1, min_delta=0.1): {"3": 15}}, X)
    seen = []
    for loss in (1.0, 0.9, 0.95, torch.tensor(0.91), 0.8, 0.75, 0.1):
        model = schedule.epoch(model, metric=loss)
        seen.append(sizes(model))
    assert seen == [(8, 12)] * 3 + [(12, 12)] * 2 + [(12, 15)] * 2


def test_a_plateau_of_an_accuracy_looks_for_more() -> None:
    schedule = fxgrow.GrowthSchedule({fxgrow.Plateau(1, mode="max"): {"0": 12}}, X)
    model = schedule.epoch(net(), metric=0.5)
    model = schedule.epoch(model, metric=0.6)
    assert sizes(model) == (8, 12)
    assert sizes(schedule.epoch(model, metric=0.6)) == (12, 12)


def test_nan_is_no_improvement() -> None:
    schedule = fxgrow.GrowthSchedule({fxgrow.Plateau(2): {"0": 12}}, X)
    model = schedule.epoch(net(), metric=float("nan"))
    assert sizes(schedule.epoch(model, metric=float("nan"))) == (12, 12)


def test_a_run_goes_on_in_the_middle_of_a_schedule(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")

    def make() -> fxgrow.GrowthSchedule[int]:
        return fxgrow.GrowthSchedule({2: {"0": 12}, 5: {"3": 15}}, X, warmup=3)

    def adam(model: nn.Module) -> torch.optim.Optimizer:
        return OPTIMIZERS["AdamW"](model.parameters())

    model = net()
    optimizer, schedule = adam(model), make()
    model = run(schedule, model, optimizer, 3)
    path = tmp_path / "a.safetensors"
    fxgrow.save(model, path, optimizer=optimizer, schedule=schedule.state_dict())
    loaded = fxgrow.load(path, net, optimizer=adam)
    other = make()
    other.load_state_dict(loaded.extra["schedule"])
    model, twin = run(schedule, model, optimizer, 4), run(other, loaded.model, loaded.optimizer, 4)
    assert sizes(model) == (12, 15)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize(
    ("leaves", "named"),
    [
        ("3", ("3",)),
        (["3"], ("3",)),
        (iter(["3"]), ("3",)),
        (nn.Linear, ("7",)),
        ([nn.Linear, "3"], ("3", "7")),
        ((), ()),
    ],
)
def test_leaf_modules_are_those_of_grow(leaves: Any, named: tuple[str, ...]) -> None:
    schedule = fxgrow.GrowthSchedule({1: {"0": 12}, 2: {"3": 15}}, X, leaf_modules=leaves)
    student = schedule.step(schedule.step(net()))
    plan = fxgrow.plan_of(student)
    assert plan is not None
    assert [step.leaf_modules for step in plan.steps] == [named] * 2


@pytest.mark.parametrize("leaves", [3, [None], ["0", 3]], ids=str)
def test_what_are_no_leaf_modules_is_refused_at_once(leaves: Any) -> None:
    with pytest.raises(fxgrow.TraceError, match=r"leaf_modules is .*; expected a list of names or classes"):
        fxgrow.GrowthSchedule({1: 1.5}, X, leaf_modules=leaves)


def test_the_state_is_plain_data() -> None:
    schedule = fxgrow.GrowthSchedule({1: {"0": 12}, fxgrow.Plateau(1): {"3": 15}}, X)
    schedule.epoch(schedule.step(net()), metric=0.5)
    state = schedule.state_dict()
    assert json.loads(json.dumps(state)) == state
    assert pickle.loads(pickle.dumps(state)) == state


def test_a_growth_that_fails_is_still_due() -> None:
    schedule = fxgrow.GrowthSchedule({1: {"7": 9}}, X)
    model = net()
    with pytest.raises(fxgrow.GrowError):
        schedule.step(model)
    assert not schedule.finished
    with pytest.raises(fxgrow.GrowError):
        schedule.step(model)


WRONG: list[Any] = [
    {},
    None,
    3,
    {0: 1.5},
    {-1: 1.5},
    {2.5: 1.5},
    {"soon": 1.5},
    {1: "everything"},
    {1: None},
    {True: 1.5},
]


@pytest.mark.parametrize("growths", WRONG, ids=repr)
def test_what_is_no_schedule_is_refused_at_once(growths: Any) -> None:
    with pytest.raises(fxgrow.GrowError):
        fxgrow.GrowthSchedule(growths, X)


@pytest.mark.parametrize(
    "make",
    [lambda: fxgrow.Epoch(0), lambda: fxgrow.Plateau(0), lambda: fxgrow.Plateau(1, -1.0),
     lambda: fxgrow.Plateau(1, 0.0, "least"), lambda: fxgrow.Step("3")],  # type: ignore[arg-type]
)  # fmt: skip
def test_triggers_that_never_come_are_refused(make: Any) -> None:
    with pytest.raises(fxgrow.PlanError):
        make()


def test_a_plateau_needs_a_metric() -> None:
    with pytest.raises(fxgrow.PlanError, match="takes a metric"):
        fxgrow.GrowthSchedule({fxgrow.Plateau(1): 1.5}, X).epoch(net())


@pytest.mark.parametrize("metric", [None, "1", True, 1j, torch.ones(2)])
def test_an_epoch_whose_metric_is_refused_is_not_counted(metric: Any) -> None:
    schedule = fxgrow.GrowthSchedule({fxgrow.Plateau(1): 1.5, fxgrow.Epoch(2): 1.5}, X)
    before = schedule.state_dict()
    with pytest.raises(fxgrow.PlanError, match="takes a metric"):
        schedule.epoch(net(), metric=metric)
    assert schedule.state_dict() == before


@pytest.mark.parametrize("again", [copy.deepcopy, lambda schedule: pickle.loads(pickle.dumps(schedule))])
def test_a_copy_of_a_schedule_goes_on_alone(again: Any) -> None:
    """With two plateaus, which are told from each other by which they are."""
    schedule = fxgrow.GrowthSchedule({fxgrow.Plateau(1): {"0": 10}, fxgrow.Plateau(1, mode="max"): {"0": 12}}, X)
    model = schedule.epoch(net(), metric=1.0)
    other = again(schedule)
    student = other.epoch(model, metric=2.0)
    assert student.get_parameter("0.weight").shape[0] == 10
    student = other.epoch(other.epoch(student, metric=3.0), metric=2.0)
    assert student.get_parameter("0.weight").shape[0] == 12
    assert other.finished
    assert (schedule.epochs, schedule.finished) == (1, False)


@pytest.mark.parametrize(
    "change",
    [{"growths": 2}, {"done": [3]}, {"done": None}, {"steps": "1"}, {"best": "x"}, {"a": 1}, {"steps": -1},
     {"epochs": -2}, {"waited": -1}, {"done": [0, 0]}, {"best": float("nan")}, {"epochs": None}],
)  # fmt: skip
def test_the_state_of_another_schedule_is_refused(change: dict[str, Any]) -> None:
    schedule = fxgrow.GrowthSchedule({1: 1.5}, X)
    with pytest.raises(fxgrow.PlanError, match="state"):
        schedule.load_state_dict({**schedule.state_dict(), **change})


# -- Lightning -------------------------------------------------------------------------------------


def lightning_module(pl: Any, make: Any = net) -> Any:
    class Digits(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = make()
            self.losses: list[float] = []

        def training_step(self, images_and_labels: Any, _: int) -> torch.Tensor:
            images, labels = images_and_labels
            loss = nn.functional.cross_entropy(self.net(images), labels)
            self.log("loss", loss)
            self.losses.append(float(loss.detach()))
            return loss

        def validation_step(self, images_and_labels: Any, _: int) -> None:
            self.log("val", nn.functional.cross_entropy(self.net(images_and_labels[0]), images_and_labels[1]))

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.parameters(), 1e-3)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2)]

    return Digits()


def trainer(pl: Any, folder: Path, epochs: int, *callbacks: Any) -> Any:
    return pl.Trainer(
        max_epochs=epochs, accelerator="cpu", callbacks=list(callbacks), logger=False, default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip


def data() -> Any:
    pairs = [(batch(number)[0][i], batch(number)[1][i]) for number in range(3) for i in range(6)]
    return torch.utils.data.DataLoader(pairs, batch_size=6)  # type: ignore[arg-type]


@pytest.fixture
def pl() -> Any:
    import_torchvision()  # Lightning's metrics import it where it is there
    return pytest.importorskip("pytorch_lightning", reason="the extra lightning is not installed")


@pytest.mark.filterwarnings("ignore")
def test_lightning_grows_and_trains_on(pl: Any, tmp_path: Path) -> None:
    from fxgrow.training.lightning import GrowthCallback

    schedule = fxgrow.GrowthSchedule({2: {"0": 12}, fxgrow.Epoch(2): {"3": 15}}, X)
    module = lightning_module(pl)
    run = trainer(pl, tmp_path, 4, GrowthCallback(schedule, "net"))
    run.fit(module, data(), data())
    assert sizes(module.net) == (12, 15)
    assert schedule.finished
    assert holds(run.optimizers[0], module)
    before = {name: p.clone() for name, p in module.net.named_parameters()}
    run.fit_loop.max_epochs = 5
    run.fit(module, data())
    assert not any(torch.equal(p, before[name]) for name, p in module.net.named_parameters() if p.ndim > 1)
    assert all(module.training for module in module.net.modules())


@pytest.mark.filterwarnings("ignore")
def test_lightning_loses_nothing_at_a_growth(pl: Any, tmp_path: Path) -> None:
    """Even shares keep replicas equal, so the losses are those of the net that does not grow."""
    from fxgrow.training.lightning import GrowthCallback

    module, other = lightning_module(pl), lightning_module(pl)
    schedule = fxgrow.GrowthSchedule({2: {"0": 16}}, X, method="zero_out")
    trainer(pl, tmp_path, 2, GrowthCallback(schedule, "net")).fit(module, data())
    trainer(pl, tmp_path, 2).fit(other, data())
    assert module.losses[:3] == pytest.approx(other.losses[:3], rel=1e-12)


def assert_goes_on_to_the_bit(
    pl: Any, folder: Path, make: Callable[[], Any], first: Any, second: Any, whole: Any
) -> None:
    """A run of two epochs that another module goes on with ends as one of four."""
    run = trainer(pl, folder, 2, make())
    run.fit(first, data())
    run.save_checkpoint(folder / "a.ckpt")
    trainer(pl, folder, 4, make()).fit(second, data(), ckpt_path=folder / "a.ckpt")
    expected = dict(whole.named_parameters())
    assert all(torch.equal(parameter, expected[name]) for name, parameter in second.named_parameters())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("warmup", [0, 8])
def test_lightning_goes_on_from_a_checkpoint_in_the_middle(pl: Any, tmp_path: Path, warmup: int) -> None:
    from fxgrow.training.lightning import GrowthCallback

    def make() -> Any:
        return GrowthCallback(fxgrow.GrowthSchedule({2: {"0": 12}, 8: {"3": 15}}, X, warmup=warmup), "net")

    module = lightning_module(pl)
    whole = trainer(pl, tmp_path, 4, make())
    whole.fit(module, data())
    second = lightning_module(pl)
    assert_goes_on_to_the_bit(pl, tmp_path, make, lightning_module(pl), second, module)
    assert sizes(second.net) == (12, 15)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("output", ["graph", "module"])
def test_lightning_goes_on_with_a_net_that_was_grown_before_the_run(pl: Any, tmp_path: Path, output: Any) -> None:
    from fxgrow.training.lightning import GrowthCallback

    def make() -> Any:
        return GrowthCallback(fxgrow.GrowthSchedule({2: {"0": 16}, 8: {"3": 15}}, X, output=output), "net")

    def grown_before() -> Any:
        return fxgrow.grow(net(), {"0": 12}, X, output=output)

    whole, first, second = (lightning_module(pl, grown_before) for _ in range(3))
    trainer(pl, tmp_path, 4, make()).fit(whole, data())
    assert_goes_on_to_the_bit(pl, tmp_path, make, first, second, whole)
    assert sizes(second.net) == (16, 15)
    chain = fxgrow.plan_of(second.net)
    assert chain is not None
    assert len(chain.steps) == 3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("spec", [{"0": 12}, {"3": 15}])
def test_what_shares_parameters_with_the_network_of_a_lightning_module_shares_its_students(
    pl: Any, tmp_path: Path, spec: Any
) -> None:
    from fxgrow.training.lightning import GrowthCallback

    module = lightning_module(pl)
    module.beside = nn.Module()
    module.beside.tied = module.net.get_parameter("0.weight")
    callback = GrowthCallback(fxgrow.GrowthSchedule({2: spec}, X), "net")
    run = trainer(pl, tmp_path, 2, callback)
    if spec == {"0": 12}:
        with pytest.raises(fxgrow.GrowError, match=r"beside.tied is 0.weight of the network, which has grown from"):
            run.fit(module, data())
    else:
        run.fit(module, data())
        assert module.beside.tied is module.net.get_parameter("0.weight")


@pytest.mark.filterwarnings("ignore")
def test_a_lightning_module_without_the_network_is_refused(pl: Any, tmp_path: Path) -> None:
    from fxgrow.training.lightning import GrowthCallback

    callback = GrowthCallback(fxgrow.GrowthSchedule({2: 1.5}, X), "model")
    with pytest.raises(fxgrow.GrowError, match="Digits has no module 'model' to grow; it has net"):
        trainer(pl, tmp_path, 1, callback).fit(lightning_module(pl), data())


# -- transformers ----------------------------------------------------------------------------------


@pytest.fixture
def transformers() -> Any:
    import_torchvision()
    pytest.importorskip("accelerate", reason="the extra transformers is not installed")
    return pytest.importorskip("transformers", reason="the extra transformers is not installed")


def bert(transformers: Any) -> Any:
    """A model whose names in files are those in memory, unlike a ViT's: a Trainer cannot resume that, grown or not."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = transformers.BertConfig(**sizes, **dropout, vocab_size=20, max_position_embeddings=8, num_labels=5)
    return transformers.BertForSequenceClassification(config)


def hugging_face_run(transformers: Any, folder: Path, model: Any, steps: int, *callbacks: Any, **options: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    rows = [{"input_ids": torch.randint(20, (6,), generator=generator), "labels": number % 5} for number in range(12)]
    args = transformers.TrainingArguments(
        output_dir=str(folder), max_steps=steps, per_device_train_batch_size=4, report_to=[], use_cpu=True,
        disable_tqdm=True, save_strategy="steps", logging_strategy="no", **options,
    )  # fmt: skip
    return transformers.Trainer(model, args, train_dataset=rows, eval_dataset=rows, callbacks=list(callbacks))


SPEC = {2: {"*.intermediate.dense": 36}}


def example() -> dict[str, torch.Tensor]:
    return {"input_ids": torch.randint(20, (2, 6))}


@pytest.mark.filterwarnings("ignore")
def test_a_trainer_of_transformers_grows_and_trains_on(transformers: Any, tmp_path: Path) -> None:
    from fxgrow.training.hugging_face import GrowthCallback

    model = bert(transformers)
    schedule = fxgrow.GrowthSchedule(SPEC, example(), output="module")
    trainer = hugging_face_run(transformers, tmp_path, model, 5, GrowthCallback(schedule))
    trainer.train()
    assert schedule.finished
    assert trainer.model is model
    assert {tuple(p.shape) for name, p in model.named_parameters() if "intermediate.dense.weight" in name} == {(36, 16)}
    assert holds(trainer.optimizer.optimizer, model)
    assert all(int(state["step"]) in (3, 5) for state in trainer.optimizer.optimizer.state.values())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("warmup", [0, 8])
def test_a_trainer_of_transformers_goes_on_from_a_checkpoint(transformers: Any, tmp_path: Path, warmup: int) -> None:
    from fxgrow.training.hugging_face import GrowthCallback

    spec = {2: {"*.intermediate.dense": 36}, 5: {"*.intermediate.dense": 40}}

    def make() -> GrowthCallback:
        return GrowthCallback(fxgrow.GrowthSchedule(spec, example(), output="module", warmup=warmup))

    whole = bert(transformers)
    trainer = hugging_face_run(transformers, tmp_path / "a", whole, 6, make(), save_steps=3)
    trainer.train()
    folder = tmp_path / "a" / "checkpoint-3"
    again, callback = bert(transformers), make()
    callback.resume(again, folder)
    hugging_face_run(transformers, tmp_path / "b", again, 6, callback).train(resume_from_checkpoint=str(folder))
    mine, theirs = again.state_dict(), whole.state_dict()
    assert mine["bert.encoder.layer.0.intermediate.dense.weight"].shape == (40, 16)
    assert all(torch.equal(t, theirs[name]) for name, t in mine.items())


@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_trainer_of_transformers_goes_on_with_a_model_that_was_grown(
    transformers: Any, tmp_path: Path, times: int
) -> None:
    """Before the run, or in it; what is asked for by a schedule comes after."""
    from fxgrow.training.hugging_face import FILE, GrowthCallback

    def grown(number: int) -> Any:
        model = bert(transformers)
        for width in (30, 36)[:number]:
            model = fxgrow.grow(model, {"*.intermediate.dense": width}, example(), output="module")
        return model

    schedule = fxgrow.GrowthSchedule({1: {"*.intermediate.dense": 40}}, example(), output="module")
    student = schedule.step(grown(2))
    plan = fxgrow.plan_of(student)
    assert plan is not None
    (tmp_path / FILE).write_text(json.dumps({"schedule": schedule.state_dict(), "plan": plan.to_json()}))
    model = grown(times)
    GrowthCallback(fxgrow.GrowthSchedule({1: 1.5}, example(), output="module")).resume(model, tmp_path)
    model.load_state_dict(student.state_dict())
    assert fxgrow.plan_of(model) == plan


def test_a_trainer_of_transformers_takes_modules_only(transformers: Any, tmp_path: Path) -> None:
    from fxgrow.training.hugging_face import GrowthCallback

    with pytest.raises(fxgrow.PlanError, match='output="module"'):
        GrowthCallback(fxgrow.GrowthSchedule(SPEC, example()))
    callback = GrowthCallback(fxgrow.GrowthSchedule(SPEC, example(), output="module"))
    with pytest.raises(fxgrow.GrowError, match="that can be read"):
        callback.resume(bert(transformers), tmp_path)


def test_a_model_that_was_never_grown_is_refused_after_the_first_growth() -> None:
    """The model of another run, or the teacher, where what `step` returned was dropped."""
    schedule = fxgrow.GrowthSchedule({1: {"0": 12}, 3: {"0": 16}}, X)
    model = net()
    student = schedule.step(model)
    assert schedule.step(model) is model  # nothing is due
    with pytest.raises(fxgrow.GrowError, match=r"1 of its growths, and this .* was never grown: go on with the model"):
        schedule.step(net())
    assert sizes(schedule.step(student)) == (16, 12)
    assert schedule.finished


def test_what_is_bound_to_the_student_is_bound_to_the_model_that_becomes_it(transformers: Any) -> None:
    """accelerate puts a `forward` into the model's attributes, bound to it."""
    from fxgrow.training.hugging_face import become

    def bind(made: nn.Module) -> nn.Module:
        made.forward = types.MethodType(nn.Sequential.forward, made)
        made.held = {"by name": [made.train], "partial": functools.partial(nn.Module.train, made, mode=False)}
        made.other = {"n": [1, 2]}
        made[0].owner = (made,)
        made.register_forward_hook(made.forward.__self__._noted)
        return made

    class Noting(nn.Sequential):
        def _noted(self, module: nn.Module, args: Any, result: Any) -> None:
            self.noted = self.training

    model, student = bind(Noting(nn.Linear(3, 4))), bind(Noting(nn.Linear(3, 8)))
    held = student.other
    become(model, student)
    model.eval()
    assert model(torch.randn(2, 3)).shape == (2, 8)
    assert model.noted is False
    assert model.forward.__self__ is model
    assert model.held["by name"][0].__self__ is model
    assert model.held["partial"]() is model
    assert model[0].owner == (model,)
    assert model.other is held


def test_a_warm_up_of_another_model_is_refused() -> None:
    optimizer = torch.optim.SGD(net().parameters(), 0.1)
    for state in ({"steps": 3, "done": 1, "new": {"other": torch.ones(2, dtype=torch.bool)}}, {"steps": 3}, "all"):
        with pytest.raises(fxgrow.GrowError, match="this is no warm-up of the Sequential"):
            resume_warmup(optimizer, net(), state)
