"""Random programs grow exactly, or are refused with a reason. `--fuzz-minutes 30` tries others for half an hour."""

import random
import time

import pytest

from fxgrow.rewrite import fill
from tests.random_programs import Tally, judge, program, shrunk

SEEDS = range(60)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_program_grows_exactly_or_is_refused(seed: int) -> None:
    outcome, text = judge(program(seed), seed)
    assert outcome not in ("wrong", "crash"), f"{text}\n{program(seed).source}"


def test_most_random_programs_run_and_grow() -> None:
    """The generator itself: what it makes is worth trying."""
    tally = Tally()
    for seed in SEEDS:
        tally.add(seed)
    assert tally.counts.get("no program", 0) < len(SEEDS) / 10
    assert tally.grown > len(SEEDS) / 3


def test_damaged_students_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge itself: students that compute something else are wrong, another exception is a crash."""
    seeds = [seed for seed in range(20) if judge(program(seed), seed) == ("exact", "grown")]
    monkeypatch.setattr(fill, "_by_method", lambda planned, grown, *rest: grown.fill_(0.1))
    wrong = [seed for seed in seeds if judge(program(seed), seed)[0] == "wrong"]  # others do not return what grows
    assert len(wrong) > len(seeds) / 2
    monkeypatch.setattr(fill, "_gather", lambda *arguments: {}["an error"])
    assert judge(program(wrong[0]), wrong[0])[0] == "crash"


def test_other_random_programs_for_as_long_as_asked(request: pytest.FixtureRequest) -> None:
    minutes = request.config.getoption("--fuzz-minutes")
    if not minutes:
        pytest.skip("--fuzz-minutes says how long")
    tally, seed, end = Tally(), random.randrange(1 << 40), time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        tally.add(seed)
        seed += 1
    tried = f"{sum(tally.counts.values())} programs: {tally.counts}; of the exact ones {tally.grown} have wider layers"
    request.config.get_terminal_writer().line(tried)
    shown = [f"{text}\n{shrunk(program(number), number).source}" for number, _, text in tally.faults[:5]]
    assert not tally.faults, "\n\n".join(shown)
