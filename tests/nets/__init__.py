"""Small networks, one or more for everything that a convolutional model may contain.

Each entry says how to build the network, what to feed it, and which weights have to grow.
"""

from importlib import import_module
from pkgutil import iter_modules

from tests.nets.registry import NETS, Net

FAMILIES = tuple(import_module(f"{__name__}.{file.name}") for file in iter_modules(__path__) if file.name != "registry")

__all__ = ["FAMILIES", "NETS", "Net"]
