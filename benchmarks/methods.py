"""What each way of filling new channels is worth: a small convolutional net is trained, widened, and trained on.

    OMP_NUM_THREADS=1 python benchmarks/methods.py --markdown docs/methods.md

For each seed and optimizer a teacher learns the digits; each way of benchmarks/ways.py makes a student of it; and all
students train on from there, with the same batches in the same order, a new optimizer, and a constant rate: once the
teacher's last, once the one that it began with. Of each there is, every some steps,

- loss and accuracy on test images;
- the distance of replicas: |a_j - a_g(j)| / sqrt((|a_j|^2 + |a_g(j)|^2) / 2), a_j the outputs of channel j of a
  layer for 256 test images, g(j) the channel that it copies; the mean over new channels, and over layers. Outputs,
  because with shares per weight the rows of a layer whose inputs grow too differ from the first; its outputs agree;

and the training loss, averaged over windows of 10 steps. It is all written to a record after each run, so a run that
was interrupted goes on where it was; --seeds can be raised later.
"""

import argparse
import copy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
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
from benchmarks.methods_page import draw, tables, write_markdown
from benchmarks.page import command_of, machine, picture_of
from benchmarks.runs import Record
from benchmarks.ways import WAYS, Way
from experiment import data
from experiment.arguments import count
from experiment.training import difference, outputs, score

RATES = {"sgd": (5e-2, 1e-2), "adam": (3e-3, 5e-4)}  # what the teacher begins and ends with
WINDOW = 10  # steps over which the training loss is averaged
BEFORE = 100  # steps whose mean training loss is the teacher's last
WATCHED = 256  # test images for the distance of replicas


@dataclass(frozen=True, slots=True)
class Settings:
    """What all runs have in common.

    Attributes:
        data: The name of the data set.
        train: Training images.
        test: Test images.
        width: Channels of the teacher's first layer.
        norm: Whether batch norms follow the convolutions.
        factor: How much wider students are.
        batch: Images of a step.
        teacher_steps: Steps of the teacher, the first two thirds of them at the higher rate.
        steps: Steps of a student.
    """

    data: str = "glyphs"
    train: int = 60_000
    test: int = 2000
    width: int = 4
    norm: bool = True
    factor: float = 2.0
    batch: int = 64
    teacher_steps: int = 1500
    steps: int = 1000

    def evaluated(self) -> list[int]:
        """The steps after which students are evaluated."""
        return [0, *(n for n in (10, 25) if n < self.steps), *range(50, self.steps, 50), self.steps]


QUICK = Settings(train=512, test=256, teacher_steps=30, steps=12, batch=32)


class Reader(nn.Sequential):
    """Three convolutions and two linear layers of 1, 2, 2 and 4 times `width` channels, for images (N, 1, 28, 28)."""

    def __init__(self, width: int, *, norm: bool) -> None:
        def after(channels: int) -> list[nn.Module]:
            return [nn.BatchNorm2d(channels), nn.ReLU()] if norm else [nn.ReLU()]

        super().__init__(
            nn.Conv2d(1, width, 5, stride=2, padding=2, bias=not norm),
            *after(width),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=not norm),
            *after(2 * width),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=not norm),
            *after(2 * width),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * 9, 4 * width),
            nn.ReLU(),
            nn.Linear(4 * width, 10),
        )


# -- training --------------------------------------------------------------------------------------


def optimizer_of(name: str, model: nn.Module, rate: float) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    return torch.optim.Adam(model.parameters(), lr=rate)


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, stream: Iterator[Any], number: int) -> list[float]:
    """Train so many steps; the loss of each."""
    model.train()
    losses = []
    for _ in range(number):
        x, y = next(stream)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def trained_teacher(of: Settings, optimizer: str, images: data.Data, seed: int) -> tuple[nn.Module, float]:
    """A teacher, and its mean training loss over its last steps."""
    torch.manual_seed(seed)
    teacher = Reader(of.width, norm=of.norm).to(images.train_x.device)
    first, last = RATES[optimizer]
    teaching = optimizer_of(optimizer, teacher, first)
    stream = batches(images.train_x, images.train_y, of.batch, seed)
    early = of.teacher_steps * 2 // 3
    losses = steps(teacher, teaching, stream, early)
    for group in teaching.param_groups:
        group["lr"] = last
    losses += steps(teacher, teaching, stream, of.teacher_steps - early)
    tail = losses[-min(BEFORE, of.teacher_steps - early) :]
    return teacher.eval(), sum(tail) / len(tail)


# -- measuring -------------------------------------------------------------------------------------


@torch.no_grad()
def distance(student: nn.Module, x: Tensor) -> float:
    """How far replicas' outputs are from those of what they copy: 0 for the same, about 1.4 for independent ones."""
    copies = {width.name: width for width in fxgrow.plan_of(student).grown_widths}
    outputs: dict[str, Tensor] = {}
    hooks = [
        student.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: outputs.update({name: out}))
        for name in copies
    ]
    student.eval()(x)
    for hook in hooks:
        hook.remove()
    found = []
    for name, width in copies.items():
        channels = outputs[name].transpose(0, 1).flatten(1).double()  # (C, N*H*W)
        new, old = channels[width.old :], channels[list(width.copies)]
        size = ((new.square().sum(1) + old.square().sum(1)) / 2).sqrt().clamp_min(1e-12)
        found.append(float(((new - old).square().sum(1).sqrt() / size).mean()))
    return sum(found) / len(found)


def evaluation(model: nn.Module, images: data.Data, way: Way | None) -> dict[str, float]:
    """Loss and accuracy (percent) on the test images, and how far replicas have parted."""
    found = asdict(score(outputs(model, images.test_x), images.test_y))
    if way is not None and way.name != "scratch":
        found["distance"] = distance(model, images.test_x[:WATCHED])
    return found


def trained_on(
    of: Settings, way: Way | None, optimizer: str, rate: float, seed: int, images: data.Data, teacher: nn.Module
) -> dict[str, Any]:
    """Grow a teacher in one way and train on; None: the teacher itself trains on."""
    if way is None:
        student = copy.deepcopy(teacher)
    else:
        student = way.grown(teacher, images.train_x[:2], of.factor, seed)
    result: dict[str, Any] = {
        **difference(outputs(teacher, images.test_x), outputs(student, images.test_x)),
        "parameters": sum(p.numel() for p in student.parameters()),
        "evaluations": [{"step": 0, **evaluation(student, images, way)}],
        "windows": [],
    }
    training = optimizer_of(optimizer, student, rate)
    stream = batches(images.train_x, images.train_y, of.batch, seed + 1000)
    losses: list[float] = []
    for step in of.evaluated()[1:]:
        losses += steps(student, training, stream, step - len(losses))
        result["evaluations"].append({"step": step, **evaluation(student, images, way)})
    result["windows"] = [sum(losses[i : i + WINDOW]) / WINDOW for i in range(0, len(losses) - WINDOW + 1, WINDOW)]
    return result


# -- all of it -------------------------------------------------------------------------------------


def measure(of: Settings, record: Record, seeds: Sequence[int], images: data.Data) -> None:
    """Whatever the record lacks, seed by seed."""
    ways = {way.name: way for way in WAYS} | {"teacher": None}
    for seed in seeds:
        for optimizer, rates in RATES.items():
            runs = {f"{optimizer} {rate:g} {way} {seed}": (rate, way) for rate in reversed(rates) for way in ways}
            missing = {name: of_run for name, of_run in runs.items() if name not in record.runs}
            if not missing:
                continue
            teacher, last = trained_teacher(of, optimizer, images, seed)
            for name, (rate, way) in missing.items():
                found = trained_on(of, ways[way], optimizer, rate, seed, images, teacher)
                record.add(name, found | {"before": last})
                print(f"{name:<32} {_in_short(found)}", file=sys.stderr, flush=True)


def _in_short(run: dict[str, Any]) -> str:
    first, end = run["evaluations"][0], run["evaluations"][-1]
    losses = f"loss {first['loss']:.4f} -> {end['loss']:.4f}"
    return f"accuracy {first['accuracy']:6.2f} -> {end['accuracy']:6.2f}   {losses}"


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = Settings()
    parser.add_argument("--data", choices=data.NAMES, help=f"default: {usual.data}")
    parser.add_argument("--train", type=count, help=f"training images (default: {usual.train})")
    parser.add_argument("--test", type=count, help=f"test images (default: {usual.test})")
    parser.add_argument("--width", type=int, help=f"the teacher's channels (default: {usual.width})")
    parser.add_argument("--factor", type=float, help=f"of growth (default: {usual.factor:g})")
    parser.add_argument("--no-norm", dest="norm", action="store_false", default=None, help="biases, no batch norms")
    parser.add_argument("--batch", type=int, help=f"images of a step (default: {usual.batch})")
    parser.add_argument("--teacher-steps", type=int, help=f"default: {usual.teacher_steps}")
    parser.add_argument("--steps", type=int, help=f"after growth (default: {usual.steps})")
    parser.add_argument("--out", type=Path, help="the record (default: runs/methods.json, or -quick.json)")
    add_usual_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what the record lacks, print and draw; the exit status."""
    options = arguments(argv)
    torch.set_num_threads(1)
    given = {name: getattr(options, name) for name in Settings.__dataclass_fields__}
    of = replace(QUICK if options.quick else Settings(), **{k: v for k, v in given.items() if v is not None})
    out = record_of("methods", options)
    images = images_of(of.data, options, of.train, of.test)
    settings = asdict(of) | {"rates": RATES, "device": images.train_x.device.type}
    record = Record(out, settings, machine(options.device))
    measure(of, record, range(options.seeds), images)
    found = tables(record)
    for table in found:
        print("\n".join(table.lines()), end="\n\n", flush=True)
    picture = options.picture or picture_of(options.markdown, out)
    draw(record, picture)
    if options.markdown:
        write_markdown(options.markdown, record, found, picture, command_of("methods.py", argv))
    return 0


if __name__ == "__main__":
    sys.exit(main())
