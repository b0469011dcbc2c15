"""Every private name of torch that fxgrow imports, under a plain name and with its reason.

If a release of torch moves one of them, only this file changes: a test rejects such names in all others. Private
attributes of objects (`module._parameters`, `op._schema`) and ATen operators (`aten._softmax`) are not imported and are
used directly.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

# Where `torch.utils.swap_tensors` looks up the function that it calls, and `swap_name` is its name.
from torch import _C as BINDINGS
from torch import Tensor

# Where the attributes of tensors are defined. `Tensor` derives from it and defines none of them again.
from torch._C import TensorBase

# The classes of the operators in `torch.ops`, which a rule is registered for. They have no public name.
from torch._ops import OpOverload, OpOverloadPacket

# How tensors are printed: `torch.set_printoptions` sets it, and there is no public question.
from torch._tensor_str import PRINT_OPTS as PRINT_OPTIONS

# What `pad_packed_sequence` calls, and what a node of a graph for it is. It has no public name.
from torch._VF import _pad_packed_sequence as native_pad_packed_sequence

# The names beside Python's own that the code which FX generates may use (`torch`, `inf`, `device`).
from torch.fx.graph import _custom_builtins as names_in_generated_code

# What calls a GraphModule: it prints each error of its code to stderr, and says nothing of how to turn that off.
from torch.fx.graph_module import _WrappedCall as CallOfGraphModule

# Where it is kept what kind the backward hooks of all modules are.
from torch.nn.modules import module as _modules

# The base class of the instance norms. Users derive classes of their own from it.
from torch.nn.modules.instancenorm import _InstanceNorm as InstanceNormBase

# The hooks of all modules, which are the process's and no model's.
from torch.nn.modules.module import _global_backward_hooks as global_backward_hooks
from torch.nn.modules.module import _global_backward_pre_hooks as global_backward_pre_hooks
from torch.nn.modules.module import _global_buffer_registration_hooks as buffer_hooks
from torch.nn.modules.module import _global_forward_hooks as global_forward_hooks

# Tables of global hooks that `RemovableHandle.remove` may leave an entry in. torch.compile warns while one has any.
from torch.nn.modules.module import _global_forward_hooks_always_called as always_called_hooks
from torch.nn.modules.module import _global_forward_hooks_with_kwargs as hooks_with_kwargs
from torch.nn.modules.module import _global_forward_pre_hooks as global_forward_pre_hooks
from torch.nn.modules.module import _global_module_registration_hooks as module_hooks
from torch.nn.modules.module import _global_parameter_registration_hooks as parameter_hooks

# The modes that see each call of a function of torch, such as the one of `with torch.device("cuda")`.
from torch.overrides import _get_current_function_mode_stack as function_modes

# Nested containers of tensors. There is no public `torch.utils.pytree`.
from torch.utils import _pytree as pytree

# A mode that sees every ATen call: tapes are such modes. Documented by torch, under a private path only.
# And the context that leaves all modes, so that a tape can work on its tensors without recording that.
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._python_dispatch import _disable_current_modes as no_dispatch_modes

__all__ = [
    "BINDINGS",
    "PRINT_OPTIONS",
    "CallOfGraphModule",
    "InstanceNormBase",
    "OpOverload",
    "OpOverloadPacket",
    "TensorBase",
    "TorchDispatchMode",
    "all_global_tables",
    "always_called_hooks",
    "caches_parametrizations",
    "checkpoint_steps_names",
    "default_device",
    "depths_of_modes",
    "entered_modes",
    "fake_mode",
    "function_modes",
    "global_hooks",
    "hooks_with_kwargs",
    "is_composite",
    "is_faking",
    "is_meta",
    "is_transforming",
    "kind_of_backward_hooks",
    "leave_modes",
    "names_in_generated_code",
    "native_pad_packed_sequence",
    "no_dispatch_modes",
    "place_in_file",
    "pytree",
    "queued_seeds",
    "set_default_device",
    "set_kind_of_backward_hooks",
    "settle",
    "swap_name",
]

global_hooks: tuple[dict[int, Any], ...] = (
    global_forward_pre_hooks,
    global_forward_hooks,
    global_backward_pre_hooks,
    global_backward_hooks,
)

# Every table that hooks of all modules are in, with those of what is registered in a module.
all_global_tables: tuple[dict[int, Any], ...] = (
    *global_hooks,
    always_called_hooks,
    hooks_with_kwargs,
    buffer_hooks,
    module_hooks,
    parameter_hooks,
)


# Whether a tensor is on the meta device, whatever `Tensor.is_meta` tells the user's code in its place.
is_meta: Callable[[torch.Tensor], bool] = vars(TensorBase)["is_meta"].__get__


def entered_modes() -> int:
    """How many modes of torch see each call now: those for operators and for functions, without `torch.device`."""
    modes: int = torch._C._len_torch_dispatch_stack()
    if torch._C._len_torch_function_stack():
        modes += sum(type(mode).__name__ != "DeviceContext" for mode in function_modes())
    return modes


def depths_of_modes() -> tuple[int, int]:
    """How many modes of torch see each call now: those for operators, and those for functions."""
    return torch._C._len_torch_dispatch_stack(), torch._C._len_torch_function_stack()


def leave_modes(depths: tuple[int, int]) -> None:
    """Leave the modes that were entered beyond these: Ctrl-C between two steps of a `with` leaves one."""
    while torch._C._len_torch_dispatch_stack() > depths[0]:
        torch._C._pop_torch_dispatch_stack(None)
    while torch._C._len_torch_function_stack() > depths[1]:
        torch._C._pop_torch_function_stack()


def queued_seeds() -> list[Any]:
    """Where `torch.manual_seed` leaves a seed for accelerators that are not in use yet; their first use takes it."""
    modules = (torch.cuda, torch.xpu, torch.mtia)
    return [module._lazy_seed_tracker for module in modules if hasattr(module, "_lazy_seed_tracker")]


def kind_of_backward_hooks() -> bool | None:
    """Whether the backward hooks of all modules are full ones; None: none were registered yet."""
    return _modules._global_is_full_backward_hook


def set_kind_of_backward_hooks(full: bool | None) -> None:
    """Set what `kind_of_backward_hooks` tells."""
    _modules._global_is_full_backward_hook = full


_DEVICES = "torch.utils._device"  # where `torch.device` keeps what is entered; its first use imports it


def default_device() -> tuple[Any, ...]:
    """What `torch.set_default_device` has set: what it keeps, and the modes for functions, of which one is its own.

    It is no pair of steps that undo each other: inside of `with torch.device(...)` its mode is one of the others.
    """
    kept = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return kept, getattr(sys.modules.get(_DEVICES), "CURRENT_DEVICE", None), tuple(function_modes())


def set_default_device(state: tuple[Any, ...]) -> None:
    """Set what `default_device` has told."""
    torch._GLOBAL_DEVICE_CONTEXT.device_context, current, modes = state
    if _DEVICES in sys.modules:
        sys.modules[_DEVICES].CURRENT_DEVICE = current  # type: ignore[attr-defined]
    while torch._C._len_torch_function_stack():
        torch._C._pop_torch_function_stack()
    for mode in modes:
        torch._C._push_on_torch_function_stack(mode)


def is_composite(overload: Any) -> bool:
    """Whether PyTorch takes an overload apart before a `TorchDispatchMode` sees it, or has no kernel for it at all."""
    try:
        return bool(torch._C._dispatch_has_kernel_for_dispatch_key(overload.name(), "CompositeImplicitAutograd"))
    except RuntimeError:  # only TorchScript knows it
        return True


def fake_mode() -> AbstractContextManager[Any]:
    """A context in which tensors have no data: `torch.load` then reads none, and `torch.save` needs none."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: PLC0415 - it takes .3 s, and few need it

    return FakeTensorMode()


def is_faking() -> bool:
    """Whether a FakeTensorMode is active, in which no tensor has numbers. There is no public question for it."""
    return torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is not None


def is_transforming() -> bool:
    """Whether a function transform of torch.func (vmap, grad) is at work. There is no public question for it."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def caches_parametrizations() -> bool:
    """Whether `parametrize.cached()` is active, so that a parametrized weight is computed once. It is told by this."""
    return bool(torch.nn.utils.parametrize._cache_enabled)


def place_in_file(tensor: Tensor) -> int | None:
    """Where in its file the storage of a tensor begins, bytes, that `torch.load` made in `fake_mode`.

    As torch computes it, which is right where the file has no record ".format_version". None where it says nothing.
    """
    place: int | None = getattr(tensor.untyped_storage(), "_checkpoint_offset", None)
    return place


# The names, from torch 2.14 on and before, of the generator between whose two steps `torch.utils.checkpoint.checkpoint`
# runs a function.
checkpoint_steps_names = ("_checkpoint_without_reentrant_generator_impl", "_checkpoint_without_reentrant_generator")

# The name of the function that `torch.utils.swap_tensors` calls.
swap_name = "_swap_tensor_impl"


@functools.cache
def settle() -> None:
    """Import and compute what torch does when it is first asked, and what keeps all that it then finds in `Tensor`."""
    import torch._dynamo  # noqa: PLC0415 - it takes 1 s, once

    torch.overrides.get_ignored_functions()
    torch.overrides.get_default_nowrap_functions()
    torch.overrides.get_testing_overrides()
    torch.overrides.is_tensor_method_or_property(torch.add)
    sys.modules[_DEVICES]._device_constructors()  # it is imported by then
