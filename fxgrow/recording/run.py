"""The one way to run a module tree or a graph on a tape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, fx, nn

from ..base.isolation import same_randomness
from ..base.torch_private import pytree
from ..model.copies import named_tensors, plain_tensors
from ..model.example_inputs import for_a_run
from ..model.tree import Mode, set_mode
from .runner import Runner, watched
from .tape import Call, Shape, Tape, first_difference

T = TypeVar("T", bound=Tape)


@dataclass(frozen=True, slots=True)
class ModelRun:
    """What one run did.

    Attributes:
        calls: Its calls.
        result: The digests of its results and of the named tensors that it changed.
        stateful: The modules that keep something in attributes which the next run sees.
    """

    calls: list[Call]
    result: tuple[tuple[int, Shape], ...]
    stateful: frozenset[str] = frozenset()


class TapedRun(Generic[T]):
    """One run of a module tree: its mode, its own copies of the arguments, and the tape that records it.

    It runs with fixed random numbers and without gradients. If it fails, the tape still tells how far it came.

    Args:
        root: A tree of our own. The run may change its buffers.
        arguments: By the names of `forward`.
        tape: Makes the tape from the named tensors, the tensors that are plain attributes, and `real`: `Tape` itself
            or a subclass of it.
        mode: The mode to run in; None: the one that the tree is in.
        real: Whether to run on real numbers instead of on the meta device.

    Attributes:
        root: The tree.
        arguments: The copies, by the names of `forward`.
        tape: The tape.
    """

    def __init__(
        self, root: nn.Module, arguments: Any, tape: Callable[..., T], *, mode: Mode | None = None, real: bool = False
    ) -> None:
        if mode is not None:
            set_mode(root, mode)
        self.root = root
        self.arguments = for_a_run(arguments)
        self._named = {**named_tensors(root), **named_inputs(self.arguments)}
        self.tape = tape(self._named, plain_tensors(root), real=real)

    def graph(
        self,
        graph: fx.Graph,
        runner: Callable[[nn.Module, fx.Graph, T], Runner] = Runner,
        inside: Sequence[AbstractContextManager[Any]] = (),
    ) -> Any:
        """Run a graph on the tree.

        Args:
            graph: The graph.
            runner: Runs its nodes: `Runner` itself or a subclass of it.
            inside: Contexts to run in, the outermost first; the tape is around them.

        Returns:
            What the graph returns.
        """
        return self._run(lambda: runner(self.root, graph, self.tape).run_on(self.arguments), inside)

    def module(
        self, args: Sequence[Any], kwargs: dict[str, Any], inside: Sequence[AbstractContextManager[Any]] = ()
    ) -> Any:
        """Call the tree itself, with the tensors of `arguments`.

        Args:
            args: By position.
            kwargs: By keyword.
            inside: As for `graph`.

        Returns:
            What its `forward` returns.
        """

    def digests(self, result: Any) -> tuple[tuple[int, Shape], ...]:
        """The digests of a result of the run, and of the named tensors that the run changed."""
        return self.tape.result(result, self._named)
