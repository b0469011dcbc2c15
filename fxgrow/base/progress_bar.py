"""A progress bar on the terminal for calls that take long, drawn by rich where that is installed.

A thread of its own draws it. So the call only counts, a long computation does not hold up the bar, and Ctrl-C, which
interrupts the main thread, cannot interrupt the removal of the bar.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from ..errors import GrowError
from .progress import Progress, Step, current, kept_in

PATIENCE = 2.0  # seconds that a call may take without a bar
EVERY = 0.1  # seconds between two pictures of the bar

log = logging.getLogger("fxgrow")

_screen = threading.Lock()  # held by the bar that is shown: calls in several threads show theirs one after another


@contextmanager
def shown(wanted: bool | None) -> Iterator[None]:
    """A context whose steps are shown as a progress bar on standard error, if it takes more than `PATIENCE`.

    Inside another such context it adds its steps to the bar of that one.

    Args:
        wanted: None: where standard error is a terminal, and of several processes (`RANK`) in the first only; True:
            also where it does not say that it is one; False: never. Without rich there is no bar.

    Raises:
        GrowError: `wanted` is none of these.
    """
    if wanted is not None and not isinstance(wanted, bool):
        raise GrowError(f"progress is True, False or None, not {wanted!r:.80}")
    if current() is not None:
        yield
        return
    progress = Progress()
    with kept_in(progress):
        if not (_is_terminal() if wanted is None else wanted):
            yield
            return
        bar = _Bar(progress, sys.stderr, forced=wanted is True)
        try:
            bar.start()
            yield
        finally:
            bar.stop()


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty() and os.environ.get("RANK", "0") == "0"
    except (AttributeError, ValueError):  # there is no standard error, or it is closed
        return False


class _Bar:
    """Shows the progress of a call from a thread of its own.

    Args:
        progress: What the call tells.
        stream: Where the bar is drawn.
        forced: Whether it is a terminal in any case.
    """

    def __init__(self, progress: Progress, stream: Any, *, forced: bool) -> None:
        self._progress, self._stream, self._forced = progress, stream, forced
        self._over = threading.Event()
        # no daemon: the program does not end before the bar is removed and the cursor is back
        self._thread = threading.Thread(target=self._run, name="fxgrow progress", daemon=False)

    def start(self) -> None:
        """Begin to wait."""
        try:
            self._thread.start()
        except RuntimeError:  # the system has no thread to spare: there is no bar
            log.debug("no progress bar", exc_info=True)

    def stop(self) -> None:
        """Remove the bar, if there is one."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            if not self._ends_within(PATIENCE):
                self._show()
        except Exception:
            log.debug("no progress bar", exc_info=True)

    def _ends_within(self, seconds: float) -> bool:
        """Wait, and tell whether the call, or the program, ended meanwhile."""
        return self._over.wait(seconds) or not threading.main_thread().is_alive()

    def _show(self) -> None:
        """Draw the bar until the call ends, then remove it.

        Raises:
            ImportError: rich is not installed.
            Exception: Whatever the stream raises, such as `BrokenPipeError`.
        """
        rich, console = import_module("rich.progress"), import_module("rich.console")
        terminal = console.Console(file=self._stream, force_terminal=self._forced or None)
        terminal.on_broken_pipe = _raise  # rich's own ends the program, and its standard output
        bar = rich.Progress(
            rich.TextColumn("{task.description}", markup=False),
            rich.BarColumn(),
            rich.TaskProgressColumn(),
            rich.TimeElapsedColumn(),
            console=terminal,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,  # these are the user's code's as well
            redirect_stderr=False,
        )
        while not (step := self._progress.step) or not _screen.acquire(blocking=False):
            if self._ends_within(EVERY):
                return
        try:
            bar.add_task(step.path, total=step.total)
            bar.tasks[0].start_time -= PATIENCE
            with bar:
                self._draw_until_over(bar, step)
        finally:
            _screen.release()

    def _draw_until_over(self, bar: Any, step: Step) -> None:
        shown = bar.tasks[0]
        while True:
            step = self._progress.step or step
            # not by `bar.update`, which takes no total back
            shown.description, shown.total, shown.completed = step.path, step.total, step.done
            bar.refresh()
            if self._ends_within(EVERY):
                return


def _raise() -> None:
    raise BrokenPipeError
