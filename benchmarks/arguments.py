"""What every script takes that trains on images and writes a page, and the images that it asks for."""

import argparse
from pathlib import Path

from benchmarks.page import device_of
from experiment.arguments import count, device
from experiment.data import Data, DataError, load


def add_usual_arguments(parser: argparse.ArgumentParser) -> None:
    """Seeds, device, where things are, and what is written."""
    parser.add_argument("--seeds", type=count, default=3, help="how many (default: %(default)s)")
    parser.add_argument("--device", type=device, default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--folder", type=Path, help="where MNIST is, and where glyphs are kept")
    parser.add_argument("--quick", action="store_true", help="a few steps: shows that it runs, measures nothing")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write a page, as in docs/")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="default: beside the page, in pictures/, or the record"
    )


def images_of(name: str, options: argparse.Namespace, train: int, test: int) -> Data:
    """The data set of a name, on the device of the options; where it is not to be had, the end and the reason."""
    try:
        return load(name, options.folder, train, test).to(device_of(options.device))
    except DataError as error:
        raise SystemExit(f"error: {error}") from None


def record_of(name: str, options: argparse.Namespace) -> Path:
    """Where the record is: as --out says, else in runs/; a quick run has one of its own."""
    given: Path | None = options.out
    return given or Path("runs") / f"{name}{'-quick' if options.quick else ''}.json"
