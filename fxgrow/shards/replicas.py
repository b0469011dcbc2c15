"""A model in DistributedDataParallel: every process grows it alike, and the student gets the same wrapper."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import GrowError
from ..plans.growth_plan import Plan
from ..rewrite.student import call_resize
from ..state.hand_over import hand_over
from ..state.optimizer import moving
from .agreement import OPTIMIZERS, Peers, agreed, digest_of, digest_of_ways
from .batches import BATCHES, Told
from .options import Options

MIB = 1 << 20
_KEPT = (  # options that the wrapper keeps under their own names; not all are there in each release
    *("device_ids", "output_device", "dim", "find_unused_parameters", "gradient_as_bucket_view", "static_graph"),
    *("skip_all_reduce_unused_params", "batched_grad_copy"),
)
_BUFFERS = ("forward_sync_buffers", "broadcast_buffers")  # the newer name of one option, and the older one


def is_replicated(model: object) -> bool:
    """Whether a model is in DistributedDataParallel."""
    return type(model) is DistributedDataParallel


def grow_replicated(
    wrapper: nn.Module, make: Callable[[nn.Module, Iterable[Any] | None], tuple[nn.Module, Plan]], options: Options
) -> nn.Module:
    """The student of a model in a wrapper, in a new wrapper of the same kind; on every process.

    Args:
        wrapper: The wrapper. It keeps the teacher, and is not to be used with the student.
        make: Makes the student of the model inside, with batches for new norms, without a word to other processes.
        options: Those of `grow`.

    Raises:
        GrowError: With the reason, on every process; nothing was changed.
    """
    inner: nn.Module = wrapper.module  # type: ignore[assignment]

    peers = Peers((wrapper.process_group,), next(inner.parameters()).device)
    given = options.calibration
    batches = Told(given, inner) if isinstance(given, Iterable) else given

    def prepared() -> tuple[nn.Module, Plan, Any, dict[str, Any]]:
        options.steps()
        again = _arguments(wrapper)
        moved = moving(options.optimizer, inner, reset=options.reset)
        student, plan = make(inner, batches)
        call_resize(options.resize, student, plan)
        return student, plan, moved, again

    student, plan, moved, again = agreed(peers, prepared, lambda made: digest_of(made[1]))
    agreed(peers, lambda: moved, lambda kept: digest_of_ways(kept, options.steps()), OPTIMIZERS)
    agreed(peers, lambda: batches.digest if isinstance(batches, Told) else "", str, BATCHES)
    hand_over(moved, plan, inner, student, options.steps())
    new = DistributedDataParallel(student, **again, init_sync=False)
    for hook, state in getattr(wrapper, "_comm_hooks", ()):
        new.register_comm_hook(state, hook)
    new.training = wrapper.training  # of itself alone: a part of the student may be in another mode
    return new


def _arguments(wrapper: Any) -> dict[str, Any]:
    """The options that a wrapper was made with.

    Raises:
        GrowError: One cannot be given again.
    """
    if wrapper._delay_all_reduce_params or wrapper.mixed_precision is not None:
        raise GrowError(
            "the DistributedDataParallel delays parameters or casts them, which ties it to these: grow model.module on "
            "every process, and wrap the student anew"
        )
    known = inspect.signature(DistributedDataParallel).parameters
    again = {name: getattr(wrapper, name) for name in _KEPT if name in known and hasattr(wrapper, name)}
    buffers = next(name for name in _BUFFERS if name in known)
    again[buffers] = getattr(wrapper, buffers)
    if sizes := getattr(wrapper, "bucket_bytes_cap_list", None):
        again["bucket_cap_mb_list"] = [size / MIB for size in sizes]
    elif not wrapper.bucket_bytes_cap_default:
        again["bucket_cap_mb"] = wrapper.bucket_bytes_cap / MIB
    mesh = getattr(wrapper, "device_mesh", None)
    return {**again, **({"process_group": wrapper.process_group} if mesh is None else {"device_mesh": mesh})}
