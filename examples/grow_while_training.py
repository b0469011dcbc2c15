"""Grow a network three times while it is trained, with its optimizer, and plot the loss.

A small network reads handwritten digits (scikit-learn's own 1797 images of 8x8 pixels). A schedule widens it, adds a
layer and widens it again, each time in the middle of training: the optimizer goes on with its state. For comparison the
same is done with a new optimizer after each growth. Everything runs on the CPU, in well under a minute.

The run can be stopped and goes on where it was: what it needs is in one file.

    python examples/grow_while_training.py [--seed 0] [--out runs/grow_while_training] [--epochs 24]

The script ends with an error if a growth changed the loss on the test images.
"""

import argparse
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from tqdm import tqdm

import fxgrow

mpl.use("Agg")
from matplotlib import pyplot

BATCH = 64
RATE = 1e-2


def network() -> nn.Module:
    stem = [nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)]
    body = [nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*stem, *body, nn.Flatten(), nn.Linear(24, 10))


def optimizer_for(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), RATE)


def schedule_for(images: Tensor, epochs: int) -> fxgrow.GrowthSchedule:
    """Wider, deeper, wider, at a quarter, a half and three quarters of the epochs."""
    growths = {
        fxgrow.Epoch(max(1, epochs // 4)): 2.0,
        fxgrow.Epoch(max(2, epochs // 2)): fxgrow.Deepen("4"),
        fxgrow.Epoch(max(3, 3 * epochs // 4)): {"0": 1.5, "4*": 1.5},
    }
    return fxgrow.GrowthSchedule(growths, images[:2], warmup=10)


@dataclass
class Curve:
    """The loss on the test images after each epoch, and where the network grew: (epoch, before, after)."""

    losses: list[float] = field(default_factory=list)
    growths: list[tuple[int, float, float]] = field(default_factory=list)


@torch.no_grad()
def loss_on(model: nn.Module, images: Tensor, classes: Tensor) -> float:
    model.eval()
    loss = F.cross_entropy(model(images), classes).item()
    model.train()
    return loss


def epoch(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, classes: Tensor, seed: int) -> None:
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    for batch in order.split(BATCH):
        optimizer.zero_grad()
        F.cross_entropy(model(images[batch]), classes[batch]).backward()
        optimizer.step()


def train(args: argparse.Namespace, data: tuple[Tensor, Tensor, Tensor, Tensor], *, carried: bool) -> Curve:
    """Train with three growths.

    Args:
        args: The command line.
        data: Images and classes, for training and for testing.
        carried: Whether the optimizer is moved to the student; if not, it gets a new one.
    """
    images, classes, test_images, test_classes = data
    torch.manual_seed(args.seed)
    model, curve, first = network(), Curve(), 0
    optimizer, schedule = optimizer_for(model), schedule_for(images, args.epochs)
    file = args.out / f"{'carried' if carried else 'new'}.safetensors"
    if file.exists():  # a run that was stopped
        loaded = fxgrow.load(file, network, optimizer=optimizer_for)
        model, optimizer, first = loaded.model, loaded.optimizer, loaded.extra["epoch"]
        curve = Curve(loaded.extra["losses"], loaded.extra["growths"])
        schedule.load_state_dict(loaded.extra["schedule"])
    name = "optimizer carried" if carried else "new optimizer"
    bar = tqdm(range(first, args.epochs), desc=f"{name:<18}", unit="epoch", ncols=88)
    for number in bar:
        epoch(model, optimizer, images, classes, number)
        before = loss_on(model, test_images, test_classes)
        student = schedule.epoch(model, optimizer if carried else None)
        if student is not model:
            curve.growths.append((number + 1, before, loss_on(student, test_images, test_classes)))
            model, optimizer = student, optimizer if carried else optimizer_for(student)
        curve.losses.append(before)
        bar.set_postfix(loss=f"{before:.3f}", parameters=sum(p.numel() for p in model.parameters()))
        fxgrow.save(
            model, file, optimizer=optimizer, schedule=schedule.state_dict(), epoch=number + 1,
            losses=curve.losses, growths=curve.growths,
        )  # fmt: skip
    return curve


def plot(curves: dict[str, Curve], path: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for (name, curve), style in zip(curves.items(), ("-", "--"), strict=True):
        axes.plot(range(1, len(curve.losses) + 1), curve.losses, style, marker=".", label=name)
    growths = next(iter(curves.values())).growths
    for (number, _, _), what in zip(growths, ("wider", "deeper", "wider"), strict=True):
        axes.axvline(number, color="grey", linewidth=0.8)
        axes.annotate(
            what, (number, 1), xycoords=("data", "axes fraction"), xytext=(3, -12), textcoords="offset points"
        )
    axes.set(xlabel="epoch", ylabel="loss on the test images", yscale="log", title="Three growths in mid-training")
    axes.legend()
    figure.savefig(path)
    pyplot.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description="Grow a network three times while it is trained.")
    parser.add_argument("--seed", type=int, default=0, help="of weights (default: 0)")
    parser.add_argument("--epochs", type=int, default=24, help="of training (default: 24)")
    parser.add_argument("--out", type=Path, default=Path("runs/grow_while_training"), help="where files go")
    args = parser.parse_args()
    if args.epochs < 4:
        parser.error("--epochs is at least 4, for three growths and an epoch after the last")
    torch.set_num_threads(1)  # networks this small are slower with more
    args.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    classes = torch.tensor(digits.target)
    data = (images[::2], classes[::2], images[1::2], classes[1::2])
    curves = {
        "optimizer carried along": train(args, data, carried=True),
        "new optimizer at each growth": train(args, data, carried=False),
    }
    picture = args.out / "loss.svg"
    plot(curves, picture)
    print(f"\n{'':<30}  growth at epoch: loss before -> after          loss at the end")
    for name, curve in curves.items():
        grown = "   ".join(f"{number}: {before:.4f} -> {after:.4f}" for number, before, after in curve.growths)
        print(f"{name:<30}  {grown}   {curve.losses[-1]:.4f}")
    print(f"\n{picture} shows both   ({time.perf_counter() - start:.1f} s)")
    jumps = [abs(after - before) for curve in curves.values() for _, before, after in curve.growths]
    if max(jumps) > 1e-4 * max(curves["optimizer carried along"].losses):
        print("error: a growth changed the loss", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
