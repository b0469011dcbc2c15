"""The public functions that keep a student in a file: thin, with the work in `state`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import torch
from torch import nn
from torch.optim import Optimizer

from .api import reasons
from .base.scalars import as_int
from .base.wording import a_type
from .checkpoints.convert import convert
from .checkpoints.outline import stranger
from .errors import GrowError
from .model.copies import named_tensors, stored
from .model.example_inputs import ExampleInputs
from .model.sharded import is_sharded
from .plans.chain import chained
from .plans.growth_plan import Plan
from .rewrite.lineage import check_lineage, plan_of
from .state import files
from .state.contents import contents_of, read, written
from .state.optimizer import Optimizers, as_list, unwrapped
from .state.plain import PlainData
from .state.rebuild import rebuilt, restore

Model = TypeVar("Model", bound=nn.Module)
Made = TypeVar("Made", bound="Optimizers | None")


@dataclass(frozen=True)
class Loaded(Generic[Made]):
    """What `load` found in a file.

    Attributes:
        model: The student: a GraphModule, or a module of the user's own class.
        optimizer: What `optimizer` made, with the state that was saved; None where `load` was given none.
        plan: The chain of plans since the first teacher; None where the model was not grown.
        extra: What the user gave to `save` beside it.
    """

    model: nn.Module
    optimizer: Made
    plan: Plan | None
    extra: Mapping[str, Any]


def save(
    model: nn.Module, path: str | os.PathLike[str], *, optimizer: Optimizers | None = None, **extra: PlainData
) -> None:
    """Keep a student in one safetensors file, with all that training needs to go on. Nothing is pickled.

    The file is written under another name and then renamed, so that a run that ends in the middle leaves the last file
    as it was. The weights have their own names in it: other programs can read them, too.

    Args:
        model: A student, or a model that is to be grown later.
        path: The file. One that is there is replaced.
        optimizer: The optimizer that trains it, or a list of them.
        extra: More to keep, by names: the step, `schedule.state_dict()`, a generator's state. Numbers, text, None,
            lists, tuples, dicts and tensors.

    Returns:
        Nothing; the model and the optimizer are as before.

    Raises:
        GrowError: Something is no plain data, safetensors is not installed, or the file cannot be written. Or the model
            could not be made again: it wraps a student (give what it wraps), or was changed by hand since it was grown.

    Example:
        >>> import fxgrow, pathlib, tempfile, torch
        >>> build = lambda: torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> student = fxgrow.grow(build(), 1.5)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "student.safetensors")
        ...     fxgrow.save(student, path, step=100)
        ...     loaded = fxgrow.load(path, build)
        >>> loaded.model.get_submodule("0"), loaded.extra["step"]
        (Linear(in_features=4, out_features=12, bias=True), 100)
    """
    with reasons("save"):
        if not isinstance(model, nn.Module):
            raise GrowError(f"save takes a model, not {a_type(model)}")
        if is_sharded(model):
            raise GrowError(
                "each process has a part of the model: keep it with torch.distributed.checkpoint, and its plan with "
                "plan_of(model).to_json() (docs/scale.md)"
            )
        tensors = named_tensors(model)
        if any(tensor.is_meta for tensor in tensors.values()):
            raise GrowError("the model is on the meta device and has no weights to save")
        check_lineage(model)
        plan = plan_of(model)
        if plan is not None and (name := stranger(plan.steps[-1], {n: shape for n, shape, *_ in stored(model)})):
            raise GrowError(
                f"{name!r} of the student was changed by hand since it was grown, so its plans make another model; "
                "grow it once more, which begins a new chain, or keep its state_dict"
            )
        optimizers = [unwrapped(one) for one in as_list(optimizer)]
        more, text = written(contents_of(model, plan, optimizers, extra))
        files.write(_path(path), tensors, more, text)


def load(
    path: str | os.PathLike[str],
    factory: Callable[[], nn.Module],
    *,
    optimizer: Callable[[nn.Module], Made] | None = None,
    device: str | torch.device = "cpu",
    example_inputs: ExampleInputs | None = None,
) -> Loaded[Made]:
    """The student that `save` kept.

    Its architecture is made by the plans in the file, on the meta device, and then takes the tensors as they are.

    Args:
        path: The file. It may come from anyone: it runs no code and is checked before it is used.
        factory: Makes a model like the first teacher, before any growth; its weights do not count.
        optimizer: Makes an optimizer for the student, or a list of them, as it was made before; its state is restored.
        device: Where the tensors go.
        example_inputs: Of the first teacher, with numbers: for a model whose code decides by numbers in tensors, which
            the shapes in the file do not tell.

    Returns:
        The student as `model`, with its `plan`, the `optimizer` that was made, and the user's `extra`.

    Raises:
        GrowError: It is no such file, or the factory makes another model than the one that was grown.

    Example:
        >>> import fxgrow, pathlib, tempfile, torch
        >>> build = lambda: torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> adam = lambda model: torch.optim.Adam(model.parameters(), 1e-3)
        >>> teacher = build()
        >>> optimizer = adam(teacher)
        >>> student = fxgrow.grow(teacher, 1.5, optimizer=optimizer)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "student.safetensors")
        ...     fxgrow.save(student, path, optimizer=optimizer)
        ...     loaded = fxgrow.load(path, build, optimizer=adam)
        >>> len(loaded.optimizer.param_groups[0]["params"])
        4
    """
    with reasons("load"):
        if optimizer is not None and (isinstance(optimizer, Optimizer) or not callable(optimizer)):
            raise GrowError(
                f"optimizer is to be a function that makes one for the loaded model, not {a_type(optimizer)}: "
                "lambda model: torch.optim.Adam(model.parameters())"
            )
        try:
            place = torch.device(device)
            place = torch.device("cpu") if place.type == "cpu" else place  # safetensors knows no "cpu:0"
        except (RuntimeError, TypeError) as error:
            raise GrowError(f"device is to be a device of torch, not {device!r:.60}") from error
        tensors, text = files.read(_path(path), place)
        contents = read(tensors, text)
        model = rebuilt(_first(factory), contents, tensors, example_inputs)
        made = None if optimizer is None else optimizer(model)
        optimizers = as_list(made)
        if optimizer is not None and len(optimizers) != len(contents.optimizers):
            raise GrowError(f"the file has {len(contents.optimizers)} optimizers, and {len(optimizers)} were made")
        for one, saved in zip(optimizers, contents.optimizers, strict=False):
            restore(unwrapped(one), saved, model)
        return Loaded(model, cast("Made", made), contents.plan, contents.extra)


def _first(factory: Callable[[], nn.Module]) -> nn.Module:
    """The model that a factory makes.

    Raises:
        GrowError: It is no function, or makes something else.
    """
    if isinstance(factory, nn.Module) or not callable(factory):
        raise GrowError(
            f"factory is to be a function that makes a model like the first teacher, not {a_type(factory)}: "
            "lambda: Net(...)"
        )
    first = factory()
    if not isinstance(first, nn.Module):
        raise GrowError(f"the factory is to make a model, and made {a_type(first)}")
    return first


def grow_checkpoint(
    plan: Plan | Sequence[Plan],
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    groups: Sequence[Sequence[str]] | None = None,
    threads: int = 1,
    progress: bool | None = None,
) -> None:
    """Grow a checkpoint file to file, without the model and without holding it in memory.

    The target has the bits of `apply(plan, model).state_dict()`. It is made under another name, block by block in the
    place where each tensor lies, and renamed when it is whole: a run that ends in the middle leaves no target, or the
    one that was there. A chain of plans needs the place of one more checkpoint on the disk.

    Args:
        plan: A plan, or several, each for the student of the one before it.
        source: The teacher's `.safetensors` file, or the `.safetensors.index.json` of several.
        target: The student's, of the same kind. An index stands in another folder than the source's; its files have
            the names of the source's.
        groups: The names of the parameters in each group of an optimizer in a file of `torch.save`. Needed where it has
            several groups and was not made of `model.named_parameters()`.
        threads: How many make blocks beside each other; the bits do not depend on it.
        progress: As for `fxgrow.grow`.

    Returns:
        Nothing; the source is as before.

    Raises:
        GrowError: A file is not there, is cut off, cannot be written, or is the other one; the disk is full; tensors
            that the model ties differ; or safetensors is not installed.
        PlanError: The source is no checkpoint of the plan's teacher: a tensor is missing, or has another shape or
            dtype. Nothing was written.

    Example:
        >>> import fxgrow, pathlib, tempfile, torch
        >>> from safetensors.torch import load_file, save_file
        >>> teacher = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> plan = fxgrow.plan(fxgrow.widths(teacher), 1.5)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     teachers, students = (str(pathlib.Path(folder, f"{name}.safetensors")) for name in ("small", "large"))
        ...     save_file(teacher.state_dict(), teachers)
        ...     fxgrow.grow_checkpoint(plan, teachers, students)
        ...     large = load_file(students)
        >>> large["2.weight"].shape
        torch.Size([2, 12])
    """
    with reasons("grow_checkpoint", progress):
        number = as_int(threads)
        if number is None or number < 1:
            raise GrowError(f"threads is a number of threads, 1 or more, not {threads!r:.60}")
        if groups is not None and not (_is_list(groups) and all(map(_is_list, groups))):
            raise GrowError(f"groups is a list with the names of each group, not {groups!r:.60}")
        with torch.device("cpu"):  # not the default device: files hold what lies in memory
            convert(chained(plan), _path(source), _path(target), number, groups)


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _path(path: object) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise GrowError(f"path is to be the name of a file, not {a_type(path)}")
    return Path(path)
