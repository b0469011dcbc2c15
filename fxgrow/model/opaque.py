"""A model as one call: the graph of a model that cannot be traced, or whose class is to be kept.

The tree shares its tables of parameters, buffers and children with the model, so its `state_dict` has the same keys,
and `to` and `load_state_dict` on one of them change both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx, nn

from ..errors import GrowError
from .call_args import default_in_code, parameters_of, stars_of
from .recorded import foreign_proxy
from .walk import named_modules

OPAQUE_MODEL = "_fxgrow_opaque_model"  # attribute of a tree: the model whose own code is called


def call(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], optional: Mapping[str, Any]) -> Any:
    """Call a model; `optional` are arguments whose defaults are no literals, None if they are not given.

    Where another tracer runs the student, the call becomes one node of its graph.
    """
    proxy = foreign_proxy((args, dict(kwargs), dict(optional)))
    if proxy is not None:
        at = proxy.tracer.create_proxy("get_attr", _path_of(model, proxy.tracer.root), (), {})  # type: ignore[attr-defined]
        return proxy.tracer.create_proxy("call_function", call, (at, args, kwargs, optional), {})
    return model(*args, **kwargs, **{name: value for name, value in optional.items() if value is not None})


def _path_of(model: nn.Module, root: nn.Module) -> str:
    """Where below a root an opaque model is."""
    above = next(path for path, module in named_modules(root) if vars(module).get(OPAQUE_MODEL) is model)
    return f"{above}.{OPAQUE_MODEL}".lstrip(".")


def opaque_graph(model: nn.Module) -> fx.Graph:
    """A graph with the model's signature that passes all arguments to the model.

    The first one and those that must be given go by position, the others by name, as calls are written. Wrappers around
    a `forward` of transformers put what is missing among the named ones, and find it given twice otherwise.
    """
    graph = fx.Graph()
    args: Any = []
    kwargs: dict[str, Any] = {}
    optional: dict[str, Any] = {}
    others: tuple[Any, Any] = ((), {})
    parameters = parameters_of(model)
    more = any(stars_of(parameter) == "*" for parameter in parameters.values())
    for name, parameter in parameters.items():
        stars = stars_of(parameter)
        default = () if stars or parameter.default is parameter.empty else (default_in_code(parameter),)
        node = graph.create_node("placeholder", f"{stars}{name}", default, {})
        if stars == "*":
            others = (node, others[1])
        elif stars == "**":
            others = (others[0], node)
        elif default and default[0] is None and parameter.default is not None:
            optional[name] = node
        elif parameter.kind is parameter.KEYWORD_ONLY or optional:  # one before it may be left out
            kwargs[name] = node
        elif parameter.kind is parameter.POSITIONAL_ONLY or more or not (default and args):
            args.append(node)
        else:
            kwargs[name] = node
    model_node = graph.create_node("get_attr", OPAQUE_MODEL, (), {})
    given: tuple[Any, Any] = (tuple(args), kwargs)
    if others != ((), {}):
        given = (
            graph.create_node("call_function", joined, (given[0], others[0]), {}),
            graph.create_node("call_function", merged, (given[1], others[1]), {}),
        )
    graph.output(graph.create_node("call_function", call, (model_node, *given, optional), {}))
    return graph


def unsupported_mode_graph(model: nn.Module, mode: str) -> fx.Graph:
    """The graph of a mode in which the model does not run on the example inputs: it raises GrowError."""
    graph = opaque_graph(model)
    output = next(iter(reversed(graph.nodes)))
    text = f"the example inputs fail in {mode} mode; call grow() with inputs that run in it"
    with graph.inserting_before(output):
        output.args = (graph.create_node("call_function", raise_unsupported_mode, (text,), {}),)
    for node in list(reversed(graph.nodes))[2:]:
        if node.op != "placeholder":
            graph.erase_node(node)
    return graph


def raise_unsupported_mode(text: str) -> None:
    """The only operation of a graph that cannot be run.

    Raises:
        GrowError: Always, with this text.
    """
    raise GrowError(text)


def joined(a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
    """Positional arguments followed by those of `*args`."""
    return (*a, *b)


def merged(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments merged with those of `**kwargs`."""
    return {**a, **b}
