"""Patches active while tracing (`len`, `isinstance`, factories), and checks for side effects no graph can hold."""

from __future__ import annotations

import builtins
import functools
import logging
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..base.autograd_functions import functions_applied
from ..base.isolation import flags_restored
from ..base.replacing import Target, replaced
from ..base.torch_private import entered_modes, pytree
from ..errors import TraceError
from ..model.copies import COMMON
from ..model.layer_kinds import is_layer
from ..model.provenance import NOT_THEIRS
from ..recording.contents import original
from .origins import VALUE
from .proxy import MetaProxy

_SHOW = ((builtins, "print"), (logging.LogRecord, "getMessage"))
_HOOKS = ("register_forward_hook", "register_forward_pre_hook")
_NOTHING = object()
_FACTORIES = (
    "arange", "as_tensor", "empty", "eye", "full", "linspace", "logspace", "ones", "rand", "randint", "randn",
    "randperm", "scalar_tensor", "tensor", "tril_indices", "triu_indices", "zeros",
)  # fmt: skip


# -- side effects that a graph cannot hold -------------------------------------------------------------


FROZEN = "forward draws a random number that a graph would freeze"


class DrawnError(TraceError):
    """Random numbers of Python or numpy were drawn."""


@contextmanager
def nothing_lost(module: nn.Module, *, real: bool, draws: bool) -> Iterator[None]:
    """Refuse code whose effects beside the graph would be lost.

    Args:
        module: Whose code runs inside.
        real: Whether values are computed for real, so that torch's random numbers are drawn anyway.
        draws: Whether to look for draws from Python's and numpy's random numbers, which takes a while.

    Raises:
        DrawnError: There were such draws.
        TraceError: A buffer or parameter was assigned.
    """
    before, torchs = _python_random_state() if draws else (), torch.get_rng_state()
    yield
    if not real and not torch.equal(torch.get_rng_state(), torchs):
        raise TraceError(FROZEN)
    if draws and _python_random_state() != before:
        raise DrawnError("forward draws from Python's or numpy's random numbers; a graph would freeze one draw")
    for key, value in (*module._buffers.items(), *module._parameters.items()):
        if issubclass(type(value), fx.Proxy):
            raise TraceError(f"forward assigns to {key!r}; a graph keeps only changes in place, as in {key}.copy_(...)")


@contextmanager
def nothing_lost_in_all(root: nn.Module, tensors: Mapping[str, Tensor], *, real: bool) -> Iterator[None]:
    """The same for a whole model of these tensors, which may also make parameters trainable or freeze them.

    Raises:
        DrawnError: As `nothing_lost`.
        TraceError: As `nothing_lost`, or it does that.
    """
    with flags_restored(tensors) as switched, nothing_lost(root, real=real, draws=True):
        yield
    if switched:
        raise TraceError("forward switches requires_grad of parameters, which a graph would lose")


def draws_privately(module: nn.Module) -> bool:
    """Whether a module holds a generator of random numbers, of Python, numpy or torch."""
    numpy = sys.modules.get("numpy")
    kinds = (random.Random, torch.Generator, *((numpy.random.Generator, numpy.random.RandomState) if numpy else ()))
    return any(isinstance(value, kinds) for value in vars(module).values() if type(value) not in COMMON)


def has_extra_state(module: nn.Module) -> bool:
    """Whether a module has more state than its tensors."""
    return type(module).get_extra_state is not nn.Module.get_extra_state


def _python_random_state() -> tuple[Any, ...]:
    numpy = sys.modules.get("numpy")
    state = numpy.random.get_state() if numpy else ("", b"", 0)
    return random.getstate(), bytes(state[1]), state[2]


_grad, _autocast = torch.is_grad_enabled, torch.is_autocast_enabled  # not what `answering` puts in their places


def entered_context() -> tuple[int, ...]:
    """What code may switch around operators, and a graph would lose."""
    return (_grad(), _autocast("cpu"), _autocast("cuda"), entered_modes(), torch.initial_seed())


# -- calls that Python does not hand to a proxy ---------------------------------------------------------


@contextmanager
def patched(tracer: fx.Tracer, also: Iterable[Target] = ()) -> Iterator[None]:
    """`len`, `isinstance`, the factories of torch and autograd Functions see proxies while tracing.

    And the tracer sees whether code asks for its mode, and what is replaced `also`.
    """
    targets: list[tuple[Any, str, Any]] = [(builtins, "len", _length), (builtins, "isinstance", _is_instance)]
    targets += [(nn.Module, "training", property(functools.partial(_mode_of, tracer), _set_mode))]
    targets += [(torch, name, _recorded(original(getattr(torch, name)))) for name in _FACTORIES]
    targets += [(torch, name, _recorded(getattr(torch, name))) for name in ("finfo", "iinfo")]  # of a dtype
    targets += functions_applied(_refuse_proxies)
    with replaced([*targets, *also]):
        yield


def watching(tracer: Any) -> list[Target]:
    """What tells a tracer that code changes a layer, or prints or logs."""
    return [
        *((owner, name, tracer.texts.shown(getattr(owner, name))) for owner, name in _SHOW),
        (nn.Module, "__setattr__", _noting(tracer, nn.Module.__setattr__, _changes_layer)),
        *((nn.Module, name, _noting(tracer, getattr(nn.Module, name), lambda *_: True)) for name in _HOOKS),
    ]


class unpatched:  # noqa: N801 - a context, as a function is
    """Inside, where no code of the user's meets proxies, `len` and `isinstance` are Python's own, which are faster."""

    def __enter__(self) -> None:
        self._before = builtins.len, builtins.isinstance
        builtins.len, builtins.isinstance = _len, _isinstance

    def __exit__(self, *error: object) -> None:
        builtins.len, builtins.isinstance = self._before


def _mode_of(tracer: Any, module: nn.Module) -> bool:
    tracer.asked_for_mode()
    if "training" not in module.__dict__:
        raise AttributeError("training")  # Python goes on to ask __getattr__
    return bool(module.__dict__["training"])


def _noting(tracer: Any, base: Callable[..., Any], changes: Callable[..., bool]) -> Callable[..., Any]:
    @functools.wraps(base)
    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if changes(module, *args):
            tracer.changed_layer()
        return base(module, *args, **kwargs)

    return call


def _changes_layer(module: nn.Module, name: str, value: Any) -> bool:
    return (name == "training" or is_layer(module)) and vars(module).get(name, _NOTHING) is not value


def _set_mode(module: nn.Module, mode: bool) -> None:
    module.__dict__["training"] = mode


_len = len


def _length(value: Any) -> Any:
    if type(value) is MetaProxy and isinstance(value.node.meta[VALUE], Tensor):
        return value.shape[0]
    return _len(value)


_isinstance = isinstance


def _is_instance(value: Any, kinds: Any) -> bool:
    if type(value) is not MetaProxy:
        return _isinstance(value, kinds)
    if _isinstance(value.node.meta.get(VALUE), kinds):
        return True  # users' code is not to know that it meets a proxy
    return _isinstance(value, kinds) and sys._getframe(1).f_code.co_filename.startswith(NOT_THEIRS)


@functools.cache
def _recorded(function: Callable[..., Any]) -> Callable[..., Any]:
    """A factory of torch that becomes a node where its arguments hold proxies, which C++ would not recognise."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        for leaf in pytree.tree_leaves((args, kwargs)):
            if issubclass(type(leaf), fx.Proxy):
                return leaf.tracer.create_proxy("call_function", function, args, kwargs)
        return function(*args, **kwargs)

    return call


def _refuse_proxies(cls: type, apply: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if any(type(leaf) is MetaProxy for leaf in pytree.tree_leaves((args, kwargs))):
        raise TraceError(f"forward applies the autograd Function {cls.__name__}, whose backward a graph would lose")
    return apply(*args, **kwargs)
