"""Small networks, one or more for everything that a convolutional model may contain.

Each entry says how to build the network, what to feed it, and which weights have to grow.
"""

from tests.nets import (
    activations,
    attention,
    blocks,
    dropouts,
    functional,
    interfaces,
    layers,
    norms,
    pinned,
    pooling,
    reshapes,
    sharing,
    spatial,
    splits,
    topologies,
    traps,
)
from tests.nets.registry import NETS, Net

FAMILIES = (
    activations,
    attention,
    blocks,
    dropouts,
    functional,
    interfaces,
    layers,
    norms,
    pinned,
    pooling,
    reshapes,
    sharing,
    spatial,
    splits,
    topologies,
    traps,
)

__all__ = ["FAMILIES", "NETS", "Net"]
