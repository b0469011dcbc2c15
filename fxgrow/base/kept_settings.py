"""What the user's code may set for the whole process, and how to put it back."""

from __future__ import annotations

import functools
import gc
import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import torch

from .replacing import until_done
from .torch_private import (
    PRINT_OPTIONS,
    all_global_tables,
    default_device,
    kind_of_backward_hooks,
    set_default_device,
    set_kind_of_backward_hooks,
)
from .torch_settings import attributes, computing, shown_modules

_UNREADABLE: Any = object()  # torch refuses to tell, as where old and new names of one setting were mixed
_ABSENT: Any = object()
_LEAST = 5e-324  # a denormal number
_PRECISION = "fp32_precision"
_AUTOCAST = ("cpu", "cuda")
_SUMS = ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")  # of products on CUDA


class _Entry(NamedTuple):
    """A setting: how it is read, and how it is set to what was read."""

    get: Callable[[], Any]
    put: Callable[[Any], object]


@contextmanager
def settings_kept() -> Iterator[None]:
    """Put back afterwards what the user's code sets for the whole process."""
    before = [_read(entry) for entry in _entries()]
    try:
        yield
    finally:
        until_done(functools.partial(_put_back, before))


@contextmanager
def hooks_kept() -> Iterator[None]:
    """Drop afterwards what the user's code registers for all modules, and put back what it removes."""
    before = [(table, dict(table)) for table in all_global_tables]
    try:
        yield
    finally:
        until_done(functools.partial(_fill, before))


def _put_back(before: list[Any]) -> None:
    for entry, value in zip(_entries(), before, strict=True):
        if value is not _UNREADABLE and _read(entry) != value:  # one that is put back may change those that follow
            entry.put(value)


def _fill(before: list[tuple[dict[int, Any], dict[int, Any]]]) -> None:
    for table, entries in before:
        if table != entries:
            table.clear()
            table.update(entries)


def _read(entry: _Entry) -> Any:
    try:
        return entry.get()
    except RuntimeError:
        return _UNREADABLE


@functools.cache
def _entries() -> tuple[_Entry, ...]:
    """All settings; those that change others come first."""
    return (*_of_python(), *_of_torch(), *_of_backends())


def _of_python() -> Iterator[_Entry]:
    yield _Entry(sys.getrecursionlimit, sys.setrecursionlimit)
    yield _Entry(gc.isenabled, lambda enabled: gc.enable() if enabled else gc.disable())
    yield _Entry(lambda: logging.root.manager.disable, logging.disable)
    yield _Entry(_numpy_errors, lambda kinds: sys.modules["numpy"].seterr(**kinds))


def _of_torch() -> Iterator[_Entry]:
    future, mha = torch.__future__, torch.backends.mha
    pairs: list[tuple[Callable[[], Any], Callable[[Any], object]]] = [
        (default_device, set_default_device),
        (torch.get_default_dtype, torch.set_default_dtype),
        (torch.get_num_threads, torch.set_num_threads),
        (_deterministic, lambda flags: torch.use_deterministic_algorithms(flags[0], warn_only=flags[1])),
        (_autocast, _set_autocast),
        (torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
        (_anomalies, lambda flags: torch.autograd.set_detect_anomaly(*flags)),
        (torch.is_warn_always_enabled, torch.set_warn_always),
        (torch.autograd.is_multithreading_enabled, torch.autograd.set_multithreading_enabled),
        (torch.multiprocessing.get_sharing_strategy, torch.multiprocessing.set_sharing_strategy),
        (future.get_overwrite_module_params_on_conversion, future.set_overwrite_module_params_on_conversion),
        (future.get_swap_module_params_on_conversion, future.set_swap_module_params_on_conversion),
        (mha.get_fastpath_enabled, mha.set_fastpath_enabled),
        (lambda: _LEAST * 1.0 == 0, torch.set_flush_denormal),
        (lambda: dict(vars(PRINT_OPTIONS)), vars(PRINT_OPTIONS).update),
        (kind_of_backward_hooks, set_kind_of_backward_hooks),
    ]
    yield from (_Entry(*pair) for pair in pairs)


def _of_backends() -> Iterator[_Entry]:
    cuda = torch.backends.cuda
    yield _Entry(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision)
    yield _Entry(cuda.flash_sdp_enabled, cuda.enable_flash_sdp)
    yield _Entry(cuda.mem_efficient_sdp_enabled, cuda.enable_mem_efficient_sdp)
    yield _Entry(cuda.math_sdp_enabled, cuda.enable_math_sdp)
    yield _Entry(cuda.cudnn_sdp_enabled, cuda.enable_cudnn_sdp)
    yield _Entry(cuda.fp16_bf16_reduction_math_sdp_allowed, cuda.allow_fp16_bf16_reduction_math_sdp)
    yield _Entry(cuda.preferred_linalg_library, cuda.preferred_linalg_library)
    yield _Entry(cuda.preferred_blas_library, cuda.preferred_blas_library)
    yield _Entry(_nnpack, torch.backends.nnpack.set_flags)
    yield _of_object(cuda.matmul, "allow_fp16_accumulation")
    yield from (_of_sums(cuda.matmul, name) for name in _SUMS)
    for shown, name in _attributes():
        yield _of_attribute(shown, name)
    for shown in _precise():
        yield _Entry(functools.partial(getattr, shown, _PRECISION), functools.partial(_set_precision, shown))


def _attributes() -> Iterator[tuple[ModuleType, str]]:
    for shown in shown_modules():
        yield from ((shown, name) for kind, name in attributes() if kind is type(shown) and name != _PRECISION)


def _precise() -> Iterator[Any]:
    """What has a precision of its own: all backends, then each, then each operator of one, which else takes theirs."""
    modules = sorted(shown_modules(), key=lambda module: module.__name__.count("."))
    yield from (module for module in modules if (type(module), _PRECISION) in attributes())
    inside = [value for module in modules for value in vars(type(module)).values()]
    for one in (torch.backends.cuda.matmul, *inside):
        if type(one) in computing() and hasattr(one, _PRECISION):
            yield one


def _set_precision(owner: Any, value: str) -> None:
    owner.fp32_precision = "none"  # as what it is part of
    if owner.fp32_precision != value:
        owner.fp32_precision = value


def _of_attribute(module: ModuleType, name: str) -> _Entry:
    if inspect.isdatadescriptor(vars(type(module)).get(name)):
        return _of_object(module, name)
    spaces = (vars(module), vars(vars(module).get("m", module)))

    def put(values: tuple[Any, ...]) -> None:
        for space, value in zip(spaces, values, strict=True):
            if value is _ABSENT:
                space.pop(name, None)
            else:
                space[name] = value

    return _Entry(lambda: tuple([space.get(name, _ABSENT) for space in spaces]), put)


def _of_object(owner: Any, name: str) -> _Entry:
    return _Entry(functools.partial(getattr, owner, name), functools.partial(setattr, owner, name))


def _of_sums(matmul: Any, name: str) -> _Entry:
    split = f"{name}_split_k"  # read by a name of its own, and set with the other
    if not hasattr(matmul, split):
        return _of_object(matmul, name)
    return _Entry(lambda: (getattr(matmul, name), getattr(matmul, split)), functools.partial(setattr, matmul, name))


def _nnpack() -> bool:
    (enabled,) = torch.backends.nnpack.set_flags(True)  # there is no other way to ask
    torch.backends.nnpack.set_flags(enabled)
    return bool(enabled)


def _numpy_errors() -> dict[str, str]:
    numpy = sys.modules.get("numpy")
    return {} if numpy is None else numpy.geterr()


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _autocast() -> list[tuple[str, bool, torch.dtype]]:
    return [(kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in _AUTOCAST]


def _set_autocast(states: list[tuple[str, bool, torch.dtype]]) -> None:
    for kind, enabled, dtype in states:
        torch.set_autocast_enabled(kind, enabled)
        torch.set_autocast_dtype(kind, dtype)


def _anomalies() -> tuple[bool, bool]:
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
