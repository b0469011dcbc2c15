"""The calls of `fully_shard` that sharded a model, read from it and made again for its student."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import nn

from ..base.loaded import dtensors, fsdp
from ..errors import GrowError
from ..model.sharded import is_dtensor, is_fsdp
from ..model.walk import named_modules
from ..plans.growth_plan import Plan


@dataclass(frozen=True, slots=True)
class Unit:
    """One call of `fully_shard`.

    Attributes:
        paths: Its modules; most calls have one.
        options: Its keyword arguments.
        dims: By the name of a parameter the dimension that is divided.
        ignored: The names of parameters that were left out.
        settings: What was set since, by the attribute of the group of its parameters that keeps it.
    """

    paths: tuple[str, ...]
    options: Mapping[str, Any]
    dims: Mapping[str, int]
    ignored: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


_SETTINGS = (  # of set_requires_gradient_sync, set_gradient_divide_factor and so on; not all are in each release
    *("reduce_grads", "all_reduce_grads", "reshard_after_backward", "gradient_divide_factor", "unshard_in_backward"),
    *("force_sum_reduction_for_comms", "unshard_async_op", "reduce_scatter_unused_params"),
)


def units_of(model: nn.Module) -> list[Unit]:
    """The calls, in an order in which they can be made again: inner modules first.

    Raises:
        GrowError: One divides parameters in several ways.
    """
    paths: dict[int, list[str]] = {}
    states: dict[int, Any] = {}
    for path, module in named_modules(model):
        if is_fsdp(module):
            state: Any = module._get_fsdp_state()  # type: ignore[operator]
            states[id(state)] = state
            paths.setdefault(id(state), []).append(path)
    ordered = sorted(paths, key=lambda key: -max(path.count(".") + bool(path) for path in paths[key]))
    ignored = [
        name
        for path, module in named_modules(model)
        for name in [f"{path}.{key}".lstrip(".") for key, p in module._parameters.items() if _is_left_out(p)]
    ]
    names = {id(module): path for path, module in named_modules(model)}
    units = [_unit(states[key], tuple(paths[key]), names, tuple(ignored)) for key in ordered]
    meshes = [unit.options["mesh"] for unit in units if "mesh" in unit.options]
    return [replace(unit, options={"mesh": meshes[0], **unit.options}) if meshes else unit for unit in units]


def _is_left_out(parameter: nn.Parameter | None) -> bool:
    return parameter is not None and not is_dtensor(parameter)


def _groups(state: Any) -> list[Any]:
    single = getattr(state, "_fsdp_param_group", None) if not hasattr(state, "_fsdp_param_groups") else None
    return [single] if single is not None else list(getattr(state, "_fsdp_param_groups", ()))


def _unit(state: Any, paths: tuple[str, ...], names: Mapping[int, str], ignored: tuple[str, ...]) -> Unit:
    groups = _groups(state)
    if not groups:  # all of its parameters are in inner modules, so it divides nothing
        return Unit(paths, {"mp_policy": state._mp_policy}, {}, ignored)
    if len(groups) > 1 or getattr(groups[0].mesh_info, "is_spmd_mesh", False):
        raise GrowError(f"{paths[0] or 'the model'} is divided over several meshes, which is not known to grow")
    group = groups[0]
    mesh, after = group.mesh_info, group.post_forward_mesh_info
    again: bool | int | None = after is not None
    if state._auto_reshard_after_forward:
        again = None
    elif after is not None and after is not mesh:
        again = int(after.shard_mesh_size)
    options = {
        "mesh": mesh.mesh,
        "reshard_after_forward": again,
        "mp_policy": group.mp_policy,
        "offload_policy": group.offload_policy,
    }
    dims = {}
    for one in group.fsdp_params:
        info = one._module_info
        dims[f"{names[id(info.module)]}.{info.param_name}".lstrip(".")] = int(one.fsdp_placement.dim)
    settings = {name: getattr(group, name) for name in _SETTINGS if hasattr(group, name)}
    return Unit(paths, options, dims, ignored, settings)


def shard_again(student: nn.Module, units: list[Unit], plan: Plan) -> None:
    """Shard a student as its teacher was, clones as the blocks that they are clones of.

    Raises:
        GrowError: torch refuses it; the message says why.
    """
    present, twins = {path for path, _ in named_modules(student)}, _clones(plan)
    for unit, named in _all(units, plan):
        paths = [path for path in map(named, unit.paths) if path in present]
        if not paths:  # a clone of a down-sampling block has no shortcut
            continue
        modules = [student.get_submodule(path) if path else student for path in paths]
        parameters = dict(student.named_parameters(remove_duplicate=False))
        left = {parameters[n] for name in unit.ignored for n in twins(name) if n in parameters}
        dims = {id(parameters[n]): d for name, d in unit.dims.items() for n in twins(name) if n in parameters and d}
        options = {**unit.options, **({"ignored_params": left} if left else {})}
        if dims:
            options["shard_placement_fn"] = _placement(dims)
        try:
            fsdp().fully_shard(modules if len(modules) > 1 else modules[0], **options)
        except (NotImplementedError, ValueError, AssertionError) as error:
            raise GrowError(f"the student cannot be sharded as its teacher was: {error}") from error
        state: Any = modules[0]._get_fsdp_state()  # type: ignore[operator]
        for group in _groups(state):
            for name, value in unit.settings.items():
                setattr(group, name, value)


def _clones(plan: Plan) -> Callable[[str], list[str]]:
    """The names in the student of a parameter and of those of clones that are made from it."""

    def names(name: str) -> list[str]:
        twins = [twin for change in plan.changes for twin in change.twins(name)]
        return [plan.numbering(one) for one in (name, *twins)]

    return names


def _placement(dims: Mapping[int, int]) -> Callable[[nn.Parameter], Any]:
    return lambda parameter: dtensors().Shard(dims[id(parameter)]) if id(parameter) in dims else None


def _all(units: list[Unit], plan: Plan) -> Iterator[tuple[Unit, Callable[[str], str]]]:
    """The calls for a student, with the names in it of modules and parameters; clones come right after their block."""
    clones = [change for change in plan.changes if change.original]
    for unit in units:
        yield unit, plan.numbering
        for change in clones:
            if all(f"{path}.".startswith(f"{change.original}.") for path in unit.paths):
                for twin in change.new_paths:
                    yield unit, partial(_of_clone, plan, change.original, twin)


def _of_clone(plan: Plan, block: str, twin: str, name: str) -> str:
    """The name of a clone's module or parameter, where that of its block has a name; others keep theirs."""
    return plan.numbering(f"{twin}{name.removeprefix(block)}" if f"{name}.".startswith(f"{block}.") else name)
