"""Models that fxgrow does not support; they are refused before tracing."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from ..base.magnitude import is_inexact
from ..base.torch_private import caches_parametrizations
from ..base.wording import a_type
from ..errors import TraceError
from .copies import Inventory, inventory
from .example_inputs import brief
from .walk import Paths


def leaf_references(leaf_modules: object) -> tuple[str | type, ...]:
    """The names and classes among `leaf_modules`, of which one alone counts as a list of one.

    Raises:
        TraceError: It is no list of names and classes.
    """
    several = [leaf_modules] if isinstance(leaf_modules, str | type) else leaf_modules or ()
    leaves = tuple(several) if isinstance(several, Iterable) else None
    if leaves is None or not all(isinstance(leaf, str | type) for leaf in leaves):
        raise TraceError(f"leaf_modules is {brief(leaf_modules)}; expected a list of names or classes of submodules")
    return leaves


HARMLESS = "fxgrow_harmless"  # attribute of a hook or another object that fxgrow puts there itself


def _hooks_of_users(tensor: Tensor) -> bool:
    hooks = getattr(tensor, "_post_accumulate_grad_hooks", None) or {}
    return any(not hasattr(hook, HARMLESS) for hook in hooks.values())


# By the names of classes: not all are there in every build of torch. Their hooks and buckets are of these parameters.
_DISTRIBUTED = {"DistributedDataParallel", "FullyShardedDataParallel", "DistributedDataParallelCPU"}


def _check_not_wrapped(paths: Paths) -> None:
    """Whether no wrapper is in a model that trains its parameters on several processes.

    Raises:
        TraceError: One is.
    """
    wrapping = {one: next((k for k in one.__mro__ if k.__name__ in _DISTRIBUTED), None) for one in _classes(paths)}
    for path, module in paths:
        kind = wrapping[type(module)]
        if kind is not None and kind.__module__.startswith("torch."):
            inner = f"model.{path}.module" if path else "model.module"
            raise TraceError(
                f"{kind.__name__} is tied to the parameters of the model that it wraps, so a student in it would train "
                f"on each process alone: grow {inner} on every process, and wrap the student anew"
            )


def _classes(paths: Paths) -> set[type[nn.Module]]:
    return {type(module) for _, module in paths}


def _check_not_cached(paths: Paths) -> None:
    """Whether the weights of parametrizations are computed from their parameters whenever they are read.

    Raises:
        TraceError: `torch.nn.utils.parametrize.cached()` is active, so that they are not.
    """
    if not caches_parametrizations():
        return
    path = next((path for path, module in paths if is_parametrized(module)), None)
    if path is not None:
        raise TraceError(
            f"{path or 'the model'!r} has a parametrization, and torch.nn.utils.parametrize.cached() keeps the weight "
            "that it gave before; grow outside of that context"
        )


def check_supported(model: nn.Module) -> Inventory:
    """Check that all parameters can be gathered and divided, and that no module is compiled, quantized or distributed.

    Returns:
        What the model consists of.

    Raises:
        TraceError: The model is not supported; the message names the parameter or module.
    """
    if not isinstance(model, nn.Module):
        raise TraceError(f"the model is {a_type(model)}; expected an nn.Module")
    _check_tree(model)
    held = inventory(model)
    _check_not_wrapped(held.paths)
    _check_not_cached(held.paths)
    if "_orig_mod" in model._modules:
        raise TraceError("the model is compiled; grow the module that was compiled, and compile the student")
    for name, tensor in held.tensors.items():
        kind = ""
        if torch.nn.parameter.is_lazy(tensor):
            kind = "is not initialised yet: run the model once"
        elif tensor.is_quantized:
            kind = f"is quantized ({tensor.dtype})"
        elif tensor.is_nested:
            kind = "is nested: its rows have lengths of their own"
        elif tensor.layout != torch.strided:
            kind = f"is sparse ({tensor.layout})"
        elif isinstance(tensor, nn.Parameter) and not is_inexact(tensor):
            kind = f"holds {tensor.dtype}"
        elif type(tensor).__name__ == "FakeTensor":
            kind = "is a FakeTensor, which has no numbers; build the model outside of its mode, or on the meta device"
        elif type(tensor) not in (Tensor, nn.Parameter, nn.Buffer):
            kind = f"is {a_type(tensor)}"
        elif tensor._backward_hooks or _hooks_of_users(tensor):
            kind = "has hooks, which may not work on its grown shape; remove them and add them to the student"
        if kind:
            raise TraceError(f"{name!r} {kind}; fxgrow grows plain floating-point tensors")
    quantized = {kind for kind in _classes(held.paths) if kind.__module__.startswith(_QUANTIZED)}
    for name, module in held.paths if quantized else ():
        if type(module) in quantized:
            raise TraceError(
                f"{name!r} is a quantized {type(module).__name__}; grow the float model and convert it again"
            )
    return held


_QUANTIZED = ("torch.ao.nn.", "torch.nn.quantized", "torch.nn.intrinsic")  # where their classes are


def _check_tree(model: nn.Module) -> None:
    """Whether a model is a tree of modules, each made by `nn.Module.__init__`, none of them scripted.

    Raises:
        TraceError: It is not.
    """
    pending = [("", model)]
    above: dict[int, str] = {}
    while pending:
        path, module = pending.pop()
        if isinstance(module, torch.jit.ScriptModule):
            if not path:
                raise TraceError("the model is a ScriptModule; give the nn.Module that it was scripted from")
            raise TraceError(f"{path!r} is a ScriptModule; put the nn.Module there that it was scripted from")
        known = vars(module)
        if not all(table in known for table in ("_modules", "_parameters", "_buffers")):
            raise TraceError(f"{path or type(module).__name__!r} lacks what nn.Module.__init__ sets; call it")
        for table in ("_modules", "_parameters", "_buffers"):
            odd = next((name for name in known[table] if not isinstance(name, str) or "." in name or not name), None)
            if odd is not None:
                raise TraceError(f"{path or 'the model'} has {odd!r} in {table}; a name is a text without dots")
        for name, child in module._modules.items():
            here = f"{path}.{name}" if path else name
            if child is not None and not isinstance(child, nn.Module):
                raise TraceError(f"{here!r} is a {type(child).__name__}, which is no nn.Module")
            if child is not None and id(child) not in above:
                above[id(child)] = here
                pending.append((here, child))
