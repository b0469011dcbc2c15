"""Model to graph: a copy is traced in both modes, and each trace is checked against the model.

The check compares tapes: the ATen calls of the model and of its trace on meta tensors, with the flow of
values between them. A trace that lost a skip connection or took the wrong branch has another tape.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import random
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from .errors import GrowError, TraceError
from .grown import CONTAINERS, Mode, skeleton
from .inputs import Inputs, as_inputs, bind, guesses, omitted
from .tape import Call, Shape, Tape, draws


@dataclass(frozen=True, slots=True)
class Run:
    """What one run did: its calls, and the digests of what it left behind."""

    calls: list[Call]
    result: tuple[tuple[int, Shape], ...]


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
        return self.graphs.get(mode) or self.graphs["eval"]

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
        except _RunError as error:
            raise TraceError(str(error)) from error.__cause__
    tried: list[str] = []
    why = ""
    for guess in guesses(model):
        try:
            return _trace(model, guess)
        except _RunError as error:
            tried.append(str(guess))
            why = str(error)
    raise TraceError(f"no input that was tried ran; give example_inputs. Tried {'; '.join(tried)}. Last: {why}")


class _RunError(TraceError):
    """The model itself fails on the inputs."""


def refuse_unknown_tensors(model: nn.Module) -> None:
    """Raise for parameters that cannot be gathered and split, by name."""
    if not isinstance(model, nn.Module):
        raise TraceError(f"the model is a {type(model).__name__}; expected an nn.Module")
    for name, parameter in inspect.signature(model.forward).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TraceError(f"{type(model).__name__}.forward takes {parameter}; give it single arguments for {name}")
    if isinstance(model, torch.jit.ScriptModule):
        raise TraceError("the model is a ScriptModule; give the nn.Module that it was scripted from")
    for name, tensor in named_tensors(model).items():
        kind = ""
        if torch.nn.parameter.is_lazy(tensor):
            kind = "is not initialised yet: run the model once"
        elif tensor.is_complex():
            kind = f"is complex ({tensor.dtype})"
        elif tensor.is_quantized:
            kind = f"is quantized ({tensor.dtype})"
        elif tensor.layout != torch.strided:
            kind = f"is sparse ({tensor.layout})"
        elif isinstance(tensor, nn.Parameter) and not tensor.is_floating_point():
            kind = f"holds {tensor.dtype}"
        elif type(tensor) not in (Tensor, nn.Parameter, nn.Buffer):
            kind = f"is a {type(tensor).__name__}"
        elif tensor._backward_hooks or getattr(tensor, "_post_accumulate_grad_hooks", None):
            kind = "has hooks of its own, which would not fit its grown shape; remove them and add them to the student"
        if kind:
            raise TraceError(f"{name!r} {kind}; fxgrow grows plain real floating-point tensors")
    for name, module in model.named_modules():
        if type(module).__module__.startswith(("torch.ao.nn.", "torch.nn.quantized", "torch.nn.intrinsic")):
            raise TraceError(
                f"{name!r} is a quantized {type(module).__name__}; grow the float model and convert it again"
            )


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, tied ones under their first name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def clone(model: nn.Module, replace: Mapping[int, Any] | None = None) -> nn.Module:
    """A deep copy that shares parameters and buffers, or has `replace[id(tensor)]` in the place of one.

    Raises:
        TraceError: Some attribute of the model cannot be copied.
    """
    memo: dict[int, Any] = {id(t): t.detach().clone() for t in plain_tensors(model)}
    memo.update({id(t): t for t in named_tensors(model).values()})
    memo.update(replace or {})
    try:
        return copy.deepcopy(model, memo)
    except (TypeError, RuntimeError, copy.Error) as error:
        raise TraceError(f"{type(model).__name__} cannot be copied: {error}") from error


def plain_tensors(model: nn.Module) -> Iterator[Tensor]:
    """The tensors that are plain attributes of modules, neither parameters nor buffers."""
    for module in model.modules():
        yield from (v for v in vars(module).values() if isinstance(v, Tensor))


@contextmanager
def rng_preserved() -> Iterator[None]:
    """Whatever runs inside, the global random states are afterwards what they were."""
    numpy = sys.modules.get("numpy")
    python_state, numpy_state = random.getstate(), numpy.random.get_state() if numpy else None
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(python_state)
            if numpy is not None:
                numpy.random.set_state(numpy_state)


def _trace(model: nn.Module, inputs: Inputs) -> Traced:
    with rng_preserved():
        tapes, inputs = _run_model(model, inputs)
    absent = omitted(model, inputs)
    root, graphs = graph_of(model, absent)
    modes: tuple[Mode, ...] = MODES
    random_in_eval = "eval" in tapes and any(draws(call.op) for call in tapes["eval"].calls)
    if len(graphs) == 1 and not random_in_eval and not _has_custom_leaf(root, graphs["eval"]):
        modes = ("train",) if "train" in tapes else ("eval",)
    for mode in modes:
        if mode not in tapes:
            raise _RunError(f"the model does not run in {mode} mode on {inputs}; give inputs that both modes accept")
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


def _place(error: BaseException) -> str:
    """Where in the user's code an error arose: the last frame that is neither of torch nor of this package."""
    frames = traceback.extract_tb(error.__traceback__)
    own = str(Path(__file__).parent)
    theirs = [f for f in frames if not f.filename.startswith((own, str(Path(torch.__file__).parent), "<"))]
    return f" (at {theirs[-1].filename}:{theirs[-1].lineno}: {theirs[-1].line})" if theirs else ""


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
        where = _place(error)
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


def replace_tensors(root: nn.Module, new: Callable[[Tensor], Tensor]) -> None:
    """Put `new(tensor)` in the place of each parameter and buffer of a tree of our own; ties stay."""
    replaced = {id(tensor): (tensor, new(tensor)) for tensor in named_tensors(root).values()}
    for module in root.modules():
        tables: tuple[dict[str, Any], dict[str, Any]] = (module._parameters, module._buffers)
        for table in tables:
            table.update({name: replaced[id(tensor)][1] for name, tensor in table.items() if tensor is not None})


def to_meta(root: nn.Module) -> None:
    """Swap every parameter and buffer of a tree of our own for its like on the meta device."""
    replace_tensors(root, _meta_like)


def _meta_like(tensor: Tensor) -> Tensor:
    meta = tensor.detach() if tensor.device.type == "meta" else tensor.detach().to("meta")
    return nn.Parameter(meta, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else meta


MODES: tuple[Mode, ...] = ("eval", "train")


def _run_model(model: nn.Module, inputs: Inputs) -> tuple[dict[Mode, Run], Inputs]:
    """The model's own tape in each mode that it runs in; train mode may need a larger batch."""
    try:
        return {mode: _record(model, mode, inputs) for mode in MODES}, inputs
    except _RunError as error:
        for candidate in (inputs.doubled(), inputs):
            tapes: dict[Mode, Run] = {}
            for mode in MODES:
                with suppress(_RunError):
                    tapes[mode] = _record(model, mode, candidate)
            if len(tapes) == 2 or (tapes and candidate is inputs and not inputs.guessed):
                return tapes, candidate
        raise error from None


def _record(model: nn.Module, mode: Mode, inputs: Inputs) -> Run:
    root = clone(model)
    root.train(mode == "train")
    to_meta(root)
    before = _attributes(root)
    run = _record_once(root, mode, inputs)
    changed = [key for key, value in _attributes(root).items() if before.get(key, root) is not value]
    if changed and _record_once(root, mode, inputs).result != run.result:
        raise TraceError(
            f"{type(model).__name__}.forward keeps state in {', '.join(changed[:3])} from call to call; "
            "register it as a buffer"
        )
    return run


def _attributes(root: nn.Module) -> dict[str, Any]:
    return {
        f"{path}.{key}".lstrip("."): value
        for path, module in root.named_modules()
        for key, value in vars(module).items()
        if not key.startswith("_") and key != "training"
    }


def _python_random_state() -> tuple[Any, ...]:
    numpy = sys.modules.get("numpy")
    state = numpy.random.get_state() if numpy else ("", b"", 0)
    return random.getstate(), bytes(state[1]), state[2]


def _record_once(root: nn.Module, mode: Mode, inputs: Inputs) -> Run:
    names = named_tensors(root)
    tape = Tape({**names, **named_inputs(inputs.args, inputs.kwargs)}, plain_tensors(root))
    try:
        with torch.no_grad(), tape:
            result = root(*inputs.args, **inputs.kwargs)
    except GrowError:
        raise
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise _RunError(
            f"{type(root).__name__} does not run on {inputs} in {mode} mode on the meta device: "
            f"{type(error).__name__}: {reason}{_place(error)}"
        ) from error
    return Run(tape.calls, tape.result(result, names))


def named_inputs(*structure: Any) -> dict[str, Tensor]:
    """The tensors of an input structure, each with a name of its own."""
    tensors = [leaf for leaf in pytree.tree_leaves(structure) if isinstance(leaf, Tensor)]
    return {f"input {i}": tensor for i, tensor in enumerate(tensors)}
