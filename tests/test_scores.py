"""Scores of widths: the closed forms, which width comes first, and what they leave as it is."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import fxgrow
from fxgrow import Budget, GrowError, PlanError
from fxgrow.scoring.measures import largest_singular_values
from tests.untouched import assert_untouched

KINDS = ("gradmax", "tiny", "firefly")
Batches = list[tuple[Tensor, Tensor]]


def mse(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.mse_loss(model(batch[0]), batch[1])


def entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def data(*shape: int, classes: int = 5, number: int = 3, batch: int = 8) -> Batches:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(batch, *shape, generator=generator) for _ in range(number)]
    return [(x, torch.randint(0, classes, (batch,), generator=generator)) for x in inputs]


def regression(net: Callable[[Tensor], Tensor], inputs: int, number: int = 4, batch: int = 64) -> Batches:
    generator = torch.Generator().manual_seed(1)
    xs = [torch.randn(batch, inputs, generator=generator, dtype=torch.float64) for _ in range(number)]
    return [(x, net(x).detach()) for x in xs]


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.c1 = nn.Conv2d(4, 6, 3, padding=1, bias=False)
        self.b1 = nn.BatchNorm2d(6)
        self.c2 = nn.Conv2d(6, 4, 3, padding=1)
        self.fc = nn.Linear(4 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.stem(x)), inplace=True)
        x = x + self.c2(F.relu(self.b1(self.c1(x)), inplace=True))
        return self.fc(F.adaptive_avg_pool2d(x, 4).flatten(1))


# ---------------------------------------------------------------- closed forms


def linear_pair() -> tuple[nn.Sequential, Batches, Tensor, Tensor]:
    """A linear net, its batches, all inputs, and the gradients of the mean of the batches' losses by the results."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 4)).double()
    batches = regression(nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 4)).double(), 5)
    x = torch.cat([x for x, _ in batches])
    y = torch.cat([y for _, y in batches])
    gradient = 2 * (model(x) - y).detach() / (64 * 4)
    return model, batches, x, gradient / len(batches)


def test_gradmax_of_a_linear_net_has_the_singular_values_of_inputs_times_gradients() -> None:
    model, batches, x, gradient = linear_pair()
    row = fxgrow.scores(model, batches, mse).row("0")
    expected = torch.linalg.svdvals(x.mT @ gradient)[:3]
    assert torch.allclose(torch.tensor(row.parts, dtype=torch.float64), expected, rtol=1e-9)
    assert row.value == pytest.approx(expected.norm().item(), rel=1e-9)
    assert (row.makers, row.readers) == (("0",), ("1",))


def test_gradmax_is_the_gradient_that_the_best_new_channels_have() -> None:
    model, batches, x, gradient = linear_pair()
    left = torch.linalg.svd(x.mT @ gradient)[2][:3]  # the columns of unit length
    wide = nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 4)).double()
    with torch.no_grad():
        wide[0].weight.copy_(torch.cat([model[0].weight, torch.zeros(3, 5, dtype=torch.float64)]))
        wide[0].bias.copy_(torch.cat([model[0].bias, torch.zeros(3, dtype=torch.float64)]))
        wide[1].weight.copy_(torch.cat([model[1].weight, left.mT], 1))
        wide[1].bias.copy_(model[1].bias)
    (sum(mse(wide, batch) for batch in batches) / len(batches)).backward()
    assert wide[0].weight.grad is not None
    assert wide[0].weight.grad[3:].norm().item() == pytest.approx(fxgrow.scores(model, batches, mse)["0"], rel=1e-9)


def test_tiny_of_a_linear_net_is_what_least_squares_gain_by_new_channels() -> None:
    model, batches, x, _ = linear_pair()
    hidden = model[0](x).detach()
    design = torch.cat([hidden, torch.ones(len(x), 1, dtype=torch.float64)], 1)
    gradient = torch.cat([2 * (model(a) - b).detach() / (64 * 4) for a, b in batches])
    left, less = (
        (gradient - known @ torch.linalg.lstsq(known, gradient, driver="gelsd").solution).square().sum()
        for known in (design, torch.cat([design, x], 1))
    )
    expected = ((left - less) / len(batches)).sqrt().item()
    assert fxgrow.scores(model, batches, mse, kind="tiny")["0"] == pytest.approx(expected, rel=1e-6)


def test_the_singular_values_of_a_large_matrix_are_those_of_all() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(900, 30, dtype=torch.float64) @ torch.randn(30, 800, dtype=torch.float64)
    matrix += 1e-3 * torch.randn(900, 800, dtype=torch.float64)
    exact = torch.linalg.svdvals(matrix)[:20]
    assert torch.allclose(largest_singular_values(matrix, 20), exact, rtol=1e-6)


@pytest.mark.parametrize("decay", [0.0, 2.0])
def test_the_length_of_singular_values_that_fall_slowly_is_right_to_two_digits(decay: float) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(1000, 900, dtype=torch.float64) * torch.logspace(0, -decay, 900, dtype=torch.float64)
    found, exact = largest_singular_values(matrix, 64), torch.linalg.svdvals(matrix)[:64]
    assert 0.98 <= float(found.norm() / exact.norm()) <= 1.0 + 1e-9, "a subspace holds no more than there is"


def test_firefly_is_the_gradient_of_columns_for_rows_like_those_of_the_layer() -> None:
    model, batches, x, gradient = linear_pair()
    found = fxgrow.scores(model, batches, mse, kind="firefly").row("0")
    matrix = x.mT @ gradient
    bound = torch.linalg.svdvals(matrix)[0].item() * model[0].weight.norm().item() * 3
    assert len(found.parts) == 3
    assert 0 < found.value < bound
    assert fxgrow.scores(model, batches, mse, kind="firefly")["0"] == found.value


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 1, "same"])
def test_gradmax_of_convolutions_is_the_gradient_of_new_channels(stride: int, padding: int | str) -> None:
    """New rows of zero and columns v: the gradient of the rows is M v, for each v."""
    torch.manual_seed(0)
    first = nn.Conv2d(2, 3, 3, padding=padding, dilation=2)
    model = nn.Sequential(first, nn.Conv2d(3, 4, 3, stride, padding=1, padding_mode="reflect")).double()
    model = nn.Sequential(*model, nn.Flatten(), nn.LazyLinear(5).double())
    batches = [(x.double(), y) for x, y in data(2, 9, 9)]
    model(batches[0][0])
    wide = nn.Conv2d(2, 6, 3, padding=padding, dilation=2).double()
    second = nn.Conv2d(6, 4, 3, stride, padding=1, padding_mode="reflect").double()
    lengths = []
    for _ in range(20):
        v = torch.randn(4, 3, 3, 3, dtype=torch.float64)
        v = torch.linalg.qr(v.transpose(0, 1).flatten(1).mT)[0].mT.unflatten(1, (4, 3, 3)).transpose(0, 1)
        with torch.no_grad():
            wide.weight.copy_(torch.cat([model[0].weight, torch.zeros(3, 2, 3, 3, dtype=torch.float64)]))
            wide.bias.copy_(torch.cat([model[0].bias, torch.zeros(3, dtype=torch.float64)]))
            second.weight.copy_(torch.cat([model[1].weight, v], 1))
            second.bias.copy_(model[1].bias)
        total = sum(entropy(nn.Sequential(wide, second, *model[2:]), b) for b in batches) / len(batches)
        (grad,) = torch.autograd.grad(total, [wide.weight])
        lengths.append(grad[3:].norm().item())
    score = fxgrow.scores(model, batches, entropy)["0"]
    assert max(lengths) <= score * (1 + 1e-9)
    assert max(lengths) > 0.1 * score


def test_all_layers_that_make_or_read_a_width_count_together() -> None:
    row = fxgrow.scores(Residual(), data(3, 8, 8), entropy).row("stem")
    assert row.makers == ("stem", "c2")
    assert row.readers == ("c1", "fc")


class Stream(nn.Module):
    """A residual stream without activations: `a` and `c` write to it, `b` reads what `a` wrote, `d` all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(4, 6), nn.Linear(6, 7), nn.Linear(7, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.d(x + self.c(self.b(x)))


def test_a_layer_reads_only_what_was_made_before_it() -> None:
    torch.manual_seed(0)
    model = Stream().double()
    batches = [(x.double(), y) for x, y in data(4)]
    row = fxgrow.scores(model, batches, entropy).row("a")
    blocks = torch.zeros(4 + 7, 7 + 5, dtype=torch.float64)  # makers a and c; readers b and d
    for x, y in batches:
        stream = model.a(x)
        inner = model.b(stream)
        out = model.d(stream + model.c(inner))
        of_b, of_d = torch.autograd.grad(F.cross_entropy(out, y), [inner, out])
        blocks[:4, :7] += x.mT @ of_b
        blocks[:4, 7:] += x.mT @ of_d
        blocks[4:, 7:] += (inner.mT @ of_d).detach()
    expected = torch.linalg.svdvals(blocks / len(batches))[:6]
    assert torch.allclose(torch.tensor(row.parts, dtype=torch.float64), expected, rtol=1e-9)


# ---------------------------------------------------------------- which comes first


def narrow(widths: tuple[int, ...]) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(a, b), nn.Tanh()) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*layers[:-1], layers[-1][0]).double()


def trained(model: nn.Module, batches: Batches, steps: int) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _, batch in zip(range(steps), itertools.cycle(batches), strict=False):
        optimizer.zero_grad()
        mse(model, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("kind", ["gradmax", "tiny"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_width_that_is_a_bottleneck_comes_first(place: int, kind: Any) -> None:
    """Trained with one hidden layer of 1 channel; the layers after it lack only what it does not carry."""
    widths = [24, 24, 24]
    widths[place] = 1
    torch.manual_seed(0)
    target = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 6)).double()
    batches = regression(target, 6)
    model = trained(narrow((6, *widths, 6)), batches, 600)
    names = ("0.0", "1.0", "2.0")
    assert next(iter(fxgrow.scores(model, batches, mse, kind=kind))) == names[place]


def test_a_budget_takes_scores() -> None:
    model, batches = Residual(), data(3, 8, 8)
    found = fxgrow.scores(model, batches, entropy)
    plan = fxgrow.plan(fxgrow.widths(model, batches[0][0]), Budget(parameters=2.0, scores=found))
    assert plan.parameters.ratio == pytest.approx(2, rel=0.01)
    only = fxgrow.plan(fxgrow.widths(model, batches[0][0]), Budget(parameters=2.0, scores={"c1": found["c1"]}))
    assert {width.name for width in only.grown_widths} == {"c1"}


def test_the_largest_comes_first_and_text_shows_all() -> None:
    found = fxgrow.scores(Residual(), data(3, 8, 8), entropy)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert dict(found) == {row.name: row.value for row in found.rows}
    for text in (str(found), found._repr_html_()):
        assert all(name in text for name in (*found, *found.left_out))
    with pytest.raises(KeyError, match="it is an output of the model"):
        found["fc"]
    with pytest.raises(KeyError, match="there is no such width"):
        found["nothing"]


# ---------------------------------------------------------------- topologies


class Shared(nn.Module):
    """One layer, called three times between two others."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        for _ in range(3):
            x = torch.relu(self.b(x))
        return self.c(x)


class Gathering(nn.Module):
    """Concatenation, and a layer that reads one part of it through a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 6, 1, stride=2)
        self.c, self.fc = nn.Conv2d(10, 8, 3, stride=2), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([F.max_pool2d(self.a(x), 2), F.gelu(self.b(x))], 1)
        return self.fc(F.silu(self.c(x)).mean((2, 3)))


class Tokens(nn.Module):
    """A patch embedding, an MLP over tokens with a layer norm and a skip connection, and a head on their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.norm = nn.Conv2d(3, 8, 2, stride=2), nn.LayerNorm(8)
        self.up, self.down, self.head = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x + self.down(F.gelu(self.up(self.norm(x))))
        return self.head(x.mean(1))


class DepthWise(nn.Module):
    """An inverted bottleneck with a depthwise convolution between."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.mid, self.down = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 12, 3, 2, 1, groups=12), nn.Conv2d(12, 6, 1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.down(F.relu6(self.mid(F.relu6(self.up(x))))).mean((2, 3)))


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        made: Any = checkpoint(self._features, x, use_reentrant=False) if self.training else self._features(x)
        return self.c(made.mean((2, 3)))

    def _features(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x)))


Layers = tuple[tuple[str, ...], tuple[str, ...]]  # those that make a width, and those that read it
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, Layers]]] = {
    "residual": (Residual, (3, 8, 8), {"stem": (("stem", "c2"), ("c1", "fc")), "c1": (("c1",), ("c2",))}),
    "shared": (Shared, (4,), {"a": (("a", "b"), ("b", "c"))}),
    "concatenated": (
        Gathering,
        (3, 8, 8),
        {"a": (("a",), ("c",)), "b": (("b",), ("c",)), "c": (("c",), ("fc",))},
    ),
    "tokens": (Tokens, (3, 8, 8), {"patch": (("patch", "down"), ("up", "head")), "up": (("up",), ("down",))}),
    "depthwise": (DepthWise, (3, 8, 8), {"up": (("up",), ("down",)), "down": (("down",), ("fc",))}),
    "checkpointed": (Checkpointed, (3, 8, 8), {"a": (("a",), ("b",)), "b": (("b",), ("c",))}),
    "1d": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 4, 3), nn.ELU(), nn.Conv1d(4, 3, 3, padding=2), nn.Flatten(), nn.Linear(24, 5)
        ),
        (2, 8),
        {"0": (("0",), ("2",)), "2": (("2",), ("4",))},
    ),
    "3d": (
        lambda: nn.Sequential(
            nn.Conv3d(1, 4, 3), nn.ReLU(True), nn.Conv3d(4, 3, 1), nn.AvgPool3d(2), nn.Flatten(), nn.Linear(3, 5)
        ),
        (1, 4, 4, 4),
        {"0": (("0",), ("2",)), "2": (("2",), ("5",))},
    ),
}  # fmt: skip


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODELS)
def test_each_width_that_can_grow_has_a_score(name: str, kind: Any, training: bool) -> None:
    torch.manual_seed(0)
    build, shape, expected = MODELS[name]
    model = build().train(training)
    with assert_untouched(model):
        found = fxgrow.scores(model, data(*shape, batch=48), entropy, kind=kind)
    assert {row.name: (row.makers, row.readers) for row in found.rows} == expected
    assert all(0 < value < float("inf") for value in found.values())
    assert not any(row.not_counted for row in found.rows)


def test_calls_of_one_layer_meet_their_own_neighbours() -> None:
    """b is called three times: c reads its last call only, and a is read by its first."""
    torch.manual_seed(0)
    model = Shared().double()
    batches = [(x.double(), y) for x, y in data(4)]
    found = fxgrow.scores(model, batches, entropy).row("a")
    blocks = torch.zeros(4 + 6, 6 + 5, dtype=torch.float64)
    for x, y in batches:
        h = [model.a(x)]
        made = []
        for _ in range(3):
            made.append(model.b(h[-1]))
            h.append(torch.relu(made[-1]))
        out = model.c(h[-1])
        grads = torch.autograd.grad(F.cross_entropy(out, y), [*made, out])
        blocks[:4, :6] += x.mT @ grads[0]
        blocks[4:, :6] += (h[0].mT @ grads[1] + h[1].mT @ grads[2]).detach()
        blocks[4:, 6:] += (h[2].mT @ grads[3]).detach()
    expected = torch.linalg.svdvals(blocks / len(batches))[:6]
    assert torch.allclose(torch.tensor(found.parts, dtype=torch.float64), expected, rtol=1e-9)


# ---------------------------------------------------------------- what has none, and why


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)).mean(1)


class Functional(nn.Module):
    """A layer whose weight is used without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.linear(x, self.a.weight))


class Frozen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 7), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = torch.relu(self.a(x))
        return self.c(torch.relu(self.b(x)))


class Windows(nn.Module):
    """Tokens are regrouped into windows between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 6), nn.Linear(6, 7), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)  # (N, 8, 8, C)
        x = x.unflatten(1, (2, 4)).unflatten(3, (2, 4)).transpose(2, 3).flatten(0, 2)  # (N*2*2, 4, 4, C)
        return self.c(self.b(x).unflatten(0, (-1, 4)).mean((1, 2, 3)))


def transposed() -> nn.Module:
    return nn.Sequential(nn.ConvTranspose2d(3, 4, 2), nn.Flatten(), nn.Linear(324, 5))


@pytest.mark.parametrize(
    ("build", "shape", "name", "reason"),
    [
        (Functional, (4,), "a", "no call of a layer that reads it was seen"),
        (Frozen, (4,), "a", "no call of a layer that reads it was seen"),
        (Windows, (8, 8, 3), "a", "not clear which positions"),
        (Residual, (3, 8, 8), "fc", "it is an output of the model"),
        (transposed, (3, 8, 8), "0", "no linear"),
    ],
)  # fmt: skip
def test_a_width_without_a_score_has_a_reason(
    build: Callable[[], nn.Module], shape: tuple[int, ...], name: str, reason: str
) -> None:
    found = fxgrow.scores(build(), data(*shape), entropy)
    assert name not in found
    assert reason in found.left_out[name]


def test_each_width_has_a_score_or_a_reason() -> None:
    for build, shape in ((Heads, (4, 8)), (Frozen, (4,)), (Windows, (8, 8, 3)), (Residual, (3, 8, 8))):
        model = build()
        widths = fxgrow.widths(model, torch.randn(8, *shape))
        found = fxgrow.scores(model, data(*shape), entropy, widths=widths)
        assert {*found, *found.left_out} == {group.name for group in widths.groups}
        assert not set(found) & set(found.left_out)


# ---------------------------------------------------------------- what is refused


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))


def outer_model(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return entropy(Two(), batch)


def backward_inside(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    value = entropy(model, batch)
    value.backward()  # type: ignore[no-untyped-call]
    return value


def raising(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    raise RuntimeError("out of luck")


LOSSES: dict[str, tuple[Any, str]] = {
    "another model": (outer_model, "calls no linear layer or convolution of the model that it is given"),
    "its backward": (backward_inside, "scores fails"),
    "an exception": (raising, "out of luck"),
    "several numbers": (lambda model, batch: model(batch[0]), "one number"),
    "a float": (lambda model, batch: float(entropy(model, batch)), "one number"),
    "without a graph": (lambda model, batch: entropy(model, batch).detach(), "does not depend"),
    "without gradients": (torch.no_grad()(entropy), "does not depend"),
    "not finite": (lambda model, batch: entropy(model, batch) / 0 * 0, "is nan"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_gives_no_gradient_is_refused(name: str) -> None:
    loss, reason = LOSSES[name]
    model = Two()
    with assert_untouched(model), pytest.raises(GrowError, match=reason):
        fxgrow.scores(model, data(4), loss)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


NO_LAYERS: dict[str, tuple[nn.Module, Tensor]] = {
    "grouped convolutions": (nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.ReLU()), torch.randn(6, 4, 3, 3)),
    "recurrent": (Recurrent(), torch.randn(6, 5, 4)),
    "transposed": (nn.Sequential(nn.ConvTranspose1d(4, 8, 1)), torch.randn(6, 4, 3)),
    "a parametrization": (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 8))), torch.randn(6, 4)),
}


@pytest.mark.parametrize("name", NO_LAYERS)
def test_a_model_without_layers_that_have_scores_is_refused_by_its_name(name: str) -> None:
    model, x = NO_LAYERS[name]
    with pytest.raises(GrowError, match=f"{type(model).__name__} has no layer that scores are computed from"):
        fxgrow.scores(model, [x], lambda model, batch: model(batch).square().mean())


def broken() -> Iterator[tuple[Tensor, Tensor]]:
    yield data(4)[0]
    raise RuntimeError("the disk is gone")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"batches": []}, "no batches"),
        ({"batches": torch.randn(4, 4)}, "batches is a DataLoader"),
        ({"batches": 3}, "batches is a DataLoader"),
        ({"batches": broken()}, "the disk is gone"),
        ({"batches": [tuple(one.to("meta") for one in data(4)[0])]}, "batch 0 is on the meta device"),
        ({"loss": 3}, "loss is a function"),
        ({"kind": "fisher"}, "kind is one of 'gradmax', 'tiny', 'firefly'"),
        ({"model": 3}, "expected an nn.Module"),
        ({"model": Two().to("meta")}, "on the meta device"),
        ({"widths": 3}, "widths"),
        ({"widths": fxgrow.widths(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 5)))}, "another model"),
    ],
)
def test_what_cannot_be_scored_is_refused(options: dict[str, Any], reason: str) -> None:
    given = {"model": Two(), "batches": data(4), "loss": entropy, **options}
    with pytest.raises(GrowError, match=reason):
        fxgrow.scores(**given)
    assert issubclass(PlanError, GrowError)


# ---------------------------------------------------------------- what it depends on


def test_one_pass_over_the_batches() -> None:
    seen = []

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for number, batch in enumerate(data(3, 8, 8)):
            seen.append(number)
            yield batch

    found = fxgrow.scores(Residual(), batches(), entropy)
    assert found
    assert seen == [0, 1, 2]


class Named(nn.Module):
    """It has no place for labels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 5)

    def forward(self, values: Tensor, scale: float = 1.0) -> Tensor:
        return self.last(torch.relu(self.first(values))) * scale


def test_batches_of_named_arguments() -> None:
    batches = [{"values": x, "scale": 2.0, "labels": y} for x, y in data(4)]

    def loss(model: nn.Module, batch: dict[str, Any]) -> Tensor:
        return F.cross_entropy(model(batch["values"], scale=batch["scale"]), batch["labels"])

    model = Named()
    with assert_untouched(model):
        assert list(fxgrow.scores(model, batches, loss)) == ["first"]


def test_the_same_batches_give_the_same_scores_with_dropout() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 5)).train()
    first = fxgrow.scores(model, data(4), entropy)
    torch.rand(3)
    assert dict(fxgrow.scores(model, data(4), entropy)) == dict(first)


def test_gradients_and_frozen_parameters_are_as_before() -> None:
    model = Residual()
    entropy(model, data(3, 8, 8)[0]).backward()  # type: ignore[no-untyped-call]
    model.stem.requires_grad_(False)
    with torch.no_grad(), assert_untouched(model):
        found = fxgrow.scores(model, data(3, 8, 8), entropy)
    assert set(found) == {"stem", "c1"}


def test_what_is_written_in_place_after_a_layer_does_not_change_the_scores() -> None:
    torch.manual_seed(0)
    shared = [nn.Linear(4, 6), nn.Linear(6, 7), nn.Linear(7, 5)]
    plain = nn.Sequential(shared[0], nn.ReLU(), shared[1], nn.ReLU(), shared[2])
    in_place = nn.Sequential(shared[0], nn.ReLU(True), shared[1], nn.ReLU(True), shared[2])
    for kind in ("gradmax", "tiny"):
        a, b = (fxgrow.scores(model, data(4), entropy, kind=kind) for model in (plain, in_place))
        assert list(a.values()) == pytest.approx(list(b.values()), rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = Residual().eval()
    expected = fxgrow.scores(model, data(3, 8, 8), entropy)
    found = fxgrow.scores(Residual.to(model, dtype), [(x.to(dtype), y) for x, y in data(3, 8, 8)], entropy)
    assert dict(found) == pytest.approx(dict(expected), rel=1e-3 if dtype == torch.float64 else 0.2)


# ---------------------------------------------------------------- places for new layers and blocks


class Chain(nn.Module):
    """Three residual blocks, of which the loss can make one want more."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.blocks = nn.Sequential(*(Block() for _ in range(3)))
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.blocks(self.first(x)))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.relu(self.up(x)))


@pytest.mark.parametrize("output", ["graph", "module"])
def test_the_score_of_a_place_is_the_length_of_its_gradient(output: str) -> None:
    torch.manual_seed(0)
    model, batches = Chain().double(), [(x.double(), y) for x, y in data(6, classes=3)]
    widths = fxgrow.widths(model, batches[0][0], output=output)
    other = fxgrow.Deepen("first") if output == "graph" else fxgrow.Deepen("blocks.0", blocks=1)
    requests = [fxgrow.Deepen("blocks.1", blocks=1), other]
    found = fxgrow.scores(model, batches, entropy, widths=widths, deeper=requests)
    student = fxgrow.apply(fxgrow.plan(widths, requests), model)
    sum(entropy(student, batch) for batch in batches).backward()
    assert len(found.places) == 2
    for place in found.places:
        gradients = [p.grad for p in student.get_submodule(place.path).parameters() if p.grad is not None]
        expected = sum(float((g / len(batches)).square().sum()) for g in gradients) ** 0.5
        assert place.value == pytest.approx(expected, rel=1e-9)
        assert place.value > 0
    assert {place.follows for place in found.places} == {"blocks.1", other.pattern}
    assert [place.value for place in found.places] == sorted((p.value for p in found.places), reverse=True)
    assert all(place.path in str(found) and place.path in found._repr_html_() for place in found.places)


def test_places_leave_the_model_and_the_scores_of_widths_as_they_are() -> None:
    torch.manual_seed(0)
    model, batches = Chain(), data(6, classes=3)
    alone = fxgrow.scores(model, batches, entropy)
    with assert_untouched(model):
        both = fxgrow.scores(model, batches, entropy, deeper=fxgrow.Deepen("blocks.*", blocks=1))
    assert dict(alone) == dict(both)
    assert alone.places == ()
    assert len(both.places) == 3


@pytest.mark.parametrize("deeper", [3, "blocks", [1.5], fxgrow.Widen("*", 2.0)])
def test_places_that_are_none_are_refused(deeper: Any) -> None:
    with pytest.raises(GrowError, match="deeper is a Deepen, or a list of them"):
        fxgrow.scores(Chain(), data(6, classes=3), entropy, deeper=deeper)


def test_a_place_where_nothing_fits_is_refused() -> None:
    with pytest.raises(PlanError, match="nowhere"):
        fxgrow.scores(Chain(), data(6, classes=3), entropy, deeper=fxgrow.Deepen("nowhere"))
