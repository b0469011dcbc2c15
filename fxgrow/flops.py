"""FLOPs by module: torch's own counter, on meta tensors, so that no number of the network is computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from .copies import named_tensors, plain_tensors, same_randomness
from .interpret import Runner
from .record import named_inputs
from .tape import Tape


def flops_by_module(
    root: nn.Module, graph: fx.Graph, arguments: Mapping[str, Any], *, real: bool = False
) -> Mapping[str, int]:
    """The FLOPs of each module's own code: 2 per multiply-add of convolutions, matrix products and attention.

    Args:
        root: What the graph runs on, in the mode to count for; on meta, unless `real`. The run may change its state.
        graph: The graph of that mode.
        arguments: By the names of `forward`; on meta, unless `real`.
        real: Run on real numbers.

    Source: torch.utils.flop_counter.
    """
    tape = Tape({**named_tensors(root), **named_inputs(arguments)}, plain_tensors(root), real=real)
    counter = FlopCounterMode(display=False)
    found = _ByModule(counter, tape)
    with same_randomness(), torch.no_grad(), tape, counter, found:  # the last one entered is the first that is asked
        Runner(root, graph, tape).run_on(arguments)
    return found.flops


class _ByModule(TorchDispatchMode):
    """Notes after each call for which module the counter has gone up."""

    def __init__(self, counter: FlopCounterMode, tape: Tape) -> None:
        super().__init__()
        self.flops: Counter[str] = Counter()
        self._counter, self._tape = counter, tape
        self._total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        before, self._total = self._total, self._counter.get_total_flops()
        if self._total > before:
            self.flops[self._tape.module] += self._total - before
        return result
