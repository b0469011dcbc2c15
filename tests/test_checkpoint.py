"""A student in a file: it comes back as it was, with its plan, its optimizers and what the user kept beside it."""

import copy
import json
import os
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

import fxgrow
from benchmarks.torchvision_shim import import_torchvision
from fxgrow.state.plain import Tensors, decode, encode
from tests.check import randomise
from tests.test_optimizers import OPTIMIZERS, batch, grouped, net, step

safetensors = pytest.importorskip("safetensors.torch")
safe_open = pytest.importorskip("safetensors").safe_open
X = batch(0)[0]


def same(a: nn.Module, b: nn.Module) -> bool:
    mine, theirs = a.state_dict(), b.state_dict()
    alike = all(torch.equal(t, theirs[n]) and t.dtype == theirs[n].dtype for n, t in mine.items())
    return mine.keys() == theirs.keys() and alike


@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_student_comes_back_as_it_was(tmp_path: Path, output: Literal["graph", "module"]) -> None:
    student = fxgrow.grow(fxgrow.grow(net(), {"0": 12}, X, output=output), 1.5, X, output=output)
    student.get_parameter("0.weight").requires_grad_(False)
    student.eval()
    student.get_submodule("1").train()
    fxgrow.save(student, tmp_path / "a.safetensors", step=7)
    loaded = fxgrow.load(tmp_path / "a.safetensors", net)
    assert type(loaded.model).__name__ == type(student).__name__
    assert same(loaded.model, student)
    assert torch.equal(loaded.model(X), student(X))
    assert loaded.plan == fxgrow.plan_of(student) == fxgrow.plan_of(loaded.model)
    assert loaded.extra == {"step": 7}
    assert loaded.optimizer is None
    assert not loaded.model.get_parameter("0.weight").requires_grad
    assert loaded.model.get_parameter("3.weight").requires_grad
    assert [m.training for m in loaded.model.modules()] == [m.training for m in student.modules()]


def test_depth_and_kernels_come_back(tmp_path: Path) -> None:
    torchvision = import_torchvision()

    def build() -> nn.Module:
        return randomise(torchvision.models.resnet18(num_classes=5))

    x = torch.randn(2, 3, 64, 64)
    student = fxgrow.grow(build(), [fxgrow.Deepen("layer1", blocks=2), fxgrow.Kernel("conv1", 9), 1.25], x)
    student.to(memory_format=torch.channels_last)
    fxgrow.save(student, tmp_path / "a.safetensors")
    loaded = fxgrow.load(tmp_path / "a.safetensors", build)
    assert same(loaded.model, student)
    assert loaded.model.get_parameter("conv1.weight").is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(loaded.model.eval()(x), student.eval()(x))


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    def build() -> nn.Module:
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 2))
        model[4].weight = model[2].weight
        return model

    student = fxgrow.grow(build(), 1.5, torch.randn(3, 4))
    fxgrow.save(student, tmp_path / "a.safetensors")
    loaded = fxgrow.load(tmp_path / "a.safetensors", build).model
    assert loaded.get_parameter("4.weight") is loaded.get_parameter("2.weight")
    assert loaded.get_parameter("4.weight").shape == (12, 12)


def test_a_model_that_was_not_grown_is_kept_too(tmp_path: Path) -> None:
    model = net()
    fxgrow.save(model, tmp_path / "a.safetensors")
    loaded = fxgrow.load(tmp_path / "a.safetensors", net)
    assert loaded.plan is None
    assert same(loaded.model, model)


def test_other_programs_read_the_weights(tmp_path: Path) -> None:
    student = fxgrow.grow(net(), 1.5, X)
    fxgrow.save(student, tmp_path / "a.safetensors")
    assert safetensors.load_file(tmp_path / "a.safetensors").keys() == student.state_dict().keys()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_dtypes_come_back(tmp_path: Path, dtype: torch.dtype) -> None:
    student = fxgrow.grow(net(dtype), 1.5, X.to(dtype))
    fxgrow.save(student, tmp_path / "a.safetensors")
    assert same(fxgrow.load(tmp_path / "a.safetensors", net).model, student)


# -- optimizers ------------------------------------------------------------------------------------


def test_a_dtype_that_the_format_lacks_is_refused_by_its_name(tmp_path: Path) -> None:
    model = net()
    model.register_buffer("angles", torch.ones(3, dtype=torch.complex128))
    with pytest.raises(fxgrow.GrowError, match=r"safetensors keeps no torch\.complex128, and 'angles' holds it"):
        fxgrow.save(model, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_to_the_bit(tmp_path: Path, name: str) -> None:
    """A growth in the middle, then on in the same process, or after saving and loading."""
    teacher = net()
    optimizer = OPTIMIZERS[name](teacher.parameters())
    for number in range(3):
        step(teacher, optimizer, number)
    student = fxgrow.grow(teacher, [1.5, fxgrow.Deepen("3")], X, optimizer=optimizer)
    fxgrow.save(student, tmp_path / "a.safetensors", optimizer=optimizer)
    loaded = fxgrow.load(tmp_path / "a.safetensors", net, optimizer=lambda m: OPTIMIZERS[name](m.parameters()))
    for number in range(3):
        assert step(loaded.model, loaded.optimizer, number) == step(student, optimizer, number)
    assert same(loaded.model, student)


@pytest.mark.parametrize("width", [9, 11, 13])
def test_tensors_lie_in_memory_as_those_of_a_new_model_do(tmp_path: Path, width: int) -> None:
    """A kernel that begins in the middle of a line of the cache rounds otherwise, and training departs in a bit."""
    teacher = net()
    optimizer = OPTIMIZERS["Adam"](teacher.parameters())
    step(teacher, optimizer, 0)
    student = fxgrow.grow(teacher, {"0": width}, X, optimizer=optimizer, warmup=4)  # its masks take a byte an entry
    fxgrow.save(student, tmp_path / "a.safetensors", optimizer=optimizer, flag=torch.tensor([True, False, True]))
    loaded = fxgrow.load(tmp_path / "a.safetensors", net, optimizer=lambda m: OPTIMIZERS["Adam"](m.parameters()))
    states = [entry for state in loaded.optimizer.state.values() for entry in state.values()]
    tensors = [*loaded.model.state_dict().values(), *(t for t in states if isinstance(t, torch.Tensor))]
    assert not [tensor.data_ptr() for tensor in tensors if tensor.data_ptr() % 64]
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == len(tensors)


def test_a_warm_up_goes_on(tmp_path: Path) -> None:
    teacher = net()
    optimizer = OPTIMIZERS["Adam"](teacher.parameters())
    step(teacher, optimizer, 0)
    student = fxgrow.grow(teacher, 1.5, X, optimizer=optimizer, warmup=4)
    step(student, optimizer, 1)
    fxgrow.save(student, tmp_path / "a.safetensors", optimizer=optimizer)
    loaded = fxgrow.load(tmp_path / "a.safetensors", net, optimizer=lambda m: OPTIMIZERS["Adam"](m.parameters()))
    for number in range(5):
        assert step(loaded.model, loaded.optimizer, number) == step(student, optimizer, number)
    assert same(loaded.model, student)


def test_groups_options_and_schedules_go_on(tmp_path: Path) -> None:
    teacher = net()
    optimizer = grouped(teacher)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4])
    for number in range(3):
        step(teacher, optimizer, number)
        schedule.step()
    student = fxgrow.grow(teacher, 1.5, X, optimizer=optimizer)
    fxgrow.save(student, tmp_path / "a.safetensors", optimizer=optimizer, schedule=schedule.state_dict())
    loaded = fxgrow.load(tmp_path / "a.safetensors", net, optimizer=grouped)
    other = torch.optim.lr_scheduler.MultiStepLR(loaded.optimizer, [2, 4])
    other.load_state_dict(loaded.extra["schedule"])  # type: ignore[arg-type]
    for number in range(3):
        assert step(loaded.model, loaded.optimizer, number) == step(student, optimizer, number)
        schedule.step()
        other.step()
    rates = [[group["lr"] for group in one.param_groups] for one in (optimizer, loaded.optimizer)]
    assert rates[0] == rates[1]


def test_float32_state_of_bfloat16_weights_stays_in_float32(tmp_path: Path) -> None:
    model = net(torch.bfloat16)
    optimizer = OPTIMIZERS["AdamW"](model.parameters())
    step(model, optimizer, 0)
    for state in optimizer.state.values():
        state["exp_avg"] = state["exp_avg"].float()
    fxgrow.save(model, tmp_path / "a.safetensors", optimizer=optimizer)
    loaded = fxgrow.load(tmp_path / "a.safetensors", net, optimizer=lambda m: OPTIMIZERS["AdamW"](m.parameters()))
    assert {state["exp_avg"].dtype for state in loaded.optimizer.state.values()} == {torch.float32}


def test_several_optimizers_come_back(tmp_path: Path) -> None:
    def make(model: nn.Module) -> list[Optimizer]:
        weights, others = [[p for p in model.parameters() if (p.ndim > 1) is many] for many in (True, False)]
        return [torch.optim.SGD(weights, 0.1, momentum=0.9), torch.optim.Adam(others)]

    model = net()
    optimizers = make(model)
    for one in optimizers:
        step(model, one, 0)
    fxgrow.save(model, tmp_path / "a.safetensors", optimizer=optimizers)
    first, second = fxgrow.load(tmp_path / "a.safetensors", net, optimizer=make).optimizer
    assert (len(first.state), len(second.state)) == (len(optimizers[0].state), len(optimizers[1].state))


@pytest.mark.parametrize(
    "make",
    [
        lambda m: torch.optim.SGD(m.parameters(), 0.1),
        lambda m: torch.optim.Adam([{"params": [p]} for p in m.parameters()]),
        lambda m: torch.optim.Adam(m.get_submodule("7").parameters()),
        lambda m: [torch.optim.Adam(m.parameters())] * 2,
        lambda m: m,
        lambda m: None,
    ],
)
def test_another_optimizer_than_the_saved_one_is_refused(tmp_path: Path, make: Any) -> None:
    model = net()
    fxgrow.save(model, tmp_path / "a.safetensors", optimizer=torch.optim.Adam(model.parameters()))
    with pytest.raises(fxgrow.GrowError, match="optimizer"):
        fxgrow.load(tmp_path / "a.safetensors", net, optimizer=make)


def test_an_optimizer_of_another_model_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(fxgrow.GrowError, match="trains a parameter that the model does not have"):
        fxgrow.save(net(), tmp_path / "a.safetensors", optimizer=torch.optim.Adam(net().parameters()))
    assert not list(tmp_path.iterdir())


# -- the user's own data ---------------------------------------------------------------------------

PLAIN: list[Any] = [
    None,
    True,
    3,
    10**30,
    2.5,
    float("inf"),
    "text \u2028 \x00",
    [1, [2, {"a": (3, "b")}]],
    {"a": 1, 2: "b", (1, 2): None},
    {"$": "tensor", "value": 0},
    OrderedDict(b=1, a=2),
    Counter({3: 1}),
    torch.float16,
    torch.device("cpu"),
    (),
    {},
]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_data_comes_back_with_its_types(tmp_path: Path, value: Any) -> None:
    fxgrow.save(net(), tmp_path / "a.safetensors", value=value, tensor=[torch.arange(3), torch.ones(())])
    extra = fxgrow.load(tmp_path / "a.safetensors", net).extra
    assert extra["value"] == value
    assert type(extra["value"]) is type(value)
    assert repr(extra["value"]) == repr(value)
    numbers = extra["tensor"]
    assert isinstance(numbers, list)
    assert torch.equal(numbers[0], torch.arange(3))


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, lambda: 1, nn.Linear(2, 2), [1, b"x"], {"a": 1j}],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_plain_data_is_refused_by_its_path(tmp_path: Path, value: Any) -> None:
    with pytest.raises(fxgrow.GrowError, match=r"mine.* is .*a file holds numbers"):
        fxgrow.save(net(), tmp_path / "a.safetensors", mine=value)
    assert not list(tmp_path.iterdir())


def test_a_tensor_in_two_places_is_one_again(tmp_path: Path) -> None:
    def make(model: nn.Module) -> torch.optim.Optimizer:
        weights = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim == 1]
        return torch.optim.AdamW([{"params": weights}, {"params": others, "weight_decay": 0.0}], torch.tensor(1e-2))

    model = net()
    optimizer = make(model)
    shared = torch.arange(3)
    path = tmp_path / "a.safetensors"
    fxgrow.save(model, path, optimizer=optimizer, a=shared, b=[shared], best=model.state_dict(), part=shared[:2])
    loaded = fxgrow.load(path, net, optimizer=make)
    assert loaded.optimizer.param_groups[0]["lr"] is loaded.optimizer.param_groups[1]["lr"]
    assert torch.equal(loaded.optimizer.param_groups[0]["lr"], torch.tensor(1e-2))
    assert loaded.extra["a"] is loaded.extra["b"][0]
    assert torch.equal(loaded.extra["a"], shared)
    assert torch.equal(loaded.extra["part"], shared[:2])
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(loaded.extra["best"][name], tensor)
        assert loaded.extra["best"][name].data_ptr() != tensor.data_ptr()


def test_numbers_of_numpy_come_back_as_pythons(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), numpy.float64(1e-2))
    kept = {"half": numpy.float32(0.5), "three": numpy.int64(3), "yes": numpy.bool_(True), "text": numpy.str_("text")}
    fxgrow.save(model, tmp_path / "a.safetensors", optimizer=optimizer, kept=kept, wide=numpy.float64("inf"))
    loaded = fxgrow.load(
        tmp_path / "a.safetensors", net, optimizer=lambda model: torch.optim.AdamW(model.parameters(), 1.0)
    )
    assert loaded.optimizer.param_groups[0]["lr"] == 1e-2
    assert repr(loaded.extra) == repr(
        {"kept": {"half": 0.5, "three": 3, "yes": True, "text": "text"}, "wide": float("inf")}
    )
    for value in (numpy.ones(3), numpy.array(2.0), numpy.longdouble(1.5), numpy.complex64(1)):
        with pytest.raises(fxgrow.GrowError, match=r"mine is .*a file holds numbers"):
            fxgrow.save(model, tmp_path / "b.safetensors", mine=value)


def test_state_that_belongs_to_no_parameter_is_kept(tmp_path: Path) -> None:
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    state: Any = optimizer.state
    state["all"], state[7] = {"k": 1, "t": torch.tensor(2.0)}, "seven"
    fxgrow.save(model, tmp_path / "a.safetensors", optimizer=optimizer)
    loaded = fxgrow.load(tmp_path / "a.safetensors", net, optimizer=lambda model: torch.optim.Adam(model.parameters()))
    assert dict(loaded.optimizer.state) == {"all": {"k": 1, "t": torch.tensor(2.0)}, 7: "seven"}
    assert loaded.optimizer.state_dict()["state"] == optimizer.state_dict()["state"]
    state["all"]["k"] = object()
    with pytest.raises(fxgrow.GrowError, match=r"the state of Adam\['all'\]\['k'\] is an object"):
        fxgrow.save(model, tmp_path / "a.safetensors", optimizer=optimizer)


def test_data_that_holds_itself_is_refused(tmp_path: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(fxgrow.GrowError, match="nested"):
        fxgrow.save(net(), tmp_path / "a.safetensors", mine=endless)


def test_what_is_nested_as_deeply_as_can_be_written_can_be_read(tmp_path: Path) -> None:
    value: Any = 1
    for _ in range(28):
        value = {1: value}
    fxgrow.save(net(), tmp_path / "a.safetensors", value=value)
    assert fxgrow.load(tmp_path / "a.safetensors", net).extra["value"] == value


def test_numbers_of_tensors_are_those_of_the_file() -> None:
    tensors = Tensors()
    data = encode({"a": torch.ones(2)}, "x", tensors)
    assert torch.equal(decode(data, "x", tensors.numbered)["a"], torch.ones(2))
    with pytest.raises(ValueError, match="no tensor of the file"):
        decode(data, "x", [])


# -- whole or not at all ---------------------------------------------------------------------------


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    fxgrow.save(net(), path, step=1)
    before = path.read_bytes()

    def fails(*_: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fails)
        with pytest.raises(fxgrow.GrowError, match="disk full"):
            fxgrow.save(net(), path, step=2)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]
    fxgrow.save(net(), path, step=2)
    assert fxgrow.load(path, net).extra["step"] == 2


def test_what_is_saved_is_not_touched(tmp_path: Path) -> None:
    model = net()
    optimizer = grouped(model)
    step(model, optimizer, 0)
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    fxgrow.save(model, tmp_path / "a.safetensors", optimizer=optimizer)
    assert all(torch.equal(t, before[0][n]) for n, t in model.state_dict().items())
    assert str(optimizer.state_dict()) == str(before[1])


def test_a_place_that_cannot_be_written_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(fxgrow.GrowError, match="cannot write"):
        fxgrow.save(net(), tmp_path / "none" / "a.safetensors")
    with pytest.raises(fxgrow.GrowError, match="no file"):
        fxgrow.load(tmp_path / "none.safetensors", net)
    with pytest.raises(fxgrow.GrowError, match="path is to be"):
        fxgrow.save(net(), 3)  # type: ignore[arg-type]


class Head(nn.Module):
    """A model with a network and more, as a LightningModule is."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.head = network, nn.Linear(5, 2)


WRAPPED: dict[str, Any] = {
    "an average": torch.optim.swa_utils.AveragedModel,
    "data parallel": nn.DataParallel,
    "compiled": lambda m: torch.compile(m, backend="eager"),
    "a part of another model": Head,
    "an entry": lambda m: nn.ModuleDict({"inner": nn.ModuleList([m])}),
}


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("name", WRAPPED)
def test_what_could_not_be_made_again_is_not_saved(
    tmp_path: Path, name: str, output: Literal["graph", "module"]
) -> None:
    """A model around a student has no plan, so a file of it could never be loaded."""
    student = fxgrow.grow(net(), 1.5, X, output=output)
    with pytest.raises(fxgrow.GrowError, match=r"holds a student as .*give that student"):
        fxgrow.save(WRAPPED[name](student), tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())
    fxgrow.save(WRAPPED[name](net()), tmp_path / "a.safetensors")
    loaded = fxgrow.load(tmp_path / "a.safetensors", lambda: WRAPPED[name](net()))
    assert same(loaded.model, WRAPPED[name](net()))


def test_a_student_that_was_changed_by_hand_is_not_saved(tmp_path: Path) -> None:
    student = fxgrow.grow(net(), 1.5, X, output="module")
    student.set_submodule("7", nn.Linear(72, 9).double())
    with pytest.raises(fxgrow.GrowError, match="changed by hand"):
        fxgrow.save(student, tmp_path / "a.safetensors")


class Stack(nn.Module):
    """Residual blocks in a list."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.b(torch.relu(self.a(x)))

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Stack.Block(), Stack.Block()])
        self.stem, self.head = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


@pytest.mark.parametrize(
    ("output", "later"),
    [("graph", None), ("graph", fxgrow.Deepen("head")), ("module", None), ("module", {"blocks.0.a": 12})],
    ids=["graph", "graph, then a layer", "module", "module, then a width"],
)
def test_a_student_whose_new_modules_were_taken_away_is_not_saved(
    tmp_path: Path, output: Literal["graph", "module"], later: Any
) -> None:
    """A file of it could not be loaded: its plans make them again."""
    x = torch.randn(5, 4)
    student: Any = fxgrow.grow(Stack(), fxgrow.Deepen("blocks", blocks=1), x, output=output)
    student = student if later is None else fxgrow.grow(student, later, x, output=output)
    fxgrow.save(student, tmp_path / "a.safetensors")
    assert same(fxgrow.load(tmp_path / "a.safetensors", Stack).model, student)
    del student.blocks[1]
    with pytest.raises(fxgrow.GrowError, match="changed by hand"):
        fxgrow.save(student, tmp_path / "a.safetensors")
    if output == "module":
        again = fxgrow.grow(student, {"blocks.0.b": 12}, x, output="module")
        assert len(fxgrow.plan_of(again).steps) == 1, "a new chain"  # type: ignore[union-attr]


BY_HAND: dict[str, Callable[[Any], object]] = {
    "another head": lambda student: student.set_submodule("head", nn.Linear(6, 5)),
    "a head without bias": lambda student: student.head.register_parameter("bias", None),
    "a wider block": lambda student: student.blocks[0].set_submodule("a", nn.Linear(6, 9)),
    "one more layer": lambda student: student.add_module("more", nn.Linear(3, 3)),
    "one more buffer": lambda student: student.register_buffer("count", torch.zeros(2)),
}


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("name", BY_HAND)
def test_a_layer_that_no_plan_grew_and_a_hand_changed_is_not_saved(
    tmp_path: Path, name: str, output: Literal["graph", "module"]
) -> None:
    """A file of it could not be loaded: the factory and the plans make the layer as it was."""
    student = fxgrow.grow(Stack(), fxgrow.Deepen("blocks", blocks=1), torch.randn(5, 4), output=output)
    BY_HAND[name](student)
    with pytest.raises(fxgrow.GrowError, match=r"(head|blocks|more|count).* was changed by hand"):
        fxgrow.save(student, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


# -- files of strangers ----------------------------------------------------------------------------


def forged(path: Path, change: Any) -> None:
    """Change the text of a file."""
    with safe_open(path, "pt") as file:
        text = json.loads(file.metadata()["fxgrow"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    text = change(text) or text
    safetensors.save_file(tensors, path, {"fxgrow": text if isinstance(text, str) else json.dumps(text)})


FORGERIES: dict[str, Any] = {
    "no JSON": lambda _: "{",
    "a list": lambda _: "[]",
    "another format": lambda t: t.update(format="other"),
    "a later version": lambda t: t.update(version="2.0"),
    "no version": lambda t: t.pop("version"),
    "a plan that is none": lambda t: t.update(plan="{}"),
    "a plan that is a list": lambda t: t.update(plan=[1]),
    "frozen numbers": lambda t: t.update(frozen=[1]),
    "modes that are none": lambda t: t.update(training={"0": "no"}),
    "optimizers that are none": lambda t: t.update(optimizers=[3]),
    "groups that are none": lambda t: t["optimizers"][0].update(groups=[{"names": 3}]),
    "options that are none": lambda t: t["optimizers"][0]["groups"][0].update(options=[]),
    "states that are none": lambda t: t["optimizers"][0].update(states={"0.weight": 3}),
    "a tensor that is not there": lambda t: t["extra"].update(a={"$": "tensor", "value": 99}),
    "a negative tensor": lambda t: t["extra"].update(a={"$": "tensor", "value": -1}),
    "a warm-up that is none": lambda t: t["optimizers"][0].update(warmup={"steps": 3}),
    "an unknown tag": lambda t: t["extra"].update(a={"$": "eval", "value": "1"}),
    "a key that is a list": lambda t: t["extra"].update(a={"$": "dict", "value": [[[1], 2]]}),
    "a device that is none": lambda t: t["extra"].update(a={"$": "device", "value": "moon"}),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_file_is_refused_with_a_reason(tmp_path: Path, name: str) -> None:
    student = fxgrow.grow(net(), 1.5, X)
    optimizer = torch.optim.Adam(student.parameters())
    step(student, optimizer, 0)
    path = tmp_path / "a.safetensors"
    fxgrow.save(student, path, optimizer=optimizer)
    forged(path, FORGERIES[name])
    with pytest.raises(fxgrow.GrowError, match="no checkpoint that can be read"):
        fxgrow.load(path, net, optimizer=lambda m: torch.optim.Adam(m.parameters()))


def of_group(text: Any) -> Any:
    return text["optimizers"][0]["groups"][0]


def of_weight(text: Any) -> Any:
    return text["optimizers"][0]["states"]["3.weight"]


UNFIT: dict[str, Any] = {
    "params among the options": lambda t: of_group(t)["options"].update(params="abc"),
    "numbers as params": lambda t: of_group(t)["options"].update(params=[1, 2]),
    "names among the options": lambda t: of_group(t)["options"].update(param_names=3),
    "a rate that is text": lambda t: of_group(t)["options"].update(lr="fast"),
    "a rate that is a list": lambda t: of_group(t)["options"].update(lr=[1]),
    "one beta": lambda t: of_group(t)["options"].update(betas=[0.9]),
    "betas that are text": lambda t: of_group(t)["options"].update(betas=["a", "b"]),
    "a flag that is text": lambda t: of_group(t)["options"].update(amsgrad="no"),
    "a parameter twice": lambda t: of_group(t)["names"].append("3.weight"),
    "a parameter too few": lambda t: of_group(t)["names"].pop() and None,
    "a moment of another shape": lambda t: of_weight(t).update(exp_avg=of_weight(t)["step"]),
    "a moment that is a number": lambda t: of_weight(t).update(exp_avg=3),
    "a moment that is a list": lambda t: of_weight(t).update(exp_avg_sq=[]),
    "a moment that is not Adam's": lambda t: of_weight(t).update(history=1),
    "the state of a buffer": lambda t: t["optimizers"][0]["states"].update({"1.running_mean": {}}),
    "another optimizer": lambda t: t["optimizers"][0].update(kind="SGD"),
    "a warm-up of a buffer": lambda t: t["optimizers"][0]["warmup"]["new"].update({"1.running_mean": a_mask(t)}),
    "a warm-up of another shape": lambda t: t["optimizers"][0]["warmup"]["new"].update({"1.bias": a_mask(t)}),
}


def a_mask(text: Any) -> Any:
    return next(iter(text["optimizers"][0]["warmup"]["new"].values()))


@pytest.mark.parametrize("name", UNFIT)
def test_state_that_an_optimizer_cannot_have_is_refused(tmp_path: Path, name: str) -> None:
    teacher = net()
    optimizer = torch.optim.Adam(teacher.parameters())
    step(teacher, optimizer, 0)
    student = fxgrow.grow(teacher, 1.5, X, optimizer=optimizer, warmup=9)
    path = tmp_path / "a.safetensors"
    fxgrow.save(student, path, optimizer=optimizer)
    forged(path, UNFIT[name])
    with pytest.raises(fxgrow.GrowError, match="the file has"):
        fxgrow.load(path, net, optimizer=lambda m: torch.optim.Adam(m.parameters()))


def test_complex_parameters_that_are_loaded_are_trained_on(tmp_path: Path) -> None:
    def made() -> nn.Module:
        model = nn.Sequential(nn.Linear(3, 6, dtype=torch.complex64), nn.Linear(6, 2, dtype=torch.complex64))
        model[1].bias.requires_grad_(False)
        return model

    def adam(model: nn.Module) -> Optimizer:
        return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)

    teacher, x = made(), torch.randn(4, 3, dtype=torch.complex64)
    optimizer = adam(teacher)
    student = fxgrow.grow(teacher, {"0": 9}, x, optimizer=optimizer)
    path = tmp_path / "a.safetensors"
    fxgrow.save(student, path, optimizer=optimizer)
    loaded = fxgrow.load(path, made, optimizer=adam)
    flags = {name: p.requires_grad for name, p in student.named_parameters()}
    assert {name: p.requires_grad for name, p in loaded.model.named_parameters()} == flags
    assert sum(flags.values()) == 3
    for model, its in ((student, optimizer), (loaded.model, loaded.optimizer)):
        assert its is not None
        model(x).abs().square().mean().backward()
        its.step()
    assert same(student, loaded.model)


@pytest.mark.parametrize("name", ["0.weight", "1.running_var", "1.num_batches_tracked"])
@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.complex64, torch.float32])
def test_tensors_of_another_kind_of_number_are_refused(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    path = tmp_path / "a.safetensors"
    student = fxgrow.grow(net(), 1.5, X)
    fxgrow.save(student, path)
    with safe_open(path, "pt") as file:
        tensors, text = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    tensors[name] = tensors[name].to(dtype)
    safetensors.save_file(tensors, path, text)
    if dtype.is_floating_point == student.state_dict()[name].is_floating_point() and not dtype.is_complex:
        assert fxgrow.load(path, net).model.state_dict()[name].dtype == dtype  # as saved: models may mix them
    else:
        with pytest.raises(fxgrow.GrowError, match=rf"'{name}' is .* in the file"):
            fxgrow.load(path, net)


def test_a_numbered_cpu_is_a_device_too(tmp_path: Path) -> None:
    student = fxgrow.grow(net(), 1.5, X)
    fxgrow.save(student, tmp_path / "a.safetensors")
    assert same(fxgrow.load(tmp_path / "a.safetensors", net, device="cpu:0").model, student)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(fxgrow.GrowError, match="cannot read"):
        fxgrow.load(tmp_path / "a.safetensors", net)
    safetensors.save_file({"a": torch.ones(2)}, tmp_path / "b.safetensors")
    with pytest.raises(fxgrow.GrowError, match=r"no file that fxgrow\.save wrote"):
        fxgrow.load(tmp_path / "b.safetensors", net)


@pytest.mark.parametrize(
    "factory", [lambda: nn.Linear(3, 3), lambda: None, lambda: 1 / 0, lambda: nn.Sequential(*net())[:3]]
)
def test_a_factory_of_another_model_is_refused(tmp_path: Path, factory: Any) -> None:
    fxgrow.save(fxgrow.grow(net(), 1.5, X), tmp_path / "a.safetensors")
    with pytest.raises(fxgrow.GrowError):
        fxgrow.load(tmp_path / "a.safetensors", factory)


@pytest.mark.parametrize("given", [net(), "net"])
def test_a_model_in_place_of_a_factory_is_a_reason(tmp_path: Path, given: Any) -> None:
    fxgrow.save(fxgrow.grow(net(), 1.5, X), tmp_path / "student.safetensors")
    with pytest.raises(fxgrow.GrowError, match="factory is to be a function that makes a model like the first teacher"):
        fxgrow.load(tmp_path / "student.safetensors", given)


def test_a_factory_of_the_student_is_told_to_make_the_first_teacher(tmp_path: Path) -> None:
    student = fxgrow.grow(net(), 1.5, X)
    fxgrow.save(student, tmp_path / "student.safetensors")
    with pytest.raises(fxgrow.PlanError, match="the factory is to make a model like the first teacher, as it was"):
        fxgrow.load(tmp_path / "student.safetensors", lambda: copy.deepcopy(student))


def test_an_optimizer_in_place_of_what_makes_one_is_a_reason(tmp_path: Path) -> None:
    teacher = net()
    optimizer = OPTIMIZERS["Adam"](teacher.parameters())
    student = fxgrow.grow(teacher, 1.5, X, optimizer=optimizer)
    fxgrow.save(student, tmp_path / "student.safetensors", optimizer=optimizer)
    given: Any
    for given in (optimizer, "Adam"):
        with pytest.raises(fxgrow.GrowError, match="optimizer is to be a function that makes one for the loaded model"):
            fxgrow.load(tmp_path / "student.safetensors", net, optimizer=given)


class Decides(nn.Module):
    """Its code decides by a flag in a buffer and by numbers of its activations."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)
        self.register_buffer("ready", torch.tensor(False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not bool(self.ready):
            raise RuntimeError("not ready")
        y = self.a(x).relu()
        return self.b(y if y.abs().max() < 1e6 else y.clamp(max=1e6))  # type: ignore[no-any-return]


@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_student_whose_code_decides_by_numbers_comes_back_with_example_inputs(
    tmp_path: Path, output: Literal["graph", "module"]
) -> None:
    teacher, x = Decides(), torch.randn(5, 4)
    teacher.ready.fill_(True)
    student = fxgrow.grow(teacher, 1.5, x, output=output)
    fxgrow.save(student, tmp_path / "a.safetensors")
    with pytest.raises(fxgrow.GrowError, match="give real example_inputs"):
        fxgrow.load(tmp_path / "a.safetensors", Decides)
    loaded = fxgrow.load(tmp_path / "a.safetensors", Decides, example_inputs=x)
    assert same(student, loaded.model)
    assert torch.equal(student(x), loaded.model(x))
