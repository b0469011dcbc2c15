"""The data sets of the experiments: "mnist", "glyphs" (generated, the default), and scikit-learn's "digits".

All three are ten classes of 28x28 pixels, which is what the nets of the notebooks take.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from experiment.glyphs import HARD, SIDE, Difficulty, glyphs

NAMES = ("mnist", "glyphs", "digits")
MNIST_MEAN, MNIST_STD = 0.1307, 0.3081  # of its training pixels, from 0 to 1


class DataError(RuntimeError):
    """The data are not there; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Data:
    """Images (N, 1, H, W), float32, with mean 0 and standard deviation 1 in training; classes (N,), int64."""

    name: str
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor

    def to(self, device: torch.device | str) -> "Data":
        """The same on another device."""
        moved = {part: getattr(self, part).to(device) for part in ("train_x", "train_y", "test_x", "test_y")}
        return replace(self, **moved)


def load(
    name: str,
    folder: Path | str | None = None,
    train: int = 60_000,
    test: int = 10_000,
    seed: int = 0,
    *,
    difficulty: Difficulty = HARD,
) -> Data:
    """Load a data set by name.

    Args:
        name: "mnist", "glyphs" or "digits".
        folder: where MNIST is, or is downloaded to, and where the glyphs are kept; None: a cache of the user.
        train: training images, at most.
        test: test images, at most.
        seed: of the glyphs; of the others it chooses the images where not all are asked for.
        difficulty: of the glyphs.

    Raises:
        DataError: MNIST is neither there nor to be had.
    """
    where = Path(folder) if folder is not None else cache()
    if name == "mnist":
        return _mnist(where, train, test, seed)
    if name == "glyphs":
        made = glyphs(train, test, seed, difficulty, where)
        return _normalised(name, made.train_x, made.train_y, made.test_x, made.test_y)
    if name == "digits":
        return _digits(train, test, seed)
    raise ValueError(f"there is no data set {name!r}; there are {', '.join(NAMES)}")


def cache() -> Path:
    """The user's cache folder for data."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fxgrow"


def _normalised(name: str, train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor) -> Data:
    """Bytes to float32, with mean 0 and standard deviation 1 over the training pixels."""
    count = torch.bincount(train_x.flatten(), minlength=256).double()
    values = torch.arange(256).double() / 255
    mean = float((count * values).sum() / count.sum())
    std = float((count * (values - mean) ** 2).sum() / count.sum()) ** 0.5
    scaled = [x.float().div_(255).sub_(mean).div_(std) for x in (train_x, test_x)]
    return Data(name, scaled[0], train_y, scaled[1], test_y)


def _some(x: Tensor, y: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """So many of the images, drawn by the seed; all of them, in their order, where there are no more."""
    if count >= len(x):
        return x, y
    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:count]
    return x[chosen], y[chosen]


def _mnist(folder: Path, train: int, test: int, seed: int) -> Data:
    try:
        from torchvision.datasets import MNIST  # noqa: PLC0415 (an extra, which only this data set needs)
    except (ImportError, RuntimeError) as error:  # RuntimeError: its wheel does not fit the torch that is installed
        raise DataError(
            f"MNIST is read by torchvision, which cannot be imported ({error}).\n"
            "Install the torchvision that fits your torch, or use --data glyphs or --data digits."
        ) from error
    try:
        parts = [MNIST(str(folder), train=part, download=True) for part in (True, False)]
    except (OSError, RuntimeError) as error:  # what torchvision raises where no mirror answers
        raise DataError(
            f"MNIST is not in {folder / 'MNIST' / 'raw'}, and cannot be downloaded ({error}).\n"
            "Put its four files (train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, "
            "t10k-labels-idx1-ubyte) there and name the folder (--folder), or use --data glyphs or --data digits."
        ) from error
    tensors = []
    for part, count in zip(parts, (train, test), strict=True):
        x, y = _some(part.data.unsqueeze(1), part.targets, count, seed)
        tensors += [x.float().div_(255).sub_(MNIST_MEAN).div_(MNIST_STD), y.long()]
    return Data("mnist", *tensors)


def _digits(train: int, test: int, seed: int) -> Data:
    """The 1797 digits of 8x8 pixels, enlarged to 28x28 between the pixels; a third of them for testing."""
    read = load_digits()
    images = torch.tensor(read.images).mul_(255 / 16).unsqueeze(1)  # from 0 to 255
    images = F.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False).round_().to(torch.uint8)
    classes = torch.tensor(read.target, dtype=torch.int64)
    first, second = train_test_split(range(len(classes)), test_size=1 / 3, random_state=0, stratify=read.target)
    train_x, train_y = _some(images[first], classes[first], train, seed)
    test_x, test_y = _some(images[second], classes[second], test, seed)
    return _normalised("digits", train_x, train_y, test_x, test_y)
