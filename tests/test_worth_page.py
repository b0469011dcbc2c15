"""The arithmetic of benchmarks/worth.py on made-up curves and records with known answers, and its page."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import worth_clock, worth_run
from benchmarks.worth_analysis import Part, compared, lead, reference, saved, saved_after, smaller_net
from benchmarks.worth_fit import above_envelope, envelope, envelope_reaches, fitted, interval, resamples, saving
from benchmarks.worth_methods import methods_of
from benchmarks.worth_page import write_markdown
from benchmarks.worth_records import Records, missing
from benchmarks.worth_settings import BUDGETS, PROTOCOL, RATES, SIZES, Key

QUICK = SIZES["quick"]

# -- arithmetic ----------------------------------------------------------------------------------------


def _line(level: float, slope: float = -1.0) -> list[tuple[float, float]]:
    return [(x, level + slope * math.log2(x)) for x in (1.0, 2.0, 4.0, 8.0)]


def test_a_fit_goes_through_what_it_can_and_says_nothing_beyond() -> None:
    curve = fitted(_line(5.0))
    assert curve is not None
    assert curve.at(4) == pytest.approx(3)
    assert curve.at(16) == curve.at(0.5) == math.inf
    assert curve.at(8.03) == pytest.approx(2)  # a budget is spent to the nearest step
    assert curve.reaches(3.5) == pytest.approx(2**1.5, rel=1e-3)
    assert curve.reaches(9) == 1.0
    assert curve.reaches(1) is None
    assert fitted([(1.0, 2.0)]) is None
    assert fitted([(1.0, 2.0), (2.0, math.inf)]) is None
    bent = fitted([(4.0, 2.5), (1.0, 4.0), (2.0, 3.0)])
    assert bent is not None
    assert [bent.at(x) for x in (1, 2, 4)] == pytest.approx([4, 3, 2.5])  # through each mean
    assert bent.reaches(2.75) == pytest.approx(2**1.5)
    uneven = fitted([(1.0, 4.0), (2.0, 3.0), (4.0, 3.5), (8.0, 2.0)])
    assert uneven is not None
    assert uneven.reaches(3.0) == pytest.approx(2.0)  # the first time
    assert uneven.reaches(2.75) == pytest.approx(4 * 2**0.5)


def test_the_envelope_is_the_lowest_of_all_sizes() -> None:
    curves = [curve for points in (_line(5.0), _line(4.0, -0.25)) if (curve := fitted(points))]
    assert envelope(curves, 1) == pytest.approx(4)
    assert envelope(curves, 8) == pytest.approx(2)
    assert envelope(curves, 9) == math.inf
    assert envelope_reaches(curves, 3.75) == pytest.approx(2, rel=1e-3)
    assert envelope_reaches(curves, 1.0) is None


def test_savings_are_those_against_the_envelope() -> None:
    big, small = _line(5.0), _line(4.0, -0.25)
    found = saving(_line(4.0), [big], 3.0)  # everywhere 1 lower, so half of the FLOPs are enough
    assert found is not None
    assert found.part == pytest.approx(0.5, abs=1e-3)
    assert str(found) == "50 %"
    with_small = saving(_line(4.0), [big, small], 3.75)  # big needs 2.4 there, and small 2
    assert with_small is not None
    assert with_small.part == pytest.approx(1 - 2**0.25 / 2, abs=1e-3)
    worse = saving(_line(6.0), [big], 3.5)
    assert worse is not None
    assert worse.part == pytest.approx(-1, abs=1e-2)
    never, already = saving(_line(9.0), [big], 3.0), saving(_line(1.0), [big], 3.0)
    assert (str(never), str(already)) == ("not reached", "≥ 75 %")
    assert saving(_line(4.0), [big], 1.0) is None  # the fixed sizes were not measured there
    assert saving(_line(4.0), [], 3.0) is None


def test_bootstrap_pairs_the_seeds() -> None:
    noise = {0: 0.5, 1: -0.3, 2: 0.1, 3: 0.9}
    method = {seed: 1.0 + value for seed, value in noise.items()}
    size = {seed: 2.0 + value for seed, value in noise.items()}
    ends = interval(sorted(noise), lambda seeds: above_envelope(method, [size], seeds))
    assert ends == (pytest.approx(-1), pytest.approx(-1))  # the noise is that of the seeds, and cancels
    apart = interval(sorted(noise), lambda seeds: sum(method[seed] for seed in seeds) / len(seeds))
    assert apart is not None
    assert apart[0] < 1.3 < apart[1]
    assert interval([0, 1], lambda seeds: 0.0) is None
    assert len(resamples([0, 1, 2])) == 27
    assert len(resamples(range(9))) == 2000


def test_the_envelope_is_taken_anew_in_each_resample() -> None:
    sizes = [{0: 1.0, 1: 3.0}, {0: 3.0, 1: 1.0}]
    assert above_envelope({0: 2.0, 1: 2.0}, sizes, [0, 0]) == 1.0
    assert above_envelope({0: 2.0, 1: 2.0}, sizes, [0, 1]) == 0.0


# -- records and order ---------------------------------------------------------------------------------


def _part(tmp_path: Path, loss: Callable[[str, float, int], float], names: list[str], seeds: int = 3) -> Part:
    """Records with losses by a formula of method, budget and seed."""
    of = QUICK["images"]
    methods = methods_of(of)
    records = Records(tmp_path, of, methods, "digest")
    budgets = {name: worth_run.budget_of(of, name) for name in BUDGETS}
    for name in names:
        for budget in PROTOCOL:
            flops = budgets[budget]
            for seed in range(seeds):
                for rate in RATES:
                    value = loss(name, BUDGETS[budget], seed) + (0 if rate == 1 else 0.7)
                    growths = [
                        {"changed": 0, "predictions": 9, "loss_before": 1.0, "loss_after": 1.0, "loss_then": 0.9}
                    ] * (len(methods[name].stages) - 1)
                    found = {
                        "loss": value, "accuracy": 50.0, "flops": flops, "free_flops": 0.0, "seconds": flops / 1e6,
                        "free_seconds": 0.0, "growing": 0.1, "growths": growths,
                    }  # fmt: skip
                    records.add(Key(name, budget, rate, seed), found, "a machine")
    return Part(of, methods, records, budgets, 999, "digest")


NAMES = ["scratch", "narrow", "shallow", "small", "middle", "width-40"]
LEVELS = {"scratch": 5.0, "narrow": 5.5, "shallow": 5.7, "small": 6.0, "middle": 5.6, "width-40": 4.5}


def _loss(name: str, budget: float, seed: int) -> float:
    return LEVELS[name] - math.log2(budget) + 0.01 * seed


def test_records_give_known_savings(tmp_path: Path) -> None:
    part = _part(tmp_path, _loss, NAMES)
    assert reference(part) == "B"
    found = saved(part, "width-40", "flops")
    assert found is not None
    assert found[0].part == pytest.approx(1 - 2**-0.5, abs=1e-3)
    assert found[1] == (pytest.approx(found[0].part), pytest.approx(found[0].part))
    beside = compared(part, "width-40", "B")
    assert beside is not None
    assert (beside.difference, beside.lowest, beside.seeds) == (pytest.approx(-0.5), "scratch", (0, 1, 2))
    smaller = smaller_net(part)
    assert smaller is not None
    assert (smaller.name, smaller.budget, smaller.worse) == ("narrow", "B", pytest.approx(0.5))
    assert smaller.is_clearly_worse
    page = tmp_path / "docs" / "worth.md"
    page.parent.mkdir()
    write_markdown(page, [part], "a command")
    text = page.read_text()
    assert f"{len(NAMES) * len(PROTOCOL) * 3 * len(RATES)} of 999 runs" in text
    assert "saves 29 % of the FLOPs [29, 29]" in " ".join(text.split())
    assert "it is clearly worse, as the protocol asks for (3 spreads at B)" in " ".join(text.split())
    assert (page.parent / "pictures" / "worth.png").stat().st_size > 10_000


def test_seconds_are_compared_by_steps_that_were_timed_side_by_side(tmp_path: Path) -> None:
    """The grown run took three times as long on its day, but its steps are no slower than those of scratch."""
    measured = _part(tmp_path, _loss, NAMES)
    for key, found in measured.records.runs.items():
        slower = 3 if key.method == "width-40" else 1
        stages = len(measured.methods[key.method].stages)
        seconds = slower * found["flops"] / 1e6
        steps = [found["flops"] / 1e6 / stages] * stages
        measured.records.runs[key] = found | {"seconds": seconds, "steps": steps, "growing": 0.0}
    write_markdown(tmp_path / "worth.md", [measured], "a command")
    assert "Steps were not timed" in " ".join((tmp_path / "worth.md").read_text().split())
    times = dict.fromkeys(worth_clock.pairs_of(measured.of, measured.methods.values()), 1.0)
    timed = replace(measured, times=times)
    savings = [saved(part, "width-40", "seconds") for part in (measured, timed)]
    assert [found[0].part for found in savings if found] == pytest.approx([1 - 3 * 2**-0.5, 1 - 2**-0.5], abs=1e-3)
    write_markdown(tmp_path / "worth.md", [timed], "a command")
    assert "Steps were not timed" not in " ".join((tmp_path / "worth.md").read_text().split())


def test_a_page_claims_no_saving_without_an_interval(tmp_path: Path) -> None:
    part = _part(tmp_path, _loss, NAMES, seeds=2)
    assert saved(part, "width-40", "flops")[1] is None  # type: ignore[index]
    write_markdown(tmp_path / "worth.md", [part], "a command")
    assert "No saving is shown" in (tmp_path / "worth.md").read_text()


def test_a_page_claims_no_saving_while_a_fixed_size_is_missing(tmp_path: Path) -> None:
    part = _part(tmp_path, _loss, [name for name in NAMES if name != "small"])
    found = saved(part, "width-40", "flops")
    assert found is not None
    assert found[0].part > 0
    write_markdown(tmp_path / "worth.md", [part], "a command")
    text = " ".join((tmp_path / "worth.md").read_text().split())
    assert "No saving is shown" in text
    assert "4 of 5 fixed sizes" in text


def test_what_was_not_measured_at_the_reference_is_not_called_unreached(tmp_path: Path) -> None:
    levels = LEVELS | {"width-40": 9.0}
    part = _part(tmp_path, lambda name, budget, seed: levels[name] - math.log2(budget), NAMES)
    found = saved(part, "width-40", "flops")
    assert found is not None
    assert found[0].part == -math.inf
    for key in [key for key in part.records.runs if key.method == "width-40" and key.budget in ("B", "2B")]:
        part.records.path(key).unlink()
    fewer = Records(tmp_path, part.of, part.methods, "digest")
    assert saved(Part(part.of, part.methods, fewer, part.budgets, 999, "digest"), "width-40", "flops") is None


def test_a_small_net_that_is_better_takes_the_saving_away(tmp_path: Path) -> None:
    levels = LEVELS | {"small": 4.0}
    part = _part(tmp_path, lambda name, budget, seed: levels[name] - math.log2(budget) + 0.01 * seed, NAMES)
    found = saved(part, "width-40", "flops")
    assert found is not None
    assert found[0].part < 0
    smaller = smaller_net(part)
    assert smaller is not None
    assert smaller.worse == pytest.approx(-1)
    assert not smaller.is_clearly_worse
    beside = compared(part, "width-40", "B/2")
    assert beside is not None
    assert beside.lowest == "small"
    assert beside.difference == pytest.approx(0.5)


def test_how_far_a_smaller_net_is_ahead(tmp_path: Path) -> None:
    """Scratch reaches level 5 at B, and every further level with twice as much."""
    levels = LEVELS | {"small": 4.0, "middle": 2.5, "shallow": 7.5}
    part = _part(tmp_path, lambda name, budget, seed: levels[name] - math.log2(budget) + 0.01 * seed, NAMES)
    leads = {name: lead(part, name, "B/2") for name in ("narrow", "small", "middle", "shallow")}
    assert {name: one.bound for name, one in leads.items() if one} == {
        "narrow": "=", "small": "=", "middle": ">=", "shallow": "<=",
    }  # fmt: skip
    shares = {name: one.share for name, one in leads.items() if one}
    assert shares == pytest.approx({"narrow": 2**-1.5 - 0.5, "small": 0.5, "middle": 1.5, "shallow": -0.25})
    assert str(leads["middle"]) == "≥ +150 %"
    write_markdown(tmp_path / "worth.md", [part], "a command")
    rows = [line.split(" | ") for line in (tmp_path / "worth.md").read_text().splitlines() if "≥ +150 %" in line]
    assert [cell.strip(" |") for cell in rows[0][1:]] == ["+116 %", "≥ +150 %", "≥ +100 %"]


def test_a_lead_that_was_not_measured_is_none(tmp_path: Path) -> None:
    part = _part(tmp_path, _loss, ["narrow"])
    assert lead(part, "narrow", "B") is None
    assert lead(_part(tmp_path / "both", _loss, ["scratch"]), "narrow", "B") is None


def test_what_a_free_teacher_saves_stands_apart(tmp_path: Path) -> None:
    levels = LEVELS | {"free-width": 4.0, "width-40": 9.0}
    part = _part(tmp_path, lambda name, budget, seed: levels[name] - math.log2(budget), [*NAMES, "free-width"])
    found = saved_after(part, "free-width", "B/2")
    assert found is not None
    assert (found[0].part, found[0].bound, found[2]) == (pytest.approx(0.5, abs=1e-3), "=", 3)
    assert found[1] == (pytest.approx(0.5, abs=1e-3), pytest.approx(0.5, abs=1e-3))
    beyond = saved_after(part, "free-width", "2B")  # scratch has this loss with 4B, which was not measured
    assert beyond is not None
    assert (beyond[0].bound, beyond[0].part) == (">=", pytest.approx(0.0, abs=1e-3))
    write_markdown(tmp_path / "worth.md", [part], "a command")
    text = (tmp_path / "worth.md").read_text()
    assert "| 50 % [50, 50] (3 seeds) |" in text[text.index("With a free teacher") :]
    assert "No saving is shown" in text
    alone = _part(tmp_path / "alone", _loss, ["width-40"])
    assert saved_after(alone, "width-40", "B") is None


def test_a_page_of_no_records_says_so(tmp_path: Path) -> None:
    part = _part(tmp_path / "none", _loss, [])
    write_markdown(tmp_path / "worth.md", [part], "a command")
    assert "0 of 999 runs (not begun" in (tmp_path / "worth.md").read_text()


def test_records_of_other_settings_are_other_runs(tmp_path: Path) -> None:
    part = _part(tmp_path, _loss, ["scratch"], seeds=1)
    same = Records(tmp_path, part.of, part.methods, "digest")
    assert same.runs == part.records.runs
    assert same.others == 0
    for of, digest in ((replace(part.of, batch=5), "digest"), (part.of, "other")):
        other = Records(tmp_path, of, part.methods, digest)
        assert (len(other.runs), other.others) == (0, len(PROTOCOL) * len(RATES))
        assert other.path(Key("scratch", "B", 1.0, 0)) != same.path(Key("scratch", "B", 1.0, 0))


def test_records_stay_where_the_budget_is_raised(tmp_path: Path) -> None:
    part = _part(tmp_path, _loss, ["scratch"], seeds=1)
    raised = Records(tmp_path, replace(part.of, examples=8 * part.of.examples), part.methods, "digest")
    assert len(raised.runs) == 3 * len(RATES)
    assert raised.others == len(RATES)  # what was B/4 is less than all budgets now
    assert raised.loss(Key("scratch", "B/8", 1.0, 0)) == part.records.loss(Key("scratch", "B", 1.0, 0))


def test_a_diverged_run_is_never_the_best(tmp_path: Path) -> None:
    part = _part(tmp_path, _loss, ["scratch"], seeds=1)
    key = Key("scratch", "B", 1.0, 0)
    part.records.add(key, part.records.runs[key] | {"loss": None}, "a machine")
    assert part.records.best_rates()["scratch", "B"] == RATES[0]
    assert part.records.loss(key) == math.inf


def test_keys_that_have_no_record_are_missing(tmp_path: Path) -> None:
    part = _part(tmp_path, _loss, ["scratch"], seeds=1)
    keys = [Key("scratch", "B", 1.0, 0), Key("scratch", "B", 1.0, 1)]
    assert missing(keys, part.records) == [keys[1]]
