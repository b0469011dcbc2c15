"""New layers: where they go, that they change nothing, that they learn, and what is refused."""

import copy
import io
import itertools
import pickle
import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from fxgrow import Deepen, Kernel, Plan, PlanError, Widen
from fxgrow.depth import initial
from fxgrow.plans.changes import Insert
from fxgrow.rewrite.student import student_of
from tests.analysed import EACH, analysed, teacher_and_inputs
from tests.check import randomise, relative_error, run
from tests.depth_cases import ACTIVATIONS, REQUESTS, outcome
from tests.nets import Net
from tests.thinned import THOROUGH, thinned
from tests.untouched import assert_untouched

EXACT = 1e-10
MEASURED = pytest.mark.xdist_group("depth cases")  # in one process: each case is measured once


def teacher_of(net: nn.Module) -> nn.Module:
    return randomise(net.double()).eval()


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def inserted(student: nn.Module) -> list[Insert]:
    plan = fxgrow.plan_of(student)
    assert plan is not None
    return [change for change in plan.steps[-1].changes if isinstance(change, Insert)]


def assert_same(teacher: nn.Module, student: nn.Module, x: Any, *, train: bool = True) -> None:
    errors = fxgrow.verify(teacher, student, x).errors
    assert errors["eval"] <= EXACT
    assert not train or errors["train"] <= EXACT


# -- every kind at every activation ------------------------------------------------------------------


@MEASURED
@thinned("claims")
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("asked", REQUESTS)
def test_what_the_plan_claims_is_what_is_measured(asked: str, activation: str) -> None:
    found = outcome(asked, activation)
    assert set(found.claimed) == set(found.measured)
    if "random" not in asked:
        assert "eval" in found.measured
    if asked in ("default", "identity", "parametric") or "residual" in asked:
        assert "train" in found.measured


@THOROUGH  # it measures all of them
@MEASURED
def test_the_page_of_what_is_exact_says_what_is_measured() -> None:
    docs = Path(__file__).parent.parent / "docs"
    page = runpy.run_path(str(docs / "depth.py"))["page"]()
    assert (docs / "depth.md").read_text(encoding="utf-8") == page, "run python docs/depth.py"


@MEASURED
@pytest.mark.parametrize(("activation", "kind"), [("ReLU", "identity"), ("Hardtanh", "identity"), ("GELU", "residual")])
def test_the_default_is_identity_where_a_nonlinearity_can_follow_and_residual_elsewhere(
    activation: str, kind: str
) -> None:
    found = outcome("default", activation)
    assert (found.kind, found.where) == (kind, "after")


# -- layers and kernels ------------------------------------------------------------------------------


def _layer_nets() -> Mapping[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]:
    nets: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
        "linear": (lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), (5, 4)),
        "linear on tokens": (lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), (5, 7, 4)),
    }
    for dims, transposed, options in itertools.product(
        (1, 2, 3),
        (False, True),
        ({}, {"stride": 2}, {"dilation": 2}, {"groups": 2}, {"bias": False}),
    ):
        first = getattr(nn, f"Conv{'Transpose' if transposed else ''}{dims}d")
        last = getattr(nn, f"Conv{dims}d")
        name = f"{first.__name__} {options}"
        nets[name] = (
            lambda first=first, last=last, options=options: nn.Sequential(
                first(4, 6, 3, **options), nn.ReLU(), last(6, 3, 1)
            ),
            (2, 4, *[9] * dims),
        )
    return nets


LAYER_NETS = _layer_nets()


@pytest.mark.parametrize("kind", ["identity", "residual"])
@pytest.mark.parametrize("name", LAYER_NETS)
def test_every_layer_can_be_followed(name: str, kind: str) -> None:
    make, shape = LAYER_NETS[name]
    teacher, x = teacher_of(make()), images(*shape)
    student = fxgrow.grow(teacher, Deepen("0", kind=kind), x)
    assert_same(teacher, student, x)
    (change,) = inserted(student)
    assert change.path == "0_deeper1"
    assert change.channels == 6


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, (3, 5), (2, 3)])
def test_every_kernel_size_is_exact(kernel: Any) -> None:
    teacher, x = teacher_of(nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 3, 3))), images(2, 3, 9, 8)
    for kind in ("identity", "residual"):
        student = fxgrow.grow(teacher, Deepen("0", kind=kind, kernel=kernel), x)
        assert_same(teacher, student, x)
        conv = student.get_submodule("0_deeper1.conv")
        assert conv.kernel_size == (kernel if isinstance(kernel, tuple) else (kernel, kernel))


@pytest.mark.parametrize(("own", "new"), [(1, 1), (3, 3), (5, 5), (2, 3), (4, 3)])
def test_the_kernel_is_that_of_the_layer_before_it_where_that_is_odd(own: int, new: int) -> None:
    teacher, x = teacher_of(nn.Sequential(nn.Conv2d(3, 6, own), nn.ReLU(), nn.Conv2d(6, 3, 1))), images(2, 3, 9, 8)
    (change,) = inserted(fxgrow.grow(teacher, Deepen("0"), x))
    assert change.kernel == (new, new)


# -- places --------------------------------------------------------------------------------------------


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn, self.b = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.batch_norm(
            self.a(x), self.bn.running_mean, self.bn.running_var, self.bn.weight, self.bn.bias, self.bn.training
        )
        return self.b(F.dropout(F.relu(F.max_pool2d(y, 2)), 0.5, self.training))


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn, self.b = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.bn(self.a(x)).relu_())


class Method(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).clamp(min=0)
        return self.b(y) + y.mean((2, 3), keepdim=True)[:, :4]


class Added(nn.Module):
    """A residual block: the second layer has no activation of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.bn = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.relu, self.head = nn.ReLU(inplace=True), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.relu(self.bn(self.a(x)) + x))


class Twice(nn.Module):
    """A layer that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a(F.relu(self.a(x)))))


class TwoModes(nn.Module):
    """An auxiliary head in train mode, and dropout, so that there are two graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.aux = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Any:
        y = F.relu(self.a(x))
        return (self.b(y), self.aux(y)) if self.training else self.b(y)


@pytest.mark.parametrize(
    ("net", "kind"),
    [
        (Functional, "identity"),
        (InPlace, "identity"),
        (Method, "identity"),
        (Added, "residual"),
        (Twice, "identity"),
        (TwoModes, "identity"),
    ],
)
def test_the_activation_is_found_however_it_is_written(net: Callable[[], nn.Module], kind: str) -> None:
    teacher, x = teacher_of(net()), images(2, 3, 9, 8)
    student = fxgrow.grow(teacher, Deepen("a"), x)
    assert_same(teacher, student, x)
    (change,) = inserted(student)
    assert change.kind == kind


class NormCalled(nn.Module):
    """A layer, a norm or dropout or pooling as a function, and an activation."""

    def __init__(self, between: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.bn, self.between = nn.Conv1d(3, 8, 3), nn.Conv1d(8, 4, 1), nn.BatchNorm1d(8), between

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.between(self.bn, self.a(x))))


CALLED: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "F.group_norm": lambda n, y: F.group_norm(y, 2, n.weight, n.bias),
    "torch.group_norm": lambda n, y: torch.group_norm(y, 2, n.weight, n.bias),
    "torch.batch_norm": lambda n, y: torch.batch_norm(
        y, n.weight, n.bias, n.running_mean, n.running_var, n.training, 0.1, 1e-5, False
    ),
    "F.instance_norm": lambda n, y: F.instance_norm(y, None, None, n.weight, n.bias),
    "torch.instance_norm": lambda n, y: torch.instance_norm(y, n.weight, n.bias, None, None, True, 0.1, 1e-5, False),
    "F.layer_norm": lambda n, y: F.layer_norm(y, (8, 7)),
    "torch.layer_norm": lambda n, y: torch.layer_norm(y, (8, 7)),
    "F.rms_norm": lambda n, y: F.rms_norm(y, (8, 7)),
    "torch.rms_norm": lambda n, y: torch.rms_norm(y, (8, 7)),
    "torch.max_pool1d": lambda n, y: torch.max_pool1d(y, 2),
    "torch.dropout": lambda n, y: torch.dropout(y, 0.5, n.training),
    "torch.feature_dropout": lambda n, y: torch.feature_dropout(y, 0.5, n.training),
    "F.alpha_dropout": lambda n, y: F.alpha_dropout(y, 0.5, n.training),
    "F.feature_alpha_dropout": lambda n, y: F.feature_alpha_dropout(y, 0.5, n.training),
}


@pytest.mark.parametrize("name", CALLED)
def test_the_activation_is_found_behind_every_norm_pooling_and_dropout_that_is_a_function(name: str) -> None:
    teacher, x = teacher_of(NormCalled(CALLED[name])), images(2, 3, 9)
    student = fxgrow.grow(teacher, Deepen("a"), x)
    assert_same(teacher, student, x)
    (change,) = inserted(student)
    assert change.kind == "identity"
    assert "ReLU" in str(change)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("of", [torch, F], ids=["torch", "functional"])
def test_shapes_that_a_norm_states_follow_however_it_is_called(of: Any, name: str) -> None:
    net = nn.Sequential(nn.Linear(4, 8), FunctionalNorm(getattr(of, name)), nn.Linear(8, 3))
    teacher, x = teacher_of(net), images(5, 4)
    student = fxgrow.grow(teacher, {"0": 16}, x)
    assert student.get_parameter("1.weight").shape == (16,)
    assert_same(teacher, student, x)


class FunctionalNorm(nn.Module):
    """A norm over the last dimension, of eight channels."""

    def __init__(self, norm: Callable[..., Tensor]) -> None:
        super().__init__()
        self.weight, self.norm = nn.Parameter(torch.ones(8)), norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x, (8,), self.weight)


def test_a_layer_that_runs_twice_is_followed_twice() -> None:
    teacher, x = teacher_of(Twice()), images(2, 3, 9, 8)
    (change,) = inserted(fxgrow.grow(teacher, Deepen("a"), x))
    assert len(change.after_nodes) == 2


def test_new_layers_follow_train_and_eval_and_move_with_the_model() -> None:
    teacher, x = teacher_of(TwoModes()), images(2, 3, 9, 8)
    student = fxgrow.grow(teacher, Deepen("a", kind="residual", norm="batch"), x)
    norm = student.get_submodule("a_deeper1.norm")
    assert not norm.training
    assert student.train().get_submodule("a_deeper1.norm").training
    assert len(student(x)) == 2
    assert student.float().get_submodule("a_deeper1.conv").weight.dtype is torch.float32


def test_growing_leaves_the_teacher_and_the_random_states_alone() -> None:
    teacher, x = teacher_of(Functional()), images(2, 3, 9, 8)
    with assert_untouched(teacher):
        fxgrow.grow(teacher, [Deepen("a", norm="batch", calibrated=True), Kernel("b", 5)], x, calibration=[x])


# -- options ---------------------------------------------------------------------------------------------


def test_calibration_takes_mean_and_variance_over_all_batches() -> None:
    teacher = teacher_of(nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3)))
    x = images(12, 3, 9, 8)
    batches = [(x[:5], torch.zeros(5)), (x[5:6], torch.zeros(1)), (x[6:], torch.zeros(6))]  # images and labels
    student = fxgrow.grow(teacher, Deepen("0", norm="batch", calibrated=True), x, calibration=batches)
    with torch.no_grad():
        values = teacher[:2](x).transpose(0, 1).flatten(1)
    norm = student.get_submodule("0_deeper1.norm")
    assert torch.allclose(norm.running_mean, values.mean(1), atol=1e-12)
    assert torch.allclose(norm.running_var, values.var(1, unbiased=False), atol=1e-12)
    fresh = fxgrow.grow(teacher, Deepen("0", norm="batch"), x)
    apart = [fxgrow.verify(teacher, one, x).errors for one in (student, fresh)]
    assert apart[0]["eval"] <= EXACT
    assert apart[0]["train"] < 1e-3  # all of the data is one batch here: its statistics are the calibrated ones
    assert apart[1]["train"] > 0.1


def test_a_calibrated_student_is_loaded_without_batches() -> None:
    teacher, x = teacher_of(Functional()), images(4, 3, 9, 8)
    student = fxgrow.grow(teacher, Deepen("a", norm="batch", calibrated=True), x, calibration=x)
    loaded = fxgrow.apply(Plan.from_json(fxgrow.plan_of(student).to_json()), teacher_of(Functional()))
    loaded.load_state_dict(student.state_dict())
    assert torch.equal(loaded(x), student(x))


def test_batches_that_are_none_are_refused_when_a_plan_is_applied() -> None:
    teacher, x = teacher_of(Functional()), images(4, 3, 9, 8)
    plan = fxgrow.plan(fxgrow.widths(teacher, x), Deepen("a"))
    with pytest.raises(PlanError, match=r"calibration is an? .*int.*expected an iterable of batches"):
        fxgrow.apply(plan, teacher, calibration=3)
    calibrated = Deepen("a", norm="batch", calibrated=True)
    with pytest.raises(PlanError, match="on the meta device and has no values"):
        fxgrow.grow(teacher, calibrated, x, calibration=[x.to("meta")])


def test_calibration_keeps_the_modes_of_single_modules() -> None:
    teacher, x = teacher_of(Functional()).train(), images(4, 3, 9, 8)
    teacher.bn.eval()
    student = fxgrow.grow(teacher, Deepen("a", norm="batch", calibrated=True), x, calibration=[x])
    assert student.training
    assert not student.get_submodule("bn").training


@pytest.mark.parametrize("batches", [3, [images(4, 5, 9, 8)], [images(4, 3, 9, 8).float()], images(3, 9, 8)])
def test_calibration_that_does_not_run_is_refused(batches: Any) -> None:
    teacher, x = teacher_of(Functional()), images(2, 3, 9, 8)
    with pytest.raises(PlanError, match="calibration"):
        fxgrow.grow(teacher, Deepen("a", norm="batch", calibrated=True), x, calibration=batches)


def test_a_slope_for_each_channel_follows_the_width() -> None:
    teacher, x = teacher_of(nn.Sequential(nn.Linear(3, 4), nn.PReLU(4), nn.Linear(4, 2))), images(5, 3)
    for asked in (Deepen("0"), Deepen("0", activation="parametric")):
        student = fxgrow.grow(teacher, [2.0, asked], x)
        assert_same(teacher, student, x)


def test_the_teacher_in_train_mode_with_a_spectral_norm() -> None:
    conv = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 8, 3, padding=1))
    teacher, x = teacher_of(nn.Sequential(conv, nn.ReLU(), nn.Conv2d(8, 4, 1))).train(), images(2, 3, 9, 8)
    student = fxgrow.grow(teacher, Deepen("0"), x)
    assert torch.equal(
        student.state_dict()["0.parametrizations.weight.0._u"], teacher.state_dict()["0.parametrizations.weight.0._u"]
    )


def test_depthwise_layers_are_followed_by_depthwise_ones() -> None:
    layers = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, groups=6), nn.ReLU(), nn.Conv2d(6, 2, 1)
    teacher, x = teacher_of(nn.Sequential(*layers)), images(2, 3, 9, 8)
    student = fxgrow.grow(teacher, [2.0, Deepen("1")], x)
    assert_same(teacher, student, x)
    assert student.get_submodule("1_deeper1.conv").groups == 12


def test_containers_that_are_called_themselves_compute_the_same() -> None:
    layers = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.GELU()
    teacher, x = teacher_of(nn.Sequential(nn.Sequential(*layers), nn.Conv2d(4, 2, 1))), images(2, 3, 9, 8)
    student = fxgrow.grow(teacher, Deepen("0"), x)
    assert torch.allclose(student.get_submodule("0")(x), teacher[0](x), atol=1e-12)


def test_code_that_reads_a_kernels_size_is_seen() -> None:
    class Pads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 6, 3, stride=3), nn.Conv2d(6, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(F.relu(self.a(F.pad(x, [self.a.kernel_size[0] // 2] * 4))))

    teacher, x = teacher_of(Pads()), images(2, 3, 10, 10)
    assert_same(teacher, fxgrow.grow(teacher, Kernel("a", 5), x), x)  # in a graph the size is what it was
    with pytest.raises(PlanError, match="code reads its size"):
        fxgrow.grow(teacher, Kernel("a", 5), x, output="module")


def test_a_weight_that_others_use_is_not_enlarged() -> None:
    class Twofold(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(F.relu(self.a(x)) + F.conv2d(x, self.a.weight, padding=1))

    with pytest.raises(PlanError, match="is also used at"):
        fxgrow.grow(teacher_of(Twofold()), Kernel("a", 5), images(2, 3, 9, 8))


def test_layers_whose_calls_differ_are_refused() -> None:
    class Differs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.tanh(self.a(F.relu(self.a(x)))))

    with pytest.raises(PlanError, match="different activations"):
        fxgrow.grow(teacher_of(Differs()), Deepen("a"), images(2, 3, 9, 8))


def test_the_plan_says_where_no_nonlinearity_is_added_and_what_is_exact_when() -> None:
    teacher, x = teacher_of(nn.Sequential(nn.Conv2d(3, 6, 3), nn.GELU(), nn.Conv2d(6, 4, 3))), images(2, 3, 9, 8)
    plan = fxgrow.plan(fxgrow.widths(teacher, x), Deepen("0", kind="identity"))
    assert any("adds no nonlinearity" in note for note in plan.notes)
    assert not any("copy of the teacher" in note for note in plan.notes)
    assert "same function;" in str(plan)
    batch = fxgrow.plan(fxgrow.widths(teacher, x), Deepen("0", kind="identity", norm="batch"))
    assert "same function in eval mode" in str(batch)


def test_enlarged_kernels_stay_frozen() -> None:
    teacher, x = teacher_of(CONV()), images(2, 3, 9, 8)
    teacher[0].weight.requires_grad_(False)
    assert not fxgrow.grow(teacher, Kernel("0", 5), x).get_parameter("0.weight").requires_grad


def test_calibration_needs_batches() -> None:
    teacher, x = teacher_of(Functional()), images(2, 3, 9, 8)
    asked = Deepen("a", norm="batch", calibrated=True)
    with pytest.raises(PlanError, match="give batches"):
        fxgrow.grow(teacher, asked, x)
    with pytest.raises(PlanError, match="no batch"):
        fxgrow.grow(teacher, asked, x, calibration=[])


def test_a_calibrated_group_norm_is_no_identity_and_says_so() -> None:
    teacher, x = teacher_of(Functional()), images(2, 3, 9, 8)
    asked = Deepen("a", kind="identity", norm="group", calibrated=True)
    student = fxgrow.grow(teacher, asked, x, calibration=[x])
    plan = fxgrow.plan_of(student)
    assert not plan.preserves_function
    assert any("only approximately" in note for note in plan.notes)
    with pytest.raises(PlanError, match="no weights make it the identity"):
        fxgrow.grow(teacher, Deepen("a", kind="identity", norm="group"), x)


def test_parametric_activations_are_born_as_the_identity_and_learn() -> None:
    teacher = teacher_of(nn.Sequential(nn.Conv2d(3, 6, 3), nn.SiLU(), nn.Conv2d(6, 4, 3)))
    x = images(2, 3, 9, 8)
    student = fxgrow.grow(teacher, Deepen("0", activation="parametric"), x)
    assert_same(teacher, student, x)
    assert inserted(student)[0].kind == "identity"
    a = student.get_parameter("0_deeper1.act.a")
    assert a.item() == 1.0
    student(x).square().sum().backward()
    assert a.grad is not None
    assert a.grad.item() != 0.0


def test_activations_may_be_named() -> None:
    teacher = teacher_of(nn.Sequential(nn.Conv2d(3, 6, 3), nn.Sigmoid(), nn.Conv2d(6, 4, 3)))
    x = images(2, 3, 9, 8)
    student = fxgrow.grow(teacher, Deepen("0", kind="identity", activation="relu"), x)  # sigmoids are not negative
    assert_same(teacher, student, x)
    assert isinstance(student.get_submodule("0_deeper1.act"), nn.ReLU)
    with pytest.raises(PlanError, match="GELU changes values that Sigmoid outputs"):
        fxgrow.grow(teacher, Deepen("0", kind="identity", activation="gelu"), x)
    with pytest.raises(PlanError, match="no activation 'relo'"):
        fxgrow.grow(teacher, Deepen("0", activation="relo"), x)


# -- training ----------------------------------------------------------------------------------------------


def test_a_residual_layer_learns_from_the_first_step() -> None:
    teacher = teacher_of(nn.Sequential(nn.Conv2d(3, 6, 3), nn.GELU(), nn.Conv2d(6, 4, 3)))
    x, target = images(8, 3, 9, 8), images(8, 4, 5, 4)
    student = fxgrow.grow(teacher, Deepen("0"), x).train()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05)
    losses = []
    for step in range(8):
        optimizer.zero_grad()
        loss = F.mse_loss(student(x), target)
        loss.backward()
        norms = {name: float(p.grad.norm()) for name, p in student.named_parameters()}
        if step == 0:
            assert norms.pop("0_deeper1.conv.weight") == norms.pop("0_deeper1.conv.bias") == 0.0  # behind the zeros
        assert all(norm > 0 for norm in norms.values())
        optimizer.step()
        assert student.get_parameter("0_deeper1.last.weight").abs().max() > 0
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)


def test_the_gradient_of_an_identity_layer_is_that_of_the_value_it_hands_on() -> None:
    teacher, x = teacher_of(nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 4))), images(7, 3)
    student = fxgrow.grow(teacher, Deepen("0"), x)
    for model in (teacher, student):
        model(x).square().sum().backward()
    for name, parameter in teacher.named_parameters():
        assert torch.allclose(parameter.grad, student.get_parameter(name).grad, atol=1e-12)
    assert student.get_parameter("0_deeper1.linear.weight").grad.abs().sum() > 0


# -- names ---------------------------------------------------------------------------------------------------


class Taken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.a_deeper1, self.b = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a_deeper1(F.relu(self.a(x)))))


def test_layers_stand_and_run_in_the_order_of_their_names() -> None:
    teacher, x = teacher_of(nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 4))), images(7, 3)
    student = fxgrow.grow(teacher, [Deepen("0"), Deepen("0", kind="residual"), Deepen("0")], x)
    assert_same(teacher, student, x)
    names = [name for name, _ in student.named_children()]
    assert names == ["0", "1", "0_deeper1", "0_deeper2", "0_deeper3", "2"]
    assert (
        list(dict.fromkeys(str(n.target).split(".")[0] for n in student.graph.nodes if n.op == "call_module")) == names
    )


def test_names_do_not_collide_and_survive_saving() -> None:
    teacher, x = teacher_of(Taken()), images(4, 3)
    student = fxgrow.grow(teacher, [Deepen("a"), Deepen("a_deeper1"), Deepen("a")], x)
    assert [change.path for change in inserted(student)] == ["a_deeper2", "a_deeper3", "a_deeper4"]
    assert_same(teacher, student, x)
    assert set(teacher.state_dict()) < set(student.state_dict())
    for restored in (pickle.loads(pickle.dumps(student)), copy.deepcopy(student)):
        assert list(restored.state_dict()) == list(student.state_dict())
        assert torch.equal(restored(x), student(x))
    buffer = io.BytesIO()
    torch.save(student.state_dict(), buffer)
    buffer.seek(0)
    other = fxgrow.apply(fxgrow.plan_of(student), teacher)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(torch.load(buffer))
    assert torch.equal(other(x), student(x))


# -- composition ---------------------------------------------------------------------------------------------


def test_widths_depth_and_kernels_in_one_plan() -> None:
    teacher, x = teacher_of(Added()), images(2, 3, 9, 8)
    spec = [Widen("stem", 1.5), Deepen("a"), Kernel("a", 5), Deepen("stem", kind="residual")]
    student = fxgrow.grow(teacher, spec, x)
    assert_same(teacher, student, x)
    assert [change.channels for change in inserted(student)] == [9, 9]
    plan = Plan.from_json(fxgrow.plan_of(student).to_json())
    again = fxgrow.apply(plan, teacher)
    for name, tensor in student.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    assert fxgrow.plan(fxgrow.widths(teacher, x), plan.spec) == plan


def test_growth_of_growth_of_growth() -> None:
    teacher, x = teacher_of(Functional()), images(2, 3, 9, 8)
    specs = [
        1.5,
        Deepen("a"),
        [Widen("a_deeper1.conv", 1.5), Deepen("b", kind="residual")],
        Kernel("a_deeper1.conv", 5),
    ]
    students, plans = [teacher], []
    for spec in specs:
        students.append(fxgrow.grow(students[-1], spec, x))
        plans.append(fxgrow.plan_of(students[-1]).steps[-1])
        assert_same(students[-2], students[-1], x)
    assert_same(teacher, students[-1], x)
    chain = plans[0].then(plans[1]).then(plans[2].then(plans[3]))
    assert chain.steps == tuple(plans)
    assert fxgrow.plan_of(students[-1]) == chain
    assert Plan.from_json(chain.to_json()) == chain
    for whole in (chain, plans):
        replayed = fxgrow.apply(whole, teacher)
        assert list(replayed.state_dict()) == list(students[-1].state_dict())
        for name, tensor in students[-1].state_dict().items():
            assert torch.equal(tensor, replayed.state_dict()[name])
        assert fxgrow.plan_of(replayed) == chain
        assert_same(teacher, replayed, x)


def test_a_request_is_json_both_ways() -> None:
    spec = [
        Widen("stem", 1.5),
        Deepen("a", kind="residual", kernel=(3, 5), exclude=("b",)),
        Deepen("layer1", blocks=2),
        Kernel("a", 5),
    ]
    teacher, x = teacher_of(Added()), images(2, 3, 9, 8)
    parsed = fxgrow.spec.parse.parse(spec)
    assert fxgrow.spec.parse.parse(fxgrow.spec.parse.to_json(parsed)) == parsed
    student = fxgrow.grow(teacher, '[{"deepen": "a", "kind": "residual"}, {"kernel": "a", "size": 5}]', x)
    assert_same(teacher, student, x)


# -- kernels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2},
        {"dilation": 2, "padding": 1},
        {"groups": 2, "padding": 1},
        {"padding": "same"},
        {"padding": "valid"},
        {"padding": "same", "dilation": 2},
        {"bias": False},
    ],
    ids=str,
)
def test_a_larger_kernel_is_exact(dims: int, transposed: bool, options: dict[str, Any]) -> None:
    if transposed and isinstance(options.get("padding"), str):
        pytest.skip("transposed convolutions have no such padding")
    layer = getattr(nn, f"Conv{'Transpose' if transposed else ''}{dims}d")
    teacher = teacher_of(nn.Sequential(layer(4, 6, 3, **options), nn.ReLU(), getattr(nn, f"Conv{dims}d")(6, 3, 1)))
    x = images(2, 4, *[9] * dims)
    student = fxgrow.grow(teacher, Kernel("0", 7), x)
    assert_same(teacher, student, x)
    assert tuple(student.get_parameter("0.weight").shape[2:]) == (7,) * dims
    student(x).square().sum().backward()
    assert (student.get_parameter("0.weight").grad != 0).double().mean() > 0.9  # the new taps learn
    own = fxgrow.grow(teacher, Kernel("0", 7), x, output="module")
    assert type(own) is type(teacher)
    assert_same(teacher, own, x)


def test_a_kernel_may_grow_along_one_axis() -> None:
    teacher, x = teacher_of(nn.Sequential(nn.Conv2d(3, 6, (1, 4)), nn.ReLU(), nn.Conv2d(6, 3, 1))), images(2, 3, 9, 8)
    student = fxgrow.grow(teacher, Kernel("0", (3, 4)), x)
    assert_same(teacher, student, x)


# -- refusals -------------------------------------------------------------------------------------------------

CONV = lambda **more: nn.Sequential(nn.Conv2d(3, 6, 3, **more), nn.ReLU(), nn.Conv2d(6, 3, 1))  # noqa: E731


@pytest.mark.parametrize(
    ("net", "asked", "reason"),
    [
        (CONV, Kernel("0", 4), "3 can become 5, 7"),
        (CONV, Kernel("0", 1), "already larger than 1"),
        (CONV, Kernel("0", 3), r"already \(3, 3\)"),
        (CONV, Kernel("0", (3, 3, 3)), "3 dimensions"),
        (lambda: CONV(padding=1, padding_mode="reflect"), Kernel("0", 5), "padding_mode is 'reflect'"),
        (CONV, Deepen("0", kernel=(3,)), "1 dimensions"),
        (CONV, Deepen("nothing"), "matches no layer"),
        (CONV, Kernel("1", 5), "1 is a ReLU; expected Conv1d"),
        (CONV, Deepen("1", blocks=1), "all its modules are layers"),
        (CONV, Deepen("none", blocks=1), "matches no module"),
        (CONV, Deepen("*", exclude="*"), "exclude leaves none of the layers that it means"),
        (CONV, Kernel("*", 5, exclude="*"), "exclude leaves none of the layers that it means"),
        (lambda: nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 3)), Deepen("0", kernel=3), "no kernel"),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_reason(net: Any, asked: Any, reason: str) -> None:
    teacher = teacher_of(net())
    x = images(2, 3) if isinstance(teacher[0], nn.Linear) else images(2, 3, 9, 8)
    with pytest.raises(PlanError, match=reason):
        fxgrow.grow(teacher, asked, x)


def test_batch_norm_on_tokens_is_refused() -> None:
    teacher, x = teacher_of(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))), images(2, 5, 4)
    with pytest.raises(PlanError, match="features last"):
        fxgrow.grow(teacher, Deepen("0", norm="batch"), x)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Deepen(""), "non-empty"),
        (lambda: Deepen("a", kind="wide"), "kind is one of"),
        (lambda: Deepen("a", blocks=-1), "how many clones"),
        (lambda: Deepen("a", blocks=1, kind="residual"), "cloned as they are"),
        (lambda: Deepen("a", norm="layer"), "'batch' or 'group'"),
        (lambda: Deepen("a", calibrated=True), "give norm"),
        (lambda: Deepen("a", kernel=0), "positive int"),
        (lambda: Kernel("a", 2.5), "positive int"),
        (lambda: Kernel("a", None), "not None"),
        (lambda: fxgrow.spec.parse.parse({"deepen": "a", "depth": 3}), "no option 'depth'"),
        (lambda: fxgrow.spec.parse.parse({"kernel": "a"}), "size"),
    ],
)
def test_requests_that_make_no_sense_are_refused(make: Callable[[], Any], reason: str) -> None:
    with pytest.raises(PlanError, match=reason):
        make()


def test_what_runs_inside_a_leaf_is_refused_and_left_where_a_glob_means_it() -> None:
    class Leaf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.inner(x))

    teacher, x = teacher_of(nn.Sequential(nn.Linear(3, 6), nn.ReLU(), Leaf())), images(4, 3)
    with pytest.raises(PlanError, match="inside 2, which is kept as a call"):
        fxgrow.grow(teacher, Deepen("2.inner"), x, leaf_modules=["2"])
    student = fxgrow.grow(teacher, Deepen("*"), x, leaf_modules=["2"])
    plan = fxgrow.plan_of(student)
    assert [change.after for change in plan.changes] == ["0"]
    assert [left.name for left in plan.skipped if "kept as a call" in left.reason] == ["2.inner"]


def test_the_users_own_class_has_no_place_for_new_layers() -> None:
    teacher, x = teacher_of(Functional()), images(2, 3, 9, 8)
    with pytest.raises(PlanError, match="output='graph'"):
        fxgrow.grow(teacher, Deepen("a"), x, output="module")


# -- every net --------------------------------------------------------------------------------------------


@thinned("deeper")
@pytest.mark.parametrize("net", EACH)
def test_every_net_deepens_or_says_why_not(net: Net) -> None:
    teacher, inputs = teacher_and_inputs(net)
    found = analysed(net.name)
    for spec in (Deepen("*"), Deepen("*", blocks=1), Kernel("*", 7)):
        try:
            plan = fxgrow.plan(found, spec)
        except PlanError as refused:
            if (
                repr(spec) not in str(refused)
                and "larger kernel" not in str(refused)
                and "matches no" not in str(refused)
            ):
                raise
            continue
        student = student_of(found.traced, plan, teacher)
        assert plan.changes
        for mode in found.traced.tapes:
            assert relative_error(run(teacher, inputs, mode), run(student, inputs, mode)) <= EXACT


# -- a check that passes what is wrong is worse than none ---------------------------------------------------


def _one_pixel_off(start: Any, rows: torch.Tensor, *given: Any) -> None:
    rows.zero_()
    rows[..., 0, 0].fill_diagonal_(1.0)


MUTANTS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "identity one pixel off": (initial.Identity, _one_pixel_off, {"kind": "identity"}),
    "identity not made": (initial.Identity, lambda start, rows, *given: rows.fill_(0.5), {"kind": "identity"}),
    "branch not zeroed": (initial.Constant, lambda start, rows, *given: rows.fill_(0.5), {"kind": "residual"}),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_noticed(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start, damaged, options = MUTANTS[mutant]
    teacher, x = teacher_of(Functional()), images(2, 3, 9, 8)
    assert fxgrow.verify(teacher, fxgrow.grow(teacher, Deepen("a", **options), x), x).exact
    monkeypatch.setattr(start, "write", damaged)
    report = fxgrow.verify(teacher, fxgrow.grow(teacher, Deepen("a", **options), x), x)
    assert not report.exact
    assert min(report.errors.values()) > 1e-3


def test_a_fresh_batch_norm_is_noticed() -> None:
    teacher, x = teacher_of(Functional()), images(2, 3, 9, 8)
    student = fxgrow.grow(teacher, Deepen("a", kind="identity", norm="batch"), x)
    assert fxgrow.verify(teacher, student, x).errors["eval"] <= EXACT
    student.get_submodule("a_deeper1.norm").reset_parameters()  # weight 1, as a fresh one has
    assert fxgrow.verify(teacher, student, x).errors["eval"] > 1e-6


@pytest.mark.parametrize("channels", [1, 3, 8, 12, 64])
def test_each_group_of_a_new_group_norm_has_several_values(channels: int) -> None:
    """Also for one pooled example, where a channel is one value."""
    teacher = nn.Sequential(nn.Linear(4, channels), nn.ReLU(), nn.Linear(channels, 2)).double()
    x = torch.randn(2, 4, dtype=torch.float64)
    student = fxgrow.grow(teacher, [fxgrow.Deepen("0", kind="residual", norm="group")], x)
    (norm,) = (module for module in student.modules() if isinstance(module, nn.GroupNorm))
    assert norm.num_channels // norm.num_groups > 1 or channels == 1
    if channels > 1:
        student.train()(x[:1])


def test_of_two_requests_for_kernels_the_one_that_names_a_layer_is_its_own() -> None:
    model = randomise(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1)))
    x = torch.randn(2, 3, 8, 8)
    for spec in ([fxgrow.Kernel("*", 5), fxgrow.Kernel("0", 7)], [fxgrow.Kernel("0", 7), fxgrow.Kernel("*", 5)]):
        student = fxgrow.grow(model, spec, x)
        assert [student.get_submodule(name).kernel_size for name in "02"] == [(7, 7), (5, 5)]
    twice = fxgrow.grow(model, [fxgrow.Kernel("0", 5), fxgrow.Kernel("*", 5)], x)
    assert [twice.get_submodule(name).kernel_size for name in "02"] == [(5, 5), (5, 5)]


@pytest.mark.parametrize("patterns", [("0", "0"), ("*", "?")])
def test_two_sizes_for_one_kernel_are_refused(patterns: tuple[str, str]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1))
    spec = [fxgrow.Kernel(pattern, size) for pattern, size in zip(patterns, (5, 7), strict=True)]
    with pytest.raises(fxgrow.PlanError, match=r"^0 is asked to have a kernel of \(5, 5\) and of \(7, 7\)$"):
        fxgrow.grow(model, spec, torch.randn(2, 3, 8, 8))
