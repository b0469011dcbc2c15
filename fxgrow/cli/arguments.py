"""Command-line arguments as objects: a model, its inputs, a specification, a plan."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import json
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ..base.file_kinds import PLAN, other_kind
from ..base.torch_private import pytree
from ..base.wording import a_type
from ..methods.registry import offered
from ..model.example_inputs import ModelInputs
from ..plans.examples import example_of
from ..plans.growth_plan import Plan
from ..spec.budget import Budget
from ..spec.parse import Widen, parse
from ..spec.requests import Request
from .usage import UsageError, reported, understood

MOST_NUMBERS = 10**9  # in an input; more is taken for a mistake

_INPUT = re.compile(r"(?:(?P<name>[^=:]+)=)?(?:(?P<dtype>[a-z]\w*):)?(?P<shape>\d+(?:,\d+)*)(?::(?P<below>\d+))?")


# -- models ------------------------------------------------------------------------------------------


def model_of(reference: str, kwargs: str | None = None) -> nn.Module:
    """The model that `package.module:factory` or `path/to/file.py:factory` names.

    Args:
        reference: The part after the colon names a module, or a class or function that returns one.
        kwargs: The arguments of the call, as a JSON object.

    Raises:
        UsageError: It cannot be imported, or fails, or returns no module.
    """
    where, _, path = reference.rpartition(":")
    if not where or not path:
        raise UsageError(
            f"{reference!r} names no model; expected MODULE:FACTORY, such as torchvision.models:resnet18 or net.py:Net"
        )
    factory: Any = _imported(where)
    for step in path.split("."):
        if not hasattr(factory, step):
            close = difflib.get_close_matches(step, dir(factory), 3)
            raise UsageError(f"{where} has no {path!r}{'; close: ' if close else ''}{', '.join(close)}")
        factory = getattr(factory, step)
    arguments = _json_object("--kwargs", kwargs) if kwargs is not None else {}
    if isinstance(factory, nn.Module):
        if arguments:
            raise UsageError(f"{reference} is a module already, and takes no --kwargs")
        return factory
    if not callable(factory):
        raise UsageError(f"{reference} is {a_type(factory)}; expected a module, or a callable that returns one")
    torch.manual_seed(0)  # the same weights each time
    with reported(f"{reference} failed"):
        model = factory(**arguments)
    if not isinstance(model, nn.Module):
        raise UsageError(f"{reference} returns {a_type(model)}; expected a torch.nn.Module")
    return model


def _imported(where: str) -> ModuleType:
    if not where.endswith(".py"):
        _search(Path.cwd())
        with reported(f"cannot import {where!r}"):
            return importlib.import_module(where)
    path = Path(where)
    if not path.is_file():
        raise UsageError(f"there is no file {where}")
    _search(path.resolve().parent)
    name = path.stem if path.stem.isidentifier() and path.stem not in sys.modules else _own_name(path.resolve())
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"cannot import {where}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look there for the module of a class
    with reported(f"cannot import {where}"):
        spec.loader.exec_module(module)
    return module


def _own_name(file: Path) -> str:
    """A name for the module of a file whose own is none or is taken, the same in each process: files may hold it."""
    return f"_fxgrow_{hashlib.sha256(str(file).encode()).hexdigest()[:16]}"


def _search(folder: Path) -> None:
    """Put a folder on the import path, as Python does with the folder of a script."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _json_object(option: str, text: str) -> dict[str, Any]:
    with understood(f"{option} {text!r} is not JSON"):
        value = json.loads(text)
    if not isinstance(value, dict):
        raise UsageError(f"""{option} is a JSON object, such as '{{"width": 8}}', not {text!r}""")
    return value


# -- inputs ------------------------------------------------------------------------------------------


def inputs_of(words: Sequence[str], model: nn.Module) -> tuple[Tensor, ...] | dict[str, Tensor] | None:
    """Random tensors for `--input [NAME=][DTYPE:]SHAPE[:BELOW]`, the same each time; None for no words.

    Args:
        words: `1,3,224,224`; `int64:1,16:1000`, integers below 1000 (without it zeros and ones); `mask=bool:1,16`,
            an argument by name.
        model: Its dtype is used where a word has none.

    Raises:
        UsageError: A word is no input, or only some have names.
    """
    if not words:
        return None
    draws = torch.Generator().manual_seed(0)
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
    made = [_input(word, dtype, draws) for word in words]
    names = [name for name, _ in made if name]
    if names and len(names) < len(made):
        raise UsageError("give all inputs with names (x=1,3,224,224), or none of them")
    return dict(made) if names else tuple(tensor for _, tensor in made)


def inputs_as_planned(plan: Plan, model: nn.Module) -> ModelInputs:
    """Random inputs of the shapes that a plan was made with, the same each time.

    Raises:
        UsageError: The plan does not hold its inputs.
    """
    example = example_of(plan, model.parameters())
    if example is None:
        raise UsageError("the plan does not hold its inputs: give --input")
    draws = torch.Generator().manual_seed(0)
    args, kwargs = pytree.tree_map_only(
        Tensor, lambda t: _random(t.shape, t.dtype, draws), (example.args, dict(example.kwargs))
    )
    return ModelInputs(args, kwargs)


def _input(word: str, dtype: torch.dtype, draws: torch.Generator) -> tuple[str, Tensor]:
    said = _INPUT.fullmatch(word)
    kind = getattr(torch, said["dtype"], None) if said and said["dtype"] else dtype
    if said is None or not isinstance(kind, torch.dtype):
        raise UsageError(f"--input {word!r}: expected a shape, such as 1,3,224,224, int64:1,16 or mask=bool:1,16")
    with understood(f"--input {word!r}"):  # Python reads no number of more than 4300 digits
        shape, below = [int(size) for size in said["shape"].split(",")], int(said["below"] or 2)
    if min(shape) < 1 or math.prod(shape) > MOST_NUMBERS:
        raise UsageError(f"--input {word!r}: sizes are at least 1, and an input has at most {MOST_NUMBERS:,} numbers")
    if said["below"] and not 1 <= below <= _most(kind):
        raise UsageError(f"--input {word!r}: the last number, below which integers are drawn, is {_bounds(kind)}")
    with reported(f"--input {word!r}: cannot draw {str(kind).removeprefix('torch.')}"):
        return said["name"] or "", _random(shape, kind, draws, below)


def _most(dtype: torch.dtype) -> int:
    """The number below which all integers of a dtype are, as far as torch draws them; 0 where it has none."""
    if dtype.is_floating_point or dtype.is_complex:
        return 0
    return 2 if dtype is torch.bool else min(torch.iinfo(dtype).max + 1, torch.iinfo(torch.int64).max)


def _bounds(dtype: torch.dtype) -> str:
    return f"1 to {_most(dtype)}" if _most(dtype) else "for integers only"


def _random(shape: Sequence[int], dtype: torch.dtype, draws: torch.Generator, below: int = 2) -> Tensor:
    if not dtype.is_floating_point and not dtype.is_complex:
        return torch.randint(below, tuple(shape), generator=draws).to(dtype)
    kind = torch.complex64 if dtype.is_complex else torch.float32
    return torch.randn(tuple(shape), generator=draws, dtype=kind).to(dtype)


# -- files -------------------------------------------------------------------------------------------


def spec_of(word: str) -> tuple[Widen | Request, ...]:
    """The requests of a specification: the word as JSON, or the contents of the file that it names.

    Raises:
        UsageError: It is neither, or holds no request, or one that is invalid for every model.
    """
    with understood("--spec"):
        requests = parse(text_of(word) if not word.lstrip().startswith(("{", "[")) and _is_file(word) else word)
        for request in requests:
            if isinstance(request, Widen) and request.method is not None:
                offered(request.method)
        return requests


def budget_of(parameters: str | None, flops: str | None, multiple_of: int | None) -> tuple[Budget, ...]:
    """The budget of `--parameters` or `--flops`; none where neither is given.

    Raises:
        UsageError: Both are given, or --multiple-of alone, or one is no number.
    """
    if parameters is None and flops is None:
        if multiple_of is not None:
            raise UsageError("--multiple-of goes with --parameters or --flops; a --spec has its own: multiple_of")
        return ()
    words = {"parameters": parameters, "flops": flops}
    given = [None if word is None else _number(name, word) for name, word in words.items()]
    with understood("--parameters and --flops"):
        return (Budget(given[0], given[1], multiple_of=1 if multiple_of is None else multiple_of),)


def _number(name: str, word: str) -> int | float:
    """An int for digits alone, which is a number; else a float, which may be a factor."""
    with understood(f"--{name} {word!r}: expected 2.0 (a factor), 20000000 or 500e6"):
        return int(word) if word.isdigit() else float(word)


def method_of(word: str) -> str:
    """The name of a method, after the model's file was loaded, which may register some.

    Raises:
        UsageError: No method that users can request has the name.
    """
    with understood("--method"):
        return offered(word).name


def _is_file(word: str) -> bool:
    return word.endswith(".json") or Path(word).is_file()


def text_of(path: str) -> str:
    """The contents of a text file.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from None


def plan_of_file(path: str) -> Plan:
    """The plan in a file.

    Raises:
        UsageError: It cannot be read, or holds no plan.
    """
    if other := other_kind(path, PLAN):
        raise UsageError(f"no plan in {path}{other}")
    with understood(path):
        return Plan.from_json(text_of(path))
