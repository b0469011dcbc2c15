"""The teacher before and after: everything that growth could have changed on it, and the global state."""

import random
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def _bits(tensor: Tensor) -> bytes:
    data = tensor.detach().cpu().contiguous()
    if data.is_quantized:
        data = data.int_repr()
    return data.flatten().view(torch.uint8).numpy().tobytes() if data.numel() else b""


def _tensor_state(tensor: Tensor) -> dict[str, Any]:
    grad = tensor.grad if tensor.is_leaf else None
    meta = tensor.device.type == "meta"
    return {
        "object": id(tensor),
        "storage": tensor.untyped_storage()._cdata,
        "version": tensor._version,
        "shape": tuple(tensor.shape),
        "stride": tensor.stride(),
        "dtype": tensor.dtype,
        "device": tensor.device,
        "bits": None if meta else _bits(tensor),
        "requires_grad": tensor.requires_grad,
        "grad": None if grad is None else (id(grad), _bits(grad)),
        "backward hooks": list((tensor._backward_hooks or {}).items()) if tensor.is_leaf else [],
        "attributes": sorted(vars(tensor)),
    }


def _attribute(value: object) -> object:
    """What an attribute is: its identity, and for a container also what it holds."""
    if isinstance(value, (dict, OrderedDict)):
        return id(value), [(key, id(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple, set)):
        return id(value), [id(item) for item in value]
    if isinstance(value, (bool, int, float, str, type(None))):
        return type(value), value
    return id(value)


def _module_state(module: nn.Module) -> dict[str, object]:
    return {"class": type(module), **{key: _attribute(value) for key, value in vars(module).items()}}


def model_state(model: nn.Module) -> dict[str, object]:
    """All of a model, bit for bit: tensors, modes, hooks, gradients, attributes of every module."""
    state: dict[str, object] = {"state_dict": list(model.state_dict())}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        state.update({f"{name}: {key}": value for key, value in _tensor_state(tensor).items()})
    for name, module in model.named_modules():
        state.update({f"{name or 'model'}.{key}": value for key, value in _module_state(module).items()})
    return state


def global_state() -> dict[str, object]:
    """Random states and settings of the process."""
    keys, *rest = np.random.get_state()[1:]
    state: dict[str, object] = {
        "torch rng": _bits(torch.get_rng_state()),
        "python rng": random.getstate(),
        "numpy rng": (keys.tobytes(), *rest),
        "default dtype": torch.get_default_dtype(),
        "grad mode": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
        "module call": nn.Module.__call__,
        "module getattr": nn.Module.__getattr__,
    }
    if torch.cuda.is_available():
        state["cuda rng"] = [_bits(s) for s in torch.cuda.get_rng_state_all()]
    return state


def differences(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """The keys whose values differ."""
    return sorted(k for k in before.keys() | after.keys() if before.get(k, ...) != after.get(k, ...))


@contextmanager
def assert_untouched(model: nn.Module) -> Iterator[None]:
    """Nothing of the model nor of the global state changes inside, whether by return or by exception."""
    before = {**model_state(model), **global_state()}
    try:
        yield
    finally:
        changed = differences(before, {**model_state(model), **global_state()})
        assert not changed, f"changed: {', '.join(changed)}"
