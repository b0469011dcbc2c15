"""FLOPs by module: torch's counter on meta tensors, so that no values are computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx, nn

from ..base.torch_private import TorchDispatchMode, pytree
from ..errors import TraceError
from ..model.copies import clone_shared, named_parameters, on_meta
from ..model.example_inputs import ModelInputs
from ..recording.run import TapedRun
from ..recording.tape import Tape
from .torchs import new_counter

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode


def flops_by_module(
    root: nn.Module, graph: fx.Graph, arguments: Mapping[str, Any], *, real: bool = False
) -> Mapping[str, int]:
    """The FLOPs of each module's own code: 2 per multiply-add of convolutions, matrix products and attention.

    Args:
        root: The module tree, in the mode to count for; on meta, unless `real`. The run may change its buffers.
        graph: The graph of that mode.
        arguments: The arguments by the names of `forward`; on meta, unless `real`.
        real: Whether tensors have values.

    Source: torch.utils.flop_counter.
    """
    run = TapedRun(_without_gradients(root), arguments, Tape, real=real, backward=False)
    counter = new_counter()
    by_module = _ByModule(counter, run.tape)
    run.graph(graph, inside=(counter, by_module))  # the last one entered is the first that sees a call
    return by_module.flops


def total_flops(model: nn.Module, inputs: ModelInputs) -> int:
    """The FLOPs of a model in eval mode; the model is not modified.

    Runs on meta, because on other devices torch's counter misses fused kernels (attention's fast path, mkldnn's LSTM).

    Raises:
        TraceError: The model does not run on the meta device.
    """
    shadow = on_meta(model)
    for parameter in named_parameters(shadow).values():
        parameter.requires_grad = False  # as in `_without_gradients`
    args, kwargs = pytree.tree_map_only(Tensor, lambda t: t.detach().to("meta"), (inputs.args, dict(inputs.kwargs)))
    run = TapedRun(shadow, ModelInputs(args, kwargs), Tape, mode="eval", backward=False)
    counter = new_counter()
    try:
        run.module(inside=(counter,))
        return int(counter.get_total_flops())
    except Exception as error:
        raise TraceError(f"{type(model).__name__} does not run on the meta device: {error}") from error


def _without_gradients(root: nn.Module) -> nn.Module:
    """A copy that shares memory, without requires_grad: torch's counter fails on parameters passed to a module."""
    parameters = list(named_parameters(root).values())
    return clone_shared(root, {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in parameters})


class _ByModule(TorchDispatchMode):
    """Adds the increase of the counter after each call to the module that made the call."""

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
