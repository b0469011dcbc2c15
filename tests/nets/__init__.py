"""Small networks, one or more for everything that a convolutional model may contain.

Each entry says how to build the network, what to feed it, and which weights have to grow.
"""

from tests.nets import (
    activations,
    architectures,
    attention,
    blocks,
    dropouts,
    functional,
    idioms,
    interfaces,
    layers,
    norms,
    pinned,
    pooling,
    reshapes,
    sharing,
    signatures,
    spatial,
    splits,
    topologies,
    traps,
    vision_transformers,
)
from tests.nets.registry import NETS, Net

FAMILIES = (
    activations,
    architectures,
    attention,
    blocks,
    dropouts,
    functional,
    idioms,
    interfaces,
    layers,
    norms,
    pinned,
    pooling,
    reshapes,
    sharing,
    signatures,
    spatial,
    splits,
    topologies,
    traps,
    vision_transformers,
)

__all__ = ["FAMILIES", "NETS", "Net"]
