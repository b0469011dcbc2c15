"""The command line: each command is a function of the package, with words for its arguments."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import io
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import methods
from ..errors import GrowError
from . import commands
from .arguments import UsageError
from .commands import EVERY, FAILED, FINE, INTERRUPTED, MISUSED

PACKAGE = "fxgrow"
FILES = ("FILE", "PLAN", "TEACHER", "STUDENT", "MODEL", "SPEC")  # what words that may name a file are called

ABOUT = """\
Make a trained PyTorch network wider and deeper without changing what it computes.

MODEL is MODULE:FACTORY or path/to/file.py:FACTORY, something that can be imported and is an nn.Module or gives one when
it is called, with --kwargs as its arguments: examples/quickstart.py:DigitNet, or torchvision.models:resnet18 where
torchvision is installed. It is built on the CPU.

examples, in a clone of fxgrow:
  fxgrow widths examples/quickstart.py:DigitNet --input 2,1,8,8
  fxgrow why examples/quickstart.py:DigitNet stem.0 conv2
  fxgrow plan examples/quickstart.py:DigitNet --spec '{"conv1": 8, "stage2.1": 1.5}' -o plan.json
  fxgrow summary examples/quickstart.py:DigitNet --plan plan.json
  fxgrow verify examples/quickstart.py:DigitNet plan.json
  fxgrow apply plan.json teacher.pt student.pt examples/quickstart.py:DigitNet

exit status: 0 fine; 1 the model cannot be grown as asked, or a student is not exact; 2 wrong usage: the words, or a
file that they name, are not what the command takes.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, and give its exit status: 0 fine, 1 the network does not allow it or is not exact, 2 wrong usage.

    Args:
        argv: The words after the program's name; None: those that it was called with.
    """
    status = FINE
    try:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # names may hold what the terminal has no characters for
                stream.reconfigure(errors="backslashreplace")
        status = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has enough, as in `fxgrow ops | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = _parser().parse_args(argv)
    except SystemExit as stop:  # --help, or what argparse does not understand
        return int(stop.code or FINE)
    try:
        return int(args.run(args))
    except BrokenPipeError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001  a line that names it, and all of it with --traceback
        status, text = _verdict(error)
        if args.traceback:
            traceback.print_exc()
        else:
            sys.stderr.write(f"fxgrow {args.command}: {' '.join(text.splitlines())}\n")
        return status


def _verdict(error: BaseException) -> tuple[int, str]:
    """The exit status that an error means, and what to say of it."""
    if isinstance(error, GrowError):
        return FAILED, str(error)
    if isinstance(error, OSError) and error.filename and error.strerror:
        return MISUSED, f"{error.filename}: {error.strerror}"
    if isinstance(error, UsageError | OSError):
        return MISUSED, str(error)
    if isinstance(error, SystemExit):
        return MISUSED, f"the model's code ends the program: SystemExit: {error}"
    return FAILED, f"internal error: {type(error).__name__}: {error} (--traceback shows where)"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fxgrow", description=ABOUT, formatter_class=_AsWritten)
    parser.add_argument("--version", action="version", version=f"fxgrow {importlib.import_module(PACKAGE).__version__}")
    completion = importlib.import_module("shtab") if importlib.util.find_spec("shtab") is not None else None
    about = "print what makes a shell complete these words"
    if completion is not None:
        completion.add_argument_to(parser, help=about)
    else:
        parser.add_argument("--print-completion", action=_NeedsShtab, nargs="?", metavar="SHELL", help=about)
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


class _NeedsShtab(argparse.Action):
    """Says what is not installed."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        parser.error("--print-completion needs shtab: pip install fxgrow[cli]")


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
DRAWN = _word(
    "model",
    metavar="MODEL",
    help="MODULE:FACTORY or path/to/file.py:FACTORY; or a plan's .json by itself, which shows the widths that it grows",
)
KWARGS = _word("--kwargs", metavar="JSON", help="""arguments of FACTORY: '{"num_classes": 10}'""")


def _input(without: str) -> Word:
    return _word(
        "--input",
        action="append",
        default=[],
        metavar="SHAPE",
        help="an input, as [NAME=][DTYPE:]SHAPE[:BELOW]: 1,3,224,224 or int64:1,16:1000 (integers below 1000) or "
        f"mask=bool:1,16. Once for each; without it {without}",
    )


GUESSED = _input("a guess from the first layer")
PLANNED = _input("the plan's")
EITHER = _input("the plan's, or a guess from the first layer")
MODULE = _word("--module", action="store_true", help="the student is to be of the model's own class")
LEAF = _word("--leaf", action="append", default=[], metavar="NAME", help="a submodule that stays a call")
SPEC = _word(
    "--spec",
    metavar="SPEC",
    help="""what to grow: a factor, JSON ('{"layer3.*": 1.5, "conv1": 96}'), or a .json file with it""",
)
PLAN = _word("--plan", metavar="FILE", help="a plan that `fxgrow plan` wrote, instead of --spec")
PLAN_FILE = _word("plan", metavar="PLAN", help="a file that `fxgrow plan` wrote")
TRACED = (MODEL, KWARGS, GUESSED, MODULE, LEAF)
PERHAPS_PLANNED = (KWARGS, EITHER, MODULE, LEAF, SPEC, PLAN)
NET = "examples/quickstart.py:DigitNet"

COMMANDS = (
    Command(
        "widths",
        commands.widths,
        "show which dimensions are one width, which can grow, and why others cannot",
        TRACED,
        (f"{NET} --input 2,1,8,8", f"""{NET} --kwargs '{{"width": 8}}' --json"""),
    ),
    Command(
        "why",
        commands.why,
        "say why a width must stay, or why two layers move together",
        (*TRACED, _word("names", nargs="+", metavar="NAME", help="one or two layers, parameters, widths or globs")),
        (f"{NET} classifier", f"{NET} stem.0 conv2"),
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
            _word(
                "--method",
                default=methods.DEFAULT,
                choices=methods.names(),
                help="how new channels are filled (default %(default)s)",
            ),
        ),
        (
            f"{NET} --input 2,1,8,8 --spec 1.5 -o plan.json",
            f"""{NET} --spec '[{{"stage2.*": 1.5}}, {{"deepen": "conv1"}}]'""",
        ),
    ),
    Command(
        "summary",
        commands.summary,
        "list the layers: width groups, parameters, FLOPs, and before and after growth if a plan or spec is given",
        (MODEL, *PERHAPS_PLANNED),
        (f"{NET} --input 2,1,8,8", f"{NET} --plan plan.json"),
        " In a terminal it is coloured where rich is installed.",
    ),
    Command(
        "draw",
        commands.draw,
        "draw a model's widths, or what a plan or spec does to them",
        (
            DRAWN,
            *PERHAPS_PLANNED,
            _word("-o", "--out", metavar="FILE", required=True, help="the picture; its name says which kind"),
            _word("--level", choices=("groups", "blocks", "layers", "ops"), help="how much of it"),
        ),
        (
            "plan.json -o plan.html",
            f"{NET} --plan plan.json -o plan.html",
            f"{NET} --spec 1.5 -o plan.mmd --level groups",
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
            PLANNED,
            _word("--weights", metavar="FILE", help="a checkpoint of the teacher; without it, its initial weights"),
            _word("--student", metavar="FILE", help="a checkpoint of the student, such as `fxgrow apply` wrote"),
            _word("--double", action="store_true", help="compute in float64"),
            _word("--tolerance", type=float, help="largest relative error (default: what the dtype allows)"),
        ),
        (
            f"{NET} plan.json --input 8,1,8,8 --double",
            f"{NET} plan.json --weights teacher.pt --student student.pt",
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
            PLANNED,
        ),
        (
            f"plan.json teacher.pt student.pt {NET}",
            f"plan.json teacher.safetensors student.safetensors {NET}",
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
            _word(
                "pattern", metavar="PATTERN", nargs="?", default=EVERY, help="only these operators, rules or families"
            ),
            _word("--markdown", action="store_true", help="all of them, as docs/operators.md"),
        ),
        ("", "'*norm*'", "convolution --json"),
    ),
)
