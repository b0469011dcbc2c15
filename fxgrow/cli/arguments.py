"""What words on a command line stand for: a model, its inputs, a specification, a plan, a checkpoint."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from ..errors import GrowError
from ..methods.registry import offered
from ..model.example_inputs import ModelInputs
from ..plans.growth_plan import Plan, example_of
from ..spec.parse import Widen, parse
from ..spec.requests import Request

SAFETENSORS = ".safetensors"
WRAPPERS = ("module.", "_orig_mod.")

MOST_NUMBERS = 10**9  # in an input; what is above was meant otherwise

_INPUT = re.compile(r"(?:(?P<name>[^=:]+)=)?(?:(?P<dtype>[a-z]\w*):)?(?P<shape>\d+(?:,\d+)*)(?::(?P<below>\d+))?")


class UsageError(Exception):
    """The words, or a file that they name, are not what a command takes; that shows without asking the network.

    What the network does not allow is a `GrowError`.
    """


@contextlib.contextmanager
def understood(what: str) -> Iterator[None]:
    """Words that the package reads: what it does not take of them is wrong usage."""
    try:
        yield
    except (ValueError, RecursionError) as error:  # a GrowError is a ValueError
        raise UsageError(f"{what}: {error}") from error


@contextlib.contextmanager
def _reported(what: str) -> Iterator[None]:
    """Code of others that fails, or exits: says so in a line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        text = str(error).strip().partition("\n")[0]  # torch puts advice and stacks of C++ into further lines
        raise UsageError(f"{what}: {type(error).__name__}{f': {text}' if text else ''}") from error


# -- models ------------------------------------------------------------------------------------------


def model_of(reference: str, kwargs: str | None = None) -> nn.Module:
    """The model that `package.module:factory` or `path/to/file.py:factory` gives.

    Args:
        reference: The part after the colon names a module, or what gives one when it is called: a function, a class.
        kwargs: The arguments of the call, as a JSON object.

    Raises:
        UsageError: There is no such thing, or it gives no module, or fails.
    """
    where, _, path = reference.rpartition(":")
    if not where or not path:
        raise UsageError(
            f"{reference!r} names no model; expected MODULE:FACTORY, such as torchvision.models:resnet18 or net.py:Net"
        )
    found: Any = _imported(where)
    for step in path.split("."):
        if not hasattr(found, step):
            raise UsageError(f"{where} has no {path!r}")
        found = getattr(found, step)
    given = _json_object("--kwargs", kwargs) if kwargs is not None else {}
    if isinstance(found, nn.Module):
        if given:
            raise UsageError(f"{reference} is a module already, and takes no --kwargs")
        return found
    if not callable(found):
        raise UsageError(f"{reference} is a {type(found).__name__}; expected a module or what gives one")
    torch.manual_seed(0)  # the same weights each time
    with _reported(f"{reference} failed"):
        found = found(**given)
    if not isinstance(found, nn.Module):
        raise UsageError(f"{reference} gives a {type(found).__name__}; expected a torch.nn.Module")
    return found


def _imported(where: str) -> ModuleType:
    if not where.endswith(".py"):
        _search(Path.cwd())
        with _reported(f"cannot import {where!r}"):
            return importlib.import_module(where)
    path = Path(where)
    if not path.is_file():
        raise UsageError(f"there is no file {where}")
    _search(path.resolve().parent)
    name = path.stem if path.stem.isidentifier() and path.stem not in sys.modules else f"_fxgrow_{abs(hash(path))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"cannot import {where}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look there for the module of a class
    with _reported(f"cannot import {where}"):
        spec.loader.exec_module(module)
    return module


def _search(folder: Path) -> None:
    """Let imports find what lies in a folder, as they do for a script that lies there."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _json_object(option: str, text: str) -> dict[str, Any]:
    with understood(f"{option} {text!r} is not JSON"):
        found = json.loads(text)
    if not isinstance(found, dict):
        raise UsageError(f"""{option} is a JSON object, such as '{{"width": 8}}', not {text!r}""")
    return found


# -- inputs ------------------------------------------------------------------------------------------


def inputs_of(words: Sequence[str], model: nn.Module) -> tuple[Tensor, ...] | dict[str, Tensor] | None:
    """Random tensors as `[NAME=][DTYPE:]SHAPE[:BELOW]` says, the same each time; None where no words are given.

    Args:
        words: `1,3,224,224`; `int64:1,16:1000`, integers below 1000 (without it zeros and ones); `mask=bool:1,16`,
            by the name of the argument.
        model: Says the dtype where none is given.

    Raises:
        UsageError: They say something else, or only some have names.
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
        UsageError: The plan could not hold them.
    """
    example = example_of(plan, model.parameters())
    if example is None:
        raise UsageError("the plan does not tell its inputs: give --input")
    draws = torch.Generator().manual_seed(0)
    args, kwargs = tree_map_only(
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
    with _reported(f"--input {word!r}: cannot draw {str(kind).removeprefix('torch.')}"):
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
    """What a specification asks for: the word itself as JSON, or what the file of that name holds.

    Raises:
        UsageError: It is neither, or asks for nothing, or for what no network allows.
    """
    with understood("--spec"):
        requests = parse(text_of(word) if not word.lstrip().startswith(("{", "[")) and _is_file(word) else word)
        for request in requests:
            if isinstance(request, Widen) and request.method is not None:
                offered(request.method)
        return requests


def _is_file(word: str) -> bool:
    return word.endswith(".json") or Path(word).is_file()


def text_of(path: str) -> str:
    """What a text file holds.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from None


def plan_of_file(path: str) -> Plan:
    """The plan that a file holds.

    Raises:
        UsageError: It cannot be read, or holds no plan.
    """
    with understood(path):
        return Plan.from_json(text_of(path))


def load(path: str, model: nn.Module) -> nn.Module:
    """Put a checkpoint into a model, in the checkpoint's floating dtype where it has one, and give the model.

    Args:
        path: A `.safetensors` file, or one that `torch.save` wrote, with a `state_dict` in it, or a dict that has it
            under "state_dict" or "model".
        model: Is changed.

    Raises:
        UsageError: There is no such file, or it is no checkpoint.
        GrowError: It is one of another model.
    """
    found = _read(path)
    if not set(found) & set(model.state_dict()):
        found = _unwrapped(found)
    theirs, ours = ({t.dtype for t in some.values() if t.is_floating_point()} for some in (found, model.state_dict()))
    if len(theirs) == 1 and theirs != ours:
        model.to(next(iter(theirs)))
    try:
        model.load_state_dict(found)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:4]]
        raise GrowError(f"{path} is no checkpoint of {type(model).__name__}: {' '.join(lines)}") from error
    return model


def _read(path: str) -> Mapping[str, Tensor]:
    if not Path(path).is_file():
        raise UsageError(f"there is no file {path}")
    if path.endswith(SAFETENSORS):
        read = _safetensors("load_file")
        with _reported(f"safetensors reads no weights from {path}"):
            found: Any = read(path)
        return dict(found)
    with _reported(f"torch.load reads no weights from {path}"):
        found = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in found.items()
    ):
        raise UsageError(f"{path} holds no state_dict")
    return found


def _unwrapped(found: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The names of a checkpoint without what a wrapper (DistributedDataParallel, torch.compile) puts before each."""
    for prefix in WRAPPERS:
        if found and all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found


def save(model: nn.Module, path: str) -> None:
    """Write a model's `state_dict` as the name of the file says: `.safetensors`, or with `torch.save`.

    Raises:
        UsageError: It cannot be written, or safetensors is not installed.
    """
    tensors = model.state_dict()
    write: Callable[[Any, str], Any] = torch.save
    if path.endswith(SAFETENSORS):  # which takes no two names for one memory
        write = _safetensors("save_file")
        tensors = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    with _reported(f"cannot write {path}"):
        write(tensors, path)


def _safetensors(function: str) -> Callable[..., Any]:
    if importlib.util.find_spec("safetensors") is None:
        raise UsageError(f"{SAFETENSORS} files need safetensors: pip install fxgrow[cli], or use a .pt file")
    found: Callable[..., Any] = getattr(importlib.import_module("safetensors.torch"), function)
    return found
