"""Factors of a dimension that grow on request: the channels in each group of a norm, where more groups are the default.

Replicas of every channel of a group, equally many, leave the mean and the variance of the group as they are.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..infer.freeze import prefer
from ..infer.groups import FACTOR, Group
from ..infer.width_graph import WidthGraph
from ..spec.parse import Widen
from ..spec.requests import Request
from .meant_widths import is_of_model


def with_asked_factors(widths: WidthGraph, requests: Iterable[Widen | Request]) -> WidthGraph:
    """The width graph in which factors that are asked for by their own names grow, where another one would."""
    patterns = [widths.named(request.pattern) for request in requests if isinstance(request, Widen)]
    names = [name for name in patterns if name in widths.groups_by_name and not is_of_model(widths, name)]
    return with_factors(widths, names)


def with_factors(widths: WidthGraph, names: Iterable[str]) -> WidthGraph:
    """The same for these names."""
    wanted = set(names)
    waiting = [name for name in wanted if _gives_way(widths.groups_by_name[name])]
    return prefer(widths, wanted) if waiting else widths


def _gives_way(group: Group) -> bool:
    """Whether another factor of the same dimension grows instead."""
    return bool(group.deferred_to) or any(reason.endswith(FACTOR) for reason in group.pinned)
