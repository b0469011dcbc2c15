"""`int(...)` and `float(...)` of sizes, which Python does not hand to a proxy: it wants a plain number from them.

`int(windows.shape[0] / (H * W / 16))` would tie a graph to the example's batch. So where a trace meets such code, the
model is traced again while the names mean something else in the modules of that code, as FX does with `len`. A number
that is more than the size of something, such as a divisor, stays the plain one that it is for Python: a student keeps
it, whatever width it was. Nothing is replaced where a module uses such a name for more than calls and tests of types.
"""

from __future__ import annotations

import ast
import functools
import operator
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

from torch import fx

from ..base.replacing import Target
from ..base.structures import leaf_tensors
from ..model.provenance import NOT_THEIRS
from .origins import VALUE, depends_on_numbers
from .proxy import MetaProxy, guard
from .source_files import parsed, source_of

_TESTS = ("isinstance", "issubclass")
_SIZED = frozenset((  # functions and methods whose results have a number of theirs as a size, a place or a part of it
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "adaptive_max_pool3d", "arange", "broadcast_to", "chunk", "empty", "expand", "eye", "fold", "full", "getitem",
    "interpolate", "linspace", "narrow", "new_empty", "new_full", "new_ones", "new_zeros", "ones", "pad", "rand",
    "randn", "repeat", "repeat_interleave", "reshape", "roll", "select", "setitem", "split", "split_with_sizes",
    "tensor_split", "tile", "tril", "triu", "unflatten", "unfold", "upsample", "view", "zeros",
))  # fmt: skip

Place = tuple[CodeType, int]  # a call in the user's code: its instruction


def _whole(size: MetaProxy) -> Any:
    value = size.node.meta[VALUE]
    return size if isinstance(value, int) and not isinstance(value, bool) else size.__trunc__()


def _real(size: MetaProxy) -> Any:
    if isinstance(size.node.meta[VALUE], float):
        return size
    return size.tracer.create_proxy("call_function", operator.truediv, (size, 1), {})


class _Kind(type):
    """The type of what stands for `int` and `float`: it answers for them."""

    plain: type
    convert: Callable[[MetaProxy], Any]

    def __call__(cls, *values: Any, **more: Any) -> Any:
        size = values[0] if len(values) == 1 and not more and type(values[0]) is MetaProxy else None
        if size is not None and isinstance(size.node.meta[VALUE], int | float) and not depends_on_numbers(size.node):
            frame = sys._getframe(1)
            tracer: Any = size.tracer
            return tracer.conversions.converted(cls, size, (frame.f_code, frame.f_lasti))
        return cls.plain(*values, **more)

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, cls.plain)

    def __subclasscheck__(cls, kind: type) -> bool:
        return issubclass(kind, cls.plain)

    def __getattr__(cls, name: str) -> Any:
        return getattr(cls.plain, name)


class _Int(metaclass=_Kind):
    plain, convert = int, staticmethod(_whole)


class _Float(metaclass=_Kind):
    plain, convert = float, staticmethod(_real)


_STAND_INS: dict[str, _Kind] = {"int": _Int, "float": _Float}


class Conversions:
    """Where the user's code converts sizes, over all attempts to trace a model in one mode with the same leaves."""

    def __init__(self) -> None:
        self._replaced: dict[tuple[str, str], ModuleType | None] = {}  # (module, name): where it is another one
        self._left: set[Place] = set()  # calls that give plain numbers
        self._made: dict[Place, list[fx.Node]] = {}  # what the others gave in the last attempt
        self._changed = False

    def asked(self, name: str, frame: FrameType) -> None:
        """Python was asked for a plain number of this kind, by that frame."""
        module = str(frame.f_globals.get("__name__"))
        if (module, name) in self._replaced or frame.f_code.co_filename.startswith(NOT_THEIRS):
            return
        held = sys.modules.get(module)
        fits = held is not None and vars(held) is frame.f_globals and _may_be_replaced(held, name)
        self._replaced[module, name] = held if fits else None
        self._changed |= fits

    def converted(self, kind: _Kind, size: MetaProxy, place: Place) -> Any:
        """What a call gives there."""
        if place in self._left:
            return kind.plain(size)
        made = kind.convert(size)
        self._made.setdefault(place, []).append(made.node)
        return made

    def differ(self) -> bool:
        """Whether another attempt would be traced otherwise than the last one."""
        for place, nodes in self._made.items():
            if not all(map(_is_size, nodes)):
                self._left.add(place)
                self._changed = True
        changed, self._changed, self._made = self._changed, False, {}
        return changed

    def targets(self) -> Iterator[Target]:
        """What to replace."""
        for (_, name), module in self._replaced.items():
            if module is not None:
                yield module, name, _STAND_INS[name]


def _is_size(node: fx.Node) -> bool:
    """Whether tensors are made of a number only as their sizes, and of what follows from it."""
    pending, seen = [node], {node}
    while pending:
        for user in pending.pop().users:
            if user in seen or user.target is guard or user.op == "output":
                continue
            seen.add(user)
            if user.op != "call_module" and not leaf_tensors(user.meta[VALUE]):
                pending.append(user)
            elif getattr(user.target, "__name__", user.target) not in _SIZED:
                return False
    return True


def _may_be_replaced(module: ModuleType, name: str) -> bool:
    """Whether all code of a module means Python's own by a name, and calls it or tests types by it."""
    if name in vars(module):
        return False
    sources = _sources(module)
    return bool(sources) and all(_is_plain(source, name) for source in sources)


def _sources(module: ModuleType) -> list[str]:
    """The text of each file that functions of a module are from: cells of a notebook are several."""
    held = [value for value in list(vars(module).values()) if getattr(value, "__module__", None) == module.__name__]
    made = [list(vars(kind).values()) for kind in held if isinstance(kind, type)]
    functions = [one for group in (held, *made) for one in group if isinstance(one, FunctionType)]
    codes = {function.__code__.co_filename: function.__code__ for function in functions}
    return [source_of(code) for code in codes.values()]


@functools.lru_cache(maxsize=64)
def _is_plain(source: str, name: str) -> bool:
    """Whether a file uses a name for calls, in tests of types and as an annotation only, and somewhere for a call."""
    tree = parsed(source)
    if tree is None:
        return False
    tests: set[ast.AST] = set()
    calls: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == name:
                calls.add(node.func)
            elif node.func.id in _TESTS:
                tests.update(inner for argument in node.args[1:] for inner in ast.walk(argument))
        else:
            types = (getattr(node, "annotation", None), getattr(node, "returns", None))
            tests.update(inner for annotation in types if annotation is not None for inner in ast.walk(annotation))
    uses = {node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == name}
    return bool(uses & calls) and uses <= calls | tests
