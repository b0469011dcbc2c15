"""More input channels and more outputs: the old function on the old channels, the old outputs beside the new."""

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from benchmarks.torchvision_shim import import_torchvision
from fxgrow import Deepen, Inputs, Kernel, Outputs, Plan, PlanError, Widen
from fxgrow.base.rng import named_generator
from fxgrow.methods import Columns, method, names
from fxgrow.model.call_args import labelled, parameters_of
from fxgrow.model.example_inputs import ModelInputs as Given
from fxgrow.model.example_inputs import arguments_of
from fxgrow.plans.entries import CloneOutput
from fxgrow.rewrite.student import student_of
from fxgrow.rewrite.student_inputs import old_outputs, padded_inputs
from tests.analysed import EACH, analysed, teacher_and_inputs
from tests.check import randomise, relative_error, run, stale_sizes
from tests.nets import Net
from tests.small_vgg import small_vgg
from tests.thinned import THOROUGH, thinned

NEW = ("zero", "mean", "random")
needs_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed"
)


class Written(nn.Module):
    """A model with that forward; tensors are buffers."""

    def __init__(self, forward: Callable[..., Any], **parts: nn.Module | Tensor) -> None:
        super().__init__()
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)
        self.written = forward

    def forward(self, x: Tensor, y: Tensor | None = None) -> Any:
        return self.written(self, x) if y is None else self.written(self, x, y)


def model(forward: Callable[..., Any], **parts: nn.Module | Tensor) -> nn.Module:
    return randomise(Written(forward, **parts).double())


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def conv(channels: int, out: int, **options: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 3, padding=1, **options)


IMAGE = normal(2, 3, 8, 8)
ROWS = normal(5, 6)


def plan_of(student: nn.Module) -> Plan:
    plan = fxgrow.plan_of(student)
    assert plan is not None
    return plan


def assert_old_is_old(teacher: nn.Module, student: nn.Module, inputs: Any, tolerance: float = 1e-10) -> None:
    """Whatever the new input channels hold, the old outputs are the teacher's; put together apart from the package."""
    plan = plan_of(student)
    assert plan.io_dims
    assert plan.preserves_function
    assert list(student.state_dict()) == list(teacher.state_dict())
    assert not stale_sizes(student), stale_sizes(student)
    inputs = (
        dict(inputs) if isinstance(inputs, Mapping) else list(inputs) if not isinstance(inputs, Tensor) else [inputs]
    )
    keys = inputs if isinstance(inputs, dict) else [*fxgrow.trace(teacher, tuple(inputs)).arguments][: len(inputs)]
    for mode in ("eval", "train", "eval after train"):
        expected = run(teacher, inputs, mode)
        for size in (1.0, 100.0):
            larger = type(inputs)(inputs)
            for end in plan.io_dims:
                if end.kind == "input":
                    key = end.at if isinstance(larger, dict) else list(keys).index(end.at)
                    old = larger[key]
                    shape = [*old.shape]
                    shape[end.dim] = end.new - end.old
                    more = torch.randn(shape, dtype=torch.float64) * size
                    larger[key] = torch.cat([old, more.to(old.dtype)], end.dim)
            found = run(student, larger, mode)
            for end in plan.io_dims:
                if end.kind == "output" and end.at == mode[:5].strip():
                    assert found[end.number].shape[end.dim] == end.new
                    found[end.number] = found[end.number].narrow(end.dim, 0, end.old)
            assert relative_error(expected, found) <= tolerance, mode
    fxgrow.verify(teacher, student, inputs if isinstance(inputs, dict) else tuple(inputs)).raise_if_different()


# -- inputs -----------------------------------------------------------------------------------------------------


CAN_GROW: dict[str, tuple[nn.Module, list[Any], tuple[Tensor, ...], int]] = {
    "a convolution": (model(lambda self, x: self.c(x), c=conv(3, 4)), [Inputs("x", 5)], (IMAGE,), 1),
    "by the layer's name": (model(lambda self, x: self.c(x), c=conv(3, 4)), [Inputs("c", 5)], (IMAGE,), 1),
    "a linear layer": (model(lambda self, x: self.c(x), c=nn.Linear(6, 4)), [Inputs("x", 9)], (ROWS,), 1),
    "a linear layer on tokens": (
        model(lambda self, x: self.c(x), c=nn.Linear(6, 4)), [Inputs("x", 9)], (normal(2, 7, 6),), 2,
    ),
    "channels last": (
        model(lambda self, x: self.c(x.permute(0, 3, 1, 2)), c=conv(3, 4)), [Inputs("x", 5)], (normal(2, 8, 8, 3),), 3,
    ),
    "channels in the third dimension": (
        model(lambda self, x: self.c(x.permute(0, 2, 1, 3)), c=conv(3, 4)), [Inputs("x", 5)], (normal(2, 8, 3, 8),), 2,
    ),
    "no batch": (model(lambda self, x: self.c(x), c=conv(3, 4)), [Inputs("x", 5)], (normal(3, 8, 8),), 0),
    "one channel": (
        model(lambda self, x: self.c(self.b(x)), c=conv(1, 4), b=nn.BatchNorm2d(1)),
        [Inputs("x", 3)], (normal(2, 1, 8, 8),), 1,
    ),
    "a batch norm": (
        model(lambda self, x: self.c(self.b(x)), c=conv(3, 4), b=nn.BatchNorm2d(3)), [Inputs("x", 5)], (IMAGE,), 1,
    ),
    "an instance norm": (
        model(lambda self, x: self.c(self.b(x)), c=conv(3, 4), b=nn.InstanceNorm2d(3, affine=True)),
        [Inputs("x", 5)], (IMAGE,), 1,
    ),
    "buffers that normalise": (
        model(lambda self, x: self.c((x - self.m) / self.s), c=conv(3, 4), m=normal(1, 3, 1, 1), s=normal(3, 1, 1)),
        [Inputs("x", 5)], (IMAGE,), 1,
    ),
    "a flattened image": (
        model(lambda self, x: self.c(x.view(-1, 192)), c=nn.Linear(192, 4)), [Inputs("x", 5)], (IMAGE,), 1,
    ),
    "patches by reshape": (
        model(
            lambda self, x: self.c(x.reshape(2, 3, 2, 4, 2, 4).permute(0, 2, 4, 3, 5, 1).reshape(2, 4, 48)),
            c=nn.Linear(48, 4),
        ),
        [Inputs("x", 5)], (IMAGE,), 1,
    ),
    "a depthwise convolution": (
        model(lambda self, x: self.c(self.d(x)), c=conv(6, 4), d=conv(3, 6, groups=3)), [Inputs("x", 5)], (IMAGE,), 1,
    ),
    "a sum with what a layer makes of it": (
        model(lambda self, x: self.c(x + self.d(x).relu()), c=conv(3, 4), d=conv(3, 3)), [Inputs("x", 5)], (IMAGE,), 1,
    ),
    "two parts": (
        model(lambda self, x: self.c(x[:, :3]) + self.d(x[:, 3:]), c=conv(3, 4), d=conv(2, 4)),
        [Inputs("x", 7), 2.0], (normal(2, 5, 8, 8),), 1,
    ),
    "a recurrent layer": (
        model(lambda self, x: self.g(x)[0], g=nn.GRU(6, 5, batch_first=True)), [Inputs("x", 8)], (normal(2, 7, 6),), 2,
    ),
    "one of two inputs": (
        model(lambda self, x, y: self.c(x) + self.d(y), c=conv(3, 4), d=conv(2, 4)),
        [Inputs("y", 5), Outputs(9)], (IMAGE, normal(2, 2, 8, 8)), 1,
    ),
    "one of two by its layer": (
        model(lambda self, x, y: self.c(x) + self.d(y), c=conv(3, 4), d=conv(2, 4)),
        [Inputs("d", 5)], (IMAGE, normal(2, 2, 8, 8)), 1,
    ),
    "both that are concatenated": (
        model(lambda self, x, y: self.c(torch.cat([x, y], 1)), c=conv(5, 4)),
        [Inputs("x", 5), Inputs("y", 3), Outputs(9)], (IMAGE, normal(2, 2, 8, 8)), 1,
    ),
    "both that are added": (
        model(lambda self, x, y: self.c(x + y), c=conv(3, 4)),
        [Inputs("y", 5), Inputs("x", 5)], (IMAGE, normal(2, 3, 8, 8)), 1,
    ),
    "an input that is added to the output": (
        model(lambda self, x: x + self.d(self.c(x).relu()), c=conv(3, 4), d=conv(4, 3)),
        [Inputs("x", 5), Outputs(5, "mean"), Widen("c", 9)], (IMAGE,), 1,
    ),
    "an input whose size is asked for": (
        model(lambda self, x: self.c(x) if x.shape[1] == 3 else x, c=conv(3, 4)), [Inputs("x", 5)], (IMAGE,), 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("case", CAN_GROW)
def test_new_input_channels_count_for_nothing(case: str, output: Any) -> None:
    teacher, spec, inputs, dim = CAN_GROW[case]
    try:
        student = fxgrow.grow(teacher, spec, inputs, output=output)
    except PlanError as refused:  # the code itself says how large it is
        if output == "graph" or "must stay: the model's code states a size" not in str(refused):
            raise
        return
    assert_old_is_old(teacher, student, inputs)
    assert {end.dim for end in plan_of(student).io_dims if end.kind == "input"} == {dim}


REFUSED_INPUTS: dict[str, tuple[nn.Module, Any, tuple[Tensor, ...], str]] = {
    "as many": (model(lambda self, x: self.c(x), c=conv(3, 4)), Inputs("x", 3), (IMAGE,), "has 3 channels already;"),
    "fewer": (model(lambda self, x: self.c(x), c=conv(3, 4)), Inputs("x", 2), (IMAGE,), "more than 2; fxgrow only"),
    "no such argument": (
        model(lambda self, x: self.c(x), c=conv(3, 4)), Inputs("image", 5), (IMAGE,), "forward takes x, and 'image'",
    ),
    "a layer inside": (
        model(lambda self, x: self.d(self.c(x)), c=conv(3, 4), d=conv(4, 4)), Inputs("d", 5), (IMAGE,),
        "no input of the model enters d by itself; give the argument: x",
    ),
    "a constant of forward": (
        model(lambda self, x: self.c(x - torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)), c=conv(3, 4)),
        Inputs("x", 5), (IMAGE,), "meets the fixed size 3 in sub .*a buffer of the module would grow",
    ),
    "a layer norm": (
        model(lambda self, x: self.c(self.n(x)), c=nn.Linear(6, 4), n=nn.LayerNorm(6)), Inputs("x", 8), (ROWS,),
        "a layer norm in n takes all of them together",
    ),
    "a mean": (
        model(lambda self, x: self.c(x) + x.mean(1, keepdim=True), c=conv(3, 4)), Inputs("x", 5), (IMAGE,),
        "a mean over channels",
    ),
    "a softmax": (
        model(lambda self, x: self.c(x.softmax(1)), c=conv(3, 4)), Inputs("x", 5), (IMAGE,),
        "no layer sums over the channels of x: _softmax",
    ),
    "numbers of rows": (
        model(lambda self, x: self.e(x), e=nn.Embedding(5, 4)), Inputs("x", 8), (torch.arange(4)[None],),
        "no layer sums over the channels of x",
    ),
    "groups": (
        model(lambda self, x: self.c(x), c=conv(4, 4, groups=2)), Inputs("x", 6), (normal(2, 4, 8, 8),),
        "so that new ones would not come after the old",
    ),
    "returned": (
        model(lambda self, x: (self.c(x), x), c=conv(3, 4)), Inputs("x", 5), (IMAGE,), "it is an output of the model",
    ),
    "added to another input": (
        model(lambda self, x, y: self.c(x + y), c=conv(3, 4)), Inputs("x", 5), (IMAGE, normal(2, 3, 8, 8)),
        "meets the fixed size 3 in add.*another input, ask for both",
    ),
    "added to another, by other numbers": (
        model(lambda self, x, y: self.c(x + y), c=conv(3, 4)), [Inputs("x", 5), Inputs("y", 6)],
        (IMAGE, normal(2, 3, 8, 8)), "meet in one width",
    ),
    "one layer for two": (
        model(lambda self, x, y: self.c(torch.cat([x, y], 1)), c=conv(5, 4)), Inputs("c", 9),
        (IMAGE, normal(2, 2, 8, 8)), "no input of the model enters c by itself; give the argument: x, y",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_INPUTS)
def test_inputs_that_cannot_grow_are_refused_with_the_reason(case: str) -> None:
    teacher, spec, inputs, reason = REFUSED_INPUTS[case]
    with pytest.raises(PlanError, match=reason):
        fxgrow.grow(teacher, spec, inputs)


def test_an_argument_of_several_tensors() -> None:
    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c, self.d = conv(3, 4), conv(2, 4)

        def forward(self, images: list[Tensor]) -> Tensor:
            return self.c(images[0]) + self.d(images[1])

    teacher, images = randomise(Several().double()), [IMAGE, normal(2, 2, 8, 8)]
    with pytest.raises(PlanError, match=r"say which of images\[0\], images\[1\]"):
        fxgrow.grow(teacher, Inputs("images", 5), (images,))
    student = fxgrow.grow(teacher, Inputs("images[1]", 5), (images,))
    assert student.get_parameter("d.weight").shape == (4, 5, 3, 3)
    fxgrow.verify(teacher, student, (images,)).raise_if_different()
    more = [images[0], torch.cat([images[1], normal(2, 3, 8, 8)], 1)]
    assert relative_error(teacher(images), student(more)) == 0.0


# -- outputs ----------------------------------------------------------------------------------------------------


CAN_END: dict[str, tuple[nn.Module, list[Any], tuple[Tensor, ...]]] = {
    "a linear layer": (model(lambda self, x: self.c(x), c=nn.Linear(6, 10)), [("*", 13)], (ROWS,)),
    "a pointwise end": (model(lambda self, x: self.c(x).sigmoid(), c=nn.Linear(6, 10)), [("*", 13)], (ROWS,)),
    "a batch norm": (
        model(lambda self, x: self.b(self.c(x)), c=nn.Linear(6, 10), b=nn.BatchNorm1d(10)), [("*", 13)], (ROWS,),
    ),
    "an affine map": (
        model(lambda self, x: self.c(x) * self.s + self.t, c=nn.Linear(6, 10), s=normal(10), t=normal(10)),
        [("*", 13)], (ROWS,),
    ),
    "a literal size": (model(lambda self, x: self.c(x).view(5, 10), c=nn.Linear(6, 10)), [("*", 13)], (ROWS,)),
    "used in another layer": (
        model(lambda self, x: (self.c(x), self.d(self.c(x).relu())), c=nn.Linear(6, 10), d=nn.Linear(10, 4)),
        [("c", 13)], (ROWS,),
    ),
    "two outputs": (
        model(lambda self, x: (self.c(x), self.d(x)), c=nn.Linear(6, 10), d=nn.Linear(6, 4)),
        [("c", 13), ("d", 5)], (ROWS,),
    ),
    "two heads by one pattern": (
        model(lambda self, x: (self.head1(x), self.head2(x)), head1=nn.Linear(6, 10), head2=nn.Linear(6, 10)),
        [("head*", 13)], (ROWS,),
    ),
    "a sum of two layers": (
        model(lambda self, x: self.c(x) + self.d(x), c=nn.Linear(6, 10), d=nn.Linear(6, 10)), [("*", 13)], (ROWS,),
    ),
    "maps of classes": (
        model(lambda self, x: F.interpolate(self.c(x), scale_factor=2.0), c=conv(3, 5)), [("*", 7)], (IMAGE,),
    ),
    "a transposed convolution": (
        model(lambda self, x: self.t(self.c(x)), c=conv(3, 6), t=nn.ConvTranspose2d(6, 5, 2, 2)), [("*", 7)], (IMAGE,),
    ),
    "classes of each anchor": (
        model(lambda self, x: self.c(x).view(2, 3, 5, 8, 8).permute(0, 1, 3, 4, 2).reshape(2, -1, 5), c=conv(3, 15)),
        [("*", 7)], (IMAGE,),
    ),
    "a product with a parameter": (
        model(lambda self, x: x @ self.w + self.b, w=nn.Parameter(normal(6, 10)), b=nn.Parameter(normal(10))),
        [("*", 13)], (ROWS,),
    ),
    "rows that are normalised": (
        model(lambda self, x: F.linear(F.normalize(x), F.normalize(self.w)), w=nn.Parameter(normal(10, 6))),
        [("*", 13)], (ROWS,),
    ),
}  # fmt: skip


@pytest.mark.parametrize("new", NEW)
@pytest.mark.parametrize("case", CAN_END)
def test_old_outputs_stay_beside_new_ones(case: str, new: Any) -> None:
    teacher, requests, inputs = CAN_END[case]
    student = fxgrow.grow(teacher, [Outputs(number, new, pattern) for pattern, number in requests], inputs)
    assert_old_is_old(teacher, student, inputs)


REFUSED_OUTPUTS: dict[str, tuple[nn.Module, Any, str]] = {
    "as many": (model(lambda self, x: self.c(x), c=nn.Linear(6, 10)), Outputs(10), "c has 10 outputs already; ask"),
    "fewer": (model(lambda self, x: self.c(x), c=nn.Linear(6, 10)), Outputs(5), "more than 5; fxgrow only grows"),
    "softmax": (
        model(lambda self, x: self.c(x).softmax(-1), c=nn.Linear(6, 10)), Outputs(13),
        "no linear layer or convolution makes an output of the model: c must stay, because _softmax",
    ),
    "argmax": (model(lambda self, x: self.c(x).argmax(-1), c=nn.Linear(6, 10)), Outputs(13), "because argmax"),
    "norm": (model(lambda self, x: F.normalize(self.c(x)), c=nn.Linear(6, 10)), Outputs(13), "linalg_vector_norm"),
    "mean": (
        model(lambda self, x: self.c(x) - self.c(x).mean(-1, keepdim=True), c=nn.Linear(6, 10)), Outputs(13),
        "a mean over channels in mean .* takes all of them together",
    ),
    "flat": (
        model(lambda self, x: self.c(x).flatten(), c=nn.Linear(6, 10)), Outputs(13), r"the model returns 5\*c; new",
    ),
    "one after the other": (
        model(lambda self, x: torch.cat([self.c(x), self.d(x)], 1), c=nn.Linear(6, 10), d=nn.Linear(6, 4)),
        Outputs(13, pattern="c"), r"the model returns c \+ d; new",
    ),
    "in parts": (
        model(lambda self, x: self.c(x).chunk(2, 1), c=nn.Linear(6, 10)), Outputs(13), r"the model returns c\[:5\], c",
    ),
    "two outputs": (
        model(lambda self, x: (self.c(x), self.d(x)), c=nn.Linear(6, 10), d=nn.Linear(6, 4)), Outputs(13),
        "several outputs: give a pattern for one of the layers c, d",
    ),
    "another output": (
        model(lambda self, x: (self.c(x).softmax(-1), self.d(x)), c=nn.Linear(6, 10), d=nn.Linear(6, 4)), Outputs(13),
        "several outputs: give a pattern for one of the layers d",
    ),
    "a pattern of none": (
        model(lambda self, x: self.c(self.d(x)), c=nn.Linear(6, 10), d=nn.Linear(6, 6)), Outputs(13, pattern="d"),
        "'d' does not make an output of the model; layers that do: c",
    ),
    "a constant": (
        model(lambda self, x: self.c(x) * torch.arange(10.0), c=nn.Linear(6, 10)), Outputs(13), "the fixed size 10",
    ),
    "twice": (
        model(lambda self, x: self.c(x), c=nn.Linear(6, 10)), [Outputs(13), Outputs(13, "zero")], "meet in one width",
    ),
    "as a width, too": (
        model(lambda self, x: self.c(x), c=nn.Linear(6, 10)), [Outputs(13), Widen("c", 13)],
        r"Outputs\(13\) says how wide it is to be",
    ),
    "joined with itself": (
        model(lambda self, x: (self.c(x), torch.cat([self.c(x), self.c(x)], 1)), c=nn.Linear(6, 10)), Outputs(13),
        "the model returns c, c \\+ c; new outputs need a dimension whose last entries they are",
    ),
    "rows of zeros that are divided by": (
        model(lambda self, x: self.c(x).unsqueeze(-1) / self.c.weight, c=nn.Linear(6, 10, bias=False)),
        Outputs(13, new="zero"),
        "may make it infinite or NaN: div, which divides by c.weight, which is not finite where it is zero",
    ),
    "rows of zeros that are divided by, and a bias": (
        model(lambda self, x: self.c(x).unsqueeze(-1) / self.c.weight, c=nn.Linear(6, 10)), Outputs(13, new="zero"),
        "may make it infinite or NaN: div, which divides by c.weight, which is not finite where it is zero",
    ),
    "rows of zeros over themselves": (
        model(lambda self, x: (self.c.weight / self.c.weight) @ x.t() + self.c(x).t(), c=nn.Linear(6, 10)),
        Outputs(13, new="zero"), "divides by c.weight, which is not finite where it is zero",
    ),
    "rows of zeros that are divided by as a part": (
        model(lambda self, x: self.c(x) / self.c.weight[:, 0], c=nn.Linear(6, 10)), Outputs(13, new="zero"),
        "may make it infinite or NaN: div",
    ),
    "no layer": (model(lambda self, x: x * self.s, s=nn.Parameter(normal(6))), Outputs(13), "no linear layer or conv"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_OUTPUTS)
def test_outputs_that_cannot_grow_are_refused_with_the_reason(case: str) -> None:
    teacher, spec, reason = REFUSED_OUTPUTS[case]
    with pytest.raises(PlanError, match=reason):
        fxgrow.grow(teacher, spec, ROWS)


def test_what_clones_return_is_left_out_in_the_mode_that_they_return_it_in() -> None:
    plan = fxgrow.plan(fxgrow.widths(nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)), ROWS), 2.0)
    plan = replace(plan, clone_outputs=(CloneOutput("train", 1), CloneOutput("train", 3), CloneOutput("eval", 0)))
    tensors = [torch.full((), float(i)) for i in range(5)]

    def kept(mode: str, number: int) -> list[float]:
        return [float(tensor) for tensor in old_outputs([plan], mode, tensors, number)]

    assert kept("train", 3) == [0, 2, 4]
    assert kept("eval", 4) == [1, 2, 3, 4]
    assert kept("train", 5) == [0, 1, 2, 3, 4], "the clones add none for these inputs"


def test_a_table_that_is_also_the_head_stays() -> None:
    teacher = model(lambda self, x: F.linear(self.e(x), self.e.weight), e=nn.Embedding(10, 4))
    with pytest.raises(PlanError, match="rows of a table are looked up by number"):
        fxgrow.grow(teacher, Outputs(13), torch.arange(4)[None])


def test_what_new_outputs_are() -> None:
    teacher = model(lambda self, x: self.b(self.c(x)), c=nn.Linear(6, 10), b=nn.BatchNorm1d(10)).eval()
    zero, mean, random = (fxgrow.grow(teacher, Outputs(400, new), ROWS) for new in NEW)
    assert not zero(ROWS)[:, 10:].any()
    for name in ("weight", "running_var"):
        assert bool((zero.state_dict()[f"b.{name}"][10:] > 0.1).all())  # a gradient reaches the rows
    for name in ("c.weight", "c.bias", "b.weight", "b.bias", "b.running_mean", "b.running_var"):
        old = teacher.state_dict()[name]
        assert torch.allclose(mean.state_dict()[name][10:], old.mean(0).expand(390, *old.shape[1:]))
    for name in ("c.weight", "c.bias"):
        old, drawn = teacher.state_dict()[name], random.state_dict()[name][10:]
        assert len(drawn.unique()) == drawn.numel()
        assert abs(float(drawn.mean() - old.mean())) < 0.3 * float(old.std())
        assert 0.8 < float(drawn.std() / old.std(correction=0)) < 1.2
    assert set(random.state_dict()["b.running_var"].tolist()) == set(teacher.state_dict()["b.running_var"].tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_old_outputs_stay_in_every_dtype(dtype: torch.dtype) -> None:
    teacher = nn.Sequential(conv(3, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)).to(dtype)
    for new in NEW:
        student = fxgrow.grow(teacher, [Inputs("input", 5), Outputs(13, new)], IMAGE.to(dtype))
        weight = student.get_parameter("4.weight")
        assert weight.dtype == dtype
        assert torch.equal(weight[:10], teacher.get_parameter("4.weight"))
        assert bool(weight.isfinite().all())


# -- both, and everything else ---------------------------------------------------------------------------------


def _classifier() -> nn.Module:
    layers = [conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return randomise(nn.Sequential(*layers, nn.Linear(8, 10)).double())


EVERYTHING = [
    Widen("3", 12), Inputs("input", 6), Outputs(13, "mean"), Deepen("3"), Deepen("7", kind="residual"), Kernel("0", 5),
]  # fmt: skip


def test_all_requests_in_one_plan() -> None:
    teacher = _classifier()
    student = fxgrow.grow(teacher, EVERYTHING, IMAGE)
    plan = plan_of(student)
    assert [(end.kind, end.at, end.dim, end.old, end.new) for end in plan.io_dims] == [
        ("input", "input", 1, 3, 6), ("output", "eval", 1, 10, 13), ("output", "train", 1, 10, 13),
    ]  # fmt: skip
    assert "the channels of input: 3 more" in str(plan)
    assert student.get_parameter("0.weight").shape == (8, 6, 5, 5)
    report = fxgrow.verify(teacher, student, IMAGE).raise_if_different()
    assert report.nodes
    assert max(node.error for node in report.nodes) < 1e-12
    assert any("what 7 makes: 3 more" in note for note in report.notes)


def test_a_factor_for_everything_leaves_them_to_their_requests() -> None:
    teacher = _classifier()
    student = fxgrow.grow(teacher, [2.0, Inputs("input", 4), Outputs(11)], IMAGE)
    assert student.get_parameter("0.weight").shape == (16, 4, 3, 3)
    assert student.get_parameter("7.weight").shape == (11, 16)
    assert_old_is_old(teacher, student, IMAGE)


def test_a_plan_replays_to_the_same_bits() -> None:
    teacher = _classifier()
    student = fxgrow.grow(teacher, EVERYTHING, IMAGE, seed=3)
    plan = plan_of(student)
    read = Plan.from_json(plan.to_json())
    assert read == plan
    for replay in (fxgrow.apply(read, teacher), fxgrow.grow(teacher, json.dumps(plan.spec), IMAGE, seed=3)):
        for name, tensor in student.state_dict().items():
            assert torch.equal(replay.state_dict()[name], tensor), name


@pytest.mark.parametrize("example", [None, IMAGE])
def test_plans_chain(example: Tensor | None) -> None:
    teacher = _classifier()
    first = fxgrow.grow(teacher, [Inputs("input", 5), Outputs(11)], IMAGE)
    larger = torch.cat([IMAGE, normal(2, 2, 8, 8)], 1)
    second = fxgrow.grow(first, [Inputs("input", 6), Outputs(14), Widen("0", 12)], larger)
    both = Plan.from_json(plan_of(second).to_json())
    replay = fxgrow.apply(both, teacher, example)
    for name, tensor in second.state_dict().items():
        assert torch.equal(replay.state_dict()[name], tensor), name
    fxgrow.verify(teacher, replay, IMAGE).raise_if_different()
    fxgrow.verify(first, second, larger).raise_if_different()


def test_gradients_reach_what_is_new() -> None:
    for new in NEW:
        student = fxgrow.grow(_classifier(), [Inputs("input", 6), Outputs(13, new)], IMAGE)
        loss = F.cross_entropy(student(normal(8, 6, 8, 8)), torch.arange(5, 13))
        loss.backward()
        for name, at in (("0.weight", (slice(None), slice(3, None))), ("7.weight", slice(10, None))):
            gradient = student.get_parameter(name).grad
            assert gradient is not None
            assert bool(gradient[at].any()), (new, name)


@pytest.mark.parametrize(("kind", "break_it"), [("input", "0.weight"), ("output", "7.weight")])
def test_verify_sees_what_is_wrong(kind: str, break_it: str) -> None:
    """Mutants: new channels that are heard, an old output that has moved."""
    teacher = _classifier()
    student = fxgrow.grow(teacher, [Inputs("input", 6), Outputs(13)], IMAGE)
    with torch.no_grad():
        weight = student.get_parameter(break_it)
        weight[:, 4:] = 0.1 if kind == "input" else weight[:, 4:]
        weight[:13] = weight[:13] if kind == "input" else weight[:13].flip(0)
    assert not fxgrow.verify(teacher, student, IMAGE).exact


def test_other_plans_are_verified_as_before() -> None:
    """A student that just has other outputs is none of a plan with more of them."""
    teacher = _classifier()
    student = fxgrow.grow(teacher, 2.0, IMAGE)
    student.set_submodule("7", nn.Linear(16, 13).double())
    with pytest.raises(fxgrow.GrowError, match=r"gives .* where the teacher gives"):
        fxgrow.verify(teacher, student, IMAGE)


def test_their_methods_are_for_outputs_only() -> None:
    rows = ("zero_rows", "mean_rows", "random_rows")
    assert not set(rows) & set(names())
    for name in rows:
        with pytest.raises(PlanError, match="is only for the new channels of Outputs"):
            fxgrow.grow(_classifier(), 2.0, IMAGE, method=name)
        columns = Columns(1, torch.tensor([0, 1, 2, 0]), torch.tensor([True, True, True, False]))
        grown = method(name).contract(torch.ones(2, 4), columns, named_generator(0, "w"))
        assert grown.tolist() == [[1, 1, 1, 0]] * 2


@thinned("wider ends")
@pytest.mark.parametrize("net", EACH)
def test_every_net_grows_at_its_ends_or_says_why_not(net: Net) -> None:
    teacher, inputs = teacher_and_inputs(net)
    found = analysed(net.name)
    traced = found.traced
    sizes = [n for tensor in run(teacher, inputs) for n in tensor.shape]
    specs: list[Any] = [Outputs(max([1, *sizes]) + 3)]
    specs += [Inputs(label, max(tensor.shape, default=1) + 3) for label, tensor in labelled(traced.arguments).items()]
    for spec in specs:
        try:
            plan = fxgrow.plan(found, spec)
        except PlanError as refused:
            if repr(spec) not in str(refused):
                raise
            continue
        student = student_of(traced, plan, teacher)
        larger = padded_inputs([plan], teacher, Given(*arguments_of(inputs)))
        named = {**dict(zip(parameters_of(teacher), larger.args, strict=False)), **larger.kwargs}
        for mode in traced.tapes:
            ours = old_outputs([plan], mode, run(student, named if larger.kwargs else larger.args, mode))
            assert relative_error(run(teacher, inputs, mode), ours) <= 1e-10
        assert plan.io_dims
        assert {w.name for w in plan.grown_widths} == {end.group for end in plan.io_dims}


# -- torchvision ------------------------------------------------------------------------------------------------


def _vision(name: str) -> nn.Module:
    models = import_torchvision().models
    torch.manual_seed(0)
    made = {
        "resnet18": models.resnet18,
        "mobilenet_v3_small": models.mobilenet_v3_small,
        "vgg11_bn": small_vgg,
        "vit": lambda: models.VisionTransformer(32, 8, 2, 2, 32, 64),
        "swin": lambda: models.SwinTransformer([4, 4], 24, [2, 2], [2, 4], [4, 4]),
        "googlenet": lambda: models.googlenet(init_weights=False, aux_logits=True),
        "fcn": lambda: models.segmentation.fcn_resnet50(weights=None, weights_backbone=None, aux_loss=True),
    }[name]()
    return randomise(made.double())


@needs_torchvision
@pytest.mark.parametrize(
    ("name", "spec"),
    [
        pytest.param("resnet18", Inputs("x", 4), marks=THOROUGH),
        ("resnet18", [Inputs("conv1", 6), Outputs(1005, "zero"), Widen("layer2.*", 1.5)]),
        ("mobilenet_v3_small", [Inputs("x", 4), Outputs(1005, "mean"), 1.25]),
        ("vit", [Inputs("x", 6), Outputs(1005)]),
        pytest.param("vgg11_bn", Outputs(1005), marks=THOROUGH),
        pytest.param("swin", [Inputs("x", 4), Outputs(1005)], marks=THOROUGH),
        ("googlenet", [Inputs("x", 4), Outputs(1005, pattern="aux1.fc2"), Outputs(1005, pattern="fc")]),
        pytest.param(
            "fcn",
            [Outputs(25, pattern="classifier.4"), Outputs(23, "mean", pattern="aux_classifier.4")],
            marks=THOROUGH,
        ),
        pytest.param("fcn", [Inputs("x", 4), Outputs(25, "zero", pattern="*classifier.4")], marks=THOROUGH),
    ],
    ids=str,
)
def test_torchvision(name: str, spec: Any) -> None:
    teacher, x = _vision(name), normal(2, 3, *((32, 32) if name == "vit" else (64, 64)))
    student = fxgrow.grow(teacher, spec, x)
    assert list(student.state_dict()) == list(teacher.state_dict())
    report = fxgrow.verify(teacher, student, x)
    assert max(report.errors.values()) <= 1e-10
    assert max(node.error for node in report.nodes) <= 1e-10


@needs_torchvision
@pytest.mark.parametrize("name", [pytest.param("resnet18", marks=THOROUGH), "vit", "fcn"])
def test_torchvision_as_a_module(name: str) -> None:
    teacher, x = _vision(name), normal(2, 3, 32, 32)
    pattern = "*classifier.4" if name == "fcn" else "*"
    student = fxgrow.grow(teacher, [Inputs("x", 4), Outputs(1005, pattern=pattern)], x, output="module")
    assert type(student) is type(teacher)
    assert max(fxgrow.verify(teacher, student, x).errors.values()) <= 1e-10


@needs_torchvision
def test_torchvision_deeper_with_more_inputs_and_outputs() -> None:
    teacher, x = _vision("resnet18"), normal(2, 3, 64, 64)
    spec = [Widen("layer3.*", 1.5), Deepen("layer2.0.conv1"), Kernel("conv1", 9), Inputs("x", 4), Outputs(1005)]
    student = fxgrow.grow(teacher, spec, x)
    report = fxgrow.verify(teacher, student, x)
    assert max(report.errors.values()) <= 1e-10
    shapes = {name: tuple(student.get_parameter(name).shape) for name in ("conv1.weight", "fc.weight")}
    assert shapes == {"conv1.weight": (64, 4, 9, 9), "fc.weight": (1005, 512)}
    assert student.get_parameter("layer3.0.conv2.weight").shape[0] == 384
    assert "layer2.0.conv1_deeper1" in dict(student.named_modules())


@needs_torchvision
def test_torchvision_says_which_outputs_there_are() -> None:
    with pytest.raises(PlanError, match=r"give a pattern for one of the layers classifier\.4, aux_classifier\.4"):
        fxgrow.grow(_vision("fcn"), Outputs(25), normal(2, 3, 64, 64))
