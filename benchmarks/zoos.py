"""Where zoo.py gets its models from: one function per zoo."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.torchvision_shim import import_torchvision


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of a zoo.

    Args:
        name: unique within its zoo.
        build: makes the model with random weights, on the device that is the default.
        inputs: makes example inputs, positional, float32, two samples.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Any, ...]]


Zoo = Callable[[], Iterator[Entry]]
ZOOS: dict[str, Zoo] = {}


def zoo(name: str) -> Callable[[Zoo], Zoo]:
    """Register a function that yields a zoo's entries."""

    def register(entries: Zoo) -> Zoo:
        if name in ZOOS:
            raise ValueError(f"two zoos are called {name!r}")
        ZOOS[name] = entries
        return entries

    return register


def images(size: int, channels: int = 3) -> Callable[[], tuple[Tensor]]:
    """Two random images."""

    def make() -> tuple[Tensor]:
        return (torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0), device="cpu"),)

    return make


# Attention's widths are another matter than a convolutional network's.
TRANSFORMERS = ("vit_", "swin_", "maxvit_")
# The smallest inputs that each family takes in both modes. 64 unless named: AlexNet pools 63 pixels down to
# one; Inception's auxiliary head, in train mode, needs a map of 17 x 17, which 299 pixels give.
SIZES = {"inception_v3": 299, "alexnet": 64}
# Their initialisation draws from a truncated normal distribution for minutes.
OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": True, "init_weights": False},
    "inception_v3": {"aux_logits": True, "init_weights": False},
}


@zoo("torchvision")
def torchvision_zoo() -> Iterator[Entry]:
    """All classification models of torchvision that are convolutional."""
    models = import_torchvision().models
    for name in models.list_models(module=models):
        if not name.startswith(TRANSFORMERS):
            build = functools.partial(models.get_model, name, weights=None, **OPTIONS.get(name, {}))
            yield Entry(name, build, images(SIZES.get(name, 64)))
