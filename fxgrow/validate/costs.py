"""What a plan costs: parameters, bytes and FLOPs of each module before growth and after it. No student has weights."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor, fx, nn

from ..costs.calls import work
from ..costs.flops import flops_by_module
from ..infer.width_graph import WidthGraph
from ..model.copies import named_tensors
from ..model.tree import Mode, graph_for, set_mode
from ..plans.costs import LayerCost
from ..plans.growth_plan import Plan
from ..rewrite.student_inputs import padded
from ..spec.patterns import module_of
from .changes import Student

log = logging.getLogger("fxgrow")

Flops = Mapping[str, int] | None  # by module; None: not known
Sizes = tuple[Counter[str], Counter[str]]  # parameters and bytes by module


def with_costs(plan: Plan, widths: WidthGraph, student: Callable[[], Student]) -> Plan:
    """The plan with what it costs.

    Args:
        plan: One that has passed the check.
        widths: The width graph of its teacher, in which the inputs and outputs that grow are widths.
        student: Makes the student on meta, which is used up.
    """
    teacher = named_tensors(widths.traced.root)
    before = _renamed(_sizes(teacher, lambda name, tensor: tensor.numel()), plan)
    flops_before = _flops(widths, widths.width)
    if plan.changes:
        root, graphs = student()
        after = _sizes(named_tensors(root), lambda name, tensor: tensor.numel())
        flops_after = _flops_of_run(widths, plan, root, graphs)
    else:
        new = {tensor.name: math.prod(map(plan.new_size, tensor.layouts)) for tensor in plan.tensors}
        after = _renamed(_sizes(teacher, lambda name, tensor: new.get(name, tensor.numel())), plan)
        flops_after = _flops(widths, new_size(plan, widths))
    flops_before = None if flops_before is None else _moved(flops_before, plan)
    return replace(plan, costs=_layers(before, after, flops_before, flops_after))


def new_size(plan: Plan, widths: WidthGraph) -> Callable[[str], int]:
    """The size of each width group in the student."""
    grown = {width.name: width.new for width in plan.grown_widths}
    return lambda name: grown[name] if name in grown else widths.width(name)


def _sizes(tensors: Mapping[str, Tensor], entries: Callable[[str, Tensor], int]) -> Sizes:
    parameters: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for name, tensor in tensors.items():
        number = entries(name, tensor)
        size[module_of(name)] += number * tensor.element_size()
        if isinstance(tensor, nn.Parameter):
            parameters[module_of(name)] += number
    return parameters, size


def _renamed(sizes: Sizes, plan: Plan) -> Sizes:
    return _moved(sizes[0], plan), _moved(sizes[1], plan)


def _moved(numbers: Mapping[str, int], plan: Plan) -> Counter[str]:
    """Numbers by module under the names of the student."""
    return Counter({plan.numbering(name): number for name, number in numbers.items()})


def _flops(widths: WidthGraph, sizes: Callable[[str], int]) -> Flops:
    """The FLOPs of each module at some widths; None where the shapes of a call do not tell."""
    flops: Counter[str] = Counter()
    try:
        for call in work(widths, sizes):
            flops[call.module] += call.flops
    except Exception:  # a formula of torch, on arguments that it does not expect
        log.info("the FLOPs of %s are not known", widths.traced.class_name, exc_info=True)
        return None
    return flops


def _flops_of_run(widths: WidthGraph, plan: Plan, root: nn.Module, graphs: Mapping[Mode, fx.Graph]) -> Flops:
    traced = widths.traced
    mode: Mode = "eval" if "eval" in traced.tapes else "train"
    set_mode(root, mode)
    try:
        arguments = padded(plan, traced.arguments)
        return flops_by_module(root, graph_for(graphs, mode), arguments, real=traced.inputs.real)
    except Exception:
        log.info("the FLOPs of a student of %s are not known", traced.class_name, exc_info=True)
        return None


def _layers(before: Sizes, after: Sizes, flops_before: Flops, flops_after: Flops) -> tuple[LayerCost, ...]:
    names = dict.fromkeys([*after[1], *before[1], *(flops_after or ()), *(flops_before or ())])
    known = flops_before is not None and flops_after is not None
    return tuple(
        LayerCost(
            name,
            (before[0][name], after[0][name]),
            (before[1][name], after[1][name]),
            ((flops_before or {}).get(name, 0), (flops_after or {}).get(name, 0)) if known else None,
        )
        for name in names
    )
