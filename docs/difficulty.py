"""Measures how far a net's width shows on the glyphs, easy and hard, and writes it into docs/notebooks.md.

Usage (some minutes on one thread):
    PYTHONPATH=.:examples OMP_NUM_THREADS=1 python docs/difficulty.py
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from experiment.data import load
from experiment.glyphs import DIFFICULTIES
from experiment.tables import Table, spread
from experiment.training import epoch, evaluate

PAGE = Path(__file__).with_name("notebooks.md")
SECTION = re.compile("<!-- difficulty -->.*<!-- /difficulty -->", re.DOTALL)
WIDTHS, SEEDS, EPOCHS, IMAGES, BATCH, RATE = (8, 16, 32), range(3), 3, 20_000, 64, 2e-3


def net(width: int) -> nn.Module:
    """Three convolutions of one width."""
    layers: list[nn.Module] = []
    for channels in (1, width, width):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * 9, 10)).to(memory_format=torch.channels_last)


def accuracy(difficulty: str, width: int, seed: int) -> float:
    """Of the test images, after three epochs."""
    data = load("glyphs", train=IMAGES, difficulty=DIFFICULTIES[difficulty])
    torch.manual_seed(seed)
    model, order = net(width), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    for _ in range(EPOCHS):
        epoch(model, data.train_x, data.train_y, optimizer, BATCH, order)
    return evaluate(model, data.test_x, data.test_y).accuracy


def main() -> None:
    """Measure, print, and write."""
    rows = [
        (name, *(spread([accuracy(name, width, seed) for seed in SEEDS], 1) for width in WIDTHS))
        for name in tqdm(DIFFICULTIES)
    ]
    table = Table(("difficulty", *(f"width {width}" for width in WIDTHS)), tuple(rows))
    print(table)
    lines = [
        "<!-- difficulty -->",
        f"Test accuracy (%) of a net of three 3x3 convolutions after {EPOCHS} epochs of {IMAGES:,} images, Adam at "
        f"{RATE}, batches of {BATCH}, mean ± standard deviation over {len(SEEDS)} seeds; made by "
        "`PYTHONPATH=.:examples OMP_NUM_THREADS=1 python docs/difficulty.py`:",
        "",
        table.markdown(),
        "<!-- /difficulty -->",
    ]
    PAGE.write_text(SECTION.sub(lambda _: "\n".join(lines), PAGE.read_text()))


if __name__ == "__main__":
    main()
