"""The colours of widths: of equal lightness, so that text is equally readable on all.

A hue is an angle in OKLCH, where equal angles are about equally distinct (in HSL a third of the hues is green). The
chroma of a colour outside of sRGB is reduced until the colour is inside.

Source: Ottosson, "A perceptual color space for image processing" (2020): the two matrices. W3C, WCAG 2.2: `contrast`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from .view import Swatch

TURN = 45  # degrees added to the hues of the legend, so that the first one is blue
STEPS, RAMP_HUE = 5, 65  # of the colours of a measure: orange, in degrees


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of a drawing on a light or a dark background, all "#rrggbb".

    Attributes:
        fills: Lightness and chroma of a box by shade.
        line: Lightness and chroma of its outline.
        plain: Fill and outline of a box without a width.
        pinned: Fill and outline of a pinned box.
        ink: Text in a box.
    """

    fills: tuple[tuple[float, float], ...]
    line: tuple[float, float]
    plain: tuple[str, str]
    pinned: tuple[str, str]
    ink: str


LIGHT = Theme(
    ((0.93, 0.05), (0.87, 0.09), (0.81, 0.12)), (0.5, 0.15), ("#ffffff", "#8a929c"), ("#e6e9ed", "#6b747e"), "#16191d"
)
DARK = Theme(
    ((0.36, 0.07), (0.43, 0.09), (0.29, 0.06)), (0.74, 0.12), ("#1b2127", "#9aa5b1"), ("#343c45", "#9aa5b1"), "#f1f4f7"
)


def colour(swatch: Swatch | None, theme: Theme = LIGHT) -> tuple[str, str]:
    """The fill and the outline of a width's boxes, as "#rrggbb"."""
    if swatch is None:
        return theme.plain
    if swatch.hue < 0:
        return theme.pinned
    return oklch(*theme.fills[swatch.shade], swatch.hue + TURN), oklch(*theme.line, swatch.hue + TURN)


def ramp() -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """The colours of a measure from the least to the most: fill and outline, each on a light and on a dark ground.

    One hue; what grows is the distance from the ground, so that the order reads without a legend and in print.
    """
    for i in range(STEPS):
        part = i / (STEPS - 1)
        light = oklch(0.96 - 0.27 * part, 0.02 + 0.11 * part, RAMP_HUE)
        dark = oklch(0.26 + 0.22 * part, 0.02 + 0.09 * part, RAMP_HUE)
        yield (light, dark), (oklch(*LIGHT.line, RAMP_HUE), oklch(*DARK.line, RAMP_HUE))


def recoloured(legend: Mapping[str, Swatch], first: Iterable[str]) -> dict[str, Swatch]:
    """The same widths with the same set of colours, the most distinct ones for the widths in `first`.

    Args:
        legend: The swatches by name; the earlier a colour, the more it differs from the others.
        first: The names of the widths in the level with the fewest boxes.
    """
    coloured = [name for name, swatch in legend.items() if swatch.hue >= 0]
    order = dict.fromkeys([*(name for name in first if name in legend and legend[name].hue >= 0), *coloured])
    hues = {name: (legend[old].hue, legend[old].shade) for name, old in zip(order, coloured, strict=True)}
    return {
        name: replace(swatch, hue=hues[name][0], shade=hues[name][1]) if name in hues else swatch
        for name, swatch in legend.items()
    }


def oklch(lightness: float, chroma: float, hue: float) -> str:
    """A colour as "#rrggbb", with its chroma reduced to what sRGB contains."""
    for part in range(20, -1, -1):
        linear = _linear(lightness, chroma * part / 20, math.radians(hue))
        if part == 0 or all(-1e-3 <= one <= 1 + 1e-3 for one in linear):
            break
    return "#" + "".join(f"{round(255 * _encoded(min(1.0, max(0.0, one)))):02x}" for one in linear)


def contrast(one: str, other: str) -> float:
    """The ratio of the luminances of two colours "#rrggbb": 21 of black on white, 1 of a colour on itself."""
    low, high = sorted(_luminance(one) for one in (one, other))
    return (high + 0.05) / (low + 0.05)


def _linear(lightness: float, chroma: float, angle: float) -> tuple[float, float, float]:
    a, b = chroma * math.cos(angle), chroma * math.sin(angle)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short,
    )


def _encoded(linear: float) -> float:
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
