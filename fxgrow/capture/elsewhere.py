"""Whether a graph computes what its model does on inputs of other sizes, where tracing may have frozen a number.

What code makes of a size by a format, and what a module that stays a call leaves in its attributes, is plain to the
code around it. So the model and the graph run on other sizes, too. Inputs that the model does not take, or that the
graph refuses, show nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..base.isolation import silent
from ..base.torch_private import pytree
from ..errors import GrowError, TraceError
from ..model.call_args import bind
from ..model.copies import clone_to_run
from ..model.example_inputs import ModelInputs
from ..model.kept_state import attributes_of, is_same
from ..model.walk import named_modules
from ..recording.model_run import explain
from ..recording.returned import plain_values
from ..recording.run import ModelRun, TapedRun
from ..recording.tape import Tape
from .traced import Traced

MOST = 3  # of the most frequent sizes of parameters, the largest is what a batch goes beyond
TIMES = 5


def leaves_something(module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, bool]:
    """What a module gives, and whether it has left something in its attributes."""
    before = attributes_of(list(named_modules(module)))
    result = module(*args, **kwargs)
    after = attributes_of(list(named_modules(module)))
    return result, any(not is_same(before.get(key, module), value) for key, value in after.items())


def check_elsewhere(model: nn.Module, traced: Traced) -> None:
    """Check that a graph computes what its model does on other sizes.

    Raises:
        TraceError: It does not.
    """
    with silent():
        for inputs in _others(model, traced.inputs):
            for mode in traced.tapes:
                run = TapedRun(clone_to_run(model, real=False), inputs, Tape, mode=mode)
                try:
                    result = run.module()
                except Exception:  # noqa: BLE001 - whatever the model raises where it does not take them
                    continue
                theirs = ModelRun(run.tape.calls, run.digests(result), plain_values(result))
                ours = TapedRun(traced.fresh(), bind(model, inputs), Tape, mode=mode)
                try:
                    result = ours.graph(traced.graph(mode))
                except GrowError:
                    continue
                except Exception as error:  # noqa: BLE001 - whatever the trace raises where the model runs
                    raise TraceError(f"on inputs of other sizes its trace fails: {explain(error)}") from None
                if not ours.is_alike(result, theirs):
                    raise TraceError("its trace computes something else on inputs of other sizes")


def _others(model: nn.Module, inputs: ModelInputs) -> Iterator[ModelInputs]:
    """Twice the batch; a batch beyond widths; and twice the sizes behind the channels, or the length of sequences."""
    sizes = Counter(size for x in model.parameters() for size in x.shape)
    beyond = TIMES * max((size for size, _ in sizes.most_common(MOST)), default=1)

    def batch(x: Tensor) -> Tensor:
        return torch.cat([x, x]) if x.ndim else x

    def large_batch(x: Tensor) -> Tensor:
        return x[torch.arange(beyond + len(x) + 1, device=x.device) % len(x)] if x.ndim and len(x) else x

    def sides(x: Tensor) -> Tensor:
        for dim in range(1 if x.ndim == 2 else 2, x.ndim):
            x = torch.cat([x, x], dim)
        return x

    for change in (batch, large_batch, sides):
        args, kwargs = pytree.tree_map_only(Tensor, change, (inputs.args, dict(inputs.kwargs)))
        yield ModelInputs(args, kwargs, inputs.guessed, inputs.real)
