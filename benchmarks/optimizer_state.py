"""How near the state of a moved optimizer is to that of a student trained all along, and how it trains on.

    python benchmarks/optimizer_state.py

A small convolutional net with a batch norm, in float64. For each optimizer and method: the largest error of the state
against the oracle (relative to the largest entry; for `split` the mean relative distance), the largest step of a new
and of an old entry within 30 steps in units of the rate, and the rise of the loss over that of the teacher, which was
trained for 300 steps.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import fxgrow
from tests.test_optimizers import (
    OPTIMIZERS,
    all_along,
    batch,
    compared,
    late,
    net,
    train_on,
    trained,
)

METHODS = ("even", "zero_out", "split")
BOUNDED = [
    name for name in OPTIMIZERS if not name.startswith(("SGD", "Adadelta", "Adafactor"))
]  # steps in units of a rate


def distance(name: str, plan: fxgrow.Plan) -> float:
    """The mean over all tensors of state of the distance to the oracle, relative to its size."""
    teacher, optimizer = trained(OPTIMIZERS[name], 8)
    student = fxgrow.apply(plan, teacher, optimizer=optimizer)
    apart = [
        float((optimizer.state[student.get_parameter(parameter)][key] - value).norm() / value.norm())
        for parameter, state in all_along(OPTIMIZERS[name], plan, 8).items()
        for key, value in state.items()
        if isinstance(value, torch.Tensor) and value.ndim
    ]
    return sum(apart) / len(apart) if apart else 0.0


def row(name: str, method: str) -> str:
    plan = fxgrow.plan(fxgrow.widths(net(), batch(0)[0]), {"0": 13, "3": 1.5}, method=method)
    error = distance(name, plan) if method == "split" else max(compared(OPTIMIZERS[name], plan).values(), default=0.0)
    cells = [name, method, f"{error:.2g}"]
    if name in BOUNDED and method == "zero_out":
        teacher, optimizer = late(OPTIMIZERS[name])
        with torch.no_grad():
            before = max(float(F.cross_entropy(teacher(images), labels)) for images, labels in map(batch, range(4)))
        new, old, losses = train_on(optimizer, fxgrow.apply(plan, teacher, optimizer=optimizer), plan)
        cells += [f"{new[0]:.2f}", f"{max(new):.2f}", f"{max(old):.2f}", f"{max(losses) - before:+.3f}"]
    else:
        cells += [""] * 4
    return f"| {' | '.join(cells)} |"


def main() -> int:
    torch.set_num_threads(1)
    print(
        "| optimizer | method | error of the state | first step, new | largest, new | largest, old | rise of the loss |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in OPTIMIZERS:
        for method in METHODS:
            print(row(name, method), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
