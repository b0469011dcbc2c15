"""Ways to a tensor's memory that pass every operator by, and which a run therefore cannot follow.

`y.data = z` and `swap_tensors` give a tensor another content, a storage can be written to, `data_ptr` tells an address
(0 for every tensor on meta), a tensor that is pickled on meta comes back without its numbers, and `apply_`
calls a Python function for each entry. During a run these
are refused with the line of the user's code. Code of torch and of this package may use them.

The text of a tensor is its numbers, too: that of a constant is the real one's, and that of any other tensor on meta
fails as `tolist` does, so that the model is run on real numbers.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..base.content import storage_of
from ..base.replacing import Target, replaced
from ..base.torch_private import BINDINGS, TensorBase, is_meta, no_dispatch_modes, swap_name
from ..errors import TraceError
from ..model.provenance import PACKAGES, caller
from .tape import Tape

_POINTER = "asks for the address of a tensor's memory"
_STORAGE = "reads or writes the memory of a tensor as a storage"
_PICKLED = "pickles or copies a tensor beside torch's operators (use clone)"
_SHARED = "shares the memory of a tensor by DLPack"
_CALLED = "calls a Python function for each entry of a tensor (apply_, map_)"
_SWAPPED = "swaps two tensors"
_REPLACED = "assigns to the data of a tensor (use copy_)"

_MOVES = ("to", "cpu", "cuda", "float", "double", "half", "bfloat16")
_ENTRIES = ("__getitem__", "__setitem__", "fill_", "copy_", "resize_", "tolist", "clone", "data_ptr")
_WAYS: tuple[tuple[Any, str, str, bool], ...] = (
    (Tensor, "data_ptr", _POINTER, False),
    *((kind, name, _STORAGE, False) for kind in (torch.UntypedStorage, torch.TypedStorage) for name in _ENTRIES),
    *((kind, "__reduce_ex__", _PICKLED, True) for kind in (Tensor, nn.Parameter)),
    *((Tensor, name, _CALLED, True) for name in ("apply_", "map_", "map2_")),
    (Tensor, "__dlpack__", _SHARED, True),
    (torch.utils.dlpack, "to_dlpack", _SHARED, True),
    (torch, "to_dlpack", _SHARED, True),
)  # (owner, name, what it does, whether code of torch does it for the user's)


_running: list[Tape] = []  # the tapes of the runs that go on, the innermost last


@contextmanager
def memory_refused(tape: Tape) -> Iterator[None]:
    """A context in which the user's code reaches no memory beside torch's operators."""
    targets: list[Target] = [
        (owner, name, _refusing(getattr(owner, name), what, always)) for owner, name, what, always in _WAYS
    ]
    targets += [(Tensor, name, _text(getattr(Tensor, name))) for name in ("__repr__", "__format__")]
    targets += [(nn.Parameter, "__repr__", _text(nn.Parameter.__repr__))]
    targets += [(Tensor, name, _reading(getattr(Tensor, name))) for name in ("numpy", "tolist")]
    targets += [(Tensor, "data", _DATA)]
    targets += [(BINDINGS, swap_name, _swapping(getattr(BINDINGS, swap_name)))]
    _running.append(tape)
    try:
        with replaced(targets):
            yield
    finally:
        _running.pop()


def _is_theirs(depth: int) -> bool:
    """Whether a frame further out is of code that is neither torch's nor of this package."""
    return not sys._getframe(depth + 1).f_code.co_filename.startswith(PACKAGES)


def _refuse(what: str) -> None:
    error = TraceError(f"forward {what}, beside every operator (at {caller()})")
    _running[-1].failure = _running[-1].failure or error
    raise error


# What stands for a function of torch is made once, and speaks to the tape of the run that goes on. Code may keep it
# (`self.read = x.tolist`): after the run it is the function itself.


@functools.cache
def _refusing(base: Callable[..., Any], what: str, always: bool) -> Callable[..., Any]:
    @functools.wraps(base)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _running and (always or _is_theirs(1)):
            _refuse(what)
        return base(*args, **kwargs)

    return call


@functools.cache
def _reading(base: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(base)
    def read(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        if _running and not is_meta(tensor) and not sys._getframe(1).f_code.co_filename.startswith(PACKAGES[0]):
            _running[-1].read_outside(base.__name__, tensor)
        return base(tensor, *args, **kwargs)

    return read


@functools.cache
def _text(base: Callable[..., str]) -> Callable[..., str]:
    @functools.wraps(base)
    def text(tensor: Tensor, *args: Any, **kwargs: Any) -> str:
        if not _running or not _is_theirs(1):
            return base(tensor, *args, **kwargs)
        tape = _running[-1]
        if not is_meta(tensor):
            tape.read_outside("a text", tensor)
            return base(tensor, *args, **kwargs)
        real = tape.constant(tensor)
        if real is None:
            error = NotImplementedError("Cannot copy out of meta tensor; no data! The code asks for its text.")
            tape.failure = tape.failure or error
            raise error
        with no_dispatch_modes():
            return base(real, *args, **kwargs)

    return text


def _is_moved() -> bool:
    """Whether the code of torch two frames further out works for `Module.to`, which keeps the numbers."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGES[1]):
        if frame.f_code.co_name in _MOVES:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _data() -> property:
    base: Any = vars(TensorBase)["data"]

    def put(tensor: Tensor, value: Tensor) -> None:
        ours = not _running or sys._getframe(1).f_code.co_filename.startswith(PACKAGES[0])
        if not ours and (_is_theirs(1) or not (storage_of(tensor) == storage_of(value) or _is_moved())):
            _refuse(_REPLACED)
        base.__set__(tensor, value)

    return property(base.__get__, put)


_DATA = _data()


@functools.cache
def _swapping(base: Callable[..., Any]) -> Callable[..., Any]:
    def swap(one: Tensor, other: Tensor) -> None:
        if _running and _is_theirs(2):  # the frame between is that of `torch.utils.swap_tensors`
            _refuse(_SWAPPED)
        base(one, other)

    return swap
