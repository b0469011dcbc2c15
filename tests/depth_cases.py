"""Every kind of deepening at every activation of torch.nn: grown, and measured. The tests and docs/depth.py use it."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import fxgrow
from fxgrow import Deepen
from fxgrow.plans.changes import Insert
from fxgrow.rewrite.student import student_of
from tests.check import randomise

WIDTH = 6
EXACT = 1e-10

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    name: getattr(nn, name)
    for name in nn.modules.activation.__all__
    if name not in ("MultiheadAttention", "Threshold", "Softmax", "LogSoftmax", "Softmin", "GLU")
} | {
    "Threshold": lambda: nn.Threshold(0.1, -0.5),
    "Softmax": lambda: nn.Softmax(1),
    "LogSoftmax": lambda: nn.LogSoftmax(1),
    "Softmin": lambda: nn.Softmin(1),
    "GLU": lambda: nn.GLU(1),
}

REQUESTS: dict[str, dict[str, Any]] = {
    "default": {},
    "identity": {"kind": "identity"},
    "identity, batch norm": {"kind": "identity", "norm": "batch"},
    "identity, calibrated batch norm": {"kind": "identity", "norm": "batch", "calibrated": True},
    "parametric": {"activation": "parametric"},
    "residual": {"kind": "residual"},
    "residual, batch norm": {"kind": "residual", "norm": "batch"},
    "residual, group norm": {"kind": "residual", "norm": "group"},
    "random": {"kind": "random"},
}


class Net(nn.Module):
    """A convolution, its batch norm, a pooling, its activation; and what follows."""

    def __init__(self, activation: str) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, WIDTH * 2 if activation == "GLU" else WIDTH, 3)
        self.bn = nn.BatchNorm2d(self.a.out_channels)
        self.pool, self.act = nn.MaxPool2d(2), ACTIVATIONS[activation]()
        self.b = nn.Conv2d(WIDTH, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.act(self.pool(self.bn(self.a(x))))).flatten(1)


@dataclass(frozen=True)
class Outcome:
    """What became of a request.

    Attributes:
        kind: What was inserted.
        where: "after" the activation or "before" it.
        claimed: The modes in which the plan says that the function stays.
        measured: Those in which it does, to 1e-10 in float64.
    """

    kind: str
    where: str
    claimed: tuple[str, ...]
    measured: tuple[str, ...]


@functools.cache
def _analysed(activation: str) -> tuple[nn.Module, Tensor, fxgrow.WidthGraph]:
    """A teacher, its inputs (N, C, H, W) and its widths."""
    torch.manual_seed(0)
    teacher = randomise(Net(activation).double()).eval()
    x = torch.randn(4, 3, 10, 10, dtype=torch.float64)
    return teacher, x, fxgrow.widths(teacher, x)


@functools.cache
def outcome(asked: str, activation: str) -> Outcome:
    """Grow by one request and measure."""
    teacher, x, found = _analysed(activation)
    plan = fxgrow.plan(found, Deepen("a", **REQUESTS[asked]))
    student = student_of(found.traced, plan, teacher, [x[:2], x[2:]])
    report = fxgrow.verify(teacher, student, x)
    (change,) = plan.changes
    assert isinstance(change, Insert)
    assert plan == fxgrow.Plan.from_json(plan.to_json())
    measured = tuple(mode for mode, error in report.errors.items() if error <= EXACT)
    where = "after" if all(place.node == "act" for place in change.after_nodes) else "before"
    return Outcome(change.kind, where, change.exact_modes, measured)
