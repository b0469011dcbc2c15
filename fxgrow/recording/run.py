"""The one way to run a module tree or a graph on a tape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, fx, nn

from ..base.generators import same_randomness
from ..base.isolation import flags_restored
from ..base.torch_private import pytree
from ..errors import TraceError
from ..model.call_args import bind
from ..model.copies import DEVICE, Inventory, inventory, named_tensors, plain_tensors
from ..model.example_inputs import ModelInputs, copied_arguments
from ..model.tree import Mode, set_mode
from .answers import Answers, answering
from .call import Call, Shape
from .difference import first_difference
from .gradients import gradients_followed
from .memory import memory_refused
from .recall import Recall
from .returned import Returned, describe, plain_values
from .runner import Runner, watched
from .tape import Tape

T = TypeVar("T", bound=Tape)


@dataclass(frozen=True, slots=True)
class ModelRun:
    """What one run did.

    Attributes:
        calls: Its calls.
        result: The digests of its results and of the named tensors that it changed.
        plain: What is no tensor in its results, and the keys.
        stateful: The modules that keep something in attributes which the next run sees.
        written: The parameters and buffers that hold another value than before.
    """

    calls: list[Call]
    result: tuple[tuple[int, Shape], ...]
    plain: tuple[str, ...] = ()
    stateful: frozenset[str] = frozenset()
    written: frozenset[str] = frozenset()


class TapedRun(Generic[T]):
    """One run of a module tree: the tree in its mode, copies of the arguments, and the tape that records it.

    It runs with fixed random numbers, and without gradients where nothing else is said. If the run fails, the tape
    tells how far it came.

    Args:
        root: A tree of our own. The run may write to its buffers.
        arguments: Of a run of a graph, by the names of `forward`; of a call of the tree itself, as `ModelInputs`.
        tape: Makes the tape, as `Tape` does: from the tensors by name, those that are plain attributes, and `real`.
        mode: The mode to run in; None: the one that the tree is in.
        real: Whether to run on real numbers instead of on the meta device.
        opposite: Questions of `answers` to which the user's code gets the opposite of the fact.
        gradients: Whether gradients are recorded.
        backward: Whether the backwards of the user's autograd Functions run beside them.
        recall: Of runs on real numbers of the same model.
        known: What the tree consists of, where that is known.

    Attributes:
        root: The tree.
        arguments: The copies of the arguments, by the names of `forward`.
        tensors: The parameters and buffers of the tree by name, as they were before the run.
        tape: The tape.
        answers: What the user's code is told, and what it asked.
    """

    def __init__(
        self,
        root: nn.Module,
        arguments: Mapping[str, Any] | ModelInputs,
        tape: Callable[..., T],
        *,
        mode: Mode | None = None,
        real: bool = False,
        opposite: frozenset[str] = frozenset(),
        gradients: bool = False,
        backward: bool = True,
        recall: Recall | None = None,
        known: Inventory | None = None,
    ) -> None:
        self.root = root
        self._paths, self.tensors = (known or inventory(root)) if mode is None else set_mode(root, mode, known)
        self._call: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
        if isinstance(arguments, ModelInputs):
            args, kwargs = self._call = copied_arguments((arguments.args, dict(arguments.kwargs)))
            self.arguments: Mapping[str, Any] = bind(root, ModelInputs(args, kwargs))
        else:
            self.arguments = copied_arguments(arguments)
        self._trained: dict[str, bool] = {}  # the parameters that the run made trainable or froze, for its time
        self._named = {**self.tensors, **named_inputs(self.arguments)}
        self.tape = tape(self._named, plain_tensors(self._paths), real=real)
        self.tape.recall = recall
        self.answers = Answers(
            root.__dict__.get(DEVICE), opposite, refuse=self.tape.refuse_gradient if backward else None
        )
        self._gradients = gradients

    def graph(
        self,
        graph: fx.Graph,
        runner: Callable[[nn.Module, fx.Graph, T], Runner] = Runner,
        inside: Sequence[AbstractContextManager[Any]] = (),
    ) -> Any:
        """Run a graph on the tree.

        Args:
            graph: The graph.
            runner: Makes what runs the nodes, as `Runner` does.
            inside: Contexts to enter inside that of the tape, in order.

        Returns:
            What the graph returns.
        """
        with self._recording(inside):
            return runner(self.root, graph, self.tape).run_on(self.arguments, self._paths)

    def module(self, inside: Sequence[AbstractContextManager[Any]] = ()) -> Any:
        """Call the tree itself.

        Args:
            inside: Contexts to enter inside that of the tape, in order.

        Returns:
            What its `forward` returns.
        """
        args, kwargs = self._call
        with self._recording(inside), watched(self.root, self.tape, self._paths):
            return self.root(*args, **kwargs)

    @contextmanager
    def _recording(self, inside: Sequence[AbstractContextManager[Any]]) -> Iterator[None]:
        gradients = torch.set_grad_enabled(self._gradients)
        with same_randomness(), gradients, answering(self.answers, self._paths), self.tape, ExitStack() as contexts:
            self._trained = contexts.enter_context(flags_restored(self.tensors))
            contexts.enter_context(memory_refused(self.tape))
            contexts.enter_context(gradients_followed(self.tape))
            for context in inside:
                contexts.enter_context(context)
            yield
        if self.tape.has_stale_constants():
            raise TraceError(
                f"{type(self.root).__name__} shares the memory of a tensor with numpy or a buffer (torch.from_numpy, "
                "torch.frombuffer), and writes into it after an operator has read it; work on a copy"
            )

    def digests(self, result: Any) -> tuple[tuple[int, Shape], ...]:
        """The digests of a result of the run, and of the named tensors after it."""
        return self.tape.result(result, self._named)

    def written(self) -> frozenset[str]:
        """The parameters and buffers that hold another value than before the run, or statistics that it may update."""
        changed = {name for name, tensor in self.tensors.items() if self.tape.content(tensor) != name}
        norms = [call for call in self.tape.calls if "batch_norm" in call.op._schema.name]
        return frozenset(changed.union(str(key) for call in norms for key in call.inputs if key in self.tensors))

    def returned(self, result: Any) -> Returned:
        """What the run left behind, value by value."""
        return describe(self.tape, result, self.tensors, named_tensors(self.root), self._trained)

    def is_alike(self, result: Any, model: ModelRun) -> bool:
        """Whether the run has given and left what the model's own does."""
        return self.digests(result) == model.result and plain_values(result) == model.plain

    def has_made(self, model: ModelRun) -> bool:
        """Whether the run has computed what the model returns and leaves, whatever it has returned itself."""
        made = {call.digest for call in self.tape.calls} | {digest for digest, _ in self.digests(())}
        return made.issuperset(digest for digest, _ in model.result)

    def difference(self, result: Any, model: ModelRun) -> tuple[str, str] | None:
        """Where the run departs from the model's own, in words and as the path of a module; None: nowhere."""
        if self.digests(result) != model.result:
            return first_difference(self.tape.calls, model.calls)
        if plain_values(result) != model.plain:
            return "the result holds another number or text than the model's", ""
        return None


def named_inputs(structure: Any) -> dict[str, Tensor]:
    """The tensors of an input structure, each with a name of its own."""
    tensors = [leaf for leaf in pytree.tree_leaves(structure) if isinstance(leaf, Tensor)]
    return {f"input {i}": tensor for i, tensor in enumerate(tensors)}
