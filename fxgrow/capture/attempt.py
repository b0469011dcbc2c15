"""What one attempt to trace a model gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of an attempt to trace.

    Attributes:
        graph: The graph. If there are new leaves, it is not used.
        new_leaves: The modules that have to stay calls, by path, and why. Trace a fresh copy with these leaves.
        result: What the graph returned on the example inputs.
        mode_matters: Whether the code that became the graph asks for its mode.
        layers_change: Whether it changes layers while it runs.
        may_freeze: Whether it may have seen a size as a plain number or text, without a guard.
        whole: Whether the trace came to the end of the code, and of each backward.
    """

    graph: fx.Graph
    new_leaves: Mapping[str, str]
    result: Any = None
    mode_matters: bool = True
    layers_change: bool = False
    may_freeze: bool = False
    whole: bool = True
