"""Model to graph: a copy is traced in both modes, and each trace is checked against the model.

The check compares tapes: the ATen calls of the model and of its trace on meta tensors, with the flow of
values between them. A trace that lost a skip connection or took the wrong branch has another tape.
"""

from __future__ import annotations

import hashlib
import random
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from .copies import clone, rng_preserved, to_meta
from .errors import GrowError, TraceError
from .grown import CONTAINERS, MODE_OVERRIDES, MODES, Mode, graph_for, skeleton
from .inputs import Inputs, as_inputs, bind, guesses, omitted
from .record import Run, RunError, place, run_model
from .refuse import refuse_unknown_tensors
from .tape import draws


@dataclass(frozen=True, slots=True)
class Traced:
    """A model as graphs.

    Attributes:
        root: The module tree that the graphs run on, with every tensor on the meta device.
        graphs: A graph per mode; one entry ("eval") where both modes compute the same.
        modes: The modes to run for every operation that the model can do to be seen.
        inputs: The example inputs, on meta.
        arguments: The same as positional arguments of the graphs.
        given: The names of those arguments of `forward` that are not left at their defaults.
        tapes: What the model itself ran in each of `modes`.
        class_name: The class of the model.
        notes: What a user should know of the tracing.
    """

    root: nn.Module
    graphs: Mapping[Mode, fx.Graph]
    modes: tuple[Mode, ...]
    inputs: Inputs
    arguments: tuple[Any, ...]
    given: tuple[str, ...]
    tapes: Mapping[Mode, Run]
    class_name: str
    notes: tuple[str, ...] = ()

    def graph(self, mode: Mode) -> fx.Graph:
        """The graph that runs in a mode."""
        return graph_for(self.graphs, mode)

    def __str__(self) -> str:
        nodes = sum(1 for _ in self.graphs["eval"].nodes)
        both = "one graph for both modes" if len(self.graphs) == 1 else "a graph for each mode"
        return f"Traced {self.class_name}: {nodes} nodes, {both}, inputs {self.inputs}"


class Tracer(fx.Tracer):
    """FX's tracer, stopping at modules of torch.nn and at modules whose hooks must keep running."""

    proxy_buffer_attributes = True  # else what is computed from a buffer is baked into the graph

    def __init__(self) -> None:
        super().__init__()
        self._context = _context()

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """A node, unless the user's code has switched to a context that the graph would lose."""
        if _context() != self._context:
            raise TraceError(
                "forward switches gradients or autocast (torch.no_grad(), torch.autocast()), which a graph loses"
            )
        return super().create_node(*args, **kwargs)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module stays a call in the graph."""
        return super().is_leaf_module(m, module_qualified_name) or _hooked(m) or _has_extra_state(m)


def _context() -> tuple[bool, ...]:
    return (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda"))


def _has_extra_state(module: nn.Module) -> bool:
    return type(module).get_extra_state is not nn.Module.get_extra_state


def _hooked(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def trace(model: nn.Module, example_inputs: Any = None) -> Traced:
    """Trace a model in both modes; the model itself is not touched.

    Args:
        model: Any module with real floating-point parameters.
        example_inputs: A tensor, a tuple of arguments, a dict of keyword arguments; None: guessed from
            the first layer, trying usual sizes on the meta device.

    Raises:
        TraceError: The model cannot be traced, or does not run on the inputs.
    """
    refuse_unknown_tensors(model)
    if example_inputs is not None:
        try:
            return _trace(model, as_inputs(example_inputs))
        except RunError as error:
            raise TraceError(str(error)) from error.__cause__
    tried: list[str] = []
    why = ""
    for guess in guesses(model):
        try:
            return _trace(model, guess)
        except RunError as error:
            tried.append(str(guess))
            why = str(error)
    raise TraceError(f"no input that was tried ran; give example_inputs. Tried {'; '.join(tried)}. Last: {why}")


def _trace(model: nn.Module, inputs: Inputs) -> Traced:
    with rng_preserved():
        tapes, inputs = run_model(model, inputs)
    absent = omitted(model, inputs)
    root, graphs = graph_of(model, absent)
    modes: tuple[Mode, ...] = MODES
    random_in_eval = "eval" in tapes and any(draws(call.op) for call in tapes["eval"].calls)
    if len(graphs) == 1 and not random_in_eval and not _has_custom_leaf(root, graphs["eval"]):
        modes = ("train",) if "train" in tapes else ("eval",)
    for mode in modes:
        if mode not in tapes:
            raise RunError(f"the model does not run in {mode} mode on {inputs}; give inputs that both modes accept")
    to_meta(root)
    return Traced(
        root=root,
        graphs=graphs,
        modes=modes,
        inputs=inputs,
        arguments=tuple(bind(model, inputs).values()),
        given=tuple(name for name in bind(model, inputs) if name not in absent),
        tapes=tapes,
        class_name=type(model).__name__,
        notes=tuple(_notes(model, inputs, graphs)),
    )


def graph_of(model: nn.Module, absent: Mapping[str, Any]) -> tuple[nn.Module, dict[Mode, fx.Graph]]:
    """A module tree of our own, sharing the model's tensors, and its graphs: one where both modes compute the same.

    Args:
        model: The model.
        absent: Optional arguments of `forward` that are not given, with their defaults.

    Raises:
        TraceError: It cannot be traced.
    """
    for key, default in absent.items():
        if default is not None and not isinstance(default, bool | int | float | str):
            raise TraceError(f"the default of {key!r} is a {type(default).__name__}, which a graph cannot hold")
    graphs: dict[Mode, fx.Graph] = {}
    trees: dict[Mode, nn.Module] = {}
    with rng_preserved():
        for mode in MODES:
            trees[mode] = clone(model)
            graphs[mode] = _symbolic(trees[mode], mode, absent)
    root = trees["eval"]
    for name, value in vars(trees["train"]).items():
        if isinstance(value, Tensor):  # constants that only the train graph made
            root.__dict__.setdefault(name, value)
    root.__dict__[MODE_OVERRIDES] = {
        mode: {name: m.training for name, m in tree.named_modules() if name and m.training != (mode == "train")}
        for mode, tree in trees.items()
    }
    leaves = {str(node.target) for graph in graphs.values() for node in graph.nodes if node.op == "call_module"}
    if str(graphs["train"].python_code("self").src) == str(graphs["eval"].python_code("self").src):
        del graphs["train"]
    leaves |= {name for name, module in root.named_modules() if name and _is_plain(module)}
    for (_, module), (_, teacher) in zip(root.named_modules(), model.named_modules(), strict=True):
        module.training = teacher.training
    return skeleton(root, leaves), graphs


def fingerprint(graphs: Mapping[Mode, fx.Graph]) -> str:
    """A hash of what the graphs compute: the same for every copy of a model, on every device."""
    lines = [
        f"{mode} {n.op} {n.name} {getattr(n.target, '__name__', n.target)} {n.args} {n.kwargs}"
        for mode in sorted(graphs)
        for n in graphs[mode].nodes
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _notes(model: nn.Module, inputs: Inputs, graphs: Mapping[Mode, fx.Graph]) -> Iterator[str]:
    if inputs.guessed:
        yield f"example inputs were guessed: {inputs}"
    other = [name for name, m in model.named_modules() if m.training != model.training and not _is_plain(m)]
    if len(graphs) > 1 and other:
        yield (
            f"{other[0]} is not in the mode of the model: what its own code does by mode will follow the model's; "
            "layers of torch.nn in it keep theirs"
        )


def _has_custom_leaf(root: nn.Module, graph: fx.Graph) -> bool:
    return any(node.op == "call_module" and not _is_plain(root.get_submodule(str(node.target))) for node in graph.nodes)


def _is_plain(module: nn.Module) -> bool:
    """Whether the module is of torch.nn and holds no modules of a user's."""
    return type(module).__module__.startswith("torch.nn.") and type(module) not in CONTAINERS and not _hooked(module)


@contextmanager
def _no_custom_backward() -> Iterator[None]:
    """Refuse autograd Functions: FX would inline their forward and lose their backward."""
    apply = torch.autograd.Function.__dict__["apply"]

    def refuse(cls: type, *args: Any, **kwargs: Any) -> Any:
        raise TraceError(f"forward applies the autograd Function {cls.__name__}, whose backward a graph would lose")

    function: Any = torch.autograd.Function
    function.apply = classmethod(refuse)
    try:
        yield
    finally:
        function.apply = apply


def _symbolic(root: nn.Module, mode: Mode, absent: Mapping[str, Any]) -> fx.Graph:
    root.train(mode == "train")
    drawn = _python_random_state()
    name = type(root).__name__
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # FX cannot assert every default; the default is what it traces
            with _no_custom_backward():
                graph = Tracer().trace(root, concrete_args=dict(absent))
    except GrowError as error:
        raise TraceError(f"{name} cannot be traced in {mode} mode: {error}") from error
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        where = place(error)
        raise TraceError(f"{name} cannot be traced in {mode} mode: {type(error).__name__}: {reason}{where}") from error
    for path, module in root.named_modules():
        for key, value in (*module._buffers.items(), *module._parameters.items()):
            if isinstance(value, fx.Proxy):
                where = f"{path}.{key}".lstrip(".")
                raise TraceError(f"{name}.forward assigns to {where!r}; change it in place, as in {key}.copy_(...)")
    if _python_random_state() != drawn:
        raise TraceError(f"{name}.forward draws from Python's or numpy's random numbers; a graph would freeze one draw")
    for node in graph.nodes:
        node.type = None  # annotations of the user's module, which its source code alone could resolve
    graph.lint()
    return graph


def _python_random_state() -> tuple[Any, ...]:
    numpy = sys.modules.get("numpy")
    state = numpy.random.get_state() if numpy else ("", b"", 0)
    return random.getstate(), bytes(state[1]), state[2]
