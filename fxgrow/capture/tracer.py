"""The tracer: FX's, with proxies that carry values, and leaves where Python defeats it.

A submodule whose code cannot be traced stays a call in the graph (a *leaf*): the smallest one, because the innermost
module whose forward fails is the first to see the failure. What a graph would silently lose counts as a failure too:
gradients or autocast switched inside `forward`, autograd Functions, draws from Python's random numbers, errors caught.
"""

from __future__ import annotations

import collections
import copy
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..base.content import storage_of
from ..base.scalars import plain
from ..errors import TraceError
from ..model.call_args import PLAIN, default_in_code, is_data, parameters_of, stars_of
from ..model.copies import named_tensors
from ..model.generated_code import check_written, value_at
from ..model.layer_kinds import is_hooked, is_layer
from ..model.provenance import SOURCE_LINE, caller
from ..model.walk import modules, submodule
from ..recording.answers import PLACES, told
from ..recording.model_run import explain
from ..recording.returned import held_in
from ..recording.runner import thawed
from ..recording.tape import Tape
from .conversions import Conversions
from .elsewhere import leaves_something
from .lost_in_graphs import Caught, check_caught, check_result
from .origins import VALUE, guards, is_symbolic, kinds_asked, of_tensors
from .patches import (
    FROZEN,
    draws_privately,
    entered_context,
    has_extra_state,
    nothing_lost,
    unpatched,
)
from .positions import counts_dimensions
from .probes import Probes
from .proxy import ARGUMENTS, MetaProxy, count, guard, or_default
from .texts import Texts

STALE = "a cache outside the model holds what an earlier attempt to trace put there"


class Restart(BaseException):
    """A leaf was found whose failed attempt has left traces in the tree: begin again with it."""


class Tracer(fx.Tracer):
    """Traces a module tree of our own, whose tensors are on the meta device.

    Args:
        arguments: The example inputs by the names of the arguments of `forward`.
        given: Which of these the example gives.
        tape: Runs every operation for its value.
        leaves: Paths of modules that stay calls.
        conversions: Where the code makes plain numbers of sizes.
        find_draws: Whether to find out which module draws from Python's random numbers, if any does.
        lenient: Whether the graph may lose what the code does beside it: none runs in a student.
    """

    proxy_buffer_attributes = True  # else what is computed from a buffer is baked into the graph

    def __init__(
        self,
        arguments: Mapping[str, Any],
        given: Sequence[str],
        tape: Tape,
        leaves: frozenset[str],
        conversions: Conversions,
        *,
        find_draws: bool,
        lenient: bool = False,
    ) -> None:
        super().__init__()
        self.conversions = conversions
        self.find_draws = find_draws
        self.lenient = lenient
        self.tells_numbers = lenient and tape.real  # those in tensors, to code that decides by them
        self.arguments, self.given = arguments, given
        self.tape = tape
        self.forced = leaves
        self.new_leaves: dict[str, str] = {}  # modules that have to stay calls, and why
        self._made: dict[int, tuple[fx.Node, int | None]] = {}
        self._answered: dict[fx.Node, None] = {}
        self.probes = Probes(self.answered)
        self.texts = Texts()
        self._entered = entered_context()
        self._computing = False
        self._in_forward = False
        self._drawn: Tensor | None = None  # torch's random state after the last value that was computed for real
        self._hooked: set[int] = set()  # not those that forward hooks for itself, and that run on proxies
        self.catching = Caught(Tracer.call_module.__code__)
        self.caught: dict[str, str] = {}  # modules whose code catches errors of torch, and the line
        self.frozen: list[tuple[str, Any, Any]] = []  # arguments without tensors: name, value, as it was
        self.finished = False  # its proxies may live on in a cache of the user's code
        self.form_matters = False  # whether the code asks how many dimensions a tensor has
        self.mode_matters = False  # whether it asks for the mode that it is in
        self.layers_change = False  # whether it changes layers, or the mode of modules
        self.loses = False  # whether the graph lacks some of what decides by numbers
        self.may_freeze = False  # whether code may have seen a size as a plain number or text, without a guard

    def close(self) -> None:
        """Let go of the values of a finished trace: functions of `fx.Tracer` that call themselves hold the tracer."""
        self.finished = True
        self.probes.close(STALE)
        del self.tape

    # -- nodes and their values ------------------------------------------------------------------

    def create_node(self, kind: str, *args: Any, **kwargs: Any) -> fx.Node:
        """A node, unless the user's code has switched to a context that the graph would lose."""
        if not self.lenient and entered_context() != self._entered:
            raise TraceError(
                "forward switches gradients or autocast, enters a mode of torch or seeds random numbers "
                "(torch.no_grad(), torch.autocast(), torch.manual_seed()), which a graph loses"
            )
        if not self.lenient and self._drawn is not None and not torch.equal(torch.get_rng_state(), self._drawn):
            raise TraceError(FROZEN)
        if self.finished:
            raise TraceError(STALE)
        self.probes.settle()
        with unpatched():
            node = super().create_node(kind, *args, **kwargs)
        check_written(node)
        if kind == "placeholder":
            return node
        self.form_matters |= counts_dimensions(node, self.root)
        node.meta[SOURCE_LINE] = caller()
        if kind.startswith("call") and (at := self.catching.around(sys._getframe())):
            self.caught.setdefault(*at)
        if kind != "output":
            value = node.meta[VALUE] = self._compute(node)
            self._remember(value, node)
        return node

    def _remember(self, value: Any, node: fx.Node) -> None:
        """Of which node a tensor is the value: code that sees values (hooks in a leaf) may hand them on."""
        if isinstance(value, Tensor):
            self._made[id(value)] = (node, None)
        elif isinstance(value, tuple | list):
            self._made.update({id(v): (node, i) for i, v in enumerate(value) if isinstance(v, Tensor)})

    def proxy(self, node: fx.Node) -> MetaProxy:
        return MetaProxy(node, self)

    def _compute(self, node: fx.Node) -> Any:
        args, kwargs = thawed(fx.node.map_arg((node.args, node.kwargs), lambda n: n.meta[VALUE]))
        self._computing = True
        try:
            with torch.no_grad(), self.tape, unpatched():
                if node.target is getattr and isinstance(args[0], Tensor) and args[1] in PLACES:
                    return told(*args)
                if node.op == "call_function":
                    function: Any = node.target
                    return function(*args, **kwargs)
                if node.op == "call_method":
                    return getattr(args[0], str(node.target))(*args[1:], **kwargs)
                if node.op == "call_module":
                    module = submodule(self.root, str(node.target))
                    if is_layer(module):
                        return module(*args, **kwargs)
                    result, leaves = leaves_something(module, args, kwargs)
                    self.may_freeze |= leaves
                    return result
                return value_at(self.root, str(node.target))
        except BaseException:
            self.graph.erase_node(node)  # the user's code may catch the error and go on, without a value
            raise
        finally:
            self._computing = False
            self._drawn = torch.get_rng_state() if self.tape.real else None
            self._entered = (*self._entered[:-1], torch.initial_seed())  # what stays a call may seed

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """An attribute of a module: parameters and buffers are proxies while tracing."""
        return attr_val if self._computing else super().getattr(attr, attr_val, parameter_proxy_cache)

    def device_of(self, tensor: Tensor) -> Any:
        """What code that asks a parameter for its device is told: a proxy, so that the student asks for its own."""
        if self._computing:
            return told(tensor, "device")
        named = named_tensors(self.root)
        names = {id(t): name for name, t in named.items()}
        memory = {storage_of(t): name for name, t in named.items()}
        name = names.get(id(tensor)) or memory.get(storage_of(tensor)) or next(iter(names.values()))
        return self.create_proxy("get_attr", name, (), {}).device

    def changed_layer(self) -> None:
        """Some code changes a module beside its tensors, which a call of it in the graph would not see."""
        self.layers_change |= not self._computing

    def asked_for_mode(self) -> None:
        """Some code reads `training` of a module; what a call in the graph runs may."""
        self.mode_matters |= not self._computing

    def asked_for_setting(self, name: str) -> None:
        """Some code asks for a setting of the process; what a call in the graph runs may."""
        if not self._computing:
            raise TraceError(f"the code asks for a setting ({name}), which may be another one when a student runs")

    def answered(self, node: fx.Node, value: Any, asker: str = "") -> None:
        """Python was told a plain value, at the place `asker` of the user's code: guard it, once."""
        if self.finished:
            raise TraceError(STALE)
        plain = all(isinstance(v, PLAIN) for v in value) if isinstance(value, list) else isinstance(value, PLAIN)
        place = Path(asker or caller()).name if self._in_forward else ARGUMENTS
        for tensor in kinds_asked(node):  # a model may be cast, but its images do not become integers
            kind = self.create_node("call_method", "is_floating_point", (tensor,), {})
            self.create_node("call_function", guard, (kind, kind.meta[VALUE], place), {})
        self.loses |= node.target is count and not of_tensors(node)  # no guard holds, and nothing follows such a number
        if node not in self._answered and guards(node) and plain:
            self._answered[node] = None
            self.create_node("call_function", guard, (node, value, place), {})

    def create_arg(self, a: Any) -> Any:
        """What stands for a value among the arguments of a node."""
        if type(a) is MetaProxy:
            if a.tracer is not self:
                raise TraceError(STALE)
            return a.node
        if isinstance(a, torch.Generator):
            raise TraceError("forward draws from a generator of its own, which a graph would freeze")
        if isinstance(a, Tensor) and id(a) in self._made:
            node, index = self._made[id(a)]
            return node if index is None else self.create_node("call_function", operator.getitem, (node, index), {})
        if type(a) is collections.OrderedDict:
            return self.create_node("call_function", type(a), (self.create_arg(list(a.items())),), {})
        if is_dataclass(a) and not isinstance(a, type):
            given = {f.name: self.create_arg(getattr(a, f.name)) for f in fields(a) if f.init}
            return self.create_node("call_function", type(a), (), given)
        return super().create_arg(plain(a))

    # -- the root --------------------------------------------------------------------------------

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """Placeholders under the names of the model's arguments; what holds no tensor keeps the example's value."""
        root: nn.Module = self.root
        self._hooked = {id(module) for module in modules(root) if is_hooked(module)}
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        frozen: dict[str, tuple[fx.Node, Any]] = {}
        by_name = False  # behind an argument that is left out, as the user leaves it out: decorators may ask for that
        for name, parameter in parameters_of(root).items():
            value = self.arguments.get(name, () if parameter.kind is parameter.VAR_POSITIONAL else {})
            stars = stars_of(parameter)
            held = default_in_code(parameter)
            default = () if stars or parameter.default is parameter.empty else (held,)
            node = self.graph.create_node("placeholder", f"{stars}{name}", default, {})
            left_out = not stars and name not in self.given
            value = parameter.default if left_out else value
            symbolic = is_symbolic(value)
            node.meta[VALUE] = held if left_out else value
            if symbolic and left_out:  # a tensor as the default
                node = self.create_node("call_function", or_default, (node, self.create_arg(value)), {})
            if symbolic and not stars and parameter.default is None:  # None would be another path
                self.form_matters = True
            passed: Any = self.proxy(node) if symbolic else value
            if not symbolic:
                expected = held if left_out else value
                if not is_data(expected):
                    raise TraceError(f"the argument {name!r} is a {type(value).__name__}, which a graph would freeze")
                before = copy.deepcopy(value) if is_data(value) else value
                self.frozen += [(name, value, before)] if before is not value else []
                frozen[name] = (node, held if left_out else before)
            if parameter.kind is parameter.VAR_POSITIONAL:
                args += list(passed)
            elif parameter.kind is parameter.VAR_KEYWORD:
                kwargs.update(dict(passed.items()))
            elif left_out and not symbolic:
                by_name = parameter.kind is not parameter.POSITIONAL_ONLY
            elif by_name or parameter.kind is parameter.KEYWORD_ONLY:
                kwargs[name] = passed
            else:
                args.append(passed)
        if frozen:
            asked, expected = ({n: pair[i] for n, pair in frozen.items()} for i in (0, 1))
            self.create_node("call_function", guard, (asked, expected, ARGUMENTS), {})

        def forward() -> Any:
            self._in_forward = True
            self._drawn = torch.get_rng_state() if self.tape.real else None
            result = root.forward(*args, **kwargs)
            if self.lenient:  # what is no tensor may be what no graph can return
                return _proxies_in(result)
            check_result(result)
            self.texts.guard_returned(result)
            return result

        self.catching.root = forward.__code__
        return forward, []

    # -- leaves ----------------------------------------------------------------------------------

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module stays a call in the graph."""
        return (
            module_qualified_name in self.forced
            or super().is_leaf_module(m, module_qualified_name)
            or (id(m) in self._hooked and not self.lenient)
            or has_extra_state(m)
            or draws_privately(m)
        )

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Inline a module's code, or keep it as a call."""
        if self._computing:
            return forward(*args, **kwargs)
        try:
            path = self.path_of_module(m)
        except NameError:  # the model holds it, but has not registered it
            if named_tensors(m):
                raise
            return forward(*args, **kwargs)
        if self.is_leaf_module(m, path):
            return super().call_module(m, forward, args, kwargs)
        self.probes.settle()  # what was asked for outside, before the nodes that a failure takes back
        last, stack, counts, asked = self._last(), self.module_stack.copy(), dict(self.num_calls), len(self._answered)
        try:
            with nullcontext() if self.lenient else nothing_lost(m, real=self.tape.real, draws=self.find_draws):
                result = super().call_module(m, forward, args, kwargs)
                if not self.lenient:
                    check_caught(self.caught, path)
                return result
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises when it meets a proxy
            self.new_leaves[path] = explain(error)
        self._drawn = None
        self.probes.forget()
        for node in reversed(list(self.graph.nodes)):
            if node is last:
                break
            self.graph.erase_node(node)
        self._made = {key: made for key, made in self._made.items() if not made[0]._erased}
        self.module_stack, self.num_calls = stack, counts
        self._answered = dict(list(self._answered.items())[:asked])
        try:
            return self.create_proxy("call_module", path, args, kwargs)  # go on, to see which others fail
        except Exception as error:
            raise Restart from error

    def _last(self) -> fx.Node | None:
        return next(iter(reversed(self.graph.nodes)), None)


def _proxies_in(result: Any) -> list[MetaProxy]:
    """The proxies that a result holds, at any depth of containers and objects."""
    found: list[MetaProxy] = []
    pending, seen = [result], set()
    while pending:
        value = pending.pop()
        if type(value) is MetaProxy:
            found.append(value)
        elif id(value) not in seen:
            seen.add(id(value))
            pending += [child for _, child in reversed(held_in(value))]
    return found
