"""What the user's code is told when it asks for the state of the run: the teacher's state, not that of the run.

A run of fxgrow is on the meta device and without gradients. Code may ask for the device of a tensor, or whether
gradients are recorded. `answering` replaces the functions and properties of torch that are asked, for callers outside
torch and this package: a device is answered as the teacher would answer, and every other question is noted with its
source line, so that the caller of the run can find out what another answer would lead to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from ..base.autograd_functions import functions_applied
from ..base.isolation import users_device
from ..base.kept_settings import hooks_kept, settings_kept
from ..base.replacing import Target, replaced
from ..base.torch_private import TensorBase, no_dispatch_modes
from ..base.torch_settings import functions
from ..model.provenance import PACKAGES, in_package
from ..model.walk import Paths
from .backward import Refuse, apply_with_backward
from .contents import REPLACED
from .names_in_modules import NamesInModules

GRADIENTS = "whether gradients are recorded"
AUTOCAST = "whether autocast is on"
DETERMINISTIC = "whether deterministic algorithms are asked for"

_FLAGS: Mapping[str, str] = MappingProxyType(
    {
        "is_grad_enabled": GRADIENTS,
        "is_inference_mode_enabled": GRADIENTS,
        "is_autocast_enabled": AUTOCAST,
        "is_autocast_cpu_enabled": AUTOCAST,
        "are_deterministic_algorithms_enabled": DETERMINISTIC,
        "is_deterministic_algorithms_warn_only_enabled": DETERMINISTIC,
    }
)  # functions of torch that tell a global state
_OF_GRADIENTS = ("requires_grad", "is_leaf", "grad_fn")
_HOOKS = ("register_hook", "register_post_accumulate_grad_hook")
_NODE_HOOKS = ("register_hook", "register_prehook")
PLACES = ("device", "is_cuda", "is_cpu", "is_meta")  # attributes that tell where a tensor is
_PLACE_METHODS = ("get_device", "type")


class Answers:
    """How the questions of one run are answered, and which were asked.

    Args:
        device: Of the teacher; None: the facts.
        opposite: Questions to which the user's code gets the opposite of the fact.
        stand_in: What is answered for the device of a tensor instead; for a tracer, which keeps the question.
        refuse: Told of each autograd Function of the user's whose gradient may be another one at other widths; None:
            their backwards do not run.

    Attributes:
        asked: Each question that the user's code asked, and the line that asked it first.
        hooks: The lines that registered hooks on gradients.
    """

    def __init__(
        self,
        device: torch.device | None = None,
        opposite: frozenset[str] = frozenset(),
        stand_in: Callable[[Tensor], Any] | None = None,
        refuse: Refuse | None = None,
    ) -> None:
        self.device = None if device is None or device.type == "meta" else device
        self.opposite = opposite
        self.stand_in = stand_in
        self.refuse = refuse
        self.asked: dict[str, str] = {}
        self.hooks: list[str] = []

    def place(self, tensor: Tensor, name: str) -> Any:
        """One of `PLACES` of a tensor, as the teacher would answer."""
        fact = _BASE[name].__get__(tensor)
        if self.device is None or not _BASE["is_meta"].__get__(tensor):
            return fact
        return {
            "device": self.device,
            "is_cuda": self.device.type == "cuda",
            "is_cpu": self.device.type == "cpu",
            "is_meta": False,
        }[name]

    def flag(self, question: str, fact: bool, line: str) -> bool:
        """A global state, or the opposite of it."""
        self.asked.setdefault(question, line)
        return not fact if question in self.opposite else fact


_BASE: dict[str, Any] = {name: getattr(TensorBase, name) for name in (*PLACES, *_OF_GRADIENTS)}
_stack: list[Answers] = []


def told(tensor: Tensor, name: str) -> Any:
    """One of `PLACES` of a tensor, as the user's code would be told."""
    return _stack[-1].place(tensor, name) if _stack else getattr(tensor, name)


def type_name(tensor: Tensor) -> str:
    """What `Tensor.type()` gives, as the user's code would be told: "torch.FloatTensor"."""
    place = told(tensor, "device").type
    with no_dispatch_modes():  # that of a run makes tensors on meta
        on_cpu = TensorBase.type(torch.empty(0, dtype=tensor.dtype, device="cpu"))
    return on_cpu if place == "cpu" else on_cpu.replace("torch.", f"torch.{place}.")


@contextmanager
def answering(answers: Answers, paths: Paths) -> Iterator[None]:
    """A context in which the user's code gets these answers; what it sets for the process is put back afterwards.

    Args:
        answers: The answers.
        paths: The modules of the tree whose code runs. Their source files may have imported the functions by name.
    """
    _stack.append(answers)
    asks = {id(getattr(torch, name)): ask for name, ask in _ASKS.items()}
    try:
        if len(_stack) > 1:  # in a run of code that may have set something
            with users_device():
                yield
        else:
            with (
                hooks_kept(),
                settings_kept(),
                replaced([*_TARGETS, *functions_applied(_apply), *imported(paths, asks)]),
                users_device(),
            ):
                yield
    finally:
        _stack.pop()


def imported(paths: Paths, replacements: Mapping[int, Any]) -> Iterator[Target]:
    """Where the user's source files hold functions under names of their own, with what takes their places.

    Args:
        paths: The modules of the tree, whose source files are searched each time; those of what they call are searched
            where they are new or hold another number of names.
        replacements: By the `id` of a function.
    """
    spaces = dict.fromkeys([type(module).__module__ for _, module in paths if not _is_torchs(type(module).__module__)])
    own = [space for name in spaces if (space := sys.modules.get(name)) is not None]
    held = [(space, key) for space in own for key in list(vars(space))]
    for space, key in (*held, *((space, key) for space, key in _elsewhere.found() if space.__name__ not in spaces)):
        value = vars(space).get(key)
        if id(value) in replacements:
            yield space, key, replacements[id(value)]


def _is_torchs(name: str) -> bool:
    return name.partition(".")[0] in ("torch", "fxgrow")


def asker() -> str:
    """The line of the user's code that called what called this.

    "" where that is code of torch or of this package, or where no run goes on: code may have kept what it called.
    """
    if not _stack:
        return ""
    frame = sys._getframe(2)
    file = frame.f_code.co_filename
    return "" if file.startswith(PACKAGES) else f"{in_package(file)}:{frame.f_lineno}"


def _place(name: str) -> property:
    def get(tensor: Tensor) -> Any:
        line = asker()
        if not line or not _BASE["is_meta"].__get__(tensor):
            return _BASE[name].__get__(tensor)
        answers = _stack[-1]
        if name == "device" and answers.stand_in is not None:
            return answers.stand_in(tensor)
        return answers.place(tensor, name)

    return property(get)


class _Node:
    """A node of the autograd graph, which notes the line where the user's code hooks it."""

    def __init__(self, node: Any, answers: Answers) -> None:
        self._node, self._answers = node, answers

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._node, name)
        if name in _NODE_HOOKS and (line := asker()):
            self._answers.hooks.append(line)
        if name == "next_functions":
            return tuple([(None if node is None else _Node(node, self._answers), place) for node, place in found])
        return found


def _of_gradients(name: str) -> property:
    base = _BASE[name]

    def get(tensor: Tensor) -> Any:
        fact, line = base.__get__(tensor), asker()
        if not line or isinstance(tensor, nn.Parameter):
            return fact
        answer = _stack[-1].flag(GRADIENTS, bool(fact), line)
        if answer == bool(fact):
            return fact if name != "grad_fn" or fact is None else _Node(fact, _stack[-1])
        return None if name == "grad_fn" else answer

    def put(tensor: Tensor, value: Any) -> None:
        base.__set__(tensor, value)

    return property(get, put)


def _is_inference(tensor: Tensor) -> bool:
    """`Tensor.is_inference()`: whether it was made where no gradients are recorded."""
    fact, line = _is_inference_base(tensor), asker()
    return fact if not line or isinstance(tensor, nn.Parameter) else _stack[-1].flag(GRADIENTS, fact, line)


_is_inference_base = TensorBase.is_inference
_is_inference.__name__ = "is_inference"


def _method(name: str) -> Callable[..., Any]:
    base = getattr(TensorBase, name)

    def method(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        device = _stack[-1].device if asker() else None
        if args or kwargs or device is None or not _BASE["is_meta"].__get__(tensor):
            return base(tensor, *args, **kwargs)
        if name == "get_device":
            return -1 if device.type == "cpu" else device.index or 0
        return type_name(tensor)

    method.__name__ = name
    return method


def _hook(name: str) -> Callable[..., Any]:
    base = getattr(Tensor, name)

    def method(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        if line := asker():
            _stack[-1].hooks.append(line)
        return base(tensor, *args, **kwargs)

    method.__name__ = name
    return method


def _flag(name: str, question: str) -> Callable[..., bool]:
    base = getattr(torch, name)

    def ask(*args: Any, **kwargs: Any) -> bool:
        fact = bool(base(*args, **kwargs))
        line = asker()
        return _stack[-1].flag(question, fact, line) if line else fact

    ask.__name__ = name
    return ask


def _apply(cls: type, apply: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    refuse = _stack[-1].refuse if _stack else None
    if refuse is None or torch.is_grad_enabled() or cls.__module__.startswith("torch."):
        return apply(*args, **kwargs)
    return apply_with_backward(cls, args, kwargs, refuse)


_fastpath = torch.backends.mha.get_fastpath_enabled


def fastpath_enabled() -> bool:
    """The fast path leaves gradients, as the call of a student may not."""
    return not _stack and _fastpath()


_elsewhere = NamesInModules(
    [*(id(getattr(torch, name)) for name in _FLAGS), *(id(getattr(owner, name)) for owner, name in functions())]
)
_ASKS = {name: _flag(name, question) for name, question in _FLAGS.items()}
_TARGETS: tuple[Target, ...] = (
    *((Tensor, name, _place(name)) for name in PLACES),
    *((Tensor, name, _of_gradients(name)) for name in _OF_GRADIENTS),
    (Tensor, "is_inference", _is_inference),
    *((Tensor, name, _method(name)) for name in _PLACE_METHODS),
    *((Tensor, name, _hook(name)) for name in _HOOKS),
    *((torch, name, ask) for name, ask in _ASKS.items()),
    (torch.backends.mha, "get_fastpath_enabled", fastpath_enabled),
    *REPLACED,
)  # (owner, name, what is there while the user's code gets answers)
