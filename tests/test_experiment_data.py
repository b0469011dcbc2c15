"""The data of the experiments: generated digits, scikit-learn's, and MNIST where it is."""

import hashlib
import importlib.util
import struct
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from experiment import data, glyphs
from experiment.data import DataError, load
from experiment.glyphs import EASY, HARD, TEST_FONTS, TRAIN_FONTS

needs_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed"
)


def digest(*tensors: torch.Tensor) -> str:
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in tensors)).hexdigest()


def test_glyphs_are_the_same_bytes_for_the_same_seed(tmp_path: Path) -> None:
    made = [glyphs.glyphs(300, 100, seed, HARD, tmp_path / where) for seed, where in ((0, "a"), (0, "b"), (1, "c"))]
    sums = [digest(g.train_x, g.train_y, g.test_x, g.test_y) for g in made]
    assert sums[0] == sums[1]
    assert sums[0] != sums[2]
    assert made[0].train_x.shape == (300, 1, 28, 28)
    assert made[0].train_x.dtype == torch.uint8
    assert set(made[0].test_y.tolist()) == set(range(10))


def test_glyphs_are_kept_by_all_their_settings(tmp_path: Path) -> None:
    first = glyphs.glyphs(50, 50, 0, HARD, tmp_path)
    (path,) = tmp_path.iterdir()
    changed = path.stat().st_mtime_ns
    assert digest(glyphs.glyphs(50, 50, 0, HARD, tmp_path).train_x) == digest(first.train_x)
    assert [p.stat().st_mtime_ns for p in tmp_path.iterdir()] == [changed]
    for field in fields(HARD):
        glyphs.glyphs(50, 50, 0, replace(HARD, **{field.name: getattr(HARD, field.name) / 2}), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1 + len(fields(HARD))


def test_training_and_test_fonts_are_disjoint_and_have_ten_digits() -> None:
    assert not set(TRAIN_FONTS) & set(TEST_FONTS)
    drawn = {font: glyphs.draw(font) for font in (*TRAIN_FONTS, *TEST_FONTS)}
    for font, sheet in drawn.items():
        ink = sheet.flatten(1)
        assert torch.pdist(ink).min() > 4, f"two digits of {font} look alike"
        assert (sheet.amax((1, 3)) > 0.1).sum(1).min() > 38, f"a digit of {font} is not as high as the others"
    assert len({digest(sheet) for sheet in drawn.values()}) == len(drawn)  # no font twice under two names


def test_hard_glyphs_are_harder_than_easy_ones(tmp_path: Path) -> None:
    def accuracy(how: glyphs.Difficulty) -> float:
        """Of the nearest class mean, which needs no training."""
        some = load("glyphs", tmp_path, 2000, 1000, difficulty=how)
        means = torch.stack([some.train_x[some.train_y == digit].mean(0).flatten() for digit in range(10)])
        guess = torch.cdist(some.test_x.flatten(1), means).argmin(1)
        return float((guess == some.test_y).double().mean())

    easy, hard = accuracy(EASY), accuracy(HARD)
    assert 0.2 < hard < easy - 0.15
    assert easy < 0.95


def test_fewer_images_are_the_first_ones(tmp_path: Path) -> None:
    few, many = (load("glyphs", tmp_path, n, 50) for n in (100, 200))
    assert torch.equal(few.train_y, many.train_y[:100])


@pytest.mark.parametrize("name", ["glyphs", "digits"])
def test_data_are_normalised_and_fit_the_nets(name: str, tmp_path: Path) -> None:
    some = load(name, tmp_path, 500, 200)
    assert some.train_x.shape == (500, 1, 28, 28)
    assert some.test_x.shape == (200, 1, 28, 28)
    assert some.train_x.dtype == torch.float32
    assert some.train_y.dtype == torch.int64
    assert abs(float(some.train_x.mean())) < 0.02 + 0.1 * (name == "digits")  # normalised before some are chosen
    assert float(some.train_x.std()) == pytest.approx(1, abs=0.05)
    assert some.to("cpu").name == name


def test_digits_are_split_without_overlap() -> None:
    every = load("digits")
    assert len(every.train_x) + len(every.test_x) == 1797
    train, test = ({digest(x) for x in part} for part in (every.train_x, every.test_x))
    assert not train & test


@needs_torchvision
def test_mnist_is_read_from_a_folder(tmp_path: Path) -> None:
    from benchmarks.torchvision_shim import import_torchvision

    import_torchvision()
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 30), ("t10k", 20)):
        pixels = bytes(i % 256 for i in range(count * 784))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, count, 28, 28) + pixels)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">2i", 2049, count) + bytes(range(10)) * (count // 10)
        )
    read = load("mnist", tmp_path)
    assert read.train_x.shape == (30, 1, 28, 28)
    assert read.test_y.tolist() == list(range(10)) * 2
    assert float(read.train_x[0, 0, 0, 5]) == pytest.approx((5 / 255 - 0.1307) / 0.3081, rel=1e-5)
    assert len(load("mnist", tmp_path, train=10).train_x) == 10


@needs_torchvision
def test_missing_mnist_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.torchvision_shim import import_torchvision

    monkeypatch.setattr(import_torchvision().datasets.MNIST, "mirrors", [])  # as if none answered
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.*--folder.*--data glyphs"):
        load("mnist", tmp_path)


def test_missing_torchvision_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(DataError, match=r"Install the torchvision that fits.*--data glyphs"):
        load("mnist", tmp_path)


def test_unknown_names_are_refused_and_the_cache_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="mnist, glyphs, digits"):
        load("cifar")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data.cache() == tmp_path / "fxgrow"
