"""Small mistakes in Python source: each mutation of a function is its code object with one change."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

Swap = dict[type[ast.AST], type[ast.AST]]

COMPARISONS: Swap = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: Swap = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
CALLS = {"any": "all", "all": "any", "min": "max", "max": "min"}
MESSAGES = ("Error", "Unfit", "Warning")  # what is raised or warned: its words are no behaviour of the engine
UNTOUCHED = ("__repr__", "__str__")


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change of one function.

    Attributes:
        path: The file.
        function: The qualified name of the outermost function, as in its code object.
        first: The line where that function starts, with its decorators.
        line: The line of the change.
        last: The last line of the changed expression or statement.
        change: What was changed to what.
        number: Which of the function's changes it is.
    """

    path: Path
    function: str
    first: int
    line: int
    last: int
    change: str
    number: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.function}: {self.change} ({self.number})"

    def code(self) -> CodeType:
        """The code object of the changed function."""
        tree = ast.parse(self.path.read_text())
        for name, function in _functions(tree):
            if (name, _first(function)) == (self.function, self.first):
                for number, _ in enumerate(_changes(function)):
                    if number == self.number:
                        return _code_of(compile(ast.fix_missing_locations(tree), str(self.path), "exec"), self)
        raise LookupError(f"{self} is not in the file")


def mutations(path: Path) -> Iterator[Mutation]:
    """Every mutation of a file's functions and methods."""
    for name, function in _functions(ast.parse(path.read_text())):
        made = [(node.lineno, node.end_lineno or node.lineno, change) for node, change in _changes(function)]
        for number, (line, last, change) in enumerate(made):
            yield Mutation(path, name, _first(function), line, last, change, number)


def _first(function: ast.FunctionDef) -> int:
    return min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """The functions of a module and the methods of its classes; what is nested in them belongs to them."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        if isinstance(node, ast.ClassDef) and "nn.Module" not in map(ast.unparse, node.bases):  # samples of rules
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and member.name not in UNTOUCHED:
                    yield f"{node.name}.{member.name}", member


def _code_of(module: CodeType, mutation: Mutation) -> CodeType:
    pending = [module]
    while pending:
        code = pending.pop()
        if (code.co_qualname, code.co_firstlineno) == (mutation.function, mutation.first):
            return code
        pending += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    raise LookupError(f"no code of {mutation}")


def _changes(function: ast.FunctionDef) -> Iterator[tuple[ast.stmt | ast.expr, str]]:
    """Make each change to a function in turn, yield where and what, and undo it.

    Types, documentation, default values and words that people read stay, and so does what only Python checks (`strict`
    of `zip`): no test can tell.
    """
    for owner, field, index, node in _places(function.body, function, "body"):
        for changed, said in _variants(node):
            _put(owner, field, index, ast.copy_location(changed, node))
            yield node, said
            _put(owner, field, index, node)


def _put(owner: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(owner, field, node)
    else:
        getattr(owner, field)[index] = node


def _places(
    value: object, owner: ast.AST, field: str
) -> Iterator[tuple[ast.AST, str, int | None, ast.stmt | ast.expr]]:
    """Where statements and expressions stand: the node that holds them, the field, and the position in a list."""
    entries = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
    for index, node in entries:
        if not isinstance(node, ast.AST) or _is_untouched(node):
            continue
        if isinstance(node, ast.stmt | ast.expr):
            yield owner, field, index, node
        for name, inner in ast.iter_fields(node):
            if name not in ("annotation", "returns", "decorator_list", "type_comment", "defaults", "kw_defaults"):
                yield from _places(inner, node, name)


def _is_untouched(node: ast.AST) -> bool:
    documentation = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    words = isinstance(node, ast.JoinedStr)
    raised = isinstance(node, ast.Call) and ast.unparse(node.func).endswith(MESSAGES)
    checked = isinstance(node, ast.keyword) and node.arg == "strict"
    said = isinstance(node, ast.IfExp) and _is_text(node.body) and _is_text(node.orelse)
    return documentation or words or raised or checked or said


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _variants(node: ast.stmt | ast.expr) -> Iterator[tuple[ast.stmt | ast.expr, str]]:
    """What a node can be changed to, and the change in words."""
    for changed in _changed(node):
        yield changed, f"{_short(node)} -> {_short(changed)}"


def _short(node: ast.AST) -> str:
    first = ast.unparse(node).partition("\n")[0]
    return first if len(first) <= 70 else f"{first[:67]}..."


def _changed(node: ast.stmt | ast.expr) -> Iterator[ast.stmt | ast.expr]:
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in COMPARISONS:
            yield _with(node, ops=[COMPARISONS[type(operator)]()])
        case ast.BoolOp(op=operator):
            yield _with(node, op=ast.Or() if isinstance(operator, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.BinOp(op=operator) if type(operator) in ARITHMETIC:
            yield _with(node, op=ARITHMETIC[type(operator)]())
        case ast.Constant(value=bool() as value):
            yield _with(node, value=not value)
        case ast.Constant(value=int() | float() as value):
            yield _with(node, value=value + 1)
        case ast.Call(func=ast.Name(id=name)) if name in CALLS:
            yield _with(node, func=ast.Name(CALLS[name], ast.Load()))
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield _with(node, test=test, body=orelse, orelse=body)
        case ast.If(test=test) | ast.While(test=test):
            yield _with(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.Continue():
            yield ast.Break()
        case ast.Break():
            yield ast.Continue()
        case ast.Expr(value=ast.Call()) | ast.AugAssign():
            yield ast.Pass()
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield ast.Return(ast.Constant(None))


def _with(node: ast.stmt | ast.expr, **fields: object) -> ast.stmt | ast.expr:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed
