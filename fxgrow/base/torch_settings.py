"""The settings of the process that torch tells: found in its modules, so that one of a later release is among them."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch

_FACTS = frozenset((
    "version", "get_cpu_capability", "get_max_alg_id", "get_opt_einsum", "get_cudnn_mode", "get_name", "get_core_count",
    "init_dropout_state", "supported_engines", "available_dsls", "all_dsls", "name", "available",
))  # fmt: skip  # what `torch.backends` tells of a machine and an installation, beside `is_available` and its like
_SETTERS = ("enable_", "disable_", "allow_", "set_", "flags", "sdp_kernel")  # beginnings of names in `torch.backends`
_TELLING_TOO = ("set_flags", "flags_frozen")  # the first returns what was set before
# Functions of torch whose names are like those of settings, and that are told of a tensor or of a machine, or answered
# by `recording/answers`.
_OTHERS = frozenset((
    "get_device", "get_device_module", "get_file_path", "get_rng_state",
    "is_grad_enabled", "is_inference_mode_enabled", "is_autocast_enabled", "is_autocast_cpu_enabled",
    "is_deterministic_algorithms_warn_only_enabled", "are_deterministic_algorithms_enabled",
))  # fmt: skip
_OF_TORCH = (torch, torch.autograd, torch.__future__)
_BY_NAME: tuple[tuple[Any, str], ...] = (
    (torch, "initial_seed"),
    (torch.cuda, "initial_seed"),
    (torch.multiprocessing, "get_sharing_strategy"),
    (torch.cuda, "get_sync_debug_mode"),
)
_PLAIN = (type(None), bool, int, str)


@functools.cache
def functions() -> tuple[tuple[Any, str], ...]:
    """The functions that tell a setting, as (owner, name)."""
    named = [(owner, name) for owner in _OF_TORCH for name in dir(owner) if _is_question(name)]
    backends = [
        (module, name)
        for module, _ in _backends()
        for name, value in vars(module).items()
        if inspect.isroutine(value) and _is_own(value) and _tells(name)
    ]
    found = (*named, *_BY_NAME, *backends)
    return tuple((owner, name) for owner, name in found if callable(getattr(owner, name, None)))


@functools.cache
def attributes() -> tuple[tuple[type, str], ...]:
    """The attributes of modules that are settings, as (class of the module or of an object in it, name)."""
    kinds = [*(kind for module, _ in _backends() for kind in _classes(module)), type(torch.utils.deterministic)]
    found = [(kind, name) for kind in kinds for name, value in vars(kind).items() if _is_setting(name, value)]
    for module, shown in _backends():  # of `opt_einsum`, whose settings are variables that its class looks up
        if type(shown) is not ModuleType:
            found += [(type(shown), name) for name, value in vars(module).items() if _is_variable(name, value)]
    return tuple(dict.fromkeys(found))


@functools.cache
def computing() -> tuple[type, ...]:
    """The classes whose `__getattr__` tells settings: `torch.backends.cuda.matmul` is such an object."""
    kinds = [kind for module, _ in _backends() for kind in _classes(module)]
    return tuple(dict.fromkeys(k for k in kinds if "__getattr__" in vars(k) and not issubclass(k, ModuleType)))


@functools.cache
def shown_modules() -> tuple[ModuleType, ...]:
    """The modules that have a class of their own, whose attributes are settings."""
    kinds = {kind for kind, _ in attributes()}
    modules = (*(shown for _, shown in _backends()), torch.utils.deterministic)
    return tuple(module for module in modules if type(module) in kinds)


def _is_question(name: str) -> bool:
    return name not in _OTHERS and (name.startswith("get_") or (name.startswith("is_") and name.endswith("_enabled")))


def _tells(name: str) -> bool:
    """Whether a function of `torch.backends` tells a setting: one that is not known does."""
    if name in _TELLING_TOO or name == "is_acceptable":  # which is not where cuDNN is off
        return True
    return not name.startswith(("_", "is_", *_SETTERS)) and name not in _FACTS


def _is_setting(name: str, value: Any) -> bool:
    if name.startswith("_") or name in _FACTS:
        return False
    return inspect.isdatadescriptor(value) or _is_variable(name, value)


def _is_variable(name: str, value: Any) -> bool:
    return name.islower() and not name.startswith("_") and isinstance(value, _PLAIN)


def _is_own(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).startswith("torch.backends")


def _classes(module: Any) -> Iterator[type]:
    """The classes that a module of `torch.backends` makes in Python, other than those of descriptors."""
    for value in vars(module).values():
        if type(value) is type and _is_own(value) and not hasattr(value, "__get__"):
            yield value


def _backends() -> Iterator[tuple[Any, Any]]:
    """The modules of `torch.backends`, as (the one that was executed, the one that stands in `sys.modules`)."""
    for name, module in list(sys.modules.items()):
        if name == "torch.backends" or name.startswith("torch.backends."):
            yield vars(module).get("m", module), module
