"""Layers whose weight is a function of a parameter: normalised, quantised, modulated.

Where the function is zero at zero and what it is divided by does not see zeros, new entries of zero are exact. Where it
is not, the width stays, or channels are replicas.
"""

import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils import spectral_norm as older_spectral_norm
from torch.nn.utils import weight_norm as older_weight_norm
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import fxgrow
from fxgrow import Inputs, Outputs
from tests.check import assert_exact, randomise

Function = Callable[[Tensor], Tensor]
X = torch.randn(2, 3, 7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class Conv(nn.Conv2d):
    """A convolution by a function of its weight."""

    def __init__(self, old: int, new: int, function: Function, *, bias: bool = True) -> None:
        super().__init__(old, new, 3, padding=1, bias=bias)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.function(self.weight), self.bias, self.stride, self.padding)


def _each(function: Function) -> Callable[[int, int], nn.Module]:
    return lambda old, new: Conv(old, new, function)


def _standardised(w: Tensor) -> Tensor:
    return (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)


def _standardised_step_by_step(w: Tensor) -> Tensor:
    w = w - w.mean(1, keepdim=True).mean(2, keepdim=True).mean(3, keepdim=True)
    deviation = w.view(w.shape[0], -1).std(dim=1).view(-1, 1, 1, 1) + 1e-5
    return w / deviation.expand_as(w)


def _by_batch_norm(w: Tensor) -> Tensor:
    rows = F.batch_norm(w.reshape(1, w.shape[0], -1), None, None, training=True, momentum=0.0, eps=1e-2)
    return rows.reshape_as(w)


def _written_to(w: Tensor) -> Tensor:
    w = w - w.mean((1, 2, 3), keepdim=True)
    w.view(-1).add_(0.3)
    return w


def _in_eight_bits(w: Tensor) -> Tensor:
    scale = w.abs().amax((1, 2, 3), keepdim=True) / 127
    return w + ((w / scale).round().clamp(-127, 127) * scale - w).detach()


def _conv(old: int, new: int, *, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(old, new, 3, padding=1, bias=bias)


# What makes a layer of (channels in, channels out), and the method by which its width grows; "" where it stays.
LAYERS: dict[str, tuple[Callable[[int, int], nn.Module], str]] = {
    "weight_norm": (lambda a, b: weight_norm(_conv(a, b)), "zero_out"),
    "weight_norm of all": (lambda a, b: weight_norm(_conv(a, b), dim=None), "random_bias"),
    "weight_norm of columns": (lambda a, b: weight_norm(_conv(a, b), dim=1), ""),
    "weight_norm, transposed": (lambda a, b: weight_norm(nn.ConvTranspose2d(a, b, 3, padding=1), dim=1), "zero_out"),
    "older weight_norm": (lambda a, b: older_weight_norm(_conv(a, b)), "zero_out"),
    "older weight_norm of all": (lambda a, b: older_weight_norm(_conv(a, b), dim=None), "random_bias"),
    "spectral_norm": (lambda a, b: spectral_norm(_conv(a, b)), "random_bias"),
    "older spectral_norm": (lambda a, b: older_spectral_norm(_conv(a, b)), "random_bias"),
    "spectral_norm, no bias": (lambda a, b: spectral_norm(_conv(a, b, bias=False)), ""),
    "spectral_norm, batch norm": (
        lambda a, b: nn.Sequential(spectral_norm(_conv(a, b, bias=False)), nn.BatchNorm2d(b)),
        "random_bias",
    ),
    "over its length": (_each(lambda w: w / w.norm()), "random_bias"),
    "rows over their length": (_each(lambda w: w / w.flatten(1).norm(dim=1)[:, None, None, None]), "zero_out"),
    "rows normalised": (_each(lambda w: F.normalize(w.flatten(1), dim=1).view_as(w)), "zero_out"),
    "rows over a root": (_each(lambda w: w * (w.pow(2).sum((1, 2, 3), True) + 1e-8).rsqrt()), "zero_out"),
    "columns over their length": (_each(lambda w: w / w.norm(dim=0, keepdim=True)), ""),
    "over the largest": (_each(lambda w: w / w.abs().amax((1, 2, 3), keepdim=True)), "zero_out"),
    "in eight bits": (_each(_in_eight_bits), "zero_out"),
    "tanh": (_each(torch.tanh), "zero_out"),
    "signs": (_each(lambda w: w + (w.sign() - w).detach()), "zero_out"),
    "clamped": (_each(lambda w: w.clamp(-0.1, 0.1)), "zero_out"),
    "clamped above zero": (_each(lambda w: w.clamp(0.01, 0.1)), ""),
    "times a gate of itself": (_each(lambda w: w * w.sigmoid()), ""),
    "standardised": (_each(_standardised), "split"),
    "standardised step by step": (_each(_standardised_step_by_step), "split"),
    "standardised by a batch norm": (_each(_by_batch_norm), "split"),
    "standardised, in columns": (_each(lambda w: (w - w.mean(0)) / (w.var(0, False) + 1e-5).sqrt()), ""),
    "less its mean": (_each(lambda w: w - w.flatten(1).mean(1)[:, None, None, None]), "split"),
    "less its mean, in place": (_each(lambda w: w.clone().sub_(w.mean((1, 2, 3), keepdim=True))), ""),
    "less a negative mean": (_each(lambda w: w - (-w.mean((1, 2, 3), keepdim=True))), ""),
    "rotated, less its mean": (_each(lambda w: w.rot90(1, (2, 3)) - w.mean((1, 2, 3), keepdim=True)), "split"),
    "less its mean, twice": (_each(lambda w: w - 2 * w.mean((1, 2, 3), keepdim=True)), ""),
    "less the mean of its negative": (_each(lambda w: w - (-w).mean((1, 2, 3), keepdim=True)), ""),
    "less its mean, written to": (_each(_written_to), ""),
    "less its mean, squared": (_each(lambda w: _standardised(w) ** 2), ""),
    "standardised, and as it is": (_each(lambda w: _standardised(w) + w), ""),
    "over its variance": (_each(lambda w: w / (1 + w.var((1, 2, 3), keepdim=True))), ""),
    "two kinds of variance": (
        _each(lambda w: _standardised(w) / (1 + w.flatten(1).var(1, False)[:, None, None, None])),
        "",
    ),
    "over the largest of signed": (_each(lambda w: w / w.amax((1, 2, 3), keepdim=True)), ""),
    "over its mean size": (_each(lambda w: w / w.abs().mean((1, 2, 3), keepdim=True)), ""),
}


def _net(make: Callable[[int, int], nn.Module]) -> nn.Sequential:
    torch.manual_seed(0)
    layers = make(3, 8), nn.LeakyReLU(0.1), make(8, 6), nn.Tanh(), make(6, 4)
    net = randomise(nn.Sequential(*layers, nn.LeakyReLU(0.3), _conv(4, 2)).double()).eval()
    with torch.no_grad():
        net(X)  # the older kinds keep a weight with a gradient until they run, which no copy can take
    return net


@pytest.fixture(autouse=True)
def older_kinds() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is deprecated", FutureWarning)
        yield


def _methods(student: nn.Module) -> set[str]:
    return {width.method for width in fxgrow.plan_of(student).grown_widths}


@pytest.mark.parametrize("factor", [1.5, 2.0])
@pytest.mark.parametrize("name", LAYERS)
def test_a_function_of_a_weight_grows_exactly_or_stays(name: str, factor: float) -> None:
    make, method = LAYERS[name]
    teacher = _net(make)
    if name == "spectral_norm, no bias":  # of all three layers
        with pytest.raises(fxgrow.PlanError, match="there is no bias, so that they would never be trained"):
            fxgrow.grow(teacher, factor, X)
        return
    plan = fxgrow.plan(fxgrow.widths(teacher, X), factor)
    grown = [width.name for width in plan.grown_widths if not width.name.startswith("4")]
    assert len(grown) == (2 if method else 0), plan  # the widths between two such layers
    assert {plan.width(name).method for name in grown} == ({method} if method else set())
    for output in ("graph", "module"):
        student = fxgrow.grow(teacher, factor, X, output=output)
        for mode in (False, True):
            for _ in range(3):  # power iterations change buffers
                a, b = teacher.train(mode)(X), student.train(mode)(X)
                assert torch.allclose(a, b, 1e-11, 1e-11)
        teacher.eval()
        student.train()(X).square().sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in student.parameters())


@pytest.mark.parametrize(
    "function",
    [
        lambda w: w - w.mean((1, 2, 3), keepdim=True).flip(0),
        lambda w: w - w.mean((1, 2, 3), keepdim=True).roll(1, 0),
        lambda w: w.flip(0) - w.mean((1, 2, 3), keepdim=True),
        lambda w: w.rot90(1, (0, 1)) - w.mean((0, 2, 3))[None, :, None, None],
        lambda w: w - w.flip(0).mean((1, 2, 3), keepdim=True),
    ],
)
def test_weights_less_the_means_of_other_rows_are_not_standardised(function: Function) -> None:
    torch.manual_seed(0)
    teacher = randomise(nn.Sequential(_conv(3, 8), nn.Tanh(), Conv(8, 8, function), nn.Tanh(), _conv(8, 2)).double())
    for spec in (1.5, {"0": 12}):
        try:
            student = fxgrow.grow(teacher, spec, X)
        except fxgrow.PlanError:
            continue
        assert_exact(teacher, student, X, 1e-10)


@pytest.mark.parametrize("name", [name for name, (_, method) in LAYERS.items() if method and name != "clamped"])
def test_new_channels_learn(name: str) -> None:
    """After two steps of training every new entry of every weight has moved."""
    teacher = _net(LAYERS[name][0])
    student = fxgrow.grow(teacher, 1.5, X, output="module").train()
    before = {key: p.detach().clone() for key, p in student.named_parameters()}
    optimizer = torch.optim.Adam(student.parameters(), 1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        (student(X) - 1).square().mean().backward()
        optimizer.step()
    for key, p in student.named_parameters():
        old = teacher.get_parameter(key).shape
        new = torch.ones_like(p, dtype=torch.bool)
        new[tuple(slice(n) for n in old)] = False
        still = (p.detach() == before[key]) & new
        assert not still.any(), key


def test_new_units_whose_rows_are_zero_are_on() -> None:
    """A unit with a row of zeros and a negative bias would be off for every input, and stay so."""
    torch.manual_seed(0)
    teacher = nn.Sequential(spectral_norm(nn.Linear(5, 6)), nn.ReLU(), nn.Linear(6, 3)).double().eval()
    student = fxgrow.grow(teacher, 4.0, torch.randn(4, 5, dtype=torch.float64), output="module")
    bias = student[0].bias[6:]
    assert bias.min() > 0
    assert bias.max() <= 0.2


@pytest.mark.parametrize("method", ["split", "even"])
def test_a_method_of_replicas_says_that_columns_must_be_zero(method: str) -> None:
    graph = fxgrow.widths(_net(LAYERS["weight_norm"][0]), X)
    with pytest.raises(fxgrow.PlanError, match=f"{method} makes columns that are not zero, as .*takes the norm of"):
        fxgrow.plan(graph, {"0.parametrizations.weight": 12}, method=method)


@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm"])
def test_zero_out_by_name_is_the_default_there(name: str) -> None:
    graph = fxgrow.widths(_net(LAYERS[name][0]), X)
    chosen = [{width.method for width in fxgrow.plan(graph, 1.5, method=m).grown_widths} for m in ("auto", "zero_out")]
    assert chosen[0] == chosen[1] == {LAYERS[name][1]}


def test_new_rows_that_a_norm_sees_are_zero_or_not_as_it_needs() -> None:
    def last(layer: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), layer).double()

    x = torch.randn(4, 5, dtype=torch.float64)
    spectral, weighed = (last(kind(nn.Linear(6, 3))) for kind in (spectral_norm, weight_norm))
    with pytest.raises(fxgrow.PlanError, match="ask for new='zero'"):
        fxgrow.grow(spectral, Outputs(5, new="random"), x)
    with pytest.raises(fxgrow.PlanError, match=r"infinite or NaN.*ask for new='mean' or new='random'"):
        fxgrow.grow(weighed, Outputs(5, new="zero"), x)
    for teacher, new in ((spectral.eval(), "zero"), (weighed, "random"), (weighed, "mean")):
        student = fxgrow.grow(teacher, Outputs(5, new=new), x)
        assert torch.allclose(student(x)[:, :3], teacher(x), 1e-12, 1e-12)
        assert student(x).isfinite().all()


@pytest.mark.parametrize("kind", [spectral_norm, weight_norm])
def test_more_inputs_of_a_normalised_layer(kind: Callable[[nn.Module], nn.Module]) -> None:
    teacher = nn.Sequential(kind(nn.Linear(5, 6)), nn.ReLU(), nn.Linear(6, 3)).double().eval()
    x = torch.randn(4, 5, dtype=torch.float64)
    student = fxgrow.grow(teacher, Inputs("input", 7), x)
    more = torch.cat([x, torch.randn(4, 2, dtype=torch.float64)], 1)
    assert torch.allclose(student(more), teacher(x), 1e-12, 1e-12)


class Scaled(nn.Conv2d):
    """A convolution whose rows a batch norm with a gain standardises, in groups, as in a network without norms."""

    def __init__(self, old: int, new: int, groups: int = 1) -> None:
        super().__init__(old, new, 3, padding=1, groups=groups)
        self.gain, self.eps = nn.Parameter(torch.rand(new, 1, 1, 1) + 0.5), 1e-2

    def forward(self, x: Tensor) -> Tensor:
        rows, gain = self.weight.reshape(1, self.out_channels, -1), (self.gain * 0.3).view(-1)
        weight = F.batch_norm(rows, None, None, gain, training=True, momentum=0.0, eps=self.eps)
        return F.conv2d(x, weight.reshape_as(self.weight), self.bias, self.stride, self.padding, 1, self.groups)


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("factor", [1.25, 2.0, 3.0])
def test_standardised_convolutions_grow_in_groups_and_behind_joins(factor: float, output: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.d = Scaled(3, 8), Scaled(8, 8, 2), Scaled(16, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.silu(self.a(x))
            x = F.silu(self.c(torch.cat([x, F.silu(self.b(x))], 1)))
            return self.d(x.mean((2, 3)))

    torch.manual_seed(0)
    teacher = randomise(Net().double())
    student = fxgrow.grow(teacher, factor, X, output=output)
    assert all(student.get_parameter(f"{name}.weight").shape[1] > 3 for name in "bc")
    assert student.get_parameter("c.weight").shape[:2] > teacher.c.weight.shape[:2]
    assert_exact(teacher, student, X, 1e-10)
    again = fxgrow.apply(fxgrow.Plan.from_json(fxgrow.plan_of(student).to_json()), teacher)
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), again.parameters(), strict=True))


def test_a_standardised_weight_takes_no_new_inputs() -> None:
    teacher = nn.Sequential(Scaled(3, 8), nn.ReLU(), Scaled(8, 4)).double()
    with pytest.raises(fxgrow.PlanError, match=r"standardises the rows of 0\.weight takes all of them together"):
        fxgrow.grow(teacher, Inputs("input", 6), X)
    everything = nn.Sequential(
        Conv(3, 8, lambda w: w - w.mean()), nn.ReLU(), Conv(8, 4, lambda w: w - w.mean())
    ).double()
    with pytest.raises(fxgrow.PlanError, match=r"the mean from the rows of 0\.weight, and it is not summed over"):
        fxgrow.grow(everything, 2.0, X)
    with pytest.raises(fxgrow.PlanError, match="adds channels that are no replicas"):
        fxgrow.plan(fxgrow.widths(teacher, X), {"0": 12}, method="zero_out")


class Modulated(nn.Module):
    """A convolution whose weight a style scales and a root divides, for each example apart, as in StyleGAN2."""

    def __init__(self, old: int, new: int, styles: int) -> None:
        super().__init__()
        self.weight, self.style = nn.Parameter(torch.randn(1, new, old, 3, 3)), nn.Linear(styles, old)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        n, c, h, w = x.shape
        weight = self.weight * self.style(style).view(n, 1, c, 1, 1)
        weight = weight * torch.rsqrt(weight.pow(2).sum([2, 3, 4]) + 1e-8)[:, :, None, None, None]
        rows = weight.shape[1]
        out = F.conv2d(x.reshape(1, n * c, h, w), weight.view(n * rows, c, 3, 3), padding=1, groups=n)
        return out.view(n, rows, h, w)


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = Modulated(3, 8, 5), Modulated(8, 6, 5), nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        x = F.leaky_relu(self.a(x, style), 0.2)
        return self.last(F.leaky_relu(self.b(x, style), 0.2))


@pytest.mark.parametrize("output", ["graph", "module"])
def test_modulated_convolutions_grow(output: str) -> None:
    torch.manual_seed(0)
    teacher, inputs = Generator().double(), (X, torch.randn(2, 5, dtype=torch.float64))
    student = fxgrow.grow(teacher, 1.5, inputs, output=output)
    assert student.get_parameter("a.weight").shape == (1, 12, 3, 3, 3)
    assert student.get_parameter("b.weight").shape == (1, 9, 12, 3, 3)
    assert_exact(teacher, student, inputs, 1e-10)


def test_layers_of_all_kinds_in_random_orders_grow_exactly() -> None:
    """A producer of one kind in front of a consumer of another: no filling may suit one of the two only."""
    kinds = [name for name in LAYERS if "older" not in name]
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        torch.manual_seed(0)
        picked = [kinds[int(i)] for i in torch.randint(len(kinds), (3,), generator=generator)]
        makers = [LAYERS[name][0] for name in picked]
        layers = [makers[0](3, 8), nn.Tanh(), makers[1](8, 6), nn.LeakyReLU(0.2), makers[2](6, 4), nn.ReLU()]
        teacher = randomise(nn.Sequential(*layers, _conv(4, 2)).double()).eval()
        student = fxgrow.grow(teacher, 1.5, X)
        for mode in (False, True, True):
            a, b = teacher.train(mode)(X), student.train(mode)(X)
            assert torch.allclose(a, b, 1e-10, 1e-10), picked


class Between(nn.Module):
    """A function between two layers, finite for the small values that the trained layer gives."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.a, self.b, self.function = nn.Linear(5, 8), nn.Linear(8, 3), function
        with torch.no_grad():
            self.a.weight.mul_(0.01)
            self.a.bias.fill_(0.01)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.function(self.a(x)))


def _written_through_a_view(y: Tensor) -> Tensor:
    z = y * y + 1
    z.view(-1).sub_(3 * y.abs().view(-1))
    return z.sqrt()


@pytest.mark.parametrize(
    "function",
    [
        lambda y: (torch.add(y * y, y.abs(), alpha=-3) + 1).sqrt(),
        lambda y: (torch.add(y * y, y.abs(), alpha=-3) + 1).log(),
        _written_through_a_view,
    ],
)
def test_what_is_subtracted_from_a_square_may_be_negative(function: Function) -> None:
    torch.manual_seed(0)
    teacher, x = Between(function).double(), 3 * torch.randn(7, 5, dtype=torch.float64)
    assert teacher(x).isfinite().all()
    student = fxgrow.grow(teacher, {"a": 2.0}, x)
    assert student.get_parameter("a.weight").shape == (16, 5)
    assert_exact(teacher, student, (x,), 1e-10)


def test_rows_that_a_relu_turns_off_are_not_divided_by_their_norm() -> None:
    """A new row of random weights may be negative throughout."""
    torch.manual_seed(0)
    first = nn.Linear(3, 8)
    with torch.no_grad():
        first.weight.abs_()
    parametrize.register_parametrization(first, "weight", _RowsOverTheirPositivePart())
    teacher, x = nn.Sequential(first, nn.Tanh(), nn.Linear(8, 3)).double(), torch.randn(7, 3, dtype=torch.float64)
    student = fxgrow.grow(teacher, {"0": 64}, x)
    assert_exact(teacher, student, (x,), 1e-10)


class _RowsOverTheirPositivePart(nn.Module):
    def forward(self, w: Tensor) -> Tensor:
        return w / torch.relu(w).norm(dim=1, keepdim=True)


class Doubled(nn.Module):
    """A layer whose weight is twice its parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.w = nn.Linear(5, 8), nn.Parameter(torch.randn(4, 8))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.relu(self.a(x)), 2.0 * self.w)


@pytest.mark.parametrize("method", ["auto", "split"])
def test_verify_compares_no_function_of_weights_alone(method: str) -> None:
    """The columns of a student are halved, for one, and its outputs are the same."""
    teacher, x = Doubled().double(), torch.randn(2, 5, dtype=torch.float64)
    student = fxgrow.grow(teacher, 2.0, x, method=method)
    report = fxgrow.verify(teacher, student, x)
    assert {node.node for node in report.nodes if node.mode == "eval"} >= {"relu", "linear"}
    assert max(node.error for node in report.nodes) < 1e-12
