"""Draws docs/pictures/: what README.md and docs/drawing.md show, and one HTML to try.

Usage (with the extra `viz`, for the .svg):
    PYTHONPATH=. OMP_NUM_THREADS=1 python docs/pictures.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import fxgrow
from benchmarks.torchvision_shim import import_torchvision
from examples.quickstart import DigitNet

PICTURES = Path(__file__).with_name("pictures")

DIGITS = [fxgrow.Widen("*", 2.0), fxgrow.Deepen("conv2"), fxgrow.Kernel("conv1", 5)]
RESNET = [fxgrow.Widen("layer[34].*", 1.5), fxgrow.Deepen("layer2", blocks=1)]


def main() -> None:
    """Draw all of them."""
    PICTURES.mkdir(exist_ok=True)
    resnet: nn.Module = import_torchvision().models.resnet18(weights=None)
    for name, model, inputs, spec, levels in (
        ("digits", DigitNet(), torch.zeros(2, 1, 8, 8), DIGITS, ("layers",)),
        ("resnet18", resnet, torch.zeros(2, 3, 224, 224), RESNET, ("groups",)),
    ):
        found = fxgrow.widths(model, inputs)
        plan = fxgrow.plan(found, spec)
        for level in levels:
            path = fxgrow.draw((found, plan), PICTURES / f"{name}_{level}.svg", level=level)  # type: ignore[arg-type]
            print(path, f"{path.stat().st_size:,} bytes")
        if name == "resnet18":
            path = fxgrow.draw((found, plan), PICTURES / f"{name}.html")
            print(path, f"{path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
