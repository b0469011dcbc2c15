"""Names of modules and tensors in generated code: written as code that means them, whatever signs they hold.

FX writes `self.NAME(x)` where a name looks like an identifier, and `getattr(self, "NAME")` elsewhere. That is wrong for
keywords, quotes, line breaks, characters that Python normalises (`ﬁ`), and names that `fx.GraphModule` has itself
(`graph`, `code`). FX does not get such names: it writes a placeholder, in whose place `self._modules['NAME']` goes.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import fx, nn

from ..base.torch_private import names_in_generated_code
from ..errors import TraceError

_TABLES = ("_modules", "_parameters", "_buffers")
_PLACEHOLDER = "fxgrow_name"
_ROOT = "self"  # what generated code calls the module that it is the forward of
NAMED = ("call_module", "get_attr")  # nodes whose target is a path
_USED = frozenset((*vars(builtins), *names_in_generated_code, _ROOT))  # names that generated code may use
_missing = object()


def is_plain_name(name: str) -> bool:
    """Whether FX writes an attribute of this name as code that means it."""
    return re.fullmatch("[A-Za-z_0-9]+", name) is not None and not keyword.iskeyword(name)


def value_at(root: nn.Module, path: str) -> Any:
    """The module, parameter, buffer or attribute at a path; what is registered hides other attributes of the name.

    Raises:
        AttributeError: There is none.
    """
    value: Any = root
    for name in path.split("."):
        table = _table_of(value, name)
        value = getattr(value, name) if table is None else getattr(value, table)[name]
    return value


def check_written(node: fx.Node) -> None:
    """Whether FX writes the names of attributes, methods and keywords in a node as code that means them.

    Raises:
        TraceError: It does not.
    """
    names = list(node.kwargs)
    if node.op == "call_method":
        names.append(str(node.target))
    elif node.target is getattr and len(node.args) > 1:
        names.append(str(node.args[1]))
    odd = next((name for name in names if not (is_plain_name(name) and name.isidentifier())), None)
    if odd is not None:
        raise TraceError(f"it uses the name {odd!r:.80}, which generated code cannot hold")


def check_arguments(root: nn.Module, graph: fx.Graph) -> None:
    """Whether the arguments of a graph hide nothing that its generated code uses, such as `torch`.

    Raises:
        TraceError: One does.
    """
    arguments = [str(node.target).lstrip("*") for node in graph.nodes if node.op == "placeholder"]
    hiding = [name for name in arguments if name in _USED]
    if not hiding:
        return
    read = [] if _ROOT in hiding else _names_read(root, graph)
    for name in hiding:
        if name == _ROOT or read.count(name) > 1:  # once to take it under another name
            raise TraceError(f"an argument of forward has the name {name!r}, which generated code uses itself")


def _names_read(root: nn.Module, graph: fx.Graph) -> list[str]:
    with names_written(root, graph):
        code = ast.parse(graph.python_code(_ROOT).src)
    return [node.id for node in ast.walk(code) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]


def odd_nodes(root: nn.Module, graph: fx.Graph) -> dict[fx.Node, str]:
    """The nodes whose target FX would write as code that means something else, and their target."""
    known: dict[str, bool] = {}
    odd: dict[fx.Node, str] = {}
    for node in graph.nodes:
        if node.op in NAMED:
            path = str(node.target)
            if path not in known:
                known[path] = _is_odd(root, path)
            if known[path]:
                odd[node] = path
    return odd


def expression(root: nn.Module, path: str) -> str:
    """Python code for what is at a path below `self`."""
    code = _ROOT
    value: Any = root
    for name in path.split("."):
        table, attribute = _table_of(value, name), _attribute(value, name)
        following = attribute if table is None else getattr(value, table)[name]
        if is_plain_name(name) and name.isidentifier() and attribute is following:
            code = f"{code}.{name}"
        else:
            code = f"getattr({code}, {name!r})" if table is None else f"{code}.{table}[{name!r}]"
        value = following
    return code


@contextmanager
def names_written(root: nn.Module, graph: fx.Graph) -> Iterator[None]:
    """A context in which the code that FX generates for a graph means what its nodes name."""
    for node in graph.nodes:
        if node.name == _ROOT:
            node._rename(f"{_ROOT}_")
    odd = odd_nodes(root, graph)
    if not odd:
        yield
        return
    placeholders = placeholders_for(graph, odd.values())
    codes = {placeholders[path]: expression(root, path) for path in placeholders}
    statement = re.compile(rf"(?P<result>\w+) = {_ROOT}\.(?P<name>{'|'.join(codes)})\b")

    def written(line: str) -> str:
        found = statement.match(line)
        return f"{found['result']} = {codes[found['name']]}{line[found.end() :]}" if found else line

    def transformer(before: Callable[[list[str]], list[str]] | None) -> Callable[[list[str]], list[str]]:
        return lambda lines: [written(line) for line in (before(lines) if before is not None else lines)]

    with renamed(odd, placeholders), graph.on_generate_code(transformer):
        yield


@contextmanager
def renamed(nodes: Mapping[fx.Node, str], names: Mapping[str, str]) -> Iterator[None]:
    """A context in which nodes have other targets."""
    for node, path in nodes.items():
        node.target = names[path]
    try:
        yield
    finally:
        for node, path in nodes.items():
            node.target = path


def placeholders_for(graph: fx.Graph, paths: Iterable[str]) -> dict[str, str]:
    """An identifier for each path, which no target of the graph begins with."""
    prefix = _PLACEHOLDER
    while any(str(node.target).startswith(prefix) for node in graph.nodes):
        prefix += "_"
    return {path: f"{prefix}{i}" for i, path in enumerate(dict.fromkeys(paths))}


def _is_odd(root: nn.Module, path: str) -> bool:
    value: Any = root
    for name in path.split("."):
        table = _table_of(value, name)
        if not is_plain_name(name):
            return True
        following = _attribute(value, name)
        if table is not None and following is not getattr(value, table)[name]:
            return True
        value = following
    return False


def _attribute(value: Any, name: str) -> Any:
    """An attribute; `_missing` also where a property of that name fails, as those of a graph that is being made do."""
    try:
        return getattr(value, name, _missing)
    except Exception:  # noqa: BLE001 - whatever a property of the user's raises
        return _missing


def _table_of(module: Any, name: str) -> str | None:
    """The table of a module in which a name is registered."""
    if not isinstance(module, nn.Module):
        return None
    return next((table for table in _TABLES if name in module.__dict__.get(table, ())), None)
