"""Is GradMax (Evci et al., arXiv 2201.05125) worth a method of its own? Against fresh rows and zero columns.

    OMP_NUM_THREADS=1 python benchmarks/gradmax.py --seeds 6 --markdown docs/gradmax.md

GradMax gives new channels rows of zeros, and columns for which the gradient of these rows is as long as it can be: the
first singular vectors of the linear map from columns to the rows' gradient. They are found here by subspace iteration
with gradients of gradients, for any layers, and have the mean length of the old columns. A channel then gives f(0), so
the function is kept where f(0) = 0, and the rows learn where f'(0) is not 0: not behind ReLU, whose slope at 0 is 0 in
torch. So the net is that of benchmarks/methods.py with GELU and without norms.

For each seed and optimizer a teacher learns the digits. Both students train on from there with the same batches. There
is the loss of a batch before and after one step on it by plain gradient descent, and the test loss over 1,000 steps.
"""

import argparse
import copy
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import fxgrow
from benchmarks.arguments import add_usual_arguments, images_of, record_of
from benchmarks.batches import batches
from benchmarks.methods import RATES, Reader, optimizer_of, steps
from benchmarks.page import Table, command_of, machine, spread, wrapped
from benchmarks.runs import Record
from experiment import data
from experiment.training import outputs, score

ROUNDS = 8  # of subspace iteration
WAYS = ("zero_out", "gradmax")


@dataclass(frozen=True, slots=True)
class Settings:
    """What all runs have in common.

    Attributes:
        train: Training images.
        test: Test images.
        width: Channels of the teacher's first layer.
        factor: How much wider students are.
        batch: Images of a step.
        seen: Images that GradMax sees, and that the first step is taken on.
        teacher_steps: Steps of the teacher.
        steps: Steps of a student.
        rate: Of the first step, by plain gradient descent.
    """

    train: int = 60_000
    test: int = 2000
    width: int = 4
    factor: float = 2.0
    batch: int = 64
    seen: int = 512
    teacher_steps: int = 1500
    steps: int = 1000
    rate: float = 0.01


QUICK = Settings(train=512, test=256, teacher_steps=30, steps=12, batch=32, seen=64)


def net(width: int) -> nn.Module:
    """The net of benchmarks/methods.py, with GELU."""
    layers = [nn.GELU() if isinstance(layer, nn.ReLU) else layer for layer in Reader(width, norm=False)]
    return nn.Sequential(*layers)


# -- GradMax ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewChannels:
    """The new channels of one width.

    Attributes:
        row: The weight that makes them, in its dimension 0.
        bias: Its bias.
        column: The weight that sums over them, in its dimension 1.
        old: How many columns are old ones.
        spread: How many columns of it each channel has: 9 behind a flattening of 3 x 3.
    """

    row: nn.Parameter
    bias: nn.Parameter
    column: nn.Parameter
    old: int
    spread: int

    @property
    def first(self) -> int:
        """The first new column."""
        return self.old * self.spread


def new_channels(student: nn.Module) -> list[NewChannels]:
    """Those of each width that grows: a student of `net` is a chain of layers."""
    layers = [layer for layer in student.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    grown = {width.name: width for width in fxgrow.plan_of(student).grown_widths}
    names = {id(module): name for name, module in student.named_modules()}
    found = []
    for layer, after in itertools.pairwise(layers):
        width = grown[names[id(layer)]]
        assert layer.bias is not None
        found.append(NewChannels(layer.weight, layer.bias, after.weight, width.old, after.weight.shape[1] // width.new))
    return found


def gradmax(student: nn.Module, loss: Callable[[nn.Module], Tensor], seed: int) -> None:
    """Give the new channels of a student their rows and columns, in place.

    Args:
        student: By "zero_out": its new columns are zero.
        loss: The loss of a model.
        seed: Of where the iteration begins.
    """
    widths = new_channels(student)
    with torch.no_grad():
        for one in widths:
            one.row[one.old :].zero_()
            one.bias[one.old :].zero_()
    draws = torch.Generator().manual_seed(seed)
    chosen = [_columns(one, lambda: loss(student), draws) for one in widths]  # with zeros in all other new columns
    with torch.no_grad():
        for one, columns in zip(widths, chosen, strict=True):
            old = one.column[:, : one.first].unflatten(1, (one.old, one.spread)).transpose(0, 1).flatten(1)
            one.column[:, one.first :].copy_(columns * old.norm(dim=1).mean())


def _columns(one: NewChannels, loss: Callable[[], Tensor], draws: torch.Generator) -> Tensor:
    """Columns of length 1 for which the gradient of the rows is the longest, as orthogonal as they can be."""
    part = one.column[:, one.first :]
    number = part.shape[1] // one.spread
    shape = (part.shape[0], number, one.spread, *part.shape[2:])

    def flat(columns: Tensor) -> Tensor:  # (entries of a channel's columns, channels)
        return columns.view(shape).transpose(0, 1).flatten(1).t()

    def back(basis: Tensor) -> Tensor:
        return basis.t().unflatten(1, (shape[0], *shape[2:])).transpose(0, 1).reshape(part.shape)

    basis = _orthonormal(torch.randn(flat(part.detach()).shape, generator=draws))
    for _ in range(ROUNDS):
        with torch.no_grad():
            one.column[:, one.first :].copy_(back(basis))
        (gradient,) = torch.autograd.grad(loss(), one.row, create_graph=True)
        (turned,) = torch.autograd.grad(gradient[one.old :].square().sum() / 2, one.column)
        basis = _orthonormal(flat(turned[:, one.first :]))
    columns = back(basis)
    with torch.no_grad():
        one.column[:, one.first :].zero_()
    return columns


def _orthonormal(columns: Tensor) -> Tensor:
    """As many columns of length 1, orthogonal as far as there are dimensions; then the same again."""
    basis = torch.linalg.qr(columns).Q
    return basis.repeat(1, math.ceil(columns.shape[1] / basis.shape[1]))[:, : columns.shape[1]]


# -- measuring -------------------------------------------------------------------------------------


def student_of(way: str, of: Settings, teacher: nn.Module, images: data.Data, seed: int) -> nn.Module:
    """A student of a teacher."""
    student = fxgrow.grow(teacher, of.factor, images.train_x[:2], seed=seed, method="zero_out")
    if way == "gradmax":
        gradmax(student, lambda model: _loss(model, of, images), seed)
    return student


def _loss(model: nn.Module, of: Settings, images: data.Data) -> Tensor:
    return F.cross_entropy(model(images.train_x[: of.seen]), images.train_y[: of.seen])


def first_drop(student: nn.Module, of: Settings, images: data.Data) -> float:
    """How much the loss of a batch falls with one step on it."""
    model = copy.deepcopy(student).train()
    before = _loss(model, of, images)
    before.backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= of.rate * p.grad if p.grad is not None else 0
        return float(before - _loss(model, of, images))


def measured(
    way: str, of: Settings, optimizer: str, teacher: nn.Module, images: data.Data, seed: int
) -> dict[str, Any]:
    """One student of a teacher."""
    student = student_of(way, of, teacher, images, seed)
    changed = (outputs(student, images.test_x) - outputs(teacher, images.test_x)).abs().max()
    found: dict[str, Any] = {"changed": float(changed), "drop": first_drop(student, of, images)}
    found["teacher's drop"] = first_drop(teacher, of, images)
    training = optimizer_of(optimizer, student, RATES[optimizer][0])
    stream = batches(images.train_x, images.train_y, of.batch, seed + 1000)
    done = 0
    for at in (min(10, of.steps), min(100, of.steps), of.steps):
        steps(student, training, stream, at - done)
        done = at
        found[f"loss {at}"] = asdict(score(outputs(student, images.test_x), images.test_y))["loss"]
    return found


def measure(of: Settings, record: Record, seeds: Sequence[int], images: data.Data) -> None:
    """Whatever the record lacks."""
    for seed in seeds:
        for optimizer, (rate, _) in RATES.items():
            missing = [way for way in WAYS if f"{optimizer} {way} {seed}" not in record.runs]
            if not missing:
                continue
            torch.manual_seed(seed)
            teacher = net(of.width)
            stream = batches(images.train_x, images.train_y, of.batch, seed)
            steps(teacher, optimizer_of(optimizer, teacher, rate), stream, of.teacher_steps)
            for way in missing:
                found = measured(way, of, optimizer, teacher.eval(), images, seed)
                record.add(f"{optimizer} {way} {seed}", found)
                print(f"{optimizer} {way} {seed}: {found}", file=sys.stderr, flush=True)


def table(record: Record) -> Table:
    """A row for each optimizer: GradMax against fresh rows."""
    seeds = sorted({int(name.split()[-1]) for name in record.runs})
    ends = sorted({key for run in record.runs.values() for key in run if key.startswith("loss ")}, key=_steps_in)
    rows = []
    for optimizer in RATES:
        both = [[record.runs.get(f"{optimizer} {way} {seed}") for way in WAYS] for seed in seeds]
        pairs = [(a, b) for a, b in both if a is not None and b is not None]
        drops = [b["drop"] / a["drop"] for a, b in pairs]
        worse = [[b[end] - a[end] for a, b in pairs] for end in ends]
        changed = max(run["changed"] for pair in pairs for run in pair)
        rows.append((optimizer, f"{changed:.0e}", _figures(drops, ".2f"), *(_figures(some, "+.3f") for some in worse)))
    head = ("optimizer", "outputs changed by growth", "first drop, as a part of zero_out's")
    losses = tuple(f"test loss after {_steps_in(end):,} steps, minus zero_out's" for end in ends)
    return Table("GradMax against zero_out", (*head, *losses), rows)


def _steps_in(key: str) -> int:
    return int(key.split()[-1])


def _figures(values: Sequence[float], form: str) -> str:
    return f"{spread(values, form)} ({min(values):{form}} to {max(values):{form}})"


PAGE = """
# GradMax beside fresh rows

Made by a script, not by hand:

    {command}

{machine}; {seeds} seeds.

[GradMax](https://arxiv.org/abs/2201.05125) gives new channels rows of zeros, and the columns for which the gradient of
these rows is the longest. fxgrow has no such method: by the figures below it is not worth one, and behind ReLU it does
not learn at all, since torch's slope of ReLU at 0 is 0. Its singular values are one of the kinds of `fxgrow.scores`.

The net is that of [methods.md](methods.md) with GELU and without norms, twice as wide. Both students of a teacher train
with the same batches, at the rate that the teacher began with. The first drop is that of the loss of 512 images, of
which GradMax has seen all, with one step of plain gradient descent (rate 0.01) on them; below zero: it rose. Mean ±
standard deviation over the seeds, and the least and the largest.
"""


def _lines(paragraph: str) -> list[str]:
    return paragraph.split("\n") if paragraph.startswith(("#", "    ")) else wrapped(paragraph)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what the record lacks, and print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the record (default: runs/gradmax.json, or -quick.json)")
    add_usual_arguments(parser)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    of = QUICK if options.quick else Settings()
    images = images_of("glyphs", options, of.train, of.test)
    record = Record(record_of("gradmax", options), asdict(of), machine(options.device))
    measure(of, record, range(options.seeds), images)
    found = table(record)
    print("\n".join(found.lines()))
    if options.markdown:
        page = PAGE.format(command=command_of("gradmax.py", argv), machine=record.machine, seeds=options.seeds)
        lines = [line for paragraph in page.strip().split("\n\n") for line in ("", *_lines(paragraph))][1:]
        options.markdown.write_text("\n".join([*lines, "", *found.lines()]) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
