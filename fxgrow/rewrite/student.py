"""Plan and model to student: new tensors, literals, attributes and layers, on a copy. Names no operator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..capture.attribute_ints import attribute_ints_in, plain
from ..capture.retracer import Retracer
from ..capture.traced import Traced
from ..depth.calibrate import calibrate
from ..depth.insert import make
from ..errors import PlanError
from ..infer.literals import argument
from ..model.copies import named_tensors, replace_tensors
from ..model.grown import GrownModule, Mode, module_at
from ..model.opaque import OPAQUE_MODEL
from ..plans.changes import Insert
from ..plans.entries import DROP, Edit, Resize, TensorPlan
from ..plans.growth_plan import Plan
from .fill import Filling

Make = Callable[[str, Tensor], Tensor]  # (name, the teacher's tensor) -> the student's, as plain data


def grown_tensors(plan: Plan, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The student's parameters and buffers, from the teacher's.

    Raises:
        PlanError: A tensor that the plan names is missing or has another shape.
    """
    check_tensors(plan, tensors)
    planned = {t.name: t for t in plan.tensors}
    biased = {t.name.rpartition(".")[0] for t in plan.tensors if t.name.endswith("weight") and "contract" in t.roles}
    fill = Filling(plan)
    grown: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        found = planned.get(name)
        if found is None:
            data = tensor.detach().clone()
        else:
            module, _, last = name.rpartition(".")
            data = fill(found, tensor, is_bias=last == "bias" and module in biased)
        grown[name] = nn.Parameter(data, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else data
        grown[name].__dict__.update(tensor.__dict__)  # marks that users put on parameters
    return grown


def check_tensors(plan: Plan, tensors: Mapping[str, Tensor]) -> None:
    """Whether a model has the parameters that a plan was made for.

    Raises:
        PlanError: One is missing, or has another shape.
    """
    missing = sorted({t.name for t in plan.tensors} - set(tensors))
    if missing:
        raise PlanError(f"the plan was made for {plan.model}, whose {missing[0]!r} this model does not have")
    for found in plan.tensors:
        _check_shape(plan, found, tensors[found.name])


def _check_shape(plan: Plan, found: TensorPlan, tensor: Tensor) -> None:
    from_plan = tuple(plan.old_size(layout) for layout in found.layouts)
    if from_plan != tuple(tensor.shape):
        raise PlanError(
            f"the plan expects {found.name!r} of shape {from_plan}, but it is {tuple(tensor.shape)}; "
            "plan again for this model"
        )


def place(root: nn.Module, grown: Mapping[str, Tensor]) -> None:
    """Put the student's tensors into a module tree of our own; tied ones stay tied."""
    replace_tensors(root, {id(tensor): grown[name] for name, tensor in named_tensors(root).items()})


def resize(root: nn.Module, resizes: tuple[Resize, ...]) -> None:
    """Set the attributes that state sizes."""
    for change in resizes:
        module = module_at(root, change.module)
        as_list = isinstance(getattr(module, change.name, None), list)
        setattr(module, change.name, list(change.new) if as_list and isinstance(change.new, tuple) else change.new)


def edit(graphs: Mapping[Mode, fx.Graph], edits: tuple[Edit, ...]) -> dict[Mode, fx.Graph]:
    """Copies of the graphs with new literals."""
    done: dict[Mode, fx.Graph] = {}
    for mode, graph in graphs.items():
        copied = fx.Graph(tracer_cls=Retracer)
        seen: dict[fx.Node, fx.Node] = {}
        result = copied.graph_copy(graph, seen)
        old_output = next(node for node in graph.nodes if node.op == "output")
        copied.output(result).meta.update(old_output.meta)
        nodes = {node.name: twin for node, twin in seen.items()}
        for twin in nodes.values():
            if any(attribute_ints_in((twin.args, twin.kwargs))):
                twin.args, twin.kwargs = plain((twin.args, twin.kwargs))
        for change in edits:
            if change.mode == mode or (len(graphs) == 1 and change.node in nodes):
                _edit(nodes[change.node], change)
        copied.lint()
        done[mode] = copied
    return done


def _edit(node: fx.Node, change: Edit) -> None:
    if change.path == (DROP,):
        node.graph.erase_node(node)
        return
    if not change.path:  # chunk(x, number, dim) or split(x, size, dim) whose parts are no longer alike
        dim = argument(node, 2, "dim")[1] or 0
        node.target = "split" if node.op == "call_method" else torch.split
        node.args, node.kwargs = (node.args[0] if node.args else node.kwargs["input"], change.value, dim), {}
        return
    kind, *steps = change.path
    if kind == "args":
        node.args = _replaced(node.args, steps, change.value)
    else:
        node.kwargs = _replaced(node.kwargs, steps, change.value)


def _replaced(value: Any, steps: list[int | str], new: Any) -> Any:
    if not steps:
        return new
    step, *rest = steps
    if isinstance(value, slice):
        bounds = {"start": value.start, "stop": value.stop, "step": value.step, str(step): new}
        return slice(bounds["start"], bounds["stop"], bounds["step"])
    if isinstance(value, Mapping):
        return {**value, step: _replaced(value.get(step), rest, new)}  # a default may not be stated
    changed = [_replaced(v, rest, new) if i == step else v for i, v in enumerate(value)]
    return tuple(changed) if isinstance(value, tuple) else changed


def check_code(plan: Plan, traced: Traced) -> None:
    """Whether a model runs the code that a plan was made for.

    Raises:
        PlanError: It does not.
    """
    if traced.fingerprint() != plan.code:
        raise PlanError(f"the plan was made for another forward of {plan.model} than this model's; plan again for it")


OWN_PLAN = "_fxgrow_plan"  # in the attributes of a student of the user's own class


def plan_of(student: nn.Module) -> Plan | None:
    """The plan that made a student; None where fxgrow did not make it."""
    plan = student.meta.get("fxgrow") if isinstance(student, fx.GraphModule) else vars(student).get(OWN_PLAN)
    return plan if isinstance(plan, Plan) else None


def remember(plan: Plan, student: nn.Module) -> None:
    """Note in a student which plan made it."""
    if isinstance(student, fx.GraphModule):
        student.meta["fxgrow"] = plan
    else:
        vars(student)[OWN_PLAN] = plan


def calibrated_in(plan: Plan) -> list[Insert]:
    """The new layers whose norms are to take their statistics from data."""
    return [one for one in plan.changes if isinstance(one, Insert) and one.calibrated]


def student_of(traced: Traced, plan: Plan, model: nn.Module, batches: Iterable[Any] | None = None) -> nn.Module:
    """The student of a model that was traced, or of a copy of it, in the form that the plan says.

    Args:
        traced: The model as graphs.
        plan: For the model.
        model: The teacher.
        batches: Of inputs, for the statistics of new norms; None: these start with mean 0 and variance 1.

    Raises:
        PlanError: The model has other parameters than the plan, or the batches do not run.
    """
    calibrated = calibrated_in(plan)
    root = traced.tree(model)
    student = assemble(root, traced.graphs, grown_tensors(plan, named_tensors(root)), plan, type(model).__name__)
    if calibrated and batches is not None:
        calibrate(student, calibrated, batches)
    made: nn.Module = student if plan.output == "graph" else root.__dict__[OPAQUE_MODEL]
    remember(plan, made)
    return made


def rebuild(
    root: nn.Module, graphs: Mapping[Mode, fx.Graph], grown: Mapping[str, Tensor], plan: Plan
) -> dict[Mode, fx.Graph]:
    """Make a module tree of our own the student's, and give the student's graphs."""
    place(root, grown)
    resize(root, plan.resizes)
    edited = edit(graphs, plan.edits)
    make(root, edited, plan.changes, plan.seed)
    return edited


def assemble(
    root: nn.Module, graphs: Mapping[Mode, fx.Graph], grown: Mapping[str, Tensor], plan: Plan, class_name: str
) -> GrownModule:
    """The student from a module tree of our own, which is changed and used up."""
    return GrownModule(root, rebuild(root, graphs, grown, plan), class_name)
