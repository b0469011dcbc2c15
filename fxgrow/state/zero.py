"""`ZeroRedundancyOptimizer`: each rank keeps the state of its part of the parameters, in an optimizer of its own.

The parts stay as they are: a student's parameter belongs to the rank that had the teacher's, so no state travels. New
parameters go to the rank that has least. All ranks do the same, because all have the same model and the same plan.

Source: Rajbhandari et al., ZeRO (arXiv 1910.02054), stage 1, as torch.distributed.optim has it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from ..errors import GrowError


def local_part(optimizer: Optimizer) -> Optimizer | None:
    """The optimizer of this rank's part, of a `ZeroRedundancyOptimizer`; None for any other.

    Raises:
        GrowError: It takes its steps during the backward pass.
    """
    module = sys.modules.get("torch.distributed.optim")  # is loaded where there is one
    kind: Any = getattr(module, "ZeroRedundancyOptimizer", None)
    if kind is None or not isinstance(optimizer, kind):
        return None
    part: Any = getattr(optimizer, "optim", None)
    if not isinstance(part, Optimizer):
        raise GrowError(
            "a ZeroRedundancyOptimizer with overlap_with_ddp=True takes its steps in the backward pass of the teacher; "
            "make a new one for the student"
        )
    return part


def rank_parts(optimizer: Optimizer) -> list[list[dict[str, Any]]]:
    """For each rank its groups, of a `ZeroRedundancyOptimizer`; none of any other."""
    parts: list[list[dict[str, Any]]] = []
    if local_part(optimizer) is not None:
        parts = optimizer._partition_parameters()  # type: ignore[attr-defined]
    return parts


def repartition(optimizer: Any, replaced: Mapping[int, Tensor], lists: Sequence[Sequence[Tensor]]) -> None:
    """Give each rank the student's parameters for those that it has.

    Args:
        optimizer: A `ZeroRedundancyOptimizer` whose groups have the student's parameters.
        replaced: By the `id` of the teacher's parameters the student's.
        lists: The student's parameters in each group, new ones last.
    """
    ranks: list[list[dict[str, Any]]] = optimizer._partition_parameters()
    for groups in ranks:
        for group in groups:
            group["params"][:] = [replaced.get(id(p), p) for p in group["params"]]
    sizes = [sum(p.numel() for group in groups for p in group["params"]) for groups in ranks]
    for number, params in enumerate(lists):
        held = {id(p) for groups in ranks for p in groups[number]["params"]}
        for new in [p for p in params if id(p) not in held]:
            least = sizes.index(min(sizes))
            ranks[least][number]["params"].append(new)
            sizes[least] += new.numel()
    mine = ranks[optimizer.rank]
    for group, part in zip(optimizer.optim.param_groups, mine, strict=True):
        group["params"][:] = list(part["params"])
    for cache in _COMPUTED_AGAIN:
        getattr(optimizer, cache).clear()
    optimizer._all_params[:] = [p for params in lists for p in params]
    optimizer._is_trainable_mask = optimizer._get_is_trainable_mask()
    optimizer._build_param_buckets()


_COMPUTED_AGAIN = (  # from the parts, when they are next asked for
    "_param_to_rank_cache",
    "_param_to_index_cache",
    "_index_to_param_cache",
    "_device_to_params_per_rank_cache",
    "_bucket_assignments_per_rank_cache",
)
