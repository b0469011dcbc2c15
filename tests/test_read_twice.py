"""Language models whose head is their embedding: columns that are looked up are copied, and read zeros where summed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from tests.check import assert_exact, randomise

IDS = torch.randint(0, 20, (2, 5), generator=torch.Generator().manual_seed(0))


class RMS(nn.Module):
    """A norm that is written out, as most language models have it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float() if x.dtype == torch.bfloat16 else x
        return self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


class OneMore(nn.Module):
    """The norm of Gemma, whose gain is 1 + weight."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * (1.0 + self.weight.float()).to(x.dtype)


class OneLess(nn.Module):
    """A gain of 1 - weight and a shift of 2 - bias, in two spellings."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        return x.tanh() * (-self.weight + 1) + (3 - (self.bias + 1.0).neg().neg()[None])


class Shifted(nn.Module):
    """A gain and a shift without a norm."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        return x.tanh() * self.gain + self.shift


class Words(nn.Module):
    """An embedding, a residual block, a norm and a head that is the embedding."""

    def __init__(self, norm: nn.Module, read: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.embed, self.first = nn.Embedding(20, 8), nn.LayerNorm(8)
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 8)
        self.norm = norm
        self.head, self.read = nn.Linear(8, 20), read
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Any:
        h = self.embed(ids)
        h = h + self.down(self.up(self.first(h)).relu())
        return self.read(self, h)


NORMS: dict[str, Callable[[], nn.Module]] = {
    "layer norm": lambda: nn.LayerNorm(8),
    "layer norm without a shift": lambda: nn.LayerNorm(8, bias=False),
    "rms norm": lambda: nn.RMSNorm(8),
    "rms norm written out": lambda: RMS(8),
    "rms norm with 1 + weight": lambda: OneMore(8),
    "gain and shift": lambda: Shifted(8),
    "gain of 1 - weight": lambda: OneLess(8),
}
READS: dict[str, Callable[[Any, Tensor], Any]] = {
    "at once": lambda net, h: net.head(net.norm(h)),
    "scaled": lambda net, h: net.head(net.norm(h)[:, slice(0, None), :] * 8**-0.5),
    "by the embedding": lambda net, h: net.norm(h) @ net.embed.weight.t(),
    "after a decision by numbers": lambda net, h: net.head(net.norm(h if net.head.bias[0].item() < 1e9 else 2 * h)),
    "twice": lambda net, h: (net.head(net.norm(h)), net.head(net.norm(h)[:, -1]).softmax(-1)),
}


def words(norm: str = "layer norm", read: str = "at once") -> nn.Module:
    return randomise(Words(NORMS[norm](), READS[read]).double()).eval()


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("method", ["auto", "split", "even"])
@pytest.mark.parametrize("norm", NORMS)
def test_the_embedding_of_a_model_whose_head_it_is_grows(norm: str, method: str, output: Any) -> None:
    teacher = words(norm)
    student = fxgrow.grow(teacher, {"embed": 16}, IDS, method=method, output=output)
    assert student.get_parameter("embed.weight").shape == (20, 16)
    assert_exact(teacher, student, IDS, 1e-10)
    if output == "module":
        assert student.head.weight is student.embed.weight


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("read", READS)
def test_ways_to_read_the_head(read: str, output: Any) -> None:
    teacher = words("rms norm written out", read)
    if read == "by the embedding":
        teacher.head = nn.Identity()
    student = fxgrow.grow(teacher, 3.0, IDS, output=output)
    assert student.get_parameter("embed.weight").shape == (20, 24)
    assert_exact(teacher, student, IDS, 1e-10)


@pytest.mark.parametrize("method", ["auto", "split", "even", "zero_out"])
def test_a_width_without_a_norm_over_it_grows_to_any_size(method: str) -> None:
    teacher = words("gain and shift")
    teacher.first = nn.Identity()
    student = fxgrow.grow(teacher, {"embed": 11}, IDS, method=method)
    assert student.get_parameter("embed.weight").shape == (20, 11)
    assert_exact(teacher, student, IDS, 1e-10)


def _one_more(net: Any, h: Tensor, factor: Any) -> Tensor:
    return net.head(nn.functional.layer_norm(h, (8,)) * (1.0 + net.norm.weight)) * factor


STAY: dict[str, Callable[[Any, Tensor], Any]] = {
    "another layer reads it": lambda net, h: net.head((n := net.norm(h)) + net.down(net.up(n).relu())),
    "another head reads it": lambda net, h: (net.head(n := net.norm(h)), net.up(n).sum(-1)),
    "the residual": lambda net, h: net.head(net.norm(h) + h),
    "no norm": lambda net, h: net.head(h),
    "a gain that is true or false": lambda net, h: net.head(
        nn.functional.layer_norm(h, (8,)) * (net.norm.weight.bool() + 1.0)
    ),
    "an activation between": lambda net, h: net.head(torch.cos(net.norm(h))),
    "the gain is read elsewhere": lambda net, h: net.head(net.norm(h)) * net.norm.weight.mean(),
    "the gain is another's": lambda net, h: net.head(net.norm(net.down(net.up(net.norm(h)).relu()))),
    "a shift in between": lambda net, h: net.head(net.norm(h) + 0.5),
    "1 + gain is read elsewhere": lambda net, h: _one_more(net, h, (1.0 + net.norm.weight).mean()),
    "1 + gain and the gain": lambda net, h: _one_more(net, h, 1.0) + _one_more(net, h, net.norm.weight.mean()),
}


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("read", STAY)
def test_a_width_stays_where_other_calls_would_see_what_is_zero(read: str, output: Any) -> None:
    teacher = randomise(Words(nn.LayerNorm(8), STAY[read]).double())
    with pytest.raises(fxgrow.PlanError, match="summed over in one place and carried in another"):
        fxgrow.grow(teacher, {"embed": 16}, IDS, output=output)


def _dropped(net: Any, h: Tensor) -> Tensor:
    return net.head(nn.functional.dropout(net.norm(h), 0.3, training=net.training))


@pytest.mark.parametrize("output", ["graph", "module"])
def test_dropout_before_the_head_lets_zeros_through(output: Any) -> None:
    teacher = randomise(Words(nn.LayerNorm(8), _dropped).double())
    student = fxgrow.grow(teacher, {"embed": 16}, IDS, output=output)
    assert_exact(teacher, student, IDS, 1e-10, modes=["eval"])


@pytest.mark.parametrize("output", ["graph", "module"])
def test_what_is_zero_learns_and_the_optimizer_goes_along(output: Any) -> None:
    teacher = words()
    optimizer = torch.optim.Adam(teacher.parameters(), 1e-2)
    _step(teacher, optimizer)
    assert teacher.get_parameter("norm.weight") in optimizer.state
    student = fxgrow.grow(teacher, {"embed": 16}, IDS, optimizer=optimizer, output=output)
    gain = student.get_parameter("norm.weight")
    assert not gain[8:].any()
    assert not student.get_parameter("norm.bias")[8:].any()
    assert optimizer.state[gain]["exp_avg"].shape == (16,)
    before = gain.detach().clone()
    _step(student, optimizer)
    assert (gain != before).all()
    for _ in range(3):
        _step(student, optimizer)
    table = student.get_parameter("embed.weight")
    assert not torch.isclose(table[:, :8], table[:, 8:], rtol=1e-6, atol=0).any()


def _step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(IDS).flatten(0, 1), IDS.roll(1, 1).flatten()).backward()
    optimizer.step()


def test_plans_and_files_say_which_entries_are_zero(tmp_path: Path) -> None:
    teacher = words()
    plan = fxgrow.plan(fxgrow.widths(teacher, IDS, output="module"), {"embed": 16})
    again = fxgrow.Plan.from_json(plan.to_json())
    assert again == plan
    assert {t.name: t.zeroed for t in plan.tensors if t.zeroed} == {"norm.weight": (0,), "norm.bias": (0,)}
    assert any("norm.bias and norm.weight are zero" in note for note in plan.notes)
    torch.save(teacher.state_dict(), tmp_path / "teacher.pt")
    fxgrow.grow_checkpoint(again, tmp_path / "teacher.pt", tmp_path / "student.pt")
    student = fxgrow.apply(plan, teacher, IDS)
    written = torch.load(tmp_path / "student.pt")
    assert all(torch.equal(tensor, written[name]) for name, tensor in student.state_dict().items())


@pytest.mark.parametrize("norm", NORMS)
def test_a_student_with_such_a_head_grows_again(norm: str) -> None:
    teacher = words(norm)
    once = fxgrow.grow(teacher, {"embed": 16}, IDS)
    twice = fxgrow.grow(once, {"embed": 32, "up": 20}, IDS)
    assert twice.get_parameter("embed.weight").shape == (20, 32)
    assert_exact(teacher, twice, IDS, 1e-10)
