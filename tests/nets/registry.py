"""The registry: `net` decorates a class or function that builds a network."""

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

IMAGE = (2, 3, 6, 8)  # (N, C, H, W), not square
SIGNAL = (2, 3, 10)  # (N, C, L)
VOLUME = (2, 3, 4, 6, 5)  # (N, C, D, H, W)
ROWS = (5, 7)  # (N, features)
TOKENS = (2, 5, 7)  # (N, tokens, features)

Grows = Literal["all", "none"] | tuple[str, ...]
Make = TypeVar("Make", bound=Callable[[], nn.Module])
Inputs = tuple[Any, ...] | dict[str, Any]


@dataclass(frozen=True, slots=True)
class Net:
    """One entry.

    Args:
        name: unique, the test's id.
        build: makes the module; called under a fixed seed.
        arguments: shapes (random normal) or functions of a generator, one per positional argument.
        grows: names of the weights that must change shape when all widths double; "all" means every
            floating parameter of two or more dimensions.
        any_factor: False where only whole multiples are exact, so that a factor of 1.5 may change nothing.
    """

    name: str
    build: Callable[[], nn.Module]
    arguments: tuple[Any, ...] | dict[str, Any]
    grows: Grows
    any_factor: bool

    def make(self) -> nn.Module:
        """The module, the same at each call."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(zlib.crc32(self.name.encode()))  # quick, as in tests/conftest.py
            return self.build()

    def inputs(self) -> Inputs:
        """Example inputs, the same at each call."""
        generator = torch.Generator().manual_seed(zlib.crc32(self.name.encode()) + 1)
        if isinstance(self.arguments, dict):
            return {key: _value(a, generator) for key, a in self.arguments.items()}
        return tuple(_value(a, generator) for a in self.arguments)

    def expected(self, model: nn.Module) -> set[str]:
        """The names of the parameters that must change shape when all widths double."""
        if self.grows == "none":
            return set()
        if self.grows == "all":
            return {k for k, p in model.named_parameters() if p.ndim > 1 and p.is_floating_point()}
        return set(self.grows)


NETS: dict[str, Net] = {}


def _value(argument: object, generator: torch.Generator) -> object:
    if isinstance(argument, tuple):
        return torch.randn(argument, generator=generator)
    return argument(generator) if callable(argument) else argument


def add(
    name: str,
    build: Callable[[], nn.Module],
    *arguments: object,
    grows: Grows = "all",
    any_factor: bool = True,
    kwargs: dict[str, object] | None = None,
) -> None:
    """Put one network into the registry."""
    if name in NETS:
        raise ValueError(f"two networks are called {name!r}")
    NETS[name] = Net(name, build, arguments if kwargs is None else kwargs, grows, any_factor)


def net(
    *arguments: object,
    grows: Grows = "all",
    any_factor: bool = True,
    kwargs: dict[str, object] | None = None,
) -> Callable[[Make], Make]:
    """Register the decorated class or function under its name in snake case."""

    def register(build: Make) -> Make:
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", build.__name__).lower()
        add(name, build, *arguments, grows=grows, any_factor=any_factor, kwargs=kwargs)
        return build

    return register


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Between(nn.Module):
    """before -> function -> after."""

    def __init__(self, function: Callable[[Tensor], Tensor], before: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.before = before
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.function(self.before(x)))


CONV: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
INPUT: dict[int, tuple[int, ...]] = {1: SIGNAL, 2: IMAGE, 3: VOLUME}


def between(function: Callable[[Tensor], Tensor], dims: int = 2, width: int = 6) -> Between:
    """conv3 -> function, which keeps the number of channels -> conv1, in 1, 2 or 3 dimensions."""
    return Between(function, CONV[dims](3, width, 3, padding=1), CONV[dims](width, 4, 1))


def param(*shape: int) -> nn.Parameter:
    """A parameter with normal entries, scaled as the weight of a layer."""
    fan = max(1, torch.Size(shape[1:]).numel())
    return nn.Parameter(torch.randn(shape) * fan**-0.5)
