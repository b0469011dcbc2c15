"""Low precision grows within its rounding; what cannot be grown is refused by name."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors import torch as safetensors
from torch import Tensor, nn

import fxgrow
from tests.check import assert_exact, given, randomise, relative_error, run
from tests.nets import NETS
from tests.untouched import assert_untouched

SOME = (
    "conv2d",
    "plain_network",
    "res_net",
    "dense_net",
    "inverted_residuals",
    "linear",
    "layernorm_on_tokens",
)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("name", SOME)
def test_low_precision_grows_within_its_rounding(name: str, dtype: torch.dtype) -> None:
    net = NETS[name]
    teacher = randomise(net.make()).to(dtype)
    inputs = given(net.inputs(), dtype)
    student = fxgrow.grow(teacher, 2.0, inputs)
    # Some tens of roundings: the outputs of both differ from the true ones by that much.
    assert_exact(teacher, student, inputs, 30 * torch.finfo(dtype).eps, modes=("eval", "train"))


@pytest.mark.parametrize("name", SOME)
def test_low_precision_shares_are_drawn_in_high_precision(name: str) -> None:
    """Computed in float64, the bfloat16 student is as near to its teacher as one rounding of each share."""
    net = NETS[name]
    teacher = randomise(net.make()).bfloat16()
    student = fxgrow.grow(teacher, 2.0, given(net.inputs(), torch.bfloat16))
    inputs = given(net.inputs(), torch.float64)
    error = relative_error(run(teacher.double(), inputs), run(student.double(), inputs))
    assert error <= 8 * torch.finfo(torch.bfloat16).eps


def test_mixed_dtypes_stay() -> None:
    """Half of the network in another precision."""

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(7, 6), nn.Linear(6, 5).double()
            self.c = nn.Linear(5, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(torch.tanh(self.b(torch.tanh(self.a(x)).double())).float())

    teacher, x = randomise(Mixed()), torch.randn(3, 7)
    student = fxgrow.grow(teacher, 2.0, x)
    assert_exact(teacher, student, x, 1e-5)
    assert student.get_parameter("b.weight").dtype is torch.float64


def test_memory_format_stays() -> None:
    net = NETS["res_net"]
    teacher = randomise(net.make()).to(memory_format=torch.channels_last)
    student = fxgrow.grow(teacher, 2.0, net.inputs())
    assert student.get_parameter("layer1.0.conv1.weight").is_contiguous(memory_format=torch.channels_last)
    assert not student.get_parameter("layer1.0.conv1.weight").is_contiguous()


class Spectral(nn.Module):
    """A Fourier layer with a complex weight, between layers that could grow."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(3, 6, 1), nn.Conv1d(6, 4, 1)
        self.spectrum = nn.Parameter(torch.randn(6, 6, 4, dtype=torch.cfloat))

    def forward(self, x: Tensor) -> Tensor:
        modes = torch.fft.rfft(self.a(x))[..., :4]
        y = torch.einsum("ncl,col->nol", modes, self.spectrum)
        return self.b(torch.fft.irfft(y, n=x.size(-1)))


class Quantised(nn.Module):
    """A layer that keeps its weight in eight bits."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(7, 6), nn.Linear(6, 4)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch means to remove these tensors; there are models that have them
            packed = torch.quantize_per_tensor(torch.randn(6, 6), 0.05, 0, torch.qint8)
        self.packed = nn.Parameter(packed, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(nn.functional.linear(torch.tanh(self.a(x)), self.packed.dequantize())))


def test_unsupported_parameter_is_refused_by_name() -> None:
    teacher, x = Quantised(), torch.randn(5, 7)
    teacher(x)
    with assert_untouched(teacher), pytest.raises(fxgrow.GrowError, match="packed"):
        fxgrow.grow(teacher, 2.0, x)


@pytest.mark.parametrize("method", ["auto", "split", "even"])
@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_complex_weight_grows_along_each_of_its_widths(method: str, output: Literal["graph", "module"]) -> None:
    torch.manual_seed(0)
    teacher, x = Spectral(), torch.randn(2, 3, 10)
    student = fxgrow.grow(teacher, 1.5, x, method=method, output=output)
    spectrum = student.get_parameter("spectrum")
    assert spectrum.shape == (9, 9, 4)
    assert spectrum.dtype == torch.cfloat
    assert_exact(teacher, student, x, 1e-5)
    for part in (spectrum.detach()[:6, 6:].real, spectrum.detach()[:6, 6:].imag):
        assert (part != 0).all()
    assert (spectrum.detach()[6:, :6] == 0).all() == (method == "auto")


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.RMSprop, torch.optim.Adagrad], ids=lambda m: m.__name__)
def test_an_optimizer_of_complex_weights_trains_on(make: Any) -> None:
    torch.manual_seed(0)
    teacher, x = Spectral(), torch.randn(2, 3, 10)
    optimizer = make(teacher.parameters(), 1e-3)

    def step(model: nn.Module) -> float:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    before = [step(teacher) for _ in range(3)]
    student = fxgrow.grow(teacher, 1.5, x, optimizer=optimizer)
    after = [step(student) for _ in range(3)]
    assert before[-1] > after[0] > after[-1]


def test_a_file_with_complex_weights_grows_as_in_memory(tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher, x = Spectral(), torch.randn(2, 3, 10)
    student = fxgrow.grow(teacher, 1.5, x)
    torch.save(teacher.state_dict(), tmp_path / "teacher.pt")
    safetensors.save_file(teacher.state_dict(), tmp_path / "teacher.safetensors")
    for kind in ("pt", "safetensors"):
        fxgrow.grow_checkpoint(fxgrow.plan_of(student), tmp_path / f"teacher.{kind}", tmp_path / f"student.{kind}")
    states = torch.load(tmp_path / "student.pt"), safetensors.load_file(tmp_path / "student.safetensors")
    for state in states:
        assert state.keys() == student.state_dict().keys()
        assert all(torch.equal(state[name], tensor) for name, tensor in student.state_dict().items())


def test_default_dtype_does_not_matter() -> None:
    """A float32 model grown where float64 is the default stays a float32 model."""
    net = NETS["res_net"]
    teacher, inputs = randomise(net.make()), net.inputs()
    torch.set_default_dtype(torch.float64)
    try:
        student = fxgrow.grow(teacher, 2.0, inputs)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_exact(teacher, student, inputs, 1e-5)


@pytest.mark.parametrize("context", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_grad_mode_does_not_matter(context: type) -> None:
    net = NETS["res_net"]
    teacher, inputs = randomise(net.make()), net.inputs()
    with context():
        student = fxgrow.grow(teacher, 2.0, inputs)
    assert_exact(teacher, student, inputs, 1e-5)
    student(*inputs).sum().backward()
    assert all(p.grad is not None for p in student.parameters())


class ByDtype(nn.Module):
    """A layer whose result is scaled by what its code asks about dtypes."""

    def __init__(self, scale: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.scale, self.a, self.b = scale, nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.b(h) * self.scale(h, self.a.weight)


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize(
    "scale",
    [
        lambda h, w: 2.0 if h.dtype == w.dtype else 3.0,
        lambda h, w: 1.0 if h.dtype == torch.float16 else 2.0,
        lambda h, w: h.element_size(),
        lambda h, w: torch.finfo(h.dtype).bits,
    ],
)
def test_a_student_that_is_cast_does_what_its_teacher_does(scale: Any, output: Literal["graph", "module"]) -> None:
    teacher, x = ByDtype(scale).double(), torch.randn(2, 6, dtype=torch.float64)
    student = fxgrow.grow(teacher, 2.0, x, output=output)
    assert relative_error(run(teacher.float(), x.float()), run(student.float(), x.float())) < 1e-5


@pytest.mark.parametrize(
    "scale",
    [
        lambda h, w: 2.0 if h.dtype == torch.float64 else 3.0,
        lambda h, w: 2.0 if w.dtype == torch.float64 else 3.0,
        lambda h, w: 2.0 if h.dtype in (torch.int8, torch.float64) else 3.0,
        lambda h, w: {torch.float64: 2.0, torch.float32: 3.0}[h.dtype],
    ],
)
def test_a_graph_that_is_cast_refuses_where_its_teacher_takes_another_path(scale: Any) -> None:
    teacher, x = ByDtype(scale).double(), torch.randn(2, 6, dtype=torch.float64)
    student = fxgrow.grow(teacher, 2.0, x)
    assert_exact(teacher, student, x, 1e-10)
    with pytest.raises(fxgrow.GrowError, match="would take another path"):
        student.float()(x.float())


@pytest.mark.parametrize(
    "lowest",
    [
        lambda h: torch.finfo(h.dtype).min,
        lambda h: torch.finfo(h.dtype).min / 2,
        lambda h: -torch.finfo(h.dtype).max,
        lambda h: float(torch.iinfo(h.long().dtype).min),
    ],
)
def test_a_graph_asks_for_the_limits_of_a_dtype_when_it_runs(lowest: Callable[[Tensor], Any]) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v, self.last = (nn.Linear(6, 6) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            scores = self.q(x) @ self.k(x).transpose(-1, -2)
            scores = scores.masked_fill(x[:, None, :, 0] > 0.5, lowest(scores))
            return self.last(scores.softmax(-1) @ self.v(x))

    teacher, x = Masked().double(), torch.randn(2, 5, 6, dtype=torch.float64)
    student = fxgrow.grow(teacher, {"v": 12}, x)
    assert {"q", "k", "v", "last"} <= {str(node.target) for node in student.graph.nodes}
    assert_exact(teacher, student, x, 1e-10)
    plan = fxgrow.Plan.from_json(fxgrow.plan(fxgrow.widths(teacher, x), {"v": 12}).to_json())
    assert_exact(teacher, fxgrow.apply(plan, teacher), x, 1e-10)
    assert relative_error(run(teacher.float(), x.float()), run(student.float(), x.float())) < 1e-5


class _Converts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b.float()(self.a(x).float()).to(x.dtype))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("output", ["graph", "module"])
def test_what_is_rounded_to_eight_bits_grows_by_replicas(
    dtype: torch.dtype, output: Literal["graph", "module"]
) -> None:
    class Rounded(_Converts):
        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.b(self.a(x).to(dtype).to(x.dtype)))

    teacher, x = randomise(Rounded()).double(), torch.randn(4, 6, dtype=torch.float64)
    student = fxgrow.grow(teacher, 2.0, x, output=output)
    assert student.get_parameter("a.weight").shape[0] == 16
    assert_exact(teacher, student, x, 1e-10)
