"""A student trains: replicas part, frozen parameters stay, the loss falls."""

import itertools

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from tests.check import randomise, tensors
from tests.mutants import mapping
from tests.nets import NETS

X = (8, 3, 6, 8)


def _conv(inside: int, outside: int, **options: int) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, 3, padding=1, **options)


class Residual(nn.Module):
    """Two blocks of smooth functions, so that no channel is dead."""

    def __init__(self, norm: type[nn.Module] | None = None) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.c = _conv(3, 6), _conv(6, 8), _conv(8, 6), nn.Conv2d(6, 4, 1)
        self.norm = nn.Identity() if norm is None else norm(6)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.norm(self.stem(x)))
        return self.c(x + self.b(torch.tanh(self.a(x))))


class Dense(Residual):
    """What is read twice, by two consumers."""

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.stem(x))
        return self.c(torch.cat([x, self.b(torch.tanh(self.a(x)))], 1))


class ChannelsLast(nn.Module):
    """ConvNeXt's layers, whose width must be a multiple."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.dw, self.norm = _conv(3, 6), _conv(6, 6, groups=6), nn.LayerNorm(6)
        self.up, self.down, self.head = nn.Linear(6, 9), nn.Linear(9, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.dw(x).permute(0, 2, 3, 1))
        y = x.permute(0, 2, 3, 1) + self.down(nn.functional.gelu(self.up(y)))
        return self.head(y).mean((1, 2))


TRAINED = {
    "plain": lambda: nn.Sequential(_conv(3, 6), nn.Tanh(), _conv(6, 5), nn.SiLU(), _conv(5, 4)),
    "grouped": lambda: nn.Sequential(_conv(3, 8), nn.Tanh(), _conv(8, 12, groups=4), nn.Tanh(), _conv(12, 4)),
    "depthwise": lambda: nn.Sequential(_conv(3, 6), nn.Tanh(), _conv(6, 12, groups=6), nn.Tanh(), _conv(12, 4)),
    "residual": Residual,
    "batch norm": lambda: Residual(nn.BatchNorm2d),
    "instance norm": lambda: Residual(nn.InstanceNorm2d),
    "group norm": lambda: Residual(lambda width: nn.GroupNorm(2, width)),
    "dense": Dense,
    "channels last": ChannelsLast,
    "flatten": lambda: nn.Sequential(
        _conv(3, 6), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 48, 10), nn.Tanh(), nn.Linear(10, 4)
    ),
}


@pytest.mark.parametrize("factor", [1.5, 2.0])
@pytest.mark.parametrize("name", TRAINED)
def test_replicas_get_other_gradients(name: str, factor: float) -> None:
    """Each new channel has a gradient of its own, other than its replica's, in each layer that writes it."""
    teacher = randomise(TRAINED[name]().double())
    x = torch.randn(X, dtype=torch.float64)
    student = fxgrow.grow(teacher, factor, x, method="split").train()
    y = student(x)
    (y - torch.randn_like(y)).square().mean().backward()
    compared = 0
    for path, module in teacher.named_modules():
        if not isinstance(module, (nn.Conv2d, nn.Linear)) or module.bias is None:
            continue
        weight = student.get_parameter(f"{path}.weight")
        if weight.shape[0] == module.weight.shape[0]:
            continue
        g = mapping(module.bias.detach(), student.get_parameter(f"{path}.bias").detach()).tolist()
        assert weight.grad is not None, path
        assert bool((weight.grad.flatten(1).abs().amax(1) > 0).all()), f"{path}: a channel without gradient"
        scale = float(weight.grad.abs().max())
        for i, j in itertools.combinations(range(len(g)), 2):
            if g[i] != g[j]:
                continue
            gap = float((weight.grad[i] - weight.grad[j]).abs().max()) / scale
            assert gap > 1e-4, f"{path}: channels {i} and {j} have one gradient (gap {gap:.1e})"
            compared += 1
    assert compared or (factor, name) in {(1.5, "group norm")}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", TRAINED)
def test_loss_falls(name: str, optimizer: str) -> None:
    teacher = randomise(TRAINED[name]())
    x = torch.randn(X)
    student = fxgrow.grow(teacher, 2.0, x).train()
    target = torch.randn_like(student(x))
    steps = (
        torch.optim.SGD(student.parameters(), lr=1e-3, momentum=0.9)
        if optimizer == "sgd"
        else torch.optim.Adam(student.parameters(), lr=1e-4)
    )
    losses = []
    for _ in range(4):
        loss = (student(x) - target).square().mean()
        steps.zero_grad()
        loss.backward()
        steps.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True), losses
    assert losses[-1] < losses[0]


def test_frozen_stay_frozen() -> None:
    net = NETS["frozen_parameters"]
    teacher = randomise(net.make())
    student = fxgrow.grow(teacher, 2.0, net.inputs())
    frozen = {n: p.detach().clone() for n, p in student.named_parameters() if not p.requires_grad}
    assert set(frozen) == {"a.weight", "a.bias", "b.bias"}
    student(*net.inputs()).square().mean().backward()
    for name, p in student.named_parameters():
        assert (p.grad is None) == (name in frozen), name
    steps = torch.optim.AdamW((p for p in student.parameters() if p.requires_grad), lr=0.1)
    steps.step()
    for name, before in frozen.items():
        assert torch.equal(student.get_parameter(name), before), name


@pytest.mark.parametrize("name", ["tied_convolutions", "tied_side_by_side", "tied_norms", "shared_module"])
def test_tied_stay_tied(name: str) -> None:
    """After a step, both names still have one value."""
    net = NETS[name]
    teacher = randomise(net.make())
    student = fxgrow.grow(teacher, 2.0, net.inputs()).train()
    steps = torch.optim.SGD(student.parameters(), lr=0.1)
    sum(t.square().mean() for t in tensors(student(*net.inputs()))).backward()
    steps.step()
    values = student.state_dict()
    seen: dict[int, str] = {}
    for key, p in teacher.named_parameters(remove_duplicate=False):
        if (first := seen.setdefault(id(p), key)) != key:
            assert torch.equal(values[first], values[key]), (first, key)


def test_student_is_a_fresh_leaf() -> None:
    """New parameters are leaves that an optimiser accepts, without gradients, in the teacher's mode."""
    net = NETS["res_net"]
    teacher = net.make().eval()
    student = fxgrow.grow(teacher, 2.0, net.inputs())
    assert not student.training
    assert fxgrow.grow(teacher.train(), 2.0, net.inputs()).training
    for name, p in student.named_parameters():
        assert isinstance(p, nn.Parameter), name
        assert p.is_leaf, name
        assert p.grad is None, name
        assert p.is_contiguous() == teacher.get_parameter(name).is_contiguous(), name
