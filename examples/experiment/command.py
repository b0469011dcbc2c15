"""The command line of an experiment: data, seeds, where to write, and what a killed run goes on from."""

import argparse
import hashlib
import json
import platform
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from experiment.arguments import count, device
from experiment.data import NAMES, DataError, load
from experiment.figures import save
from experiment.glyphs import DIFFICULTIES
from experiment.runs import Experiment, FunctionChangedError, Outcome, perform, seconds_an_epoch
from experiment.summary import accuracy_table, cost_table, loss_table, panels, styles
from experiment.tables import Table
from experiment.training import Record

QUICK_IMAGES = 256


def main(experiment: Experiment, argv: Sequence[str] | None = None) -> int:
    """Run an experiment, or what is left of it, and say what it gave; the exit status."""
    args = _arguments(experiment, argv)
    if args.quick:
        runs = tuple(replace(run, epochs=1) for run in experiment.runs)
        experiment = replace(experiment, runs=runs)
    # Sums of float32 products, not of rounded ones: growing must change no prediction on a GPU either.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        difficulty = DIFFICULTIES[args.difficulty]
        data = load(args.data, args.folder, args.train, args.test, difficulty=difficulty).to(args.device)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.time:
        rows = ((run.name, f"{seconds_an_epoch(experiment, run, data):.1f}") for run in experiment.runs)
        print(Table(("run", "seconds an epoch"), tuple(rows)))
        return 0
    settings = _settings(experiment, args, len(data.train_x), len(data.test_x))
    folder = args.out / experiment.name / _key(settings)
    record = Record(folder / "record.json", settings)
    try:
        outcomes = perform(experiment, data, range(args.seeds), record, bars=not args.no_bars)
    except FunctionChangedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    picture = save(panels(experiment, outcomes, len(data.train_x)), folder / "curves.png", styles=styles(experiment))
    print(_text(experiment, outcomes, len(data.train_x)))
    print(f"\n{record.path}\n{picture}")
    if args.markdown is not None:
        _write_page(experiment, outcomes, record, picture, args.markdown, argv if argv is not None else sys.argv[1:])
    return 0


def _arguments(experiment: Experiment, argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=f"The experiment {experiment.name}. A killed run goes on with the first run that is not finished."
    )
    parser.add_argument("--data", choices=NAMES, default="glyphs", help="default: %(default)s, made on the spot")
    parser.add_argument("--folder", type=Path, help="where the data are, or are put (default: a cache of the user)")
    parser.add_argument("--difficulty", choices=DIFFICULTIES, default="hard", help="of the glyphs (default: hard)")
    parser.add_argument("--train", type=count, help=f"training images (default: 60000; with --quick {QUICK_IMAGES})")
    parser.add_argument("--test", type=count, help=f"test images (default: 10000; with --quick {QUICK_IMAGES})")
    parser.add_argument("--seeds", type=count, help="how many seeds, from 0 (default: 3; with --quick 1)")
    parser.add_argument("--device", type=device, default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_IMAGES} images, one epoch: does it run?")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where to write (default: runs)")
    parser.add_argument("--markdown", type=Path, help="also write the section of this experiment on this page")
    parser.add_argument("--time", action="store_true", help="only measure the processor time of an epoch of each net")
    parser.add_argument("--no-bars", action="store_true", help="no progress bars")
    args = parser.parse_args(argv)
    usual = (QUICK_IMAGES, QUICK_IMAGES, 1) if args.quick else (60_000, 10_000, 3)
    for name, number in zip(("train", "test", "seeds"), usual, strict=True):
        if getattr(args, name) is None:
            setattr(args, name, number)
    if args.markdown is not None and (reason := _unfit(args.markdown, experiment)):
        parser.error(f"--markdown: {reason}")  # now, not when all runs are done
    return args


def _settings(experiment: Experiment, args: argparse.Namespace, train: int, test: int) -> dict[str, Any]:
    """All that the results depend on, but for the seeds: more of them can be added later."""
    return {
        "experiment": experiment.name,
        "data": args.data,
        "difficulty": asdict(DIFFICULTIES[args.difficulty]) if args.data == "glyphs" else None,
        "train": train,
        "test": test,
        "batch": experiment.batch,
        "runs": [
            [run.name, run.epochs, run.rate, run.momentum, run.parent, repr(run.spec), run.method]
            for run in experiment.runs
        ],
        "device": torch.device(args.device).type,
        "torch": torch.__version__,
    }


def _key(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


NOTES = {
    "Test accuracy (%)": (
        "Mean ± standard deviation over the seeds. *changed*: test images that are classified differently from the net "
        "that it grew from, before the first epoch, at most over the seeds; *before*: the accuracy then."
    ),
    "Cost": (
        "FLOPs are torch's count for a forward and a backward pass, times the images. 0.0 epochs: it starts there. "
        "*epochs to teacher's*: until the test accuracy is at least the teacher's last."
    ),
    "Loss": "The mean over the training images while they are trained on, and over the test images after the epoch.",
}


def _tables(experiment: Experiment, outcomes: Sequence[Outcome], images: int) -> dict[str, Table]:
    return {
        "Test accuracy (%)": accuracy_table(experiment, outcomes),
        "Cost": cost_table(experiment, outcomes, images),
        "Loss": loss_table(experiment, outcomes),
    }


def _text(experiment: Experiment, outcomes: Sequence[Outcome], images: int) -> str:
    tables = _tables(experiment, outcomes, images)
    return "\n".join(f"\n{title}\n{NOTES[title].replace('*', '')}\n\n{table}" for title, table in tables.items())


def _section(experiment: Experiment) -> re.Pattern[str]:
    return re.compile(f"<!-- {experiment.name} -->.*<!-- /{experiment.name} -->", re.DOTALL)


def _unfit(page: Path, experiment: Experiment) -> str:
    """Why a page cannot take the figures; nothing where it can."""
    if not page.is_file():
        return f"there is no {page}"
    if len(_section(experiment).findall(page.read_text())) == 1:
        return ""
    name = experiment.name
    return f"{page} must hold <!-- {name} --> and <!-- /{name} --> once, around the section to replace"


def _write_page(
    experiment: Experiment, outcomes: Sequence[Outcome], record: Record, picture: Path, page: Path, argv: Sequence[str]
) -> None:
    """Put the figures between the page's two comments with the experiment's name, and the picture beside it."""
    name, settings = experiment.name, record.settings
    pictures = page.parent / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(picture, pictures / f"{name}.png")
    (pictures / f"{name}.json").write_text(record.text(f"{o.seed}/{o.run}" for o in outcomes))
    number, hours = len({o.seed for o in outcomes}), sum(o.seconds for o in outcomes) / 3600
    seeds = f"{number} seed{'s' if number > 1 else ''}"
    lines = [
        f"<!-- {name} -->",
        "```sh",
        f"OMP_NUM_THREADS={torch.get_num_threads()} python examples/{name}.py {' '.join(argv)}".rstrip(),
        "```",
        "",
        f"{settings['data']}, {settings['train']:,} training and {settings['test']:,} test images, {seeds}, "
        f"{hours:.1f} hours on {settings['device']}, torch {settings['torch']}, Python {platform.python_version()}. "
        f"[Every epoch](pictures/{name}.json).",
        "",
        f'<img src="pictures/{name}.png" alt="Learning curves: mean and standard deviation over {seeds}">',
    ]
    for title, table in _tables(experiment, outcomes, settings["train"]).items():
        lines += ["", f"**{title}.** {NOTES[title]}", "", table.markdown()]
    lines.append(f"<!-- /{name} -->")
    page.write_text(_section(experiment).sub(lambda _: "\n".join(lines), page.read_text()))
