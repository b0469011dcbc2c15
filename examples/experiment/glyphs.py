"""Digits of 28x28 pixels, drawn from the fonts that ship with matplotlib, bent and covered with noise.

A data set for machines that cannot download one: made in seconds, the same from the same seed, and hard enough that
a net's width shows. Each image is

    image = clamp(contrast * glyph(affine(p) + elastic(p)) + noise * n(p), 0, 1),  n(p) ~ N(0, 1),

a glyph of a font, looked up at moved points p: rotated, scaled, sheared and shifted, and bent by a smooth random field.
The test images come from fonts that no training image is drawn from.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.ft2font import FT2Font
from torch import Tensor

SIDE = 28  # pixels of an image
SHEET = 2 * SIDE  # pixels of a drawn glyph, before it is bent
HEIGHT = 40  # pixels of a digit on it: 20 of 28, as in MNIST
BATCH = 2000  # images made at once
KNOTS = 5  # the elastic field is drawn on KNOTS x KNOTS points and interpolated
RECIPE = 1  # counts changes to this file that change the images

TRAIN_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSansMono-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-BoldItalic",
    "STIXGeneral",
    "STIXGeneralBolIta",
    "STIXGeneralItalic",
    "cmb10",
    "cmr10",
    "cmss10",
    "cmti10",
)
# One of each family; what else ships with matplotlib has no digits, or symbols in their place.
TEST_FONTS = ("DejaVuSans-BoldOblique", "DejaVuSansMono", "DejaVuSerif-Italic", "STIXGeneralBol", "cmtt10")


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How far the digits are moved, bent and hidden.

    Args:
        rotation: the largest angle, in degrees.
        scale: the largest relative change of size.
        shear: the largest slant, in pixels per pixel.
        shift: the largest shift, in pixels.
        elastic: the standard deviation of the elastic field, in pixels.
        noise: the standard deviation of the noise; ink is 1 and paper 0.
    """

    rotation: float
    scale: float
    shear: float
    shift: float
    elastic: float
    noise: float


EASY = Difficulty(rotation=12, scale=0.1, shear=0.1, shift=1.5, elastic=0.8, noise=0.1)
HARD = Difficulty(rotation=25, scale=0.2, shear=0.25, shift=3, elastic=1.7, noise=0.25)
DIFFICULTIES = {"easy": EASY, "hard": HARD}


@dataclass(frozen=True, slots=True)
class Glyphs:
    """Images (N, 1, 28, 28) as bytes, 255 is ink, and their classes (N,)."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def draw(font: str) -> Tensor:
    """The ten digits of a font, (10, 1, 56, 56), each as high as the others and centred."""
    face = FT2Font(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"))
    sheet = torch.zeros(10, 1, SHEET, SHEET)
    for digit in range(10):
        face.set_size(HEIGHT, 100)  # large enough; every digit is scaled to HEIGHT below
        face.set_text(str(digit))
        face.draw_glyphs_to_bitmap(antialiased=True)
        ink = torch.from_numpy(np.array(face.get_image(), dtype=np.float32)) / 255
        rows, columns = ink.amax(1).nonzero().flatten(), ink.amax(0).nonzero().flatten()
        ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        width = min(SHEET, max(1, round(ink.shape[1] * HEIGHT / ink.shape[0])))
        ink = F.interpolate(ink[None, None], (HEIGHT, width), mode="bilinear", antialias=True)[0, 0]
        top, left = (SHEET - HEIGHT) // 2, (SHEET - width) // 2
        sheet[digit, 0, top : top + HEIGHT, left : left + width] = ink
    return sheet


def bend(glyphs: Tensor, how: Difficulty, generator: torch.Generator) -> Tensor:
    """Move, bend and hide glyphs (N, 1, 56, 56); images (N, 1, 28, 28) from 0 to 1."""
    count = len(glyphs)

    def uniform(largest: float) -> Tensor:
        return (2 * torch.rand(count, generator=generator) - 1) * largest

    angle, slant = torch.deg2rad(uniform(how.rotation)), uniform(how.shear)
    size, shift = 1 + uniform(how.scale), torch.stack([uniform(how.shift), uniform(how.shift)], 1) * 2 / SIDE
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).reshape(count, 2, 2)
    lean = torch.eye(2).repeat(count, 1, 1)
    lean[:, 0, 1] = slant
    affine = torch.cat([turn @ lean / size[:, None, None], shift[:, :, None]], 2)  # (N, 2, 3)
    points = F.affine_grid(affine, [count, 1, SIDE, SIDE], align_corners=False)  # (N, 28, 28, 2), from -1 to 1
    field = torch.randn(count, 2, KNOTS, KNOTS, generator=generator) * how.elastic * 2 / SIDE
    points = points + F.interpolate(field, (SIDE, SIDE), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    contrast = 0.7 + 0.3 * torch.rand(count, 1, 1, 1, generator=generator)
    images = contrast * F.grid_sample(glyphs, points, mode="bilinear", align_corners=False)
    noise = torch.randn(images.shape, generator=generator)
    return images.add_(noise, alpha=how.noise).clamp_(0, 1)


def make(fonts: Sequence[str], count: int, how: Difficulty, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """So many images (N, 1, 28, 28) as bytes, and their classes (N,)."""
    drawn = torch.cat([draw(font) for font in fonts])  # (fonts * 10, 1, 56, 56)
    drawn = F.avg_pool2d(drawn, 3, 1, 1)  # half as many points are looked up: without, edges would flicker
    images, classes = [], []
    for start in range(0, count, BATCH):
        which = torch.randint(len(drawn), (BATCH,), generator=generator)
        new = (bend(drawn[which], how, generator) * 255).round_().to(torch.uint8)
        images.append(new[: count - start])
        classes.append((which % 10)[: count - start])
    return torch.cat(images), torch.cat(classes)


def glyphs(train: int, test: int, seed: int, how: Difficulty, folder: Path) -> Glyphs:
    """The images of a seed, from the folder if it holds them, else made and kept there."""
    settings = {
        "recipe": RECIPE,
        "train": [train, TRAIN_FONTS],
        "test": [test, TEST_FONTS],
        "seed": seed,
        "difficulty": asdict(how),
        "sizes": [SIDE, SHEET, HEIGHT, BATCH, KNOTS],
        "versions": [version("torch"), version("matplotlib")],
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    path = folder / f"glyphs-{key}.pt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = [
            make(fonts, count, how, torch.Generator().manual_seed(2 * seed + part))
            for part, (fonts, count) in enumerate(((TRAIN_FONTS, train), (TEST_FONTS, test)))
        ]
        scratch = path.with_suffix(f".{id(made)}.tmp")
        torch.save([tensor for pair in made for tensor in pair], scratch)
        scratch.replace(path)  # another process may read it: whole or not at all
    return Glyphs(*torch.load(path, weights_only=True))
