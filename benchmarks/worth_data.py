"""The data of benchmarks/worth.py, and endless streams of batches from them.

Images: Fashion-MNIST (Debian's package `dataset-fashion-mnist`, or a folder), the digits of scikit-learn, or CIFAR-10
in its binary form. Text: bytes of the standard library's source files, by the list in worth/standard_library.txt, or
of the files of a folder.
"""

import gzip
import hashlib
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.worth_nets import side_of
from benchmarks.worth_settings import Settings
from experiment.data import DataError, load

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
FILES = Path(__file__).parent / "worth" / "standard_library.txt"
SHIFT = 2  # pixels, at most, to each side
HELD_OUT = 20  # of a folder's files each twentieth is for the test


@dataclass(frozen=True, slots=True)
class Data:
    """What nets train on and are tested on.

    Attributes:
        train: Images (N, C, H, W) float32, or bytes (N,).
        classes: Of the images (N,); of text, nothing.
        test: Images, or sequences (N, L).
        test_classes: Of the images (N,), or the next bytes (N, L).
        digest: Of all bytes that were read, by SHA-256.
    """

    train: Tensor
    classes: Tensor
    test: Tensor
    test_classes: Tensor
    digest: str

    def to(self, device: torch.device | str) -> "Data":
        """The same on a device."""
        tensors = (self.train, self.classes, self.test, self.test_classes)
        return Data(*(tensor.to(device) for tensor in tensors), self.digest)


def data_of(of: Settings, folder: Path | None = None) -> Data:
    """The data of the settings.

    Raises:
        DataError: They are not there.
    """
    if of.track == "text":
        return _text(of, folder)
    if of.data == "digits":
        digits = load("digits")
        found = (digits.train_x, digits.train_y, digits.test_x, digits.test_y)
        return _of_images(of, *found, _digest(*(t.numpy().tobytes() for t in found)))
    return _cifar(of, folder) if of.data == "cifar" else _fashion_mnist(of, folder or FASHION_MNIST)


def _digest(*parts: bytes) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:16]


# -- images --------------------------------------------------------------------------------------------


def _fashion_mnist(of: Settings, folder: Path) -> Data:
    names = [f"{part}-{what}" for part in ("train", "t10k") for what in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    paths = [folder / f"{name}.gz" for name in names]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise DataError(
            f"{', '.join(missing)} not in {folder}: install Debian's package dataset-fashion-mnist, or give --folder"
        )
    parts = [gzip.decompress(path.read_bytes()) for path in paths]
    x, y, test_x, test_y = (
        torch.frombuffer(bytearray(part[16 if n % 2 == 0 else 8 :]), dtype=torch.uint8) for n, part in enumerate(parts)
    )
    images = [t.view(-1, 1, 28, 28) for t in (x, test_x)]
    return _of_images(of, images[0], y.long(), images[1], test_y.long(), _digest(*parts))


def _cifar(of: Settings, folder: Path | None) -> Data:
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    if folder is None or any(not (folder / name).exists() for name in names):
        raise DataError(f"CIFAR-10 is read from --folder, in its binary form: {', '.join(names)}")
    parts = [(folder / name).read_bytes() for name in names]
    read = [torch.frombuffer(bytearray(part), dtype=torch.uint8).view(-1, 1 + 3 * 32 * 32) for part in parts]
    train, test = torch.cat(read[:-1]), read[-1]
    images = [t[:, 1:].view(-1, 3, 32, 32) for t in (train, test)]
    return _of_images(of, images[0], train[:, 0].long(), images[1], test[:, 0].long(), _digest(*parts))


def _of_images(of: Settings, x: Tensor, y: Tensor, test_x: Tensor, test_y: Tensor, digest: str) -> Data:
    """Pixels with mean 0 and standard deviation 1 in training."""
    mean, std = x.double().mean(), x.double().std()
    scaled = [((t.double() - mean) / std).float() for t in (x, test_x[: of.tested])]
    return Data(scaled[0], y, scaled[1], test_y[: of.tested], digest)


# -- text ----------------------------------------------------------------------------------------------


def _text(of: Settings, folder: Path | None) -> Data:
    train, test = _listed() if of.data == "standard library" else _folder(folder)
    bytes_of = [torch.frombuffer(bytearray(part), dtype=torch.uint8) for part in (train, test)]
    step = max(1, (len(bytes_of[1]) - of.length - 1) // of.tested)
    if len(bytes_of[1]) <= of.length + of.tested:
        raise DataError(f"the held-out files have {len(test)} bytes, too few for {of.tested} sequences")
    windows = bytes_of[1].unfold(0, of.length + 1, step)[: of.tested].long()
    return Data(bytes_of[0], torch.empty(0), windows[:, :-1], windows[:, 1:], _digest(train, test))


def listed_files() -> list[tuple[str, str]]:
    """The list in worth/standard_library.txt: "train" or "test", and the name of the file."""
    lines = FILES.read_text(encoding="utf-8").splitlines()
    return [(part, name) for part, name in (line.split() for line in lines)]


def _listed() -> tuple[bytes, bytes]:
    root = Path(sysconfig.get_paths()["stdlib"])
    found = listed_files()
    missing = [name for _, name in found if not (root / name).exists()]
    if missing:
        raise DataError(f"{root} lacks {', '.join(missing[:5])}: the list is that of Python 3.11")
    parts = [(part, (root / name).read_bytes()) for part, name in found]
    train, test = (b"".join(text for part, text in parts if part == which) for which in ("train", "test"))
    return train, test


def _folder(folder: Path | None) -> tuple[bytes, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file()) if folder else []
    if len(paths) < 2:
        raise DataError("text of this size is read from --folder, which has at least two files")
    held = set(paths[HELD_OUT // 2 :: HELD_OUT] or paths[-1:])
    train, test = (b"".join(p.read_bytes() for p in paths if (p in held) == part) for part in (False, True))
    return train, test


# -- streams -------------------------------------------------------------------------------------------


class Stream:
    """Batches without end, of any size; drawn on the CPU by the seed, the same on every device."""

    def __init__(self, of: Settings, data: Data, seed: int) -> None:
        self._of, self._data = of, data
        self._draws = torch.Generator().manual_seed(seed)
        self._order = torch.empty(0, dtype=torch.int64)

    def take(self, count: int) -> tuple[Tensor, Tensor]:
        """So many images, shifted and mirrored at random, or sequences; and their classes."""
        if self._of.track == "text":
            return self._sequences(count)
        while len(self._order) < count:
            more = torch.randperm(len(self._data.train), generator=self._draws)
            self._order = torch.cat([self._order, more])
        chosen, self._order = self._order[:count], self._order[count:]
        chosen = chosen.to(self._data.train.device)
        images = self._data.train[chosen]
        return (images if self._of.data == "digits" else self._moved(images)), self._data.classes[chosen]

    def _moved(self, images: Tensor) -> Tensor:
        """Each image shifted by up to two pixels, with the edge repeated, and mirrored in half of the cases."""
        N, C, side = len(images), images.shape[1], side_of(self._of)
        shifts = torch.randint(0, 2 * SHIFT + 1, (2, N, 1), generator=self._draws)
        mirrored = torch.rand(N, 1, generator=self._draws) < 0.5
        rows, columns = shifts + torch.arange(side)  # (N, side) each
        columns = torch.where(mirrored, columns.flip(1), columns)
        padded = F.pad(images, (SHIFT,) * 4, mode="replicate")
        device = images.device
        index = (rows[:, :, None] * padded.shape[-1] + columns[:, None, :]).view(N, 1, side * side).to(device)
        return padded.flatten(2).gather(2, index.expand(N, C, -1)).view(images.shape)

    def _sequences(self, count: int) -> tuple[Tensor, Tensor]:
        length = self._of.length
        starts = torch.randint(0, len(self._data.train) - length, (count, 1), generator=self._draws)
        windows = self._data.train[(starts + torch.arange(length + 1)).to(self._data.train.device)].long()
        return windows[:, :-1], windows[:, 1:]
