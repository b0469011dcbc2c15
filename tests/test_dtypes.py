"""Low precision grows within its rounding; what cannot be grown is refused by name."""

import warnings

import pytest
import torch
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


@pytest.mark.parametrize(
    ("make", "shape", "name"),
    [(Spectral, (2, 3, 10), "spectrum"), (Quantised, (5, 7), "packed")],
    ids=["complex", "quantised"],
)
def test_unsupported_parameter_is_refused_by_name(make: type[nn.Module], shape: tuple[int, ...], name: str) -> None:
    teacher, x = make(), torch.randn(shape)
    teacher(x)
    with assert_untouched(teacher), pytest.raises(fxgrow.GrowError, match=name):
        fxgrow.grow(teacher, 2.0, x)


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
