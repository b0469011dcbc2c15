"""Who listens to a run: to ATen calls, modules that are called, nodes, and calls in code that no graph shows."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from types import MethodDescriptorType
from typing import Any

from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode, is_tensor_method_or_property

from ..base.progress import advance
from ..base.structures import leaf_tensors
from ..model.layer_kinds import is_layer
from ..model.opaque import call
from ..model.walk import submodule
from ..recording.operators import results_of
from ..recording.runner import Runner
from ..recording.tape import Tape
from .spellings import Spelling


class Observer(ABC):
    """What is told of each step of a run."""

    @abstractmethod
    def read(self, tape: Tape, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What is known of a call's arguments, before it runs and perhaps writes into them."""

    @abstractmethod
    def called(self, tape: Tape, op: Any, read: Any, outs: tuple[Any, ...]) -> None:
        """An ATen call has run.

        Args:
            tape: The tape.
            op: The overload.
            read: What `read` gave for it.
            outs: Its results.
        """

    @abstractmethod
    def folded(self, tape: Tape, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outs: tuple[Any, ...]) -> None:
        """A call on constants has run."""

    @abstractmethod
    def entered_module(self, tape: Tape, module: nn.Module) -> None:
        """A module is called."""

    @abstractmethod
    def left_module(self, tape: Tape, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        """A module returns."""

    @abstractmethod
    def handles(self, tape: Tape, what: str, tensors: Iterable[Tensor]) -> None:
        """Code beside every operator is given some tensors, or their gradients."""

    @abstractmethod
    def entered_node(self, node: fx.Node) -> None:
        """A node of the graph is about to run."""

    @abstractmethod
    def left_node(self, tape: Tape, node: fx.Node, result: Any) -> None:
        """A node of the graph has run."""

    @abstractmethod
    def spelled(self, tape: Tape, spelling: Spelling, run: Callable[[], Any]) -> Any:
        """Run a call of torch in code that no graph shows."""


class ObservedTape(Tape):
    """A tape that tells of calls and modules."""

    def __init__(
        self, observer: Observer, names: Mapping[str, Tensor], attributes: Iterable[Tensor], *, real: bool
    ) -> None:
        super().__init__(names, attributes, real=real)
        self.observer = observer

    def entered(self, module: Any, args: tuple[Any, ...]) -> None:
        self.observer.entered_module(self, module)

    def left(self, module: Any, args: tuple[Any, ...], result: Any) -> None:
        self.observer.left_module(self, module, args, result)
        if module._backward_hooks or module._backward_pre_hooks:
            what = f"a backward hook of {self.module or 'the model'} is given its gradient"
            self.observer.handles(self, what, leaf_tensors((args, result)))

    def refuse_gradient(self, why: str, call: Any) -> None:
        self.observer.handles(self, why, leaf_tensors(call))

    def read_outside(self, how: str, tensor: Tensor) -> None:
        self.observer.handles(self, f"{how} reads its numbers", [tensor])

    def _fold(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = super()._fold(op, args, kwargs)
        self.observer.folded(self, op, args, kwargs, results_of(out))
        return out

    def reading(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.observer.read(self, op, args, kwargs)

    def observe(self, op: Any, read: Any, outs: tuple[Any, ...]) -> None:
        self.observer.called(self, op, read, outs)


class ObservedRunner(Runner):
    """Runs a graph and tells of its nodes."""

    def __init__(self, observer: Observer, root: nn.Module, graph: fx.Graph, tape: Tape) -> None:
        super().__init__(root, graph, tape)
        self.observer = observer

    def run_node(self, n: fx.Node) -> Any:
        self.observer.entered_node(n)
        if self._runs_code(n):
            with _SpelledCalls(self.observer, self.tape):
                result = super().run_node(n)
        else:
            result = super().run_node(n)
        self.observer.left_node(self.tape, n, result)
        advance()
        return result

    def _runs_code(self, node: fx.Node) -> bool:
        """Whether a node runs code of the user's, which no graph shows."""
        if node.op == "call_module":
            return not is_layer(submodule(self.module, str(node.target)))
        if node.op != "call_function":
            return False
        module = getattr(node.target, "__module__", None) or "torch"
        return module == call.__module__ or module.split(".")[0] not in _KNOWN


_KNOWN = ("torch", "_operator", "builtins", "math", "fxgrow")


class _SpelledCalls(TorchFunctionMode):
    """Tells of the calls of torch in code that no graph shows, as it spells them."""

    def __init__(self, observer: Observer, tape: Tape) -> None:
        super().__init__()
        self.observer = observer
        self.tape = tape

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        target = func.__name__ if _is_of_tensors(func) else func
        target = {"__getitem__": operator.getitem, "__setitem__": operator.setitem}.get(target, target)
        return self.observer.spelled(self.tape, Spelling(target, args, named), lambda: func(*args, **named))


def _is_of_tensors(function: Any) -> bool:
    """Whether a function is a method of tensors, or the getter of a property, or what stands for one in a run."""
    if isinstance(function, MethodDescriptorType) or is_tensor_method_or_property(function):
        return True
    return getattr(Tensor, getattr(function, "__name__", ""), None) is function
