"""The command line: each command is a function of the package, with words for its arguments."""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from . import api
from .arguments import UsageError, inputs_as_planned, inputs_of, load, model_of, plan_of_file, save, spec_of
from .errors import GrowError
from .grown import Output
from .ops.page import entries, page
from .plan import Plan
from .table import table
from .widths import WidthGraph

PACKAGE = "fxgrow"
FINE, FAILED, MISUSED = 0, 1, 2

ABOUT = """\
Make a trained PyTorch network wider and deeper without changing what it computes.

MODEL is MODULE:FACTORY, something that can be imported and is an nn.Module or gives one when it is called:
torchvision.models:resnet18, or path/to/net.py:Net. It is built on the CPU, with --kwargs as its arguments.

examples:
  fxgrow widths torchvision.models:resnet18 --input 1,3,224,224
  fxgrow why torchvision.models:resnet18 layer1.0.conv2 layer1.1.conv2
  fxgrow plan torchvision.models:resnet18 --spec '{"layer3.*": 1.5}' -o plan.json
  fxgrow summary torchvision.models:resnet18 --plan plan.json
  fxgrow verify torchvision.models:resnet18 plan.json
  fxgrow apply plan.json teacher.pt student.pt torchvision.models:resnet18

exit status: 0 fine; 1 the model cannot be grown as asked, or a student is not exact; 2 wrong usage.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, and give its exit status: 0 fine, 1 a GrowError or not exact, 2 wrong usage.

    Args:
        argv: The words after the program's name; None: those that it was called with.
    """
    try:
        args = _parser().parse_args(argv)
    except SystemExit as stop:  # --help, or what argparse does not understand
        return int(stop.code or FINE)
    try:
        status = int(args.run(args))
        sys.stdout.flush()
        return status
    except (GrowError, UsageError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # whoever reads has enough, as in `fxgrow ops | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FINE
        if args.traceback:
            traceback.print_exc()
        else:
            sys.stderr.write(f"fxgrow {args.command}: {error}\n")
        return FAILED if isinstance(error, GrowError) else MISUSED


# -- commands ----------------------------------------------------------------------------------------


def _widths(args: argparse.Namespace) -> int:
    found = _found(args)
    groups = [
        {
            "name": group.name,
            "size": group.size,
            "members": [f"{tensor}[{dim}]" for tensor, dim in group.members],
            "state": found.state(group.name),
            "pinned": group.pinned,
            "uniform": group.uniform,
            "held": group.held,
        }
        for group in found.groups
    ]
    traced = found.traced
    data = {"model": traced.class_name, "inputs": str(traced.inputs), "widths": groups, "notes": traced.notes}
    return _say(args, "\n\n".join([str(found), *(f"note: {note}" for note in traced.notes)]), data)


def _why(args: argparse.Namespace) -> int:
    if len(args.names) > 2:
        raise UsageError("why takes one name (why must it stay?) or two (why do they move together?)")
    answer = _found(args).why(*args.names)
    return _say(args, answer, {"asked": args.names, "answer": answer.splitlines()})


def _plan(args: argparse.Namespace) -> int:
    found = api.plan(_found(args), spec_of(args.spec), seed=args.seed, method=args.method)
    if args.out:
        Path(args.out).write_text(found.to_json(indent=1) + "\n", encoding="utf-8")
    return _say(args, str(found), found.to_json(indent=2))


def _summary(args: argparse.Namespace) -> int:
    _one_of(args)
    model = _model(args)
    if args.plan:
        found = api.summary(plan_of_file(args.plan), inputs_of(args.input, model), teacher=model)
    else:
        widths = _found(args, model)
        plan = api.plan(widths, spec_of(args.spec)) if args.spec else None
        found = api.summary(widths) if plan is None else api.summary(plan, teacher=widths)
    if not args.json and sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        importlib.import_module("rich.console").Console().print(found)
        return FINE
    return _say(args, str(found), found.data())


def _draw(args: argparse.Namespace) -> int:
    path = api.draw(_drawn(args), args.out, level=args.level)
    return _say(args, f"wrote {path}", {"file": str(path)})


def _drawn(args: argparse.Namespace) -> WidthGraph | Plan | tuple[WidthGraph, Plan]:
    """What is to be drawn: what was found of a model, with the plan for it; or a plan by itself."""
    _one_of(args)
    if ":" not in args.model and args.model.endswith(".json"):
        return plan_of_file(args.model)
    widths = _found(args, _model(args))
    if args.plan:
        return widths, plan_of_file(args.plan)
    return (widths, api.plan(widths, spec_of(args.spec))) if args.spec else widths


def _verify(args: argparse.Namespace) -> int:
    plan, teacher = plan_of_file(args.plan), _model(args)
    if args.weights:
        load(args.weights, teacher)
    if args.double:
        teacher.double()
    given = inputs_of(args.input, teacher)
    inputs = inputs_as_planned(plan, teacher) if given is None else given
    student = api.apply(plan, teacher, given)
    if args.student:
        load(args.student, student)
    report = api.verify(teacher, student, inputs, tolerance=args.tolerance)
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
        "left": report.left,
        "notes": report.notes,
    }
    _say(args, str(report), data)
    return FINE if report.exact else FAILED


def _apply(args: argparse.Namespace) -> int:
    plan = plan_of_file(args.plan)
    teacher = load(args.teacher, _model(args))
    student = api.apply(plan, teacher, inputs_of(args.input, teacher))
    save(student, args.student)
    before, after = (sum(p.numel() for p in model.parameters()) for model in (teacher, student))
    return _say(
        args,
        f"wrote {args.student}: {before:,} -> {after:,} parameters",
        {"file": args.student, "parameters": [before, after], "tensors": len(student.state_dict())},
    )


def _ops(args: argparse.Namespace) -> int:
    wanted = [
        entry
        for entry in entries()
        if any(fnmatch.fnmatch(name, args.pattern) for name in (entry.family, entry.rule, *entry.operators))
    ]
    if not wanted:
        raise GrowError(f"no operator, rule or family is named {args.pattern!r}; what has no rule pins what it touches")
    if args.markdown:
        return _say(args, page(), page())
    rows = [
        (entry.family, ", ".join(entry.operators), "; ".join(f"{word}: {which}" for word, which in entry.exact))
        for entry in wanted
    ]
    text = table(("family", "operators", "exact for"), rows, limit=90)
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
    if args.spec and args.plan:
        raise UsageError("give --spec or --plan, not both")


def _model(args: argparse.Namespace) -> nn.Module:
    return model_of(args.model, args.kwargs)


def _found(args: argparse.Namespace, model: nn.Module | None = None) -> WidthGraph:
    model = _model(args) if model is None else model
    output: Output = "module" if args.module else "graph"
    return api.widths(model, inputs_of(args.input, model), output=output, leaf_modules=args.leaf)


def _say(args: argparse.Namespace, text: str, data: Any) -> int:
    """Write what was found: as text, or as JSON."""
    if args.json:
        text = data if isinstance(data, str) else json.dumps(data, indent=2, default=list)
    sys.stdout.write(f"{text.rstrip()}\n")
    return FINE


# -- words -------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fxgrow", description=ABOUT, formatter_class=_AsWritten)
    parser.add_argument("--version", action="version", version=f"fxgrow {importlib.import_module(PACKAGE).__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        lines = "\n".join(f"  fxgrow {command.name} {line}".rstrip() for line in command.examples)
        words = commands.add_parser(
            command.name,
            help=command.about,
            description=f"{command.about[0].upper()}{command.about[1:]}.{command.more}",
            epilog=f"examples:\n{lines}\n\n`fxgrow --help` says what MODEL is.",
            formatter_class=_AsWritten,
        )
        for word in (*command.words, JSON, TRACEBACK):
            words.add_argument(*word.names, **word.options)
        words.set_defaults(run=command.run)
    return parser


class _AsWritten(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the examples."""


@dataclass(frozen=True, slots=True)
class Word:
    """An argument of a command, as argparse takes it."""

    names: tuple[str, ...]
    options: Mapping[str, Any]


def _word(*names: str, **options: Any) -> Word:
    return Word(names, options)


@dataclass(frozen=True, slots=True)
class Command:
    """A command: what it does, in words, and the function that does it."""

    name: str
    run: Callable[[argparse.Namespace], int]
    about: str
    words: tuple[Word, ...]
    examples: tuple[str, ...]
    more: str = ""


JSON = _word("--json", action="store_true", help="print JSON")
TRACEBACK = _word("--traceback", action="store_true", help="show where an error arose")
MODEL = _word("model", metavar="MODEL", help="MODULE:FACTORY or path/to/file.py:FACTORY")
DRAWN = _word("model", metavar="MODEL", help="the same, or a plan's .json, which shows the widths that it grows")
KWARGS = _word("--kwargs", metavar="JSON", help="""arguments of FACTORY: '{"num_classes": 10}'""")
INPUT = _word(
    "--input",
    action="append",
    default=[],
    metavar="SHAPE",
    help="an input, as [NAME=][DTYPE:]SHAPE[:BELOW]: 1,3,224,224 or int64:1,16:1000 (integers below 1000) or "
    "mask=bool:1,16. Once for each; without it the plan's, or a guess from the first layer",
)
MODULE = _word("--module", action="store_true", help="the student is to be of the model's own class")
LEAF = _word("--leaf", action="append", default=[], metavar="NAME", help="a submodule that stays a call")
SPEC = _word(
    "--spec", help="""what to grow: a factor, JSON ('{"layer3.*": 1.5, "conv1": 96}'), or a .json file with it"""
)
PLAN = _word("--plan", metavar="FILE", help="a plan that `fxgrow plan` wrote, instead of --spec")
PLAN_FILE = _word("plan", metavar="PLAN", help="a file that `fxgrow plan` wrote")
TRACED = (MODEL, KWARGS, INPUT, MODULE, LEAF)

COMMANDS = (
    Command(
        "widths",
        _widths,
        "show which dimensions are one width, which can grow, and why others cannot",
        TRACED,
        ("torchvision.models:resnet18 --input 1,3,224,224", """net.py:Net --kwargs '{"width": 8}' --json"""),
    ),
    Command(
        "why",
        _why,
        "say why a width must stay, or why two layers move together",
        (*TRACED, _word("names", nargs="+", metavar="NAME", help="one or two layers, parameters, widths or globs")),
        ("torchvision.models:resnet18 fc", "torchvision.models:resnet18 layer1.0.conv2 layer1.1.conv2"),
    ),
    Command(
        "plan",
        _plan,
        "plan new widths and layers, checked to compute the same function",
        (
            *TRACED,
            Word(SPEC.names, {**SPEC.options, "required": True}),
            _word("-o", "--out", metavar="FILE", help="write the plan there, as JSON"),
            _word("--seed", type=int, default=0, help="of every random draw (default 0)"),
            _word("--method", default="split", help="how new channels are filled (default split)"),
        ),
        (
            "torchvision.models:resnet18 --input 1,3,224,224 --spec 1.5 -o plan.json",
            """torchvision.models:resnet18 --spec '[{"layer3.*": 1.5}, {"deepen": "layer4", "blocks": 1}]'""",
        ),
    ),
    Command(
        "summary",
        _summary,
        "list the layers: width groups, parameters, FLOPs, and before and after growth if a plan or spec is given",
        (*TRACED, SPEC, PLAN),
        ("torchvision.models:resnet18 --input 1,3,224,224", "torchvision.models:resnet18 --plan plan.json"),
        " In a terminal it is coloured where rich is installed.",
    ),
    Command(
        "draw",
        _draw,
        "draw a model's widths, or what a plan or spec does to them",
        (
            DRAWN,
            *TRACED[1:],
            SPEC,
            PLAN,
            _word("-o", "--out", metavar="FILE", required=True, help="the picture; its name says which kind"),
            _word("--level", choices=("groups", "blocks", "layers", "ops"), help="how much of it"),
        ),
        (
            "plan.json -o plan.html",
            "torchvision.models:resnet18 --plan plan.json -o plan.html",
            "torchvision.models:resnet18 --spec 1.5 -o resnet18.svg --level groups",
        ),
    ),
    Command(
        "verify",
        _verify,
        "grow a model by a plan, and compare teacher and student on random inputs",
        (
            MODEL,
            PLAN_FILE,
            KWARGS,
            INPUT,
            _word("--weights", metavar="FILE", help="a checkpoint of the teacher; without it, its initial weights"),
            _word("--student", metavar="FILE", help="a checkpoint of the student, such as `fxgrow apply` wrote"),
            _word("--double", action="store_true", help="compute in float64"),
            _word("--tolerance", type=float, help="largest relative error (default: what the dtype allows)"),
        ),
        (
            "torchvision.models:resnet18 plan.json --input 2,3,64,64 --double",
            "torchvision.models:resnet18 plan.json --weights teacher.pt --student student.pt",
        ),
        " Exit status 1 if they are not the same function.",
    ),
    Command(
        "apply",
        _apply,
        "grow a checkpoint by a plan",
        (
            PLAN_FILE,
            _word("teacher", metavar="TEACHER", help="the checkpoint to read: .safetensors, or as torch.save wrote it"),
            _word("student", metavar="STUDENT", help="the checkpoint to write, in the form that its name says"),
            MODEL,
            KWARGS,
            INPUT,
        ),
        (
            "plan.json teacher.pt student.pt torchvision.models:resnet18",
            "plan.json teacher.safetensors student.safetensors net.py:Net",
        ),
        """
The model is built, loaded, grown and saved. This version cannot yet grow a checkpoint from file to file without
building the model, nor the state of an optimizer.""",
    ),
    Command(
        "ops",
        _ops,
        "list the operators that have a rule, and for which mappings of channels each is exact",
        (
            _word("pattern", metavar="PATTERN", nargs="?", default="*", help="only these operators, rules or families"),
            _word("--markdown", action="store_true", help="all of them, as docs/operators.md"),
        ),
        ("", "'*norm*'", "convolution --json"),
    ),
)
