"""Turn a small trained network into the starting point of a larger class, and train on.

A small network reads handwritten digits (scikit-learn's own 1797 images of 8x8 pixels). `fxgrow.match` finds what makes
it the larger one: wider layers, more blocks, a larger kernel. The larger class then loads the student's weights as if
they were its own checkpoint, computes what the small network computes, and is trained on; beside it the same class from
scratch, for as many epochs. Everything runs on the CPU, in well under a minute.

    python examples/match_target.py [--seed 0] [--epochs 6]

The script ends with an error if the larger network does not compute what the small one does.
"""

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from tqdm import tqdm

import fxgrow

BATCH = 64
RATE = 3e-3


class Block(nn.Module):
    """A residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = F.relu(x + self.second(F.relu(self.norm(self.first(x)))))
        return result


class Digits(nn.Module):
    """A family of networks: any width, any number of blocks, and a stem with a kernel of any odd size."""

    def __init__(self, width: int, blocks: int, kernel: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, kernel, padding=kernel // 2)
        self.blocks = nn.Sequential(*[Block(width) for _ in range(blocks)])
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.blocks(F.relu(self.stem(x))).mean((2, 3)))
        return result


def small() -> nn.Module:
    return Digits(width=8, blocks=1, kernel=3)


def large() -> nn.Module:
    return Digits(width=20, blocks=3, kernel=5)


def train(model: nn.Module, images: Tensor, classes: Tensor, epochs: int, seed: int, name: str) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    draws = torch.Generator().manual_seed(seed)
    model.train()
    for _ in tqdm(range(epochs), desc=name):
        for batch in torch.randperm(len(images), generator=draws).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), classes[batch]).backward()
            optimizer.step()


@torch.no_grad()
def right(model: nn.Module, images: Tensor, classes: Tensor) -> float:
    return float((model.eval()(images).argmax(1) == classes).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=6, help="of each of the two phases")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    classes = torch.tensor(digits.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
    train_images, test_images = images[order[:1400]], images[order[1400:]]
    train_classes, test_classes = classes[order[:1400]], classes[order[1400:]]

    teacher, student = small(), large()
    train(teacher, train_images, train_classes, args.epochs, args.seed, "the small network")

    plan = fxgrow.match(teacher, student, train_images[:2])
    print(plan)
    student.load_state_dict(fxgrow.apply(plan, teacher).state_dict())

    with torch.no_grad():
        apart = float((student.eval()(test_images) - teacher.eval()(test_images)).abs().max())
    if apart > 1e-4:
        raise SystemExit(f"the larger network is {apart:.1e} apart")
    before = right(student, test_images, test_classes)
    train(student, train_images, train_classes, args.epochs, args.seed, "the large one, trained on")

    scratch = large()
    train(scratch, train_images, train_classes, args.epochs, args.seed, "the large one, from scratch")

    print(f"\noutputs changed by {apart:.1e}; right on {len(test_images)} test images:")
    print(f"  the small network                    {right(teacher, test_images, test_classes):.1%}")
    print(f"  the large one, as it was matched     {before:.1%}")
    print(f"  the large one, trained on            {right(student, test_images, test_classes):.1%}")
    print(f"  the large one, from scratch          {right(scratch, test_images, test_classes):.1%}")


if __name__ == "__main__":
    main()
