"""A call that takes long shows a progress bar on a terminal, and nothing of it stays; any other call shows none."""

from __future__ import annotations

import contextlib
import importlib
import io
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow import methods
from fxgrow.base import progress, progress_bar
from fxgrow.cli.main import main
from fxgrow.report import compare
from fxgrow.rewrite import fill
from tests.check import randomise
from tests.nets import NETS
from tests.test_leaves_nothing import changed_by
from tests.untouched import assert_untouched

X = torch.randn(2, 3, 6, 8)
HIDDEN, BACK = "\x1b[?25l", "\x1b[?25h"  # the cursor
REMOVED = f"{BACK}\r\x1b[1A\x1b[2K"  # the cursor is back, at the start of the line of the bar, which is empty
LIMIT = 30  # seconds until a test that waits for a bar fails


class Terminal(io.StringIO):
    """A terminal that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn = threading.Event()

    def isatty(self) -> bool:
        return super().isatty() or True  # a closed one raises an error

    def write(self, text: str) -> int:
        number = super().write(text)
        if "━" in text:
            self.drawn.set()
        return number

    def wait(self) -> None:
        """Wait until a bar has been drawn."""
        assert self.drawn.wait(LIMIT), "no bar is drawn"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal as standard error."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "RANK", "JUPYTER_COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    made = Terminal()
    _set_stderr(made, monkeypatch)
    return made


def _set_stderr(stream: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard error for the bar alone: pytest sets that of the process between fixtures and tests."""
    monkeypatch.setattr(progress_bar, "sys", SimpleNamespace(stderr=stream))


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two seconds are over when a call begins."""
    pytest.importorskip("rich", reason="rich is an extra")
    monkeypatch.setattr(progress_bar, "PATIENCE", 0.0)
    monkeypatch.setattr(progress_bar, "EVERY", 0.001)


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two seconds are never over."""
    monkeypatch.setattr(progress_bar, "PATIENCE", LIMIT)


def _bars() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "fxgrow progress"]


IN_FORWARD: list[Callable[[], object]] = []  # what the code of `Net` calls; not an attribute, which would be copied


@contextlib.contextmanager
def in_forward(call: Callable[[], object]) -> Iterator[None]:
    """A context in which the code of `Net` calls a function."""
    IN_FORWARD.append(call)
    try:
        yield
    finally:
        IN_FORWARD.remove(call)


class Net(nn.Module):
    """Calls what a test wants to be called while fxgrow is at work."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        for call in IN_FORWARD:
            call()
        return self.b(self.norm(self.a(x)))


def _net() -> Net:
    return randomise(Net())


def _draw(model: nn.Module, **how: Any) -> object:
    return fxgrow.draw(model, level="groups", example_inputs=X, **how)


CALLS: dict[str, Callable[..., object]] = {
    "trace": lambda model, **how: fxgrow.trace(model, X, **how),
    "widths": lambda model, **how: fxgrow.widths(model, X, **how),
    "grow": lambda model, **how: fxgrow.grow(model, 2.0, X, **how),
    "grow as a module": lambda model, **how: fxgrow.grow(model, 2.0, X, output="module", **how),
    "verify": lambda model, **how: fxgrow.verify(model, model, X, **how),
    "summary": lambda model, **how: fxgrow.summary(model, X, **how),
    "draw": _draw,
}


# -- shown -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_takes_long_shows_one_bar_and_removes_it(call: str, terminal: Terminal) -> None:
    with in_forward(terminal.wait):
        CALLS[call](_net())
    text = terminal.getvalue()
    assert text.count(HIDDEN) == text.count(BACK) == 1
    assert text.endswith(REMOVED)
    assert not _bars()


@pytest.mark.usefixtures("late")
def test_a_bar_names_the_step_and_its_share(terminal: Terminal) -> None:
    with progress_bar.shown(None), progress.step("plan 1 of 2"), progress.step("filling", 8):
        progress.advance(2)
        terminal.wait()
    assert "plan 1 of 2: filling" in terminal.getvalue()
    assert " 25%" in terminal.getvalue()


@pytest.mark.usefixtures("late")
def test_a_bar_is_shown_where_the_argument_says_so(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "isatty", lambda: False)
    with in_forward(terminal.wait):
        fxgrow.grow(_net(), 2.0, X, progress=True)
    assert terminal.getvalue().endswith(REMOVED)


@pytest.mark.usefixtures("late")
def test_a_chain_of_plans_shows_one_bar(terminal: Terminal) -> None:
    teacher = _net()
    first = fxgrow.plan(fxgrow.widths(teacher, X), 2.0)
    second = fxgrow.plan(fxgrow.widths(fxgrow.apply(first, teacher), X), 2.0)
    for given in ([first, second], first.then(second)):
        terminal.drawn.clear(), terminal.seek(0), terminal.truncate()
        with in_forward(terminal.wait):
            fxgrow.apply(given, teacher)
        text = terminal.getvalue()
        assert "plan 1 of 2" in text
        assert text.count(HIDDEN) == text.count(BACK) == 1


@pytest.mark.usefixtures("late")
def test_a_call_from_a_thread_shows_a_bar(terminal: Terminal) -> None:
    with in_forward(terminal.wait):
        thread = threading.Thread(target=fxgrow.grow, args=(_net(), 2.0, X))
        thread.start()
        thread.join()
    assert terminal.getvalue().endswith(REMOVED)
    assert not _bars()


@pytest.mark.usefixtures("late")
def test_two_calls_at_once_never_draw_at_the_same_time(terminal: Terminal) -> None:
    def wait() -> None:
        with progress_bar.shown(None), progress.step("waiting"):
            terminal.wait()

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cursor = [mark for mark in terminal.getvalue().split("\x1b[") if mark.startswith("?25")]
    assert [mark[:4] for mark in cursor] == ["?25l", "?25h"] * (len(cursor) // 2)


@pytest.mark.usefixtures("late")
def test_a_call_inside_another_adds_to_its_bar(terminal: Terminal) -> None:
    with in_forward(lambda: fxgrow.widths(nn.Linear(4, 4))), in_forward(terminal.wait):
        fxgrow.widths(_net(), X)
    assert terminal.getvalue().count(HIDDEN) == 1


# -- not shown ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("early")
@pytest.mark.parametrize("call", CALLS)
def test_a_quick_call_shows_nothing(call: str, terminal: Terminal) -> None:
    CALLS[call](_net())
    assert terminal.getvalue() == ""
    assert not _bars()


def _none_at_work(call: Callable[[], object]) -> bool:
    """Whether a call looks after no bar at all, however long it takes."""
    seen: list[str] = []
    with in_forward(lambda: seen.extend(_bars())):
        call()
    return not seen


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("call", CALLS)
def test_no_bar_is_shown_where_the_argument_says_so(call: str, terminal: Terminal) -> None:
    assert _none_at_work(lambda: CALLS[call](_net(), progress=False))
    assert terminal.getvalue() == ""
    assert not _none_at_work(lambda: CALLS[call](_net()))  # so the check can fail


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("call", CALLS)
def test_no_bar_is_shown_where_there_is_no_terminal(
    call: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "isatty", lambda: False)
    assert _none_at_work(lambda: CALLS[call](_net()))
    assert terminal.getvalue() == ""


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("stream", [None, object()], ids=["none", "no stream"])
def test_no_bar_is_shown_where_there_is_no_standard_error(stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _set_stderr(stream, monkeypatch)
    assert _none_at_work(lambda: fxgrow.grow(_net(), 2.0, X))


@pytest.mark.usefixtures("late")
def test_no_bar_is_shown_where_standard_error_is_closed(terminal: Terminal) -> None:
    terminal.close()
    assert _none_at_work(lambda: fxgrow.grow(_net(), 2.0, X))


@pytest.mark.usefixtures("late", "terminal")
def test_of_several_processes_the_first_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert _none_at_work(lambda: fxgrow.grow(_net(), 2.0, X))
    monkeypatch.setenv("RANK", "0")
    assert not _none_at_work(lambda: fxgrow.grow(_net(), 2.0, X))


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("wanted", [None, True])
def test_without_rich_a_call_goes_on_without_a_bar(
    wanted: bool | None, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    missed = threading.Event()

    def without(name: str) -> Any:
        if name.startswith("rich"):
            missed.set()
            raise ModuleNotFoundError(name)
        return importlib.import_module(name)

    monkeypatch.setattr(progress_bar, "import_module", without)
    with in_forward(lambda: missed.wait(LIMIT)):
        student = fxgrow.grow(_net(), 2.0, X, progress=wanted)
    assert missed.is_set()
    assert student.get_submodule("a").out_channels == 12
    assert terminal.getvalue() == ""


@pytest.mark.usefixtures("late")
def test_a_terminal_that_is_gone_stops_no_call(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = threading.Event()

    def write(_: str) -> int:
        tried.set()
        raise BrokenPipeError

    monkeypatch.setattr(terminal, "write", write)
    with in_forward(lambda: tried.wait(LIMIT)):
        assert fxgrow.grow(_net(), 2.0, X).get_submodule("a").out_channels == 12
    assert tried.is_set()
    assert not _bars()


@pytest.mark.usefixtures("late", "terminal")
def test_a_system_without_a_thread_to_spare_stops_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert fxgrow.grow(_net(), 2.0, X).get_submodule("a").out_channels == 12


@pytest.mark.parametrize("wanted", ["yes", 1, 0.0, []], ids=repr)
@pytest.mark.parametrize("call", CALLS)
def test_progress_is_a_bool_or_none(call: str, wanted: Any) -> None:
    with pytest.raises(fxgrow.GrowError, match="progress is True, False or None"):
        CALLS[call](_net(), progress=wanted)


# -- Ctrl-C ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, as it does in a program; a process of pytest-xdist ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _interrupted_in(module: Any, name: str, terminal: Terminal, number: int) -> Callable[..., Any]:
    """A function of a module, during whose n-th call Ctrl-C is pressed, after a bar has been drawn."""
    original, calls = getattr(module, name), []

    def function(*args: Any) -> Any:
        calls.append(None)
        if len(calls) == number:
            terminal.wait()
            signal.raise_signal(signal.SIGINT)
        return original(*args)

    return function


@pytest.mark.usefixtures("late", "ctrl_c")
@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize(("stage", "module", "name"), [("fill", fill, "_gather"), ("verify", compare, "_gathered")])
def test_ctrl_c_leaves_no_bar_and_changes_nothing(
    stage: str, module: Any, name: str, number: int, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = _net()
    student = fxgrow.grow(teacher, 2.0, X)
    terminal.drawn.clear(), terminal.seek(0), terminal.truncate()
    monkeypatch.setattr(module, name, _interrupted_in(module, name, terminal, number))

    def call() -> object:
        return fxgrow.grow(teacher, 2.0, X) if stage == "fill" else fxgrow.verify(teacher, student, X)

    with assert_untouched(teacher), assert_untouched(student), pytest.raises(KeyboardInterrupt):
        call()
    assert terminal.getvalue().endswith(REMOVED)
    assert not _bars()
    assert progress.current() is None


@pytest.mark.usefixtures("late", "ctrl_c")
def test_ctrl_c_leaves_the_process_as_it_was(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill, "_gather", _interrupted_in(fill, "_gather", terminal, 2))
    streams, teacher = (sys.stdout, sys.stderr), _net()
    assert not changed_by(lambda: fxgrow.grow(teacher, 2.0, X))
    assert (sys.stdout, sys.stderr) == streams
    assert terminal.getvalue().endswith(REMOVED)


@pytest.mark.usefixtures("late")
def test_a_call_that_fails_leaves_no_bar(terminal: Terminal) -> None:
    def fail() -> None:
        terminal.wait()
        raise RuntimeError("no forward today")

    with in_forward(fail), pytest.raises(fxgrow.GrowError, match="no forward today"):
        fxgrow.grow(_net(), 2.0, X)
    assert terminal.getvalue().endswith(REMOVED)
    assert not _bars()


# -- nothing but the bar -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("late")
def test_a_bar_changes_no_student_and_draws_no_random_number(terminal: Terminal) -> None:
    teacher = _net()
    random.seed(3)
    before = random.getstate()
    with in_forward(terminal.wait):
        student = fxgrow.grow(teacher, 2.0, X)
    assert random.getstate() == before
    quiet = fxgrow.grow(teacher, 2.0, X, progress=False)
    assert student.state_dict().keys() == quiet.state_dict().keys()
    assert all(torch.equal(tensor, quiet.state_dict()[name]) for name, tensor in student.state_dict().items())
    assert fxgrow.plan_of(student) == fxgrow.plan_of(quiet)


@pytest.mark.usefixtures("late")
def test_while_a_bar_is_drawn_no_random_number_is_drawn(terminal: Terminal) -> None:
    """Else it would be taken for one of the model's."""
    importlib.import_module("rich.progress")
    before = random.getstate()
    with progress_bar.shown(None), progress.step("filling", 8):
        terminal.wait()
        assert random.getstate() == before
    assert random.getstate() == before


@pytest.mark.usefixtures("late")
def test_standard_output_and_error_stay_the_users_own(terminal: Terminal) -> None:
    seen: list[object] = []

    def look() -> None:
        terminal.wait()
        seen.extend([sys.stdout, sys.stderr])

    streams = [sys.stdout, sys.stderr]
    with in_forward(look):
        fxgrow.trace(_net(), X)
    assert seen[:2] == streams


# -- what the stages report --------------------------------------------------------------------------------------------


class Record(progress.Progress):
    """Notes how much of each step was done when it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[str, float, float | None]] = []

    def left(self, step: progress.Step) -> None:
        self.steps.append((step.path, step.done, step.total))
        super().left(step)


def reported(call: Callable[[], object]) -> dict[str, float]:
    """The steps of a call whose amount of work is known; all of it must have been done, and not more."""
    record = Record()
    with progress.kept_in(record):
        call()
    assert record.step is None
    known = {path: (done, total) for path, done, total in record.steps if total is not None}
    for path, (done, total) in known.items():
        assert done == pytest.approx(total, rel=1e-9), path
    return {path: total for path, (_, total) in known.items()}


REPORTING = ("res_net", "vision_transformer", "grouped2d", "recurrent_lstm", "auxiliary_head", "scaled_by_mode")
GROWING = {"inference", "planning: filling", "planning: checking", "filling"}


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize(
    "net", ["res_net", "vision_transformer", "grouped2d", "recurrent_lstm", "auxiliary_head", "scaled_by_mode"]
)
def test_the_reports_of_growth_add_up(net: str, output: Any) -> None:
    teacher = randomise(NETS[net].make())
    steps = reported(lambda: fxgrow.grow(teacher, 2.0, NETS[net].inputs(), output=output))
    assert steps.keys() >= GROWING
    assert steps["filling"] == sum(t.numel() * t.element_size() for t in teacher.state_dict().values())


@pytest.mark.parametrize("method", methods.names())
def test_the_reports_of_each_method_add_up(method: str) -> None:
    wide = nn.Sequential(nn.Linear(3, 700), nn.LayerNorm(700), nn.ReLU(), nn.Linear(700, 300), nn.Linear(300, 2))
    steps = reported(lambda: fxgrow.grow(randomise(wide), 2.0, torch.randn(2, 3), method=method))
    assert steps.keys() >= GROWING


def test_the_reports_of_other_requests_add_up() -> None:
    batches = [torch.randn(4, 3, 6, 8) for _ in range(2)]
    spec = [fxgrow.Widen("*", 1.5), fxgrow.Deepen("a", norm="batch", calibrated=True), fxgrow.Outputs(6)]
    steps = reported(lambda: fxgrow.grow(_net(), spec, X, calibration=batches))
    assert steps.keys() >= GROWING


def test_the_reports_of_a_chain_add_up() -> None:
    teacher = _net()
    first = fxgrow.plan(fxgrow.widths(teacher, X), 2.0)
    second = fxgrow.plan(fxgrow.widths(fxgrow.apply(first, teacher), X), 2.0)
    steps = reported(lambda: fxgrow.apply([first, second], teacher))
    assert steps.keys() >= {"plan 1 of 2: filling", "plan 2 of 2: filling"}
    assert "applying: filling" in reported(lambda: fxgrow.apply(first, teacher))


def test_the_reports_of_verify_add_up() -> None:
    teacher = _net()
    student = fxgrow.grow(teacher, 2.0, X)
    steps = reported(lambda: fxgrow.verify(teacher, student, X))
    assert steps.keys() >= {"comparing outputs", "comparing nodes"}
    changed = fxgrow.grow(teacher, 2.0, X, method="noise")
    assert "comparing with float64" in reported(lambda: fxgrow.verify(teacher, changed, X))


def test_drawings_and_summaries_report_their_steps(tmp_path: Path) -> None:
    for call in (lambda: fxgrow.draw(_net(), tmp_path / "net.html", example_inputs=X), lambda: fxgrow.summary(_net())):
        record = Record()
        with progress.kept_in(record):
            call()
        assert {"tracing", "inference"} <= {path for path, _, _ in record.steps}


def test_steps_are_left_where_a_call_is_given_up() -> None:
    record = Record()
    with progress.kept_in(record), contextlib.suppress(KeyboardInterrupt), progress.step("a"), progress.step("b", 2):
        progress.advance()
        raise KeyboardInterrupt
    assert record.step is None
    assert record.steps == [("a: b", 1, 2), ("a", 0, None)]


def test_where_nobody_listens_nothing_is_kept() -> None:
    progress.advance()
    with progress.step("filling", 8):
        progress.advance(2)
        assert progress.current() is None


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model for the command line, whose code is that of `Net`."""
    (tmp_path / "watched.py").write_text("from tests.test_progress import Net\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return "watched.py:Net"


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("command", ["widths", "summary"])
def test_a_command_shows_a_bar_unless_it_is_told_not_to(
    command: str, model: str, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [command, model, "--input", "2,3,6,8"]
    assert _none_at_work(lambda: main([*words, "--no-progress"]))
    assert terminal.getvalue() == ""
    quiet = capsys.readouterr().out
    with in_forward(terminal.wait):
        assert main(words) == 0
    assert terminal.getvalue().endswith(REMOVED)
    assert capsys.readouterr().out == quiet
