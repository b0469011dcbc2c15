"""The command line: each command is a function of the package, with words for its arguments."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import commands
from .arguments import UsageError
from .commands import FAILED, FINE, MISUSED
from .errors import GrowError
from .methods import DEFAULT

PACKAGE = "fxgrow"
FILES = ("FILE", "PLAN", "TEACHER", "STUDENT")  # what words that name a file are called

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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fxgrow", description=ABOUT, formatter_class=_AsWritten)
    parser.add_argument("--version", action="version", version=f"fxgrow {importlib.import_module(PACKAGE).__version__}")
    completion = importlib.import_module("shtab") if importlib.util.find_spec("shtab") is not None else None
    if completion is not None:
        completion.add_argument_to(parser, help="print what makes a shell complete these words")
    every = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        lines = "\n".join(f"  fxgrow {command.name} {line}".rstrip() for line in command.examples)
        words = every.add_parser(
            command.name,
            help=command.about,
            description=f"{command.about[0].upper()}{command.about[1:]}.{command.more}",
            epilog=f"examples:\n{lines}\n\n`fxgrow --help` says what MODEL is.",
            formatter_class=_AsWritten,
        )
        for word in (*command.words, JSON, TRACEBACK):
            argument = words.add_argument(*word.names, **word.options)
            if completion is not None and argument.metavar in FILES:
                vars(argument)["complete"] = completion.FILE
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
        commands.widths,
        "show which dimensions are one width, which can grow, and why others cannot",
        TRACED,
        ("torchvision.models:resnet18 --input 1,3,224,224", """net.py:Net --kwargs '{"width": 8}' --json"""),
    ),
    Command(
        "why",
        commands.why,
        "say why a width must stay, or why two layers move together",
        (*TRACED, _word("names", nargs="+", metavar="NAME", help="one or two layers, parameters, widths or globs")),
        ("torchvision.models:resnet18 fc", "torchvision.models:resnet18 layer1.0.conv2 layer1.1.conv2"),
    ),
    Command(
        "plan",
        commands.plan,
        "plan new widths and layers, checked to compute the same function",
        (
            *TRACED,
            Word(SPEC.names, {**SPEC.options, "required": True}),
            _word("-o", "--out", metavar="FILE", help="write the plan there, as JSON"),
            _word("--seed", type=int, default=0, help="of every random draw (default 0)"),
            _word("--method", default=DEFAULT, help=f"how new channels are filled (default {DEFAULT})"),
        ),
        (
            "torchvision.models:resnet18 --input 1,3,224,224 --spec 1.5 -o plan.json",
            """torchvision.models:resnet18 --spec '[{"layer3.*": 1.5}, {"deepen": "layer4", "blocks": 1}]'""",
        ),
    ),
    Command(
        "summary",
        commands.summary,
        "list the layers: width groups, parameters, FLOPs, and before and after growth if a plan or spec is given",
        (*TRACED, SPEC, PLAN),
        ("torchvision.models:resnet18 --input 1,3,224,224", "torchvision.models:resnet18 --plan plan.json"),
        " In a terminal it is coloured where rich is installed.",
    ),
    Command(
        "draw",
        commands.draw,
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
        commands.verify,
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
        commands.apply,
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
        commands.ops,
        "list the operators that have a rule, and for which mappings of channels each is exact",
        (
            _word("pattern", metavar="PATTERN", nargs="?", default="*", help="only these operators, rules or families"),
            _word("--markdown", action="store_true", help="all of them, as docs/operators.md"),
        ),
        ("", "'*norm*'", "convolution --json"),
    ),
)
