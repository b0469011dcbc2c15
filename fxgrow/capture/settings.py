"""Settings of the process that a model's code asks for: a graph would freeze the answer, so that code stays a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..base.replacing import Target
from ..model.walk import Paths
from ..recording.answers import asker, imported

Asked = Callable[[str], None]

# Functions that tell a setting; those of which another answer is tried are in `recording/answers`.
_FUNCTIONS: tuple[tuple[Any, str], ...] = (
    *((torch, name) for name in (
        "get_default_dtype", "get_default_device", "get_num_threads", "get_num_interop_threads",
        "get_float32_matmul_precision", "get_autocast_dtype", "get_autocast_cpu_dtype", "get_autocast_gpu_dtype",
        "is_autocast_cache_enabled", "is_anomaly_enabled", "is_warn_always_enabled", "get_deterministic_debug_mode",
    )),
    *((torch.backends.cuda, name) for name in (
        "flash_sdp_enabled", "math_sdp_enabled", "mem_efficient_sdp_enabled", "cudnn_sdp_enabled",
    )),
)  # fmt: skip
# Attributes that tell one: descriptors of the class of a module.
_ATTRIBUTES: tuple[tuple[Any, str], ...] = (
    *((type(torch.backends.cudnn), name) for name in ("enabled", "benchmark", "deterministic", "allow_tf32")),
    *((type(torch.backends.mkldnn), name) for name in ("enabled", "deterministic")),
)


class _Setting:
    """Stands in for a descriptor, and sees the user's code ask."""

    def __init__(self, own: Any, name: str, asked: Asked) -> None:
        self._own, self._name, self._asked = own, name, asked

    def __get__(self, instance: Any, owner: type) -> Any:
        if asker():
            self._asked(self._name)
        return self._own.__get__(instance, owner)

    def __set__(self, instance: Any, value: Any) -> None:
        self._own.__set__(instance, value)


def settings_asked(asked: Asked, paths: Paths) -> list[Target]:
    """What sees code ask for these settings.

    Args:
        asked: Told of each setting that the user's code asks for.
        paths: The modules whose code is traced. Their source files may have imported the functions by name.
    """
    functions = [(owner, name) for owner, name in _FUNCTIONS if hasattr(owner, name)]
    telling = {id(getattr(owner, name)): _telling(getattr(owner, name), name, asked) for owner, name in functions}
    return [
        *((owner, name, telling[id(getattr(owner, name))]) for owner, name in functions),
        *imported(paths, telling),
        *(
            (owner, name, _Setting(vars(owner)[name], name, asked))
            for owner, name in _ATTRIBUTES
            if name in vars(owner)
        ),
    ]


def _telling(function: Callable[..., Any], name: str, asked: Asked) -> Callable[..., Any]:
    def ask(*args: Any, **kwargs: Any) -> Any:
        if asker():
            asked(name)
        return function(*args, **kwargs)

    return ask
