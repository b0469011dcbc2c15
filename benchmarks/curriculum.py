"""One budget of computation: a wide net from scratch, or grown into from narrower and shallower ones?

    OMP_NUM_THREADS=1 python benchmarks/curriculum.py --markdown docs/curriculum.md
    python benchmarks/curriculum.py --size real --device cuda --amp --markdown docs/curriculum-real.md

The net is the ResNet-20 of He et al. (arXiv 1512.03385, section 4.2), three stages of three blocks, on 28x28 images of
digits. Four curricula lead to it: the net alone; from half its width; from a quarter over half; and from a quarter of
the width and two blocks in each stage over half, then three blocks, to all of it. `fxgrow.grow` makes each net of the
one before, once by its default, which fills all these widths with fresh channels, and once with replicas ("split").

All get the same FLOPs, forward and backward, as torch's counter has them for one image, times the images; the last net
gets --final of them, and the others share the rest, with equally many images each. All train by SGD (momentum 0.9,
weight decay 5e-4, Nesterov), at a rate that depends on the FLOPs spent alone: it rises over the first 5 %, and falls
to zero as a cosine over the whole budget. At each growth the optimizer starts anew.
"""

import argparse
import contextlib
import math
import sys
import time
from collections.abc import Sequence
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
from benchmarks.curriculum_page import draw, table, write_markdown
from benchmarks.page import command_of, machine, picture_of
from benchmarks.resnet import STAGES, ResNet, flops_of
from benchmarks.runs import Record
from experiment import data
from experiment.arguments import count
from experiment.training import difference, outputs, score

NETS = {  # the part of the last net's width, and of its blocks in each stage
    "scratch": ((1.0, 3),),
    "2 nets": ((0.5, 3), (1.0, 3)),
    "3 nets": ((0.25, 3), (0.5, 3), (1.0, 3)),
    "4 nets": ((0.25, 2), (0.5, 2), (0.5, 3), (1.0, 3)),
}
REPLICAS = ", replicas"
CURRICULA = (*NETS, *(name + REPLICAS for name in NETS if len(NETS[name]) > 1))
POINTS = 25  # evaluations, evenly over the budget
WARMUP = 0.05  # of the budget


@dataclass(frozen=True, slots=True)
class Settings:
    """What all runs have in common.

    Attributes:
        data: The name of the data set.
        train: Training images.
        test: Test images.
        width: Channels of the last net's first stage.
        stride: Of its first convolution.
        images: As many images from scratch make the budget.
        final: The part of the budget that is the last net's.
        batch: Images of a step.
        rate: The highest learning rate.
        amp: Whether it runs in bfloat16 by autocast.
    """

    data: str = "glyphs"
    train: int = 60_000
    test: int = 2000
    width: int = 12
    stride: int = 2
    images: int = 60_000
    final: float = 0.6
    batch: int = 64
    rate: float = 0.1
    amp: bool = False


SIZES = {
    "cpu": Settings(),
    "real": Settings(test=10_000, width=64, stride=1, images=1_200_000, batch=256, rate=0.2),
    "quick": Settings(train=512, test=128, width=4, images=256, batch=16),
}


# -- the budget ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """One net of a curriculum.

    Attributes:
        width: Its channels.
        blocks: In each stage.
        flops: For one image, forward and backward.
        steps: How many it trains.
    """

    width: int
    blocks: int
    flops: float
    steps: int


def parts(of: Settings, name: str) -> tuple[Part, ...]:
    """The nets of a curriculum, with the budget divided among them."""
    nets = [(round(part * of.width), blocks) for part, blocks in NETS[name.removesuffix(REPLICAS)]]
    costs = [flops_of(width, blocks, of.stride) for width, blocks in nets]
    budget = of.images * costs[-1]
    earlier = (1 - of.final) * budget / sum(costs[:-1]) if len(nets) > 1 else 0  # images of each
    images = [earlier] * (len(nets) - 1) + [(of.final if len(nets) > 1 else 1) * of.images]
    return tuple(
        Part(width, blocks, cost, round(number / of.batch))
        for (width, blocks), cost, number in zip(nets, costs, images, strict=True)
    )


def larger(model: nn.Module, old: Part, new: Part, example: Tensor, seed: int, *, replicas: bool) -> nn.Module:
    """The next net of a curriculum, grown from the one before."""
    requests: list[Any] = []
    if new.width > old.width:
        requests.append(fxgrow.Widen("*", new.width / old.width, method="split" if replicas else None))
    if new.blocks > old.blocks:
        requests += [fxgrow.Deepen(stage, blocks=new.blocks - old.blocks) for stage in STAGES]
    return fxgrow.grow(model, requests, example, seed=seed)


# -- training --------------------------------------------------------------------------------------


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9, weight_decay=5e-4, nesterov=True)


def rate_at(spent: float) -> float:
    """The rate after a part of the budget, as a part of the highest."""
    return min(1.0, spent / WARMUP) * 0.5 * (1 + math.cos(math.pi * min(1.0, spent)))


def autocast(of: Settings, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    return torch.autocast(device.type, torch.bfloat16) if of.amp else contextlib.nullcontext()


def clock(device: torch.device) -> float:
    """Seconds: of the processor on a CPU, where other jobs may run; else of the clock on the wall."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def trained(of: Settings, name: str, seed: int, images: data.Data) -> dict[str, Any]:
    """One curriculum, from the first net to the last."""
    device = images.train_x.device
    nets = parts(of, name)
    budget = sum(part.steps * part.flops for part in nets)
    torch.manual_seed(seed)
    model: nn.Module = ResNet(nets[0].width, nets[0].blocks, of.stride).to(device)
    stream = batches(images.train_x, images.train_y, of.batch, seed, whole=True)
    points: list[dict[str, float]] = []
    growths: list[dict[str, float]] = []
    spent = seconds = 0.0
    for number, part in enumerate(nets):
        if number:
            before = outputs(model, images.test_x)
            started = clock(device)
            model = larger(model, nets[number - 1], part, images.train_x[:2], seed, replicas=name.endswith(REPLICAS))
            seconds += clock(device) - started
            grown = {"flops": spent * of.batch, "seconds": seconds, "net": number}
            after = outputs(model, images.test_x)
            growths.append(grown | difference(before, after) | asdict(score(after, images.test_y)))
        optimizer = optimizer_of(model)
        started = clock(device)
        for _ in range(part.steps):
            _step(of, model, optimizer, next(stream), of.rate * rate_at(spent / budget))
            spent += part.flops
            if spent >= budget * (len(points) + 1) / POINTS * (1 - 1e-9):
                seconds += clock(device) - started
                point = {"flops": spent * of.batch, "seconds": seconds, "net": number}
                points.append(point | asdict(score(outputs(model, images.test_x), images.test_y)))
                started = clock(device)
        seconds += clock(device) - started
    return {
        "nets": [asdict(part) for part in nets],
        "parameters": sum(p.numel() for p in model.parameters()),
        "growths": growths,
        "points": points,
        "seconds": seconds,
    }


def _step(
    of: Settings, model: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor], rate: float
) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    model.train()
    x, y = batch
    with autocast(of, x.device):
        loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


# -- all of it -------------------------------------------------------------------------------------


def measure(of: Settings, record: Record, seeds: Sequence[int], images: data.Data) -> None:
    """Whatever the record lacks, seed by seed."""
    for seed in seeds:
        for name in CURRICULA:
            if f"{name}/{seed}" in record.runs:
                continue
            found = trained(of, name, seed, images)
            record.add(f"{name}/{seed}", found)
            end, changed = found["points"][-1], [growth["changed"] for growth in found["growths"]]
            print(
                f"{name}, seed {seed}: accuracy {end['accuracy']:.2f}, loss {end['loss']:.4f}, "
                f"{found['seconds']:.0f} s, predictions changed by growing {changed}",
                file=sys.stderr,
                flush=True,
            )


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--size", choices=("cpu", "real"), default="cpu", help="12 channels, or 64 and 28x28 throughout the first stage"
    )
    parser.add_argument("--data", choices=data.NAMES, help="default: glyphs")
    parser.add_argument("--width", type=int, help="channels of the last net")
    parser.add_argument("--images", type=count, help="as many images from scratch make the budget")
    parser.add_argument("--final", type=float, help="the part of the budget that is the last net's (default: 0.6)")
    parser.add_argument("--rate", type=float, help="the highest learning rate")
    parser.add_argument("--amp", action="store_true", default=None, help="bfloat16 by autocast")
    parser.add_argument(
        "--out", type=Path, help="the record (default: runs/curriculum.json, -real.json or -quick.json)"
    )
    add_usual_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what the record lacks, print and draw; the exit status."""
    options = arguments(argv)
    torch.set_num_threads(1)
    given = {name: getattr(options, name) for name in ("data", "width", "images", "final", "rate", "amp")}
    of = replace(SIZES["quick" if options.quick else options.size], **{k: v for k, v in given.items() if v is not None})
    out = record_of("curriculum" if options.size == "cpu" else "curriculum-real", options)
    images = images_of(of.data, options, of.train, of.test)
    record = Record(out, asdict(of) | {"device": images.train_x.device.type}, machine(options.device))
    measure(of, record, range(options.seeds), images)
    found = table(record)
    print("\n".join(found.lines()), flush=True)
    picture = options.picture or picture_of(options.markdown, out)
    draw(record, picture)
    if options.markdown:
        write_markdown(options.markdown, record, found, picture, command_of("curriculum.py", argv))
    return 0


if __name__ == "__main__":
    sys.exit(main())
