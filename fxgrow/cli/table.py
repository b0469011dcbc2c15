"""The commands: the arguments that each takes, its help, and the function that runs it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .. import methods
from . import commands
from .commands import EVERY


@dataclass(frozen=True, slots=True)
class Word:
    """An argument of a command, in the form that argparse takes."""

    names: tuple[str, ...]
    options: Mapping[str, Any]


def _word(*names: str, **options: Any) -> Word:
    return Word(names, options)


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its arguments, its help, and the function that runs it."""

    name: str
    run: Callable[[argparse.Namespace], int]
    about: str
    words: tuple[Word, ...]
    examples: tuple[str, ...]
    more: str = ""


JSON = _word("--json", action="store_true", help="print JSON")
NO_PROGRESS = _word("--no-progress", action="store_true", help="show no progress bar")
TRACEBACK = _word("--traceback", action="store_true", help="show the traceback of an error")
MODEL = _word("model", metavar="MODEL", help="MODULE:FACTORY or path/to/file.py:FACTORY")
DRAWN = _word(
    "model",
    metavar="MODEL",
    help="MODULE:FACTORY or path/to/file.py:FACTORY; or the .json of a plan, which is drawn without its model",
)
KWARGS = _word("--kwargs", metavar="JSON", help="""arguments of FACTORY: '{"num_classes": 10}'""")


def _input(without: str) -> Word:
    return _word(
        "--input",
        action="append",
        default=[],
        metavar="SHAPE",
        help="an input, as [NAME=][DTYPE:]SHAPE[:BELOW]: 1,3,224,224 or int64:1,16:1000 (integers below 1000) or "
        f"mask=bool:1,16. Once for each input; default: {without}",
    )


GUESSED = _input("a guess from the first layer")
PLANNED = _input("the plan's")
EITHER = _input("the plan's, or a guess from the first layer")
MODULE = _word("--module", action="store_true", help='the student has the model\'s own class (output="module")')
LEAF = _word(
    "--leaf",
    action="append",
    default=[],
    metavar="NAME",
    help="a submodule that stays one call in the graph; may be given several times",
)
SPEC = _word(
    "--spec",
    metavar="SPEC",
    help='what to grow: a factor (2.0), JSON (\'{"layer3.*": 1.5, "conv1": 96}\') or a .json file. '
    "An integer is a width in channels, a number with a point a factor",
)
BUDGET = (
    _word(
        "--parameters",
        metavar="NUMBER",
        help="grow to that many parameters, beside what --spec says: 2.0 is twice as many, 20000000 is a number",
    ),
    _word("--flops", metavar="NUMBER", help="instead, grow to that many FLOPs of a forward pass: 2.0, or 500e6"),
    _word("--multiple-of", type=int, metavar="CHANNELS", help="new widths are multiples of this; with one of the two"),
)
SEED = _word("--seed", type=int, default=0, help="seed of every random draw (default 0)")
METHOD = _word(
    "--method",
    metavar="METHOD",
    default=methods.DEFAULT,
    help=f"how new channels are filled: {', '.join(methods.names())}, or one that the model's file "
    "registers (default %(default)s)",
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
        "show which dimensions share one width, which can grow, and why others cannot",
        TRACED,
        (f"{NET} --input 2,1,8,8", f"""{NET} --kwargs '{{"width": 8}}' --json"""),
    ),
    Command(
        "why",
        commands.why,
        "explain why a width must stay, or why two layers share one",
        (*TRACED, _word("names", nargs="+", metavar="NAME", help="one or two layers, parameters, widths or globs")),
        (f"{NET} classifier", f"{NET} stem.0 conv2"),
    ),
    Command(
        "plan",
        commands.plan,
        "plan new widths and layers, checked to compute the same function",
        (
            *TRACED,
            SPEC,
            *BUDGET,
            _word("-o", "--out", metavar="FILE", help="write the plan there, as JSON"),
            SEED,
            METHOD,
        ),
        (
            f"{NET} --input 2,1,8,8 --spec 1.5 -o plan.json",
            f"""{NET} --spec '[{{"stage2.*": 1.5}}, {{"deepen": "conv1"}}]'""",
            f"{NET} --parameters 2.0",
        ),
    ),
    Command(
        "grow",
        commands.grow,
        "plan, grow and save a model in one step",
        (
            *TRACED,
            SPEC,
            *BUDGET,
            _word(
                "-o", "--out", metavar="FILE", required=True, help="the student to write, in the format of its suffix"
            ),
            _word("--weights", metavar="FILE", help="a checkpoint of the teacher; default: its initial weights"),
            _word("--plan-out", metavar="FILE", help="write the plan there, as JSON: `fxgrow verify` reads it"),
            SEED,
            METHOD,
        ),
        (
            f"{NET} --weights teacher.pt --spec 1.5 -o grown.safetensors --plan-out grown.json",
            f"""{NET} --spec '{{"stage2.*": 2.0}}' -o grown.pt""",
        ),
    ),
    Command(
        "summary",
        commands.summary,
        "list the layers with widths, parameters and FLOPs, before and after growth if a plan or spec is given",
        (MODEL, *PERHAPS_PLANNED),
        (f"{NET} --input 2,1,8,8", f"{NET} --plan plan.json"),
        " Coloured in a terminal if rich is installed.",
    ),
    Command(
        "draw",
        commands.draw,
        "draw the widths of a model, and what a plan or spec changes",
        (
            DRAWN,
            *PERHAPS_PLANNED,
            _word(
                "-o", "--out", metavar="FILE", required=True, help="the picture to write; the suffix decides its format"
            ),
            _word("--level", choices=("groups", "blocks", "layers", "ops"), help="the level of detail"),
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
        "apply a plan to a model, and compare teacher and student on random inputs",
        (
            MODEL,
            PLAN_FILE,
            KWARGS,
            PLANNED,
            _word("--weights", metavar="FILE", help="a checkpoint of the teacher; default: its initial weights"),
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
        "apply a plan to a checkpoint",
        (
            _word(
                "model",
                metavar="MODEL",
                nargs="?",
                help="the model is built, loaded, grown and saved; left out, the checkpoint grows file to file",
            ),
            PLAN_FILE,
            _word("teacher", metavar="TEACHER", help="to read: .safetensors, its index, or of torch.save"),
            _word("student", metavar="STUDENT", help="the checkpoint to write, in the format of its suffix"),
            KWARGS,
            PLANNED,
            _word("--threads", type=int, default=1, help="without MODEL: how many work beside each other (default: 1)"),
        ),
        (
            "plan.json teacher.safetensors student.safetensors --threads 4",
            f"{NET} plan.json teacher.pt student.pt",
        ),
        """
Without MODEL no model is built, and a checkpoint of any size takes about 100 MB of memory. Several files are given by
their index, small/model.safetensors.index.json. MODEL is needed where a plan uses methods that the model's file
registers.""",
    ),
    Command(
        "ops",
        commands.ops,
        "list the operators that have a rule, and for which mappings of channels each is exact",
        (
            _word(
                "pattern", metavar="PATTERN", nargs="?", default=EVERY, help="only these operators, rules or families"
            ),
            _word("--markdown", action="store_true", help="print docs/operators.md"),
        ),
        ("", "'*norm*'", "convolution --json"),
    ),
)
