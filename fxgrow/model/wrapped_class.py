"""Modules whose class `fully_shard` has replaced: the class that they had, and their attributes without its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

_MANAGED = "_is_fsdp_managed_module"  # what fully_shard notes in each module that it sees
_NOTES = (_MANAGED, "_fsdp_use_orig_params")
_STATE = "__composable_api_state_key"  # begins the names under which torch's composable wrappers keep their state
_HOOKS = re.compile(r"_(\w+_)?hooks(_\w+)?")
_BY = "torch.distributed"


def own_class(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of a module before `fully_shard`, which puts a subclass in its place."""
    bases = kind.__mro__
    if len(bases) > 2 and bases[1].__name__ == "FSDPModule" and bases[1].__module__.startswith(_BY):
        return bases[2]
    return kind


def own_attributes(module: nn.Module) -> Mapping[str, Any]:
    """A module's attributes, without what `fully_shard` put there: notes, its state and hooks."""
    attributes = vars(module)
    if _MANAGED not in attributes:
        return attributes
    own = {name: value for name, value in attributes.items() if name not in _NOTES and not name.startswith(_STATE)}
    tables = {name: value for name, value in own.items() if _HOOKS.fullmatch(name) and isinstance(value, dict)}
    theirs = {key for table in tables.values() for key, hook in table.items() if _is_torchs(hook)}
    for name, table in tables.items():
        if theirs & table.keys():
            own[name] = type(table)((key, hook) for key, hook in table.items() if key not in theirs)
    return own


def _is_torchs(hook: Any) -> bool:
    inner = getattr(hook, "hook", hook)  # of state_dicts: some are wrapped
    return str(getattr(inner, "__module__", "")).startswith(_BY)
