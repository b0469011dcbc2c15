"""Several forms of inputs in one student: with labels and without, and others that take another path."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from benchmarks.torchvision_shim import import_torchvision
from fxgrow import Deepen, Forms, Inputs, Kernel, Outputs, Widen
from tests.check import randomise

X = torch.randn(6, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(6) % 5
WITH_LABELS = {"x": X, "labels": LABELS}


class Classifier(nn.Module):
    """Returns logits, and with labels a loss as well, to which an auxiliary head adds."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.ReLU())
        self.aux = nn.Linear(8, 5)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        early = self.stem(x)
        logits = self.head(self.body(early).mean((2, 3)))
        if labels is None:
            return logits
        aux = F.cross_entropy(self.aux(early.mean((2, 3))), labels)
        return F.cross_entropy(logits, labels) + 0.3 * aux, logits


def assert_exact(teacher: nn.Module, student: nn.Module, *forms: Any) -> None:
    before = {name: tuple(tensor.shape) for name, tensor in teacher.named_parameters()}
    assert before != {name: tuple(tensor.shape) for name, tensor in student.named_parameters()}
    for form in forms:
        report = fxgrow.verify(teacher, student, form)
        assert report.exact, str(report)


def test_a_student_computes_the_function_of_its_teacher_in_each_form() -> None:
    teacher = randomise(Classifier().double())
    student = fxgrow.grow(teacher, 2.0, Forms(X, WITH_LABELS), output="module")
    assert type(student) is Classifier
    assert student.aux.in_features == 16
    assert_exact(teacher, student, X, WITH_LABELS)


def test_the_first_form_alone_does_not_show_what_another_one_does() -> None:
    teacher = randomise(Classifier().double())
    alone = fxgrow.grow(teacher, 2.0, X, output="module")
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        alone(X, LABELS)
    both = fxgrow.plan(fxgrow.widths(teacher, Forms(X, WITH_LABELS), output="module"), 2.0)
    assert {width.name for width in both.grown_widths} == {"stem.0", "body.0"}


def test_every_parameter_that_one_form_uses_gets_a_gradient() -> None:
    student = fxgrow.grow(randomise(Classifier().double()), 2.0, Forms(X, WITH_LABELS), output="module")
    student(X, LABELS)[0].backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in student.parameters())


class SumsInOneForm(nn.Module):
    """Without a target any width is exact; with one a sum over the channels counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(3, 8), nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor, target: Tensor | None = None) -> Tensor:
        hidden = self.first(x).relu()
        if target is not None:
            return self.last(self.second(hidden).relu()) - target - hidden.sum(1, keepdim=True)
        return self.last(self.second(hidden).relu())


def test_a_width_that_one_form_counts_stays_with_its_reason() -> None:
    teacher = SumsInOneForm().double()
    x, target = X[:, :, 0, 0], torch.ones(6, 2, dtype=torch.float64)
    alone = fxgrow.grow(teacher, 2.0, x, output="module")
    assert not fxgrow.verify(teacher, alone, (x, target)).exact, "the other form has to matter"
    for forms in (Forms(x, (x, target)), Forms((x, target), x)):
        plan = fxgrow.plan(fxgrow.widths(teacher, forms, output="module"), 2.0)
        assert [width.name for width in plan.grown_widths] == ["second"]
        assert "sum" in next(skipped.reason for skipped in plan.skipped if skipped.name == "first")
        assert_exact(teacher, fxgrow.apply(plan, teacher), x, (x, target))


class StatesASize(nn.Module):
    """With a flag the code states a size that a check alone can find."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor, scaled: bool = False) -> Tensor:
        hidden = self.first(x).relu()
        return self.last(hidden / hidden.shape[1] if scaled else hidden)


def test_a_size_that_the_code_reads_in_one_form_is_found_by_the_check() -> None:
    teacher = StatesASize().double()
    x = X[:, :, 0, 0]
    assert fxgrow.grow(teacher, 2.0, x, output="module").first.out_features == 16
    with pytest.raises(fxgrow.PlanError, match="states a size"):
        fxgrow.grow(teacher, 2.0, Forms(x, (x, True)), output="module")


def test_a_graph_takes_one_form_and_says_what_to_do() -> None:
    with pytest.raises(fxgrow.TraceError, match="output='module'"):
        fxgrow.grow(Classifier(), 2.0, Forms(X.float(), {"x": X.float(), "labels": LABELS}))
    student = fxgrow.grow(Classifier(), 2.0, Forms(X.float()))
    assert isinstance(student, torch.fx.GraphModule)


def test_what_takes_one_form_says_so() -> None:
    teacher = Classifier().double()
    student = fxgrow.grow(teacher, 2.0, Forms(X, WITH_LABELS), output="module")
    with pytest.raises(fxgrow.TraceError, match="one form of inputs is taken here at a time"):
        fxgrow.verify(teacher, student, Forms(X, WITH_LABELS))
    with pytest.raises(fxgrow.TraceError, match="one argument for each form"):
        Forms()
    with pytest.raises(fxgrow.TraceError, match="expected a tensor"):
        Forms(X, 3)  # type: ignore[arg-type]
    with pytest.raises(fxgrow.PlanError, match="Outputs takes one form"):
        fxgrow.grow(teacher, Outputs(7), Forms(X, WITH_LABELS), output="module")


def test_a_plan_holds_its_forms_and_looks_at_each_when_it_is_applied() -> None:
    teacher = randomise(Classifier().double())
    plan = fxgrow.plan(fxgrow.widths(teacher, Forms(X, WITH_LABELS), output="module"), 2.0)
    assert plan.inputs == "float64[6, 3, 8, 8] or x=float64[6, 3, 8, 8], labels=int64[6]"
    again = fxgrow.Plan.from_json(plan.to_json())
    assert again == plan
    for example in (None, X, Forms(X, WITH_LABELS)):
        assert_exact(teacher, fxgrow.apply(again, teacher, example), X, WITH_LABELS)

    class Other(Classifier):
        def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
            found = super().forward(x, labels)
            return found if labels is None else (2 * found[0], found[1])

    with pytest.raises(fxgrow.PlanError, match="another forward"):
        fxgrow.apply(plan, Other().double())
    with pytest.raises(fxgrow.PlanError, match="3 forms"):
        fxgrow.apply(plan, teacher, Forms(X, WITH_LABELS, X))


@pytest.mark.parametrize(
    "request_", [Inputs("x", 5), Kernel("stem.0", 5), Deepen("body.0"), Widen("body.0", 1.5)], ids=repr
)
def test_other_requests_are_exact_in_each_form(request_: Any) -> None:
    teacher = randomise(Classifier().double())
    student = fxgrow.grow(teacher, request_, Forms(X, WITH_LABELS), output="module")
    assert_exact(teacher, student, X, WITH_LABELS)


class KernelInOneForm(nn.Module):
    """A convolution whose weight is also used without it, in one form."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor, bare: bool = False) -> Tensor:
        return self.last(F.conv2d(x, self.conv.weight, padding=1) if bare else self.conv(x))


def test_a_kernel_that_another_form_uses_by_itself_stays() -> None:
    teacher = KernelInOneForm().double()
    fxgrow.grow(teacher, Kernel("conv", 5), X, output="module")
    with pytest.raises(fxgrow.PlanError, match="its weight is also used at"):
        fxgrow.grow(teacher, Kernel("conv", 5), Forms(X, (X, True)), output="module")


class Mixes(nn.Module):
    """Reads channels and steps as steps and channels, so that the number of steps is a factor of the width."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor, negative: bool = False) -> Tensor:
        hidden = self.first(x).relu().transpose(1, 2).reshape(len(x), x.shape[1], -1)
        return self.last(-hidden if negative else hidden)


def test_a_size_that_all_forms_have_is_kept_to_and_another_one_pins_the_width() -> None:
    teacher = randomise(Mixes().double())
    short, long = X.reshape(6, 64, 3)[:, :4], X.reshape(6, 64, 3)[:, :6]
    for alike in (Forms(short, (short, True)), Forms((short, True), short)):
        student = fxgrow.grow(teacher, 2.0, alike, output="module")
        assert_exact(teacher, student, short, (short, True))
        with pytest.raises(fxgrow.GrowError, match="6 entries in dimension 1 instead of 4"):
            student(long)
    for apart in (Forms(short, (long, True)), Forms((long, True), short)):
        with pytest.raises(fxgrow.PlanError, match="nothing of Mixes would grow"):
            fxgrow.grow(teacher, 2.0, apart, output="module")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(x).relu())


class Blocks(nn.Module):
    """Residual blocks in a list, whose number one form reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)
        self.blocks = nn.ModuleList([Block() for _ in range(2)])

    def forward(self, x: Tensor, counted: bool = False) -> Tensor:
        hidden = self.first(x)
        for block in self.blocks:
            hidden = block(hidden)
        return self.last(hidden * len(self.blocks) if counted else hidden)


def test_clones_are_checked_in_each_form() -> None:
    teacher = Blocks().double()
    x = X[:, :, 0, 0]
    student = fxgrow.grow(teacher, Deepen("blocks", blocks=1), Forms(x, (x, False)), output="module")
    assert len(student.blocks) == 3
    assert_exact(teacher, student, x)
    with pytest.raises(fxgrow.PlanError, match="mul"):
        fxgrow.grow(teacher, Deepen("blocks", blocks=1), Forms(x, (x, True)), output="module")


def test_channels_that_carry_a_mean_are_followed_in_each_form() -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm, self.last = nn.Linear(3, 8), nn.LayerNorm(8), nn.Linear(8, 2)

        def forward(self, x: Tensor, bent: bool = False) -> Tensor:
            hidden = self.first(x)
            return self.last(self.norm(hidden.tanh() if bent else hidden))

    teacher = randomise(Normed().double())
    x = X[:, :, 0, 0]
    wanted = Widen("first", 12, indivisible="average")
    assert_exact(teacher, fxgrow.grow(teacher, wanted, x, output="module"), x)
    with pytest.raises(fxgrow.PlanError, match="does not commute with the mean"):
        fxgrow.grow(teacher, wanted, Forms(x, (x, True)), output="module")


def test_a_form_that_runs_in_one_mode_only() -> None:
    class Trained(Classifier):
        def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
            if labels is not None and not self.training:
                raise ValueError("no labels in eval mode")
            return super().forward(x, labels)

    teacher = randomise(Trained().double())
    student = fxgrow.grow(teacher, 2.0, Forms(X, WITH_LABELS), output="module")
    assert_exact(teacher, student, X)
    losses = [float(one.train()(X, LABELS)[0].detach()) for one in (teacher, student)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_a_classifier_of_transformers_with_labels_and_without() -> None:
    import_torchvision()
    transformers = pytest.importorskip("transformers", reason="the extra transformers is not installed")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    config = transformers.BertConfig(**sizes, vocab_size=20, max_position_embeddings=8, num_labels=5)
    teacher = randomise(transformers.BertForSequenceClassification(config).double())
    words = torch.randint(20, (3, 6), generator=torch.Generator().manual_seed(2))
    forms = {"input_ids": words}, {"input_ids": words, "labels": torch.tensor([1, 0, 4])}
    student = fxgrow.grow(teacher, 2.0, Forms(*forms), output="module")
    assert_exact(teacher, student, *forms)
