"""Whether the tests notice small mistakes: mutants of the engine's source, and those that survive.

    python benchmarks/mutants.py --map mutants-map.json --sample 400 --out mutants.json

A first run writes the map: which tests run which lines, and how long they take. Then each mutant, drawn at random from
the folders that decide what is exact, runs in a process of its own against the tests that run its line, until one
fails. Nothing on disk is changed: the function's code is replaced in the process. Needs coverage, the extra "mutants".
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import random
import re
import resource
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, TextIO

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

from benchmarks.mutations import Mutation, mutations  # noqa: E402 - the path must be set first

FOLDERS = ("layouts", "ops", "infer", "solver", "validate", "rewrite", "methods")
# What takes minutes, starts processes, or tests pages and drawings.
NOT_RUN = {
    *(
        "test_architecture",
        "test_benchmarks",
        "test_cli",
        "test_cuda",
        "test_docs",
        "test_draw",
        "test_draw_in_browser",
    ),
    *("test_draw_looks", "test_examples", "test_experiment_data", "test_experiments", "test_fingerprints"),
    *("test_readme", "test_typing", "test_zoo"),
}
CASES = 60  # of a test that takes every net of the registry, at random
COMPLETE = "test_golden_analysis"  # but of this one all: each net has rules that no other has, and it costs little
MEMORY = 12 << 30  # bytes of address space of one mutant
KILLED, TIMED_OUT, SURVIVED = "killed", "timed out", "survived"
PAGES = {"page"}  # modules that write documentation


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        mutant: Where it is and what it changes.
        result: `KILLED`, `TIMED_OUT` or `SURVIVED`.
        by: The test that failed.
        tests: How many tests were run.
        seconds: How long they took.
    """

    mutant: str
    result: str
    by: str
    tests: int
    seconds: float


# -- which tests run which lines ---------------------------------------------------------------------------------------


class Mapper:
    """A plugin of pytest that notes for each test how long it takes and which lines of the engine it runs."""

    def __init__(self) -> None:
        self._coverage = importlib.import_module("coverage").Coverage(
            data_file=None, source=[str(ROOT / "fxgrow")], config_file=False
        )
        self.seconds: dict[str, float] = {}
        self._failed: set[str] = set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        by_function = defaultdict(list)
        for item in items:
            takes_all = item.get_closest_marker("xdist_group") is not None and COMPLETE not in item.nodeid
            by_function[item.nodeid.partition("[")[0] if takes_all else item.nodeid].append(item)
        draw = random.Random(0)
        kept = {id(item) for cases in by_function.values() for item in draw.sample(cases, min(CASES, len(cases)))}
        items[:] = [item for item in items if id(item) in kept]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._coverage.start()
        self._coverage.switch_context(item.nodeid)
        before = time.perf_counter()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.perf_counter() - before
            self._coverage.stop()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.add(report.nodeid)

    def record(self) -> dict[str, Any]:
        """The seconds by test; and by file and line, the numbers of the tests in that order."""
        data = self._coverage.get_data()
        self.seconds = {name: spent for name, spent in self.seconds.items() if name not in self._failed}
        numbers = {name: number for number, name in enumerate(self.seconds)}
        lines = {
            str(Path(path).relative_to(ROOT)): {
                line: sorted(numbers[name] for name in names if name in numbers)
                for line, names in data.contexts_by_lineno(path).items()
            }
            for path in data.measured_files()
        }
        return {"seconds": self.seconds, "lines": lines}


def make_map(path: Path, chosen: Sequence[str]) -> None:
    """Run the tests once and write the map; tests that fail without any mutant judge none."""
    mapper = Mapper()
    pytest.main(["-q", "--thorough", "-p", "no:cacheprovider", *chosen], plugins=[mapper])
    if not mapper.seconds:
        raise SystemExit("error: no test passed, so no mutant can be judged")
    path.write_text(json.dumps(mapper.record()))


# -- which mutants, against which tests --------------------------------------------------------------------------------


def drawn(count: int, seed: int, lines: Mapping[str, Mapping[str, Sequence[int]]]) -> list[Mutation]:
    """Mutants at random, from each folder by its share of all, of lines that some test runs."""
    found = [
        mutant
        for folder in FOLDERS
        for path in sorted((ROOT / "fxgrow" / folder).glob("*.py"))
        if path.stem not in PAGES
        for mutant in mutations(path)
        if tests_of(mutant, lines)
    ]
    return random.Random(seed).sample(found, min(count, len(found)))


def tests_of(mutant: Mutation, lines: Mapping[str, Mapping[str, Sequence[int]]]) -> set[int]:
    """The numbers of the tests that run the changed lines."""
    of_file = lines.get(str(mutant.path.relative_to(ROOT)), {})
    return {number for line in range(mutant.line, mutant.last + 1) for number in of_file.get(str(line), ())}


def in_turn(names: Iterable[str], seconds: Mapping[str, float], limit: float, about: str = "") -> list[str]:
    """Tests in an order that soon tries each function, its quickest case first, up to a number of seconds in all.

    Args:
        names: Of the tests.
        seconds: How long each takes.
        limit: The seconds in all.
        about: The changed place. Tests whose names share a word with it are first: they are likely to see the change.
    """
    wanted = _words(about)
    by_function = defaultdict(list)
    for name in sorted(names, key=seconds.__getitem__):
        by_function[name.partition("[")[0]].append(name)
    turns = sorted(
        (-len(wanted & _words(function)), turn, seconds[name], name)
        for function, cases in by_function.items()
        for turn, name in enumerate(cases)
    )
    taken, total = [], 0.0
    for *_, cost, name in turns:
        if not taken or total + cost <= limit:
            taken.append(name)
            total += cost
    return taken


def _words(text: str) -> set[str]:
    """The words of a name, without their ends: "sizes_of_inputs" and "size" share one."""
    return {word[:5] for word in re.findall("[a-z]{4,}", text.lower())} - {"tests", "test_", "fxgro"}


# -- running one -------------------------------------------------------------------------------------------------------


class Judge:
    """A plugin of pytest that judges mutants, in processes that hold the collected tests, instead of running those."""

    def __init__(
        self, mutants: Sequence[Mutation], record: Mapping[str, Any], limit: float, jobs: int, out: Path
    ) -> None:
        self.outcomes = [Outcome(**outcome) for outcome in json.loads(out.read_text())] if out.exists() else []
        judged = {outcome.mutant for outcome in self.outcomes}
        self.mutants = [mutant for mutant in mutants if _said(mutant) not in judged]
        self.record, self.limit, self.jobs, self.out = record, limit, jobs, out

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        running: dict[int, tuple[Mutation, int]] = {}
        gc.freeze()  # so that children share the memory
        for mutant in self.mutants:
            if len(running) >= self.jobs:
                self._await(running)
            read, write = os.pipe()
            child = os.fork()
            if not child:
                os.close(read)
                _run_and_exit(session, mutant, self._tests(session, mutant), write, self.limit)
            os.close(write)
            running[child] = mutant, read
        while running:
            self._await(running)
        return True

    def _tests(self, session: pytest.Session, mutant: Mutation) -> list[pytest.Item]:
        names = list(self.record["seconds"])
        covering = [names[number] for number in tests_of(mutant, self.record["lines"])]
        items = {item.nodeid: item for item in session.items}
        about = f"{mutant.path.stem} {mutant.function}"
        return [items[name] for name in in_turn(covering, self.record["seconds"], self.limit, about) if name in items]

    def _await(self, running: dict[int, tuple[Mutation, int]]) -> None:
        child, status = os.wait()
        mutant, read = running.pop(child)
        with os.fdopen(read) as pipe:
            said = [line.split("\t") for line in pipe.read().splitlines()]
        tests = sum(1 for kind, *_ in said if kind == "test")
        seconds = float(next((line[1] for line in said if line[0] == "seconds"), 0.0))
        failed = next((line[1] for line in said if line[0] == "failed"), "")
        for broken in (line[1] for line in said if line[0] == "broken"):
            pytest.exit(f"{mutant} was not judged: {broken}", 2)
        if os.WIFSIGNALED(status):
            result = TIMED_OUT if os.WTERMSIG(status) in (signal.SIGALRM, signal.SIGXCPU) else KILLED
            failed = failed or f"signal {os.WTERMSIG(status)}"
        else:
            result = KILLED if failed else SURVIVED
        outcome = Outcome(_said(mutant), result, failed, tests, round(seconds, 1))
        self.outcomes.append(outcome)
        self.out.write_text(json.dumps([asdict(outcome) for outcome in self.outcomes], indent=1) + "\n")
        print(f"{len(self.outcomes)} {outcome.result:9} {outcome.mutant} [{failed}]", flush=True)


def _said(mutant: Mutation) -> str:
    """A mutant in words, with its path from the top of the repository."""
    return str(mutant).removeprefix(f"{ROOT}/")


def _run_and_exit(
    session: pytest.Session, mutant: Mutation, items: Sequence[pytest.Item], write: int, limit: float
) -> None:
    """In a child: put the mutant in place, run tests until one fails, tell the parent, and end."""
    with os.fdopen(write, "w", buffering=1) as pipe, _told(pipe):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        signal.alarm(int(4 * limit) + 60)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1), os.dup2(nowhere, 2)
        importlib.import_module(".".join(mutant.path.relative_to(ROOT).with_suffix("").parts))
        replace_code(mutant.code())
        before = time.perf_counter()
        for item, later in zip(items, [*items[1:], None], strict=True):
            pipe.write(f"test\t{item.nodeid}\n")
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=later)
            if session.testsfailed:
                pipe.write(f"failed\t{item.nodeid}\n")
                break
        pipe.write(f"seconds\t{time.perf_counter() - before}\n")
    os._exit(0)


@contextlib.contextmanager
def _told(pipe: TextIO) -> Iterator[None]:
    """Tell the parent of an exception outside the tests: then the mutant was not judged."""
    try:
        yield
    except BaseException as error:  # noqa: BLE001 - the parent ends with it
        pipe.write(f"broken\t{error!r}\n")


def replace_code(changed: CodeType) -> None:
    """Give every function that was made from the original of a code object the changed one."""
    place = (changed.co_filename, changed.co_qualname, changed.co_firstlineno)
    gc.unfreeze()
    found = [
        function
        for function in gc.get_objects()
        if type(function) is FunctionType  # `isinstance` would ask some objects of torch for a deprecated class
        and (function.__code__.co_filename, function.__code__.co_qualname, function.__code__.co_firstlineno) == place
    ]
    if not found:
        raise LookupError(f"no function of {place}")
    for function in found:
        function.__code__ = changed


# -- what came out -----------------------------------------------------------------------------------------------------


def table(outcomes: Sequence[Outcome]) -> str:
    """The counts by folder, as Markdown."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        counts[outcome.mutant.split("/")[1]][outcome.result] += 1
    counts["all"] = sum(counts.values(), Counter())
    rows = ["| folder | mutants | killed | timed out | survived | noticed |", "|---|---|---|---|---|---|"]
    for folder, of_folder in counts.items():
        total = of_folder.total()
        noticed = 100 * (total - of_folder[SURVIVED]) / total
        cells = (folder, total, of_folder[KILLED], of_folder[TIMED_OUT], of_folder[SURVIVED], f"{noticed:.0f} %")
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)


def main() -> None:
    """Judge mutants and print the survivors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--map", type=Path, required=True, help="which tests run which lines; written if not there")
    parser.add_argument("--sample", type=int, default=400, help="how many mutants (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="of tests for each mutant (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes beside each other (default: %(default)s)")
    parser.add_argument("--only", default="", help="only mutants whose description holds this text")
    parser.add_argument("--out", type=Path, required=True, help="the outcomes, as JSON; those that it holds stay")
    options = parser.parse_args()
    os.chdir(ROOT)
    os.environ["HYPOTHESIS_PROFILE"] = "ci"  # the same examples each time, and none is kept
    files = [
        str(path)
        for path in sorted((ROOT / "tests").glob(os.environ.get("T", "test_*.py")))
        if path.stem not in NOT_RUN
    ]
    if not options.map.exists():
        make_map(options.map, files)
    record = json.loads(options.map.read_text())
    mutants = [m for m in drawn(options.sample, options.seed, record["lines"]) if options.only in str(m)]
    judge = Judge(mutants, record, options.seconds, options.jobs, options.out)
    quiet = ["-q", "--thorough", "-p", "no:cacheprovider", "-s", "-x"]
    if code := pytest.main([*quiet, *files], plugins=[judge]):
        raise SystemExit(code)
    print(*(f"{o.mutant} ({o.tests} tests)" for o in judge.outcomes if o.result == SURVIVED), sep="\n")
    print(table(judge.outcomes))


if __name__ == "__main__":
    main()
