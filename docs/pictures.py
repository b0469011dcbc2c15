"""Draws docs/pictures/: what README.md and the pages show, and one HTML to try; writes docs/gallery.md.

Usage (with the extras `viz`, for the .svg, and `examples`, for the glyphs):
    PYTHONPATH=.:examples OMP_NUM_THREADS=1 python docs/pictures.py
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from PIL import Image
from torch import nn

import fxgrow
from benchmarks.torchvision_shim import import_torchvision
from examples.quickstart import DigitNet
from examples.see_it import NETS, Shown, shown
from experiment.glyphs import DIFFICULTIES, TEST_FONTS, TRAIN_FONTS, make

PICTURES = Path(__file__).with_name("pictures")

DIGITS = [fxgrow.Widen("*", 2.0), fxgrow.Deepen("conv2"), fxgrow.Kernel("conv1", 5)]
RESNET = [fxgrow.Widen("layer[34].*", 1.5), fxgrow.Deepen("layer2", blocks=1)]


def glyph_sheet(path: Path, columns: int = 20, lines: int = 2) -> None:
    """Each class in turn: for each difficulty some lines of training images, then as many of test images."""
    rows = []
    for how in DIFFICULTIES.values():
        for part, fonts in enumerate((TRAIN_FONTS, TEST_FONTS)):
            images, classes = make(fonts, 1000, how, torch.Generator().manual_seed(part))
            by_class = [images[classes == digit] for digit in range(10)]
            for line in range(lines):
                shown = [by_class[c % 10][line * columns // 10 + c // 10, 0] for c in range(columns)]
                rows.append(torch.cat(shown, 1))
    ink_is_black = Image.fromarray((255 - torch.cat(rows)).numpy())
    ink_is_black.quantize(16).save(path, optimize=True)  # noise does not compress: fewer greys do
    print(path, f"{path.stat().st_size:,} bytes")


GALLERY = """# Gallery

Ten networks before and after growth, as drawn by `fxgrow.draw`. `python examples/see_it.py` makes this gallery with a
page for each network, in which boxes open and have descriptions; [this](pictures/resnet18.html) is one of them.
`docs/pictures.py` makes the pictures. [drawing.md](drawing.md) says what the signs mean.
"""


def gallery(nets: Iterable[Shown]) -> str:
    """docs/gallery.md."""
    parts = [GALLERY]
    for one in nets:
        cells = (f'<img src="pictures/gallery/{file}" width="420" alt="{one.title}, {file}">' for file in one.pictures)
        parts.append(f"## {one.title}\n\n{one.figures}.\n\n| before | after |\n|---|---|\n| {' | '.join(cells)} |\n")
    return "\n".join(parts)


def main() -> None:
    """Draw all of them."""
    PICTURES.mkdir(exist_ok=True)
    glyph_sheet(PICTURES / "glyphs.png")
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
    folder = PICTURES / "gallery"
    folder.mkdir(exist_ok=True)
    PICTURES.with_name("gallery.md").write_text(gallery([shown(one, folder, pages=False) for one in NETS]), "utf-8")


if __name__ == "__main__":
    main()
