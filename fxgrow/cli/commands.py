"""The commands: each calls the public functions and prints their result as text or JSON."""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from torch import nn

from .. import api, checkpoint, examine
from ..base.fitted import paragraph
from ..base.tables import COLUMNS
from ..checkpoints.files import opened
from ..drawing.given import source_of
from ..drawing.registry import writer
from ..errors import FxgrowError
from ..infer.width_graph import WidthGraph
from ..model.tree import Output
from ..ops.page import entries, page
from ..plans.growth_plan import Plan
from ..spec.parse import Widen
from ..spec.requests import Request
from .arguments import budget_of, inputs_as_planned, inputs_of, method_of, model_of, plan_of_file, spec_of
from .checkpoints import load, save
from .order import check_order
from .usage import UsageError, understood

FINE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130
EVERY = "*"  # operators


def widths(args: argparse.Namespace) -> int:
    """Print each width, what it may become, and why."""
    graph = _widths(args)
    groups = [
        {
            "name": group.name,
            "size": group.size,
            "members": [f"{tensor}[{dim}]" for tensor, dim in group.members],
            "state": graph.state(group.name),
            "pinned": group.pinned,
            "uniform": group.uniform,
            "deferred_to": group.deferred_to,
        }
        for group in graph.groups
    ]
    traced = graph.traced
    data = {"model": traced.class_name, "inputs": str(traced.inputs), "widths": groups, "notes": traced.notes}
    notes = [paragraph(f"note: {note}", _room()) for note in traced.notes]
    return _say(args, "\n\n".join([graph.to_text(_room()), *notes]), data)


def why(args: argparse.Namespace) -> int:
    """Print why a width must stay, or why two layers share one."""
    if len(args.names) > 2:
        raise UsageError("why takes one name (why must it stay?) or two (why do they share one width?)")
    answer = _widths(args).explanation(*args.names)
    return _say(args, paragraph(answer, _room()), {"asked": args.names, "answer": answer.splitlines()})


def _asked(args: argparse.Namespace) -> tuple[Widen | Request, ...]:
    """What a specification and a budget ask for.

    Raises:
        UsageError: Neither is given.
    """
    budget = budget_of(args.parameters, args.flops, args.multiple_of)
    if args.spec is None and not budget:
        raise UsageError("say what to grow: --spec 2.0, or --parameters 2.0, or --flops 500e6")
    return (*budget, *(spec_of(args.spec) if args.spec is not None else ()))


def plan(args: argparse.Namespace) -> int:
    """Make a plan, print it, and write it where --out says."""
    model = _model(args)  # its file may register methods
    requests, method = _asked(args), method_of(args.method)
    made = api.plan(_widths(args, model), requests, seed=args.seed, method=method)
    if args.out:
        Path(args.out).write_text(made.to_json(indent=1) + "\n", encoding="utf-8")
    return _say(args, f"{made.to_text(_room())}\n\n{made.cost().totals}", made.to_json(indent=2))


def summary(args: argparse.Namespace) -> int:
    """Print the layers, before growth and after it."""
    _one_of(args)
    model = _model(args)
    if args.plan is not None:
        layers = examine.summary(plan_of_file(args.plan), inputs_of(args.input, model), teacher=model)
    else:
        requests = None if args.spec is None else spec_of(args.spec)
        graph = _widths(args, model)
        layers = (
            examine.summary(graph) if requests is None else examine.summary(api.plan(graph, requests), teacher=graph)
        )
    if not args.json and sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        importlib.import_module("rich.console").Console().print(layers)
        return FINE
    return _say(args, layers.to_text(_room()), layers.data())


def draw(args: argparse.Namespace) -> int:
    """Write a picture."""
    with understood("-o"):
        writer(Path(args.out).suffix.lower())
    path = examine.draw(_drawn(args), args.out, level=args.level)
    return _say(args, f"wrote {path}", {"file": str(path)})


def _drawn(args: argparse.Namespace) -> WidthGraph | Plan | tuple[WidthGraph, Plan]:
    """What is drawn: the widths of a model, with a plan where there is one; or a plan without its model."""
    if ":" not in args.model and args.model.endswith(".json"):
        return _drawn_alone(args)
    _one_of(args)
    model = _model(args)
    if args.plan is not None:
        read = plan_of_file(args.plan)
        given = inputs_of(args.input, model)
        inputs = inputs_as_planned(read, model) if given is None else given
        return api.widths(model, inputs, output=read.output, leaf_modules=read.leaf_modules), read
    requests = None if args.spec is None else spec_of(args.spec)
    graph = _widths(args, model)
    return graph if requests is None else (graph, api.plan(graph, requests))


def _drawn_alone(args: argparse.Namespace) -> Plan:
    """A plan without its model: there is no graph, so not every level can be drawn."""
    _unused(
        args,
        f"{args.model} is a plan, which is drawn without a model",
        "spec",
        "plan",
        "kwargs",
        "input",
        "module",
        "leaf",
    )
    read = plan_of_file(args.model)
    if args.level not in (None, *source_of(read).levels):
        raise UsageError(
            f"a plan alone has no graph to draw {args.level} of: "
            f"fxgrow draw MODEL --plan {args.model} -o {args.out} --level {args.level}"
        )
    return read


def verify(args: argparse.Namespace) -> int:
    """Compare a student with its teacher; `FAILED` where they do not compute the same function."""
    check_order("verify", args, "model", "plan")
    teacher = _model(args)  # its file may register the plan's methods
    read = plan_of_file(args.plan)
    if args.weights is not None:
        load(args.weights, teacher)
    if args.double:
        teacher.double()
    given = inputs_of(args.input, teacher)
    inputs = inputs_as_planned(read, teacher) if given is None else given
    student = api.apply(read, teacher, given)
    if args.student is not None:
        load(args.student, student)
    report = examine.verify(teacher, student, inputs, tolerance=args.tolerance)
    worst = sorted(report.nodes, key=lambda node: -node.error)[:5]
    data = {
        "exact": report.exact,
        "errors": report.errors,
        "tolerance": report.tolerance,
        "rounding": report.rounding,
        "parameters": report.parameters,
        "flops": report.flops,
        "nodes": len(report.nodes),
        "worst": [{"site": node.site, "mode": node.mode, "error": node.error} for node in worst],
        "skipped": report.skipped,
        "notes": report.notes,
    }
    _say(args, str(report), data)
    return FINE if report.exact else FAILED


def grow(args: argparse.Namespace) -> int:
    """Plan and apply in one step: write a student, and its plan where --plan-out says."""
    given = [args.weights, args.plan_out]
    if Path(args.out).resolve() in [Path(path).resolve() for path in given if path is not None]:
        raise UsageError(f"-o is the same file as another argument, {args.out}, which would be lost: give another name")
    model = _model(args)  # its file may register methods
    requests, method = _asked(args), method_of(args.method)
    if args.weights is not None:
        load(args.weights, model)
    made = api.plan(_widths(args, model), requests, seed=args.seed, method=method)
    student = api.apply(made, model)
    save(student, args.out)
    if args.plan_out:
        Path(args.plan_out).write_text(made.to_json(indent=1) + "\n", encoding="utf-8")
    before, after = (sum(p.numel() for p in each.parameters()) for each in (model, student))
    return _say(
        args,
        f"{made}\n\nwrote {args.out}: {before:,} -> {after:,} parameters",
        {"file": args.out, "parameters": [before, after], "plan": json.loads(made.to_json())},
    )


def apply(args: argparse.Namespace) -> int:
    """Write a grown checkpoint, to another file than the teacher's."""
    check_order("apply", args, *(["model"] if args.model is not None else []), "plan", "teacher", "student")
    if args.model is None:
        return _grow_checkpoint(args)
    if Path(args.student).resolve() == Path(args.teacher).resolve():
        raise UsageError(f"STUDENT is the same file as TEACHER, {args.teacher}, which would be lost: give another name")
    teacher = _model(args)  # its file may register the plan's methods
    read = plan_of_file(args.plan)
    load(args.teacher, teacher)
    student = api.apply(read, teacher, inputs_of(args.input, teacher))
    save(student, args.student)
    before, after = (sum(p.numel() for p in model.parameters()) for model in (teacher, student))
    return _say(
        args,
        f"wrote {args.student}: {before:,} -> {after:,} parameters",
        {"file": args.student, "parameters": [before, after], "tensors": len(student.state_dict())},
    )


def _grow_checkpoint(args: argparse.Namespace) -> int:
    _unused(args, "without MODEL no model is built", "kwargs", "input")
    checkpoint.grow_checkpoint(plan_of_file(args.plan), args.teacher, args.student, threads=args.threads)
    infos = [opened(Path(path)).infos.values() for path in (args.teacher, args.student)]
    before, after = (sum(info.numel for info in every) for every in infos)
    data = {"file": args.student, "entries": [before, after], "tensors": len(infos[1])}
    return _say(args, f"wrote {args.student}: {before:,} -> {after:,} entries of tensors", data)


def ops(args: argparse.Namespace) -> int:
    """Print the operators that have a rule."""
    if args.markdown:
        if args.pattern != EVERY:
            raise UsageError("--markdown prints all operators: give no PATTERN with it")
        text = page()
        return _say(args, text, {"markdown": text})
    wanted = [
        entry
        for entry in entries()
        if any(fnmatch.fnmatch(name, args.pattern) for name in (entry.family, entry.rule, *entry.operators))
    ]
    if not wanted:
        raise FxgrowError(
            f"no operator, rule or family is named {args.pattern!r}; "
            "an operator without a rule pins the widths that reach it"
        )
    text = "\n\n".join(entry.text(_room()) for entry in wanted)
    data = [
        {
            "family": entry.family,
            "rule": entry.rule,
            "operators": entry.operators,
            "what": entry.what,
            "exact": dict(entry.exact),
        }
        for entry in wanted
    ]
    return _say(args, text, data)


def _one_of(args: argparse.Namespace) -> None:
    if args.plan is not None:
        _unused(args, f"{args.plan} is a plan, which holds these options", "spec", "module", "leaf")


def _unused(args: argparse.Namespace, why: str, *options: str) -> None:
    """Refuse options that would have no effect."""
    given = [f"--{option}" for option in options if getattr(args, option) not in (None, False, [])]
    if given:
        raise UsageError(f"{why}: give no {', '.join(given)} with it")


def _model(args: argparse.Namespace) -> nn.Module:
    return model_of(args.model, args.kwargs)


def _widths(args: argparse.Namespace, model: nn.Module | None = None) -> WidthGraph:
    model = _model(args) if model is None else model
    output: Output = "module" if args.module else "graph"
    return api.widths(model, inputs_of(args.input, model), output=output, leaf_modules=args.leaf)


def _room() -> int:
    """The columns of the terminal; 80 where it is not known."""
    return shutil.get_terminal_size((COLUMNS, 24)).columns


def _say(args: argparse.Namespace, text: str, data: Any) -> int:
    """Print a result: as text, or with --json as JSON."""
    if args.json:
        text = data if isinstance(data, str) else json.dumps(data, indent=2, default=list)
    sys.stdout.write(f"{text.rstrip()}\n")
    return FINE
