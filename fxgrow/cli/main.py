"""The program `fxgrow`: parses the arguments, runs a command, and turns errors into a line and an exit status."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import io
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext

from .. import __version__
from ..base.progress_bar import shown
from ..errors import FxgrowError
from .commands import FAILED, FINE, INTERRUPTED, MISUSED
from .table import COMMANDS, JSON, NO_PROGRESS, TRACEBACK
from .usage import UsageError

FILES = ("FILE", "PLAN", "TEACHER", "STUDENT", "MODEL", "SPEC")  # metavars of arguments that may name a file

ABOUT = """\
Make a trained PyTorch network wider and deeper without changing what it computes.

MODEL is MODULE:FACTORY or path/to/file.py:FACTORY. FACTORY is an nn.Module, or a class or function that returns one,
called with the arguments of --kwargs: examples/quickstart.py:DigitNet, or torchvision.models:resnet18 where torchvision
is installed. It is built on the CPU. Every command that takes a model takes it first.

examples, in a clone of fxgrow:
  fxgrow widths examples/quickstart.py:DigitNet --input 2,1,8,8
  fxgrow why examples/quickstart.py:DigitNet stem.0 conv2
  fxgrow plan examples/quickstart.py:DigitNet --spec '{"conv1": 8, "stage2.1": 1.5}' -o plan.json
  fxgrow summary examples/quickstart.py:DigitNet --plan plan.json
  fxgrow verify examples/quickstart.py:DigitNet plan.json
  fxgrow apply examples/quickstart.py:DigitNet plan.json teacher.pt student.pt
  fxgrow grow examples/quickstart.py:DigitNet --weights teacher.pt --spec 1.5 -o grown.pt

exit status: 0 success; 1 the model cannot be grown as requested, or a student does not compute the same function;
2 invalid arguments or unreadable files (found before the model is analysed).
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: The arguments after the program's name; None: those of the process.

    Returns:
        The exit status: 0 success, 1 the model does not allow it or is not exact, 2 invalid arguments.
    """
    status = FINE
    try:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a name may hold characters that the terminal cannot show
                stream.reconfigure(errors="backslashreplace")
        status = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader closed the pipe, as in `fxgrow ops | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = _parser().parse_args(argv)
    except SystemExit as stop:  # --help, or arguments that argparse refuses
        return int(stop.code or FINE)
    try:
        with shown(False) if args.no_progress else nullcontext():  # else each call of the package shows its own
            return int(args.run(args))
    except BrokenPipeError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001  reported in one line, or whole with --traceback
        status, text = _verdict(error)
        if args.traceback:
            traceback.print_exc()
        else:
            sys.stderr.write(f"fxgrow {args.command}: {' '.join(text.splitlines())}\n")
        return status


def _verdict(error: BaseException) -> tuple[int, str]:
    """The exit status and the message of an error."""
    if isinstance(error, FxgrowError):
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
    parser.add_argument("--version", action="version", version=f"fxgrow {__version__}")
    completion = importlib.import_module("shtab") if importlib.util.find_spec("shtab") is not None else None
    about = "print a script that makes a shell complete these words"
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
            epilog=f"examples:\n{lines}\n\n`fxgrow --help` explains MODEL.",
            formatter_class=_AsWritten,
        )
        for word in (*command.words, JSON, NO_PROGRESS, TRACEBACK):
            argument = words.add_argument(*word.names, **word.options)
            if completion is not None and argument.metavar in FILES:
                vars(argument)["complete"] = completion.FILE
        words.set_defaults(run=command.run)
    return parser


class _NeedsShtab(argparse.Action):
    """Names the extra that is not installed."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        parser.error("--print-completion needs shtab: pip install 'fxgrow[cli]'")


class _AsWritten(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the examples."""
