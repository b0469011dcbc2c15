"""What cannot be done where a call stands, or with what it is given: refused by the name that users know."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import parametrizations, parametrize

import fxgrow

X = torch.randn(3, 4)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


CALLS: dict[str, Callable[[nn.Module, nn.Module, fxgrow.Plan], object]] = {
    "grow": lambda teacher, student, plan: fxgrow.grow(teacher, 2.0, X),
    "grow on a guess": lambda teacher, student, plan: fxgrow.grow(teacher, 2.0),
    "widths": lambda teacher, student, plan: fxgrow.widths(teacher, X),
    "apply": lambda teacher, student, plan: fxgrow.apply(plan, teacher),
    "verify": lambda teacher, student, plan: fxgrow.verify(teacher, student, X),
    "summary": lambda teacher, student, plan: fxgrow.summary(teacher, X),
    "match": lambda teacher, student, plan: fxgrow.match(teacher, student, X),
}


@pytest.mark.parametrize("call", CALLS)
def test_inside_of_fake_tensor_mode_every_function_is_refused_by_its_name(call: str) -> None:
    teacher = net()
    student = fxgrow.grow(teacher, 2.0, X)
    plan = fxgrow.plan_of(student)
    assert plan is not None
    with FakeTensorMode(), pytest.raises(fxgrow.GrowError, match=r"inside of FakeTensorMode.*on the meta device"):
        CALLS[call](teacher, student, plan)
    CALLS[call](teacher, student, plan)  # outside it works


def test_a_model_of_fake_tensors_is_refused_as_such() -> None:
    with FakeTensorMode():
        teacher, x = net(), torch.randn(3, 4)
    with pytest.raises(fxgrow.TraceError, match=r"'0.weight' is a FakeTensor, which has no numbers"):
        fxgrow.grow(teacher, 2.0, x)


@pytest.mark.parametrize("transform", [torch.vmap, torch.func.grad])
def test_inside_of_a_function_transform_growth_is_refused_by_its_name(transform: Callable[..., Any]) -> None:
    teacher = net()
    with pytest.raises(fxgrow.GrowError, match=r"a transform of torch\.func \(vmap, grad\)"):
        transform(lambda x: fxgrow.grow(teacher, 2.0, x[None])(x[None]).sum())(X)
    student = fxgrow.grow(teacher, 2.0, X)
    assert torch.vmap(student)(X).shape == (3, 2), "a student is transformed as other models are"


def test_weights_that_parametrize_keeps_are_not_grown_from() -> None:
    teacher = net()
    parametrizations.weight_norm(teacher[0])  # type: ignore[arg-type, index]
    with parametrize.cached():
        teacher(X)
        with pytest.raises(fxgrow.TraceError, match=r"'0' has a parametrization, and .*parametrize\.cached\(\)"):
            fxgrow.grow(teacher, 2.0, X)
        fxgrow.grow(net(), 2.0, X)  # no parametrization, nothing kept
    assert fxgrow.verify(teacher, fxgrow.grow(teacher, 2.0, X), X).exact


def test_a_model_that_was_made_in_inference_mode_grows_and_its_student_trains() -> None:
    with torch.inference_mode():
        teacher = net()
        student = fxgrow.grow(teacher, 2.0, X)
    assert fxgrow.verify(teacher, student, X).exact
    student(X).sum().backward()
    assert all(parameter.grad is not None for parameter in student.parameters())


def test_teacher_and_student_in_the_other_order_are_refused() -> None:
    teacher = net()
    student = fxgrow.grow(teacher, {"0": 12}, X)
    with pytest.raises(fxgrow.GrowError, match="teacher and student are swapped"):
        fxgrow.verify(student, teacher, X)
    loaded = net()
    loaded.load_state_dict(teacher.state_dict())
    with pytest.raises(fxgrow.GrowError, match="swapped"):
        fxgrow.verify(student, loaded, X)
    again = fxgrow.grow(student, {"2": 12}, X)
    assert fxgrow.verify(student, again, X).exact, "a student may be a teacher"
    with pytest.raises(fxgrow.GrowError, match="swapped"):
        fxgrow.verify(again, teacher, X)


def test_a_student_may_be_compared_with_an_equal_model_that_knows_no_plan() -> None:
    student = fxgrow.grow(net(), {"0": 12}, X)
    plain = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2))
    plain.load_state_dict(student.state_dict())
    assert fxgrow.verify(student, plain, X).exact


def test_a_plan_where_a_specification_is_meant_leads_to_apply() -> None:
    teacher = net()
    plan = fxgrow.plan(fxgrow.widths(teacher, X), 2.0)
    for given in (plan, plan.to_json()):
        with pytest.raises(fxgrow.PlanError, match=r"fxgrow\.apply\(plan, model\) makes its student"):
            fxgrow.grow(teacher, given, X)  # type: ignore[call-overload]


@pytest.mark.parametrize("spec", ['[{"widen": 1.5}]', {"widen": 1.5}, {"all": 2.0}, {"Factor": 2}])
def test_a_word_for_everything_leads_to_the_factor_alone(spec: fxgrow.Spec) -> None:
    with pytest.raises(fxgrow.PlanError, match=r"For all widths write the factor alone, such as 1.5"):
        fxgrow.grow(net(), spec, X)


def test_a_layer_of_that_name_is_meant() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.widen, self.fc = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(self.widen(x).relu())
            return out

    assert fxgrow.plan(fxgrow.widths(Named(), X), {"widen": 1.5}).width("widen").new == 12


@pytest.mark.parametrize("text", ["1.5x", "2X", " 1.5 x"])
def test_a_factor_with_a_sign_of_multiplication_leads_to_the_factor(text: str) -> None:
    with pytest.raises(fxgrow.PlanError, match=r"for a factor of everything write [12]"):
        fxgrow.grow(net(), text, X)


def test_a_file_of_a_plan_is_no_checkpoint_to_grow(tmp_path: Path) -> None:
    plan = fxgrow.plan(fxgrow.widths(net(), X), 2.0)
    file = tmp_path / "teacher.pt"
    file.write_text(plan.to_json())
    with pytest.raises(fxgrow.GrowError, match="it is a plan, where a checkpoint is expected"):
        fxgrow.grow_checkpoint(plan, file, tmp_path / "student.pt")


def by_position(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that adds a keyword where the caller has left it out, as libraries fill in a config's values."""

    @functools.wraps(forward)
    def filled(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("scale", 2.0)
        return forward(self, *args, **kwargs)

    return filled


class Filled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

    @by_position
    def forward(self, x: Tensor, mask: Tensor | None = None, scale: float | None = None, y: float = 1.0) -> Tensor:
        assert scale is not None
        out: Tensor = self.b(self.a(x).relu()) * scale + y
        return out


@pytest.mark.parametrize("inputs", [X, {"x": X, "y": 3.0}])
def test_arguments_that_the_example_leaves_out_are_left_out_where_a_graph_is_made(inputs: Any) -> None:
    teacher = Filled()
    student = fxgrow.grow(teacher, 2.0, inputs)
    plan = fxgrow.plan_of(student)
    assert plan is not None
    assert not [note for note in plan.notes if "kept as one call" in note]
    assert fxgrow.verify(teacher, student, inputs).exact


class Box:
    """What no graph holds."""


class DynamicCache(Box):
    """The same under the name of the libraries' caches."""


@pytest.mark.parametrize("kind", [Box, DynamicCache])
def test_a_model_that_no_graph_holds_is_told_why_and_what_to_ask_for(kind: type) -> None:
    class Hands(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> tuple[Tensor, object]:
            return self.b(self.a(x).relu()), kind()

    (note,) = [note for note in fxgrow.widths(Hands(), X).traced.notes if "kept as one call" in note]
    assert f"its code hands on a {kind.__name__}, which a graph cannot hold" in note
    assert ("use_cache=False" in note) is (kind is DynamicCache)
    assert note.endswith("output='module' gives the student as a Hands instead")


IMAGES = torch.randn(2, 3, 8, 8)


def images_net(width: int = 8) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


WRONG: dict[str, tuple[Callable[[nn.Module], object], str]] = {
    "a factor in percent": (lambda net: fxgrow.grow(net, "150%", IMAGES), r"write 1\.5$"),
    "a module as a pattern": (lambda net: fxgrow.grow(net, {net: 1.5}, IMAGES), "a Sequential; .* by its name"),  # type: ignore[dict-item]
    "a class as a pattern": (
        lambda net: fxgrow.grow(net, {nn.Conv2d: 1.5}, IMAGES),  # type: ignore[dict-item]
        r"the class Conv2d; .*isinstance\(layer, Conv2d\)",
    ),
    "a number as a pattern": (lambda net: fxgrow.grow(net, {0: 1.5}, IMAGES), "write the name in quotes: '0'"),  # type: ignore[dict-item]
    "the name of a class": (lambda net: fxgrow.grow(net, {"Conv2d": 1.5}, IMAGES), "Conv2d is a class; .*: 0, 2$"),
    "a regular expression": (
        lambda net: fxgrow.grow(net, {"^conv.+": 1.5}, IMAGES),
        "a glob and no regular expression",
    ),
    "an option that there is not": (
        lambda net: fxgrow.grow(net, '{"0": {"width": 2.0, "mult": 8}}', IMAGES),
        "no option 'mult'; it has .*multiple_of",
    ),
    "blocks as a kind": (lambda net: fxgrow.Deepen("0", 2), "write blocks=2$"),  # type: ignore[arg-type]
    "scores by other names": (
        lambda net: fxgrow.plan(fxgrow.widths(net, IMAGES), fxgrow.Budget(parameters=2.0, scores={"conv": 1.0})),
        "by the names of widths, such as 0, .*no width group 'conv'",
    ),
    "models in the other order": (
        lambda net: fxgrow.match(images_net(16), net, IMAGES),
        r"the smaller comes first: match\(small, large\)$",
    ),
    "a checkpoint around a state_dict": (
        lambda net: fxgrow.match(net, {"epoch": 3, "model": net.state_dict()}, IMAGES),  # type: ignore[dict-item]
        r"give large\['model'\]$",
    ),
    "a loss of tensors": (
        lambda net: fxgrow.scores(net, [(IMAGES, torch.tensor([0, 1]))], nn.functional.cross_entropy),  # type: ignore[arg-type]
        r"loss\(model, batch\) fails: TypeError.*loss is a function such as lambda model, batch",
    ),
    "a loss with many numbers": (
        lambda net: fxgrow.scores(net, [(IMAGES, torch.tensor([0, 1]))], lambda model, batch: model(batch[0])),
        r"a Tensor of the shape \(2, 4\) for batch 0",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_a_new_user_gets_wrong_is_told_with_what_to_write(name: str) -> None:
    call, says = WRONG[name]
    with pytest.raises(fxgrow.FxgrowError, match=f"(?s){says}"):
        call(images_net())
