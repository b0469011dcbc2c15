"""New layers in the user's own class: entries of a Sequential, or in the smallest module whose code has to change."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import fxgrow
from benchmarks.torchvision_shim import import_torchvision
from fxgrow import Deepen, Kernel, Plan, PlanError, Widen
from fxgrow.depth import insert as insertion
from fxgrow.plans.changes import Insert
from tests.check import randomise, relative_error
from tests.depth_cases import REQUESTS, Net
from tests.small_vgg import small_vgg
from tests.test_blocks import images
from tests.test_module_depth import EXACT, assert_all_learn, decoder, deepened, plan_of, with_torchvision
from tests.thinned import THOROUGH, pairs


class Around(nn.Module):
    """A module inside another one, with a method and a hook count."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.name = inner, "mine"

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        return self.inner(x) * scale

    def described(self) -> str:
        return f"{self.name} around {type(self.inner).__name__}"


def around(inner: nn.Module) -> Around:
    return randomise(Around(inner).double()).eval()  # type: ignore[return-value]


def inserted(student: nn.Module) -> Insert:
    (change,) = plan_of(student).steps[-1].changes
    assert isinstance(change, Insert)
    return change


# -- every kind ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("activation", "asked"), pairs(["ReLU", "GELU", "PReLU", "Hardtanh", "Softmax"], [*REQUESTS]))
@pytest.mark.parametrize("where", ["code", "sequence"])
def test_what_the_plan_claims_is_what_is_measured(asked: str, activation: str, where: str) -> None:
    torch.manual_seed(0)
    net = Net(activation)
    teacher = around(nn.Sequential(net.a, net.bn, net.pool, net.act, net.b) if where == "sequence" else net)
    path = "inner.0" if where == "sequence" else "inner.a"
    x = images(4, 3, 10, 10)
    calibration = [x[:2], x[2:]]
    spec = Deepen(path, **REQUESTS[asked])
    student = fxgrow.grow(teacher, spec, x, calibration=calibration, output="module")
    errors = fxgrow.verify(teacher, student, x).errors
    change = inserted(student)
    assert set(change.exact_modes) == {mode for mode, error in errors.items() if error <= EXACT}
    assert (bool(change.entry), bool(change.owner)) == (where == "sequence", where == "code")
    assert isinstance(student, Around)
    assert student.described() == teacher.described().replace("Net", type(student.inner).__name__)
    as_graph = fxgrow.grow(teacher, spec, x, calibration=calibration)
    (other,) = plan_of(as_graph).changes
    assert isinstance(other, Insert)
    assert (change.kind, change.activation, change.kernel) == (other.kind, other.activation, other.kernel)
    assert torch.allclose(as_graph(x), student(x))


# -- where they stand --------------------------------------------------------------------------------------


@with_torchvision
def test_only_the_block_around_the_layer_becomes_a_graph() -> None:
    torch.manual_seed(0)
    teacher = randomise(import_torchvision().models.resnet18().double()).eval()
    x = images(2, 3, 64, 64)
    student = deepened(teacher, [Deepen("layer3.1.conv1"), Deepen("layer2.0.conv2"), Widen("layer3", 1.5)], x)
    graphs = {path for path, module in student.named_modules() if isinstance(module, fx.GraphModule)}
    assert graphs == {"layer3.1", "layer2.0"}
    names = [name for name, _ in student.layer3[1].named_children()]
    assert names == ["conv1", "bn1", "relu", "conv1_deeper1", "conv2", "bn2"]
    assert student.layer3[1].stride == teacher.layer3[1].stride
    assert set(teacher.state_dict()) <= set(student.state_dict())
    assert_all_learn(student, x)
    called: list[str] = []
    student.layer3[1].register_forward_hook(lambda module, args, result: called.append("block"))
    student.layer3[1].conv1_deeper1.register_forward_hook(lambda module, args, result: called.append("new"))
    student(x)
    assert called == ["new", "block"]


@with_torchvision
@pytest.mark.parametrize(
    ("name", "layers", "size"),
    [
        ("vgg11_bn", ["features.0", "classifier.0"], 64),
        pytest.param("mobilenet_v2", ["features.3.conv.1.0", "features.4.conv.2"], 64, marks=THOROUGH),
        pytest.param("convnext_tiny", ["features.1.0.block.3"], 32, marks=THOROUGH),
        ("squeezenet1_1", ["features.3.squeeze"], 64),
    ],
)
def test_new_layers_in_real_models(name: str, layers: list[str], size: int) -> None:
    torch.manual_seed(0)
    build = small_vgg if name == "vgg11_bn" else getattr(import_torchvision().models, name)
    teacher = randomise(build().double()).eval()
    x = images(2, 3, size, size)
    student = deepened(teacher, [Deepen(layer) for layer in layers], x)
    assert len(plan_of(student).new_modules) == len(layers)


def test_the_model_itself_may_be_a_sequence() -> None:
    teacher = randomise(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()).eval()
    student = deepened(teacher, Deepen("0"), images(5, 4))
    assert [name for name, _ in student.named_children()] == ["0", "1", "0_deeper1", "2"]
    assert inserted(student).entry == "1"


def test_a_decoder_has_new_layers_in_its_feed_forward_parts() -> None:
    teacher, x = decoder(), {"ids": torch.arange(5)[None]}
    spec = [Deepen("layers.*.mlp.up"), Deepen("layers.1.mlp.down"), Deepen("layers.1", blocks=1)]
    student = deepened(teacher, spec, x)
    assert len(student.layers) == 4
    assert torch.equal(student.generate(x["ids"], 5), teacher.generate(x["ids"], 5))
    assert isinstance(student.layers[1].mlp, fx.GraphModule)
    assert not isinstance(student.layers[2].mlp, fx.GraphModule), "a clone has no new layers"
    assert_all_learn(student, x)


def test_new_layers_stand_beside_clones_and_kernels_in_any_order() -> None:
    def stack() -> nn.Module:
        return nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), Residual(), Residual(), nn.Conv2d(6, 4, 1))

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = (nn.Conv2d(6, 6, 3, padding=1) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x + self.conv2(F.relu(self.conv1(x))))

    teacher = around(stack())
    x = images(2, 6, 8, 8)
    requests = [
        *(Deepen("inner.0"), Deepen("inner.2", blocks=2), Deepen("inner.3", blocks=1)),
        *(Deepen("inner.3.conv1"), Kernel("inner.0", 5), Widen("inner.3.conv1", 1.5)),
    ]
    for spec in (requests, requests[::-1]):
        student = deepened(teacher, spec, x)
        names = [name for name, _ in student.inner.named_children()]
        assert names == ["0", "1", "0_deeper1", "2", "3", "4", "5", "6", "7"]
        assert isinstance(student.inner.get_submodule("5"), fx.GraphModule)
        assert not isinstance(student.inner.get_submodule("6"), fx.GraphModule)
        assert student.inner.get_submodule("0").kernel_size == (5, 5)
        assert_all_learn(student, x)


def test_students_are_copied_and_pickled_and_deepened_again() -> None:
    teacher, x = around(Net("ReLU")), images(4, 3, 10, 10)
    student = deepened(teacher, Deepen("inner.a"), x)
    for again in (student, pickle.loads(pickle.dumps(student)), copy.deepcopy(student)):
        deeper = deepened(again, [Deepen("inner.b"), Deepen("inner.a")], x)
        assert torch.allclose(deeper(x), teacher(x))
    deeper.train()(x).sum().backward()


def test_modes_that_are_written_reach_the_block() -> None:
    class Dropped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(F.dropout(F.relu(self.a(x)), 0.5, self.training))

    student = deepened(around(Dropped()), Deepen("inner.a"), images(5, 4))
    x = images(5, 4)
    for module in student.modules():
        module.training = True
    assert not torch.equal(student(x), student(x))
    for module in student.modules():
        module.training = False
    assert torch.equal(student(x), student(x))


def test_modules_of_the_users_in_a_block_keep_their_class() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(self.own(x))

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.part, self.b = nn.Linear(4, 6), Inner(), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.part(F.relu(self.a(x))))

    student = deepened(around(Outer()), Deepen("inner.a"), images(5, 4))
    assert type(student.inner.part) is Inner


def test_state_of_an_optimizer_moves_and_a_new_layer_joins_the_group_of_its_layer() -> None:
    teacher, x = around(Net("ReLU")).train(), images(4, 3, 10, 10)
    parts = [teacher.inner.a.parameters(), [*teacher.inner.bn.parameters(), *teacher.inner.b.parameters()]]
    groups = [{"params": part, "lr": rate} for part, rate in zip(parts, (1e-3, 1e-4), strict=True)]
    optimizer = torch.optim.AdamW(groups)
    teacher(x).square().mean().backward()
    optimizer.step()
    old = optimizer.state[teacher.inner.b.weight]["exp_avg"].clone()
    student: Any = fxgrow.grow(teacher, Deepen("inner.a"), x, output="module", optimizer=optimizer)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {rates[id(p)] for p in student.inner.a_deeper1.parameters()} == {1e-3}
    assert torch.equal(optimizer.state[student.inner.b.weight]["exp_avg"], old)
    assert set(rates) == set(map(id, student.parameters()))


# -- refusals ----------------------------------------------------------------------------------------------


class Sliced(nn.Module):
    """Code that calls the entries of a sequence by their places."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU())
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.parts[:3]:
            x = layer(x)
        return self.head(x)


class Twice(nn.Module):
    """A sequence that is called twice: each of its calls gets the new layer."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.parts(self.parts(x))


def test_a_sequence_that_is_called_twice_runs_its_new_layer_twice() -> None:
    student = deepened(around(Twice()), Deepen("inner.parts.0"), images(5, 4))
    called: list[int] = []
    student.inner.parts[2].register_forward_hook(lambda module, args, result: called.append(1))
    student(images(5, 4))
    assert len(called) == 2


def test_the_code_around_entries_that_are_called_one_by_one_becomes_a_graph() -> None:
    student = deepened(around(Sliced()), Deepen("inner.parts.0"), images(5, 4))
    assert inserted(student).owner == "inner"


def test_a_layer_that_the_model_itself_calls_is_refused() -> None:
    teacher, x = around(Net("ReLU")).inner, images(4, 3, 10, 10)
    with pytest.raises(PlanError, match="the code of Net itself would have to call it; use output='graph'"):
        fxgrow.grow(teacher, Deepen("a"), x, output="module")


def test_code_that_cannot_be_traced_is_refused_with_the_reason() -> None:
    with pytest.raises(PlanError, match="kept as a call"):
        fxgrow.grow(around(_Frozen()), Deepen("inner.part.a"), images(5, 4), output="module")


HOOKS: dict[str, Callable[[nn.Module], Any]] = {
    "changes the result": lambda m: m.register_forward_hook(lambda _, args, result: result * 2),
    "returns nothing": lambda m: m.register_forward_hook(lambda *_: None),
    "changes the arguments": lambda m: m.register_forward_pre_hook(lambda _, args: (args[0] * 2,)),
    "adds an argument": lambda m: m.register_forward_pre_hook(
        lambda _, args, kwargs: (args, {"scale": torch.tensor(3.0).double()}), with_kwargs=True
    ),
    "backward": lambda m: m.register_full_backward_hook(lambda _, given, result: (given[0] * 2,)),
    "before backward": lambda m: m.register_full_backward_pre_hook(lambda _, given: (given[0] * 2,)),
}


@pytest.mark.parametrize("name", HOOKS)
def test_hooks_of_a_block_stay_where_its_code_becomes_a_graph(name: str) -> None:
    teacher, x = around(_Hooked()), images(5, 4)
    HOOKS[name](teacher.inner.part)
    student = deepened(teacher, Deepen("inner.part.a"), x)
    assert isinstance(student.inner.part, fx.GraphModule)
    gradients = []
    for model in (teacher, student, copy.deepcopy(student)):
        given = x.clone().requires_grad_()
        model(given).square().sum().backward()
        assert given.grad is not None
        gradients.append(given.grad)
    assert relative_error(gradients[1], gradients[0]) <= EXACT
    assert torch.equal(gradients[2], gradients[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        student(x)


class Reading(Around):
    """A model that reads what it keeps on a part."""

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        part: Any = self.inner.part
        return self.inner(x) * (part.factor if part.words == ["a"] and part.where.kept is part.words else 1.0)


def test_attributes_of_a_block_stay_where_its_code_becomes_a_graph() -> None:
    teacher: Any = randomise(Reading(_Hooked()).double()).eval()
    part = teacher.inner.part
    part.factor, part.words = 2.0, ["a"]
    part.where = Kept(part.words)
    student, x = deepened(teacher, Deepen("inner.part.a"), images(5, 4)), images(5, 4)
    expected = teacher(x)
    again = deepened(student, Deepen("inner.part.a"), x)
    wider = fxgrow.grow(student, {"inner.part.a": 8}, x, output="module")
    average = torch.optim.swa_utils.AveragedModel(student)
    others = [pickle.loads(pickle.dumps(student)), copy.deepcopy(student), copy.copy(student), again, wider, average]
    for model in (student, *others):
        assert torch.allclose(model(x), expected)
    copied: Any = others[1]
    copied.inner.part.words.append("b")
    assert student.inner.part.words == ["a"], "a copy has its own"
    assert copied.inner.part.where.kept is copied.inner.part.words


def test_what_the_user_keeps_on_a_graph_is_copied_with_it() -> None:
    student: Any = fxgrow.grow(around(Net("ReLU")), 1.5, images(4, 3, 10, 10))
    student.mine = {"epoch": 3, "itself": student}
    for twin in (copy.deepcopy(student), pickle.loads(pickle.dumps(student))):
        assert twin.mine["epoch"] == 3
        assert twin.mine["itself"] is twin


def test_no_warning_comes_of_what_is_looked_at_inside() -> None:
    """Modules are watched while a student is deepened again: these hooks are not the user's."""
    teacher, x = around(Net("ReLU")), images(4, 3, 10, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        student = fxgrow.grow(teacher, Deepen("inner.a"), x, output="module")
        for path in ("inner.b", "inner.a"):
            student = fxgrow.grow(student, Deepen(path), x, output="module")
            student(x)
        graph = fxgrow.grow(teacher, 2.0, x)
        for request in (Deepen("inner.a"), Deepen("inner", blocks=1)):
            with pytest.raises(PlanError, match=r"use output='graph'|nothing calls it"):
                fxgrow.grow(graph, request, x, output="module")
        graph(x)


class _Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        x = self.b(F.relu(self.a(x)))
        return x if scale is None else x * scale


class Kept:
    """An object of the user's."""

    def __init__(self, kept: Any) -> None:
        self.kept = kept


class _Hooked(nn.Module):
    """A part that may have hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.part = _Part()

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)


class _Frozen(nn.Module):
    """A part that records no gradients inside."""

    def __init__(self) -> None:
        super().__init__()
        self.part = _WithoutGradients()

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)


class _WithoutGradients(_Part):
    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            return super().forward(x, scale)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("owner", ""),
        ("owner", "elsewhere"),
        ("entry", "inner.0"),
        ("path", 'inner.a"b'),
        ("after_nodes", []),
    ],
)
def test_a_file_with_a_layer_that_stands_nowhere_is_refused(field: str, value: Any) -> None:
    student = deepened(around(Net("ReLU")), Deepen("inner.a"), images(4, 3, 10, 10))
    data = json.loads(plan_of(student).to_json())
    data["changes"][0][field] = value
    with pytest.raises(PlanError):
        Plan.from_json(json.dumps(data))


def test_a_plan_for_another_owner_is_refused_when_it_is_applied() -> None:
    teacher, x = around(Net("ReLU")), images(4, 3, 10, 10)
    data = json.loads(plan_of(deepened(teacher, Deepen("inner.a"), x)).to_json())
    data["changes"][0]["after_nodes"][0]["node"] = "elsewhere"
    with pytest.raises(PlanError, match="no node 'elsewhere'"):
        fxgrow.apply(Plan.from_json(json.dumps(data)), teacher, x)


def test_a_new_layer_that_nothing_reads_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: the readers of the layer before it stay there."""
    monkeypatch.setattr(fx.Node, "replace_input_with", lambda self, old, new: None)
    with pytest.raises(PlanError, match="nothing reads what"):
        fxgrow.grow(around(Net("ReLU")), Deepen("inner.a"), images(4, 3, 10, 10), output="module")


@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_layer_that_was_deepened_is_deepened_again(output: Any) -> None:
    teacher = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    x = torch.randn(5, 4)
    student: nn.Module = teacher
    for _ in range(3):
        student = fxgrow.grow(student, Deepen("0"), x, output=output)
        torch.testing.assert_close(student(x), teacher(x))
    names = [name for name, _ in student.named_children()]
    assert names == ["0", "1", "0_deeper3", "0_deeper2", "0_deeper1", "2"]
    both = fxgrow.grow(teacher, [Deepen("0"), Deepen("0")], x, output=output)
    assert [name for name, _ in both.named_children()] == ["0", "1", "0_deeper1", "0_deeper2", "2"]


def test_a_new_entry_in_the_wrong_place_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: new entries come first."""
    right = insertion._add

    def wrong(root: nn.Module, path: str, module: nn.Module, *, after: str, made: set[str] | None = None) -> None:
        right(root, path, module, after=after, made=made)
        entries = root.get_submodule(path.rpartition(".")[0])._modules
        others = [(name, entry) for name, entry in entries.items() if entry is not module]
        entries.clear()
        entries.update([(path.rpartition(".")[2], module), *others])

    monkeypatch.setattr(insertion, "_add", wrong)
    sequence = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))
    with pytest.raises(PlanError, match="does not stand behind"):
        fxgrow.grow(around(sequence), Deepen("inner.0"), images(5, 6), output="module")
