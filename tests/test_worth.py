"""benchmarks/worth.py: its protocol, and that it goes on where it was killed."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import worth, worth_clock, worth_data, worth_run
from benchmarks.worth_methods import BASELINES, Method, Stage, fixed, grown, in_order, methods_of
from benchmarks.worth_nets import built, flops_of, larger, loss_of, optimizer_of, refill
from benchmarks.worth_settings import PROTOCOL, RATES, SIZES, Key, Net, Settings
from experiment.data import DataError
from tests.thinned import THOROUGH

QUICK = SIZES["quick"]
TRACKS = ("images", "text")


@pytest.fixture(scope="module")
def data() -> dict[str, worth_data.Data]:
    return {track: worth_data.data_of(QUICK[track]) for track in TRACKS}


def _made(of: Settings, name: str, data: worth_data.Data, budget: str = "B/2", seed: int = 0) -> dict[str, Any]:
    return worth_run.Run(of, methods_of(of)[name], Key(name, budget, 1.0, seed), data).make()


# -- the protocol --------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_rates_rise_and_end_at_zero(schedule: Any) -> None:
    of = QUICK["images"]
    rates = [worth_run.rate_at(schedule, step / 1000, of) for step in range(1001)]
    assert rates[0] == rates[-1] == 0
    assert max(rates) == pytest.approx(1, abs=1e-3)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert worth_run.rate_at(schedule, 1.5, of) == 0


def test_wsd_is_stable_before_it_decays() -> None:
    of = QUICK["text"]
    assert {worth_run.rate_at("wsd", part, of) for part in (0.06, 0.5, 0.79)} == {1.0}
    assert worth_run.rate_at("wsd", 0.9, of) == pytest.approx(0.5)


@pytest.mark.parametrize("track", TRACKS)
@pytest.mark.parametrize("name", ["scratch", "narrow", "width-40", "depth-20", "both-60", "small-steps"])
def test_budgets_are_spent_to_the_step(track: str, name: str, data: dict[str, worth_data.Data]) -> None:
    of = QUICK[track]
    found = _made(of, name, data[track])
    stages = methods_of(of)[name].stages
    costs = [of.batch_of(stage.net) * flops_of(of, stage.net) for stage in stages]
    assert found["budget"] == 0.5 * of.examples * flops_of(of, of.big)
    assert abs(found["flops"] - found["budget"]) <= costs[-1] / 2
    assert found["flops"] == pytest.approx(sum(n * cost for n, cost in zip(found["steps"], costs, strict=True)))
    assert len(found["growths"]) == len(stages) - 1
    spent = 0.0
    for stage, cost, steps in zip(stages, costs, found["steps"], strict=True):
        assert abs(steps * cost - stage.part * found["budget"]) <= cost + max(costs)
        spent += steps * cost
    assert 0 <= found["growing"] <= found["seconds"]


@pytest.mark.parametrize("track", TRACKS)
def test_parts_of_all_methods_are_the_whole_budget(track: str) -> None:
    methods = methods_of(SIZES["cpu"][track])
    for name, method in methods.items():
        assert sum(stage.part for stage in method.stages if not stage.free) == pytest.approx(1), name
    fixed_sizes = {method.stages[0].net for method in methods.values() if method.is_fixed}
    of = SIZES["cpu"][track]
    assert fixed_sizes == {of.big, of.narrow, of.shallow, of.small, of.middle}
    assert len(fixed_sizes) == 5
    assert all(method.stages[-1].net == of.big for method in methods.values() if not method.is_fixed)
    steps = methods["small-steps"].stages
    assert len(steps) == (8 if track == "text" else 9)
    assert {method.schedule for method in methods.values()} == {"cosine", "wsd"}
    assert {method.state for method in methods.values()} == {"new", "carried", "rewarmed"}
    assert {method.fill for method in methods.values()} == {"auto", "split", *BASELINES}


@pytest.mark.parametrize("track", ["text", pytest.param("images", marks=THOROUGH)])
def test_growth_changes_no_prediction_and_baselines_do(track: str, data: dict[str, worth_data.Data]) -> None:
    of = replace(QUICK[track], watched=QUICK[track].tested)
    for name in ("width-40", "depth-40", "both-40", "width-40-new", "width-40-rewarmed", "width-40-split", "two-jumps"):
        found = _made(of, name, data[track])
        assert [growth["changed"] for growth in found["growths"]] == [0] * len(found["growths"]), name
        for growth in found["growths"]:
            assert growth["loss_after"] == pytest.approx(growth["loss_before"], rel=1e-5)
            assert growth["steps"] <= of.after
    for name in ("width-40-shrunk", "depth-40-stacked", "depth-40-random"):
        (growth,) = _made(of, name, data[track])["growths"]
        assert abs(growth["loss_after"] - growth["loss_before"]) > 1e-3, name


def test_a_free_teacher_does_not_count(data: dict[str, worth_data.Data]) -> None:
    found = _made(QUICK["text"], "free-width", data["text"])
    assert found["free_flops"] == pytest.approx(found["budget"], rel=0.05)
    assert found["flops"] == pytest.approx(found["budget"], rel=0.05)
    assert found["free_seconds"] > 0
    teacher, student = found["steps"]
    assert teacher > student > 0  # each with the whole budget


def test_batches_are_doubled_while_a_net_is_narrow(data: dict[str, worth_data.Data]) -> None:
    of = QUICK["text"]
    doubled, same = (_made(of, name, data["text"])["steps"][0] for name in ("narrow", "narrow-undoubled"))
    assert same == pytest.approx(2 * doubled, abs=1)
    assert of.batch_of(of.shallow) == of.batch


@pytest.mark.parametrize(("track", "factor"), [("images", 2.0), ("text", 2**0.5)])
def test_rates_follow_the_batch_where_a_method_asks_for_it(
    track: str, factor: float, data: dict[str, worth_data.Data], monkeypatch: pytest.MonkeyPatch
) -> None:
    of, rates = QUICK[track], {}
    for name in ("width-40", "width-40-scaled"):
        taken: list[float] = []
        monkeypatch.setattr(worth_run.Run, "_step", lambda run, size, rate, taken=taken: taken.append(rate))
        found = _made(of, name, data[track])
        rates[name] = taken
    first = found["steps"][0]
    plain, scaled = rates["width-40"], rates["width-40-scaled"]
    assert scaled[:first] == pytest.approx([factor * rate for rate in plain[:first]])
    assert scaled[first:] == plain[first:]
    definitions = [methods_of(of)[name].definition() for name in ("width-40", "width-40-scaled")]
    assert "scaled" not in definitions[0]
    assert definitions[1]["scaled"] is True


def test_attention_is_counted_as_flops() -> None:
    of = QUICK["text"]
    more = flops_of(replace(of, length=2 * of.length), of.big)
    assert more > 2 * flops_of(of, of.big)


def test_stacked_blocks_are_copies_and_random_ones_are_not() -> None:
    of = QUICK["text"]
    torch.manual_seed(0)
    old, student = Net(16, 1), built(of, of.big)
    weights = student.state_dict()
    refill(of, "stacked", student, old, of.big, 0)
    assert torch.equal(weights["layers.1.up.weight"], weights["layers.0.up.weight"])
    refill(of, "random", student, old, of.big, 0)
    assert not torch.equal(weights["layers.1.up.weight"], weights["layers.0.up.weight"])
    before = weights["layers.0.up.weight"].clone()
    refill(of, "shrunk", student, old, of.big, 0)
    changed = weights["layers.0.up.weight"] - 0.6 * before
    assert 0.005 < float(changed.std()) < 0.02


@pytest.mark.parametrize(("size", "new"), [("small", [1, 3]), ("cpu", [1, 3, 4, 6, 7])])
def test_new_layers_stand_between_the_old_ones_where_a_method_asks_for_it(size: str, new: list[int]) -> None:
    of, places = SIZES[size]["text"], {}
    for name in ("middle-60", "middle-60-between"):
        teacher, method = built(of, of.middle), methods_of(of)[name]
        student, _ = larger(of, method, teacher, optimizer_of(of, teacher), of.middle, of.big, 0)
        places[name] = [i for i in range(of.depth) if not student.get_parameter(f"layers.{i}.down.weight").any()]
        assert ("between" in method.definition()) == method.between
    assert places == {"middle-60": [*range(of.middle.depth, of.depth)], "middle-60-between": new}


def test_vectors_do_not_decay_in_text() -> None:
    model = built(QUICK["text"], QUICK["text"].big)
    groups = optimizer_of(QUICK["text"], model).param_groups
    assert {p.dim() for p in groups[1]["params"]} == {1}
    assert groups[1]["weight_decay"] == 0 < groups[0]["weight_decay"]


# -- data ----------------------------------------------------------------------------------------------


def test_text_is_the_listed_files_and_the_test_part_is_held_out(data: dict[str, worth_data.Data]) -> None:
    listed = worth_data.listed_files()
    names = [name for _, name in listed]
    assert len(names) == len(set(names)) > 200
    assert {part for part, _ in listed} == {"train", "test"}
    found = data["text"]
    assert found.digest == worth_data.data_of(QUICK["text"]).digest
    assert torch.equal(found.test[:, 1:], found.test_classes[:, :-1])


def test_a_digest_is_of_the_bytes(tmp_path: Path) -> None:
    of = replace(QUICK["text"], data="folder")
    for name, text in (("a.txt", "abcdefgh" * 40), ("b.txt", "12345678" * 40)):
        (tmp_path / name).write_text(text)
    first = worth_data.data_of(of, tmp_path)
    assert len(first.train) == 320
    (tmp_path / "a.txt").write_text("abcdefgh" * 39 + "abcdefgi")
    assert worth_data.data_of(of, tmp_path).digest != first.digest
    (tmp_path / "b.txt").write_text("12")
    with pytest.raises(DataError, match="too few"):
        worth_data.data_of(of, tmp_path)
    with pytest.raises(DataError, match="--folder"):
        worth_data.data_of(of, None)


def test_missing_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz.*dataset-fashion-mnist"):
        worth_data.data_of(SIZES["cpu"]["images"], tmp_path)
    with pytest.raises(DataError, match=r"data_batch_1\.bin"):
        worth_data.data_of(SIZES["real"]["images"], tmp_path)


def test_cifar_is_read_in_its_binary_form(tmp_path: Path) -> None:
    rows = torch.randint(0, 256, (6, 2, 3073), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    rows[:, :, 0] %= 10
    for n, name in enumerate([*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]):
        (tmp_path / name).write_bytes(rows[n].numpy().tobytes())
    found = worth_data.data_of(SIZES["real"]["images"], tmp_path)
    assert found.train.shape == (10, 3, 32, 32)
    assert torch.equal(found.classes, rows[:5, :, 0].flatten().long())
    x, y = worth_data.Stream(SIZES["real"]["images"], found, 0).take(4)
    assert (x.shape, y.shape) == ((4, 3, 32, 32), (4,))


def test_streams_are_the_same_for_a_seed_and_moved_images_keep_their_pixels() -> None:
    of = replace(QUICK["images"], data="fashion-mnist")
    images = torch.arange(28 * 28.0).view(1, 1, 28, 28).repeat(64, 1, 1, 1)
    fake = worth_data.Data(images, torch.arange(64), images, torch.arange(64), "")
    (x, y), (same, _) = (worth_data.Stream(of, fake, 3).take(64) for _ in range(2))
    assert torch.equal(x, same)
    assert sorted(y.tolist()) == list(range(64))
    steps = (x[:, 0, 10, 11] - x[:, 0, 10, 10]).unique()
    assert steps.tolist() == [-1.0, 1.0]  # mirrored, and not
    rows = (x[:, 0, 14, 14] // 28).unique()
    assert rows.tolist() == [12.0, 13.0, 14.0, 15.0, 16.0]


# -- the whole --------------------------------------------------------------------------------------


def test_the_most_deciding_runs_come_first(tmp_path: Path) -> None:
    of = QUICK["text"]
    methods = methods_of(of)
    keys = worth.keys_of(methods, PROTOCOL, 4)
    assert len(set(keys)) == len(keys) == len(methods) * 4 * len(RATES) * 4
    first = in_order(keys, methods, {})[:8]
    assert {key.budget for key in first} == {"B/4", "B/2"}
    assert {(key.rate, key.seed) for key in first} == {(1.0, 0)}
    assert {key.method for key in first} >= {"scratch", "narrow", "shallow", "small"}
    best = {("scratch", "B/4"): 2.0}
    seeds = [key for key in in_order(keys, methods, best) if key.seed == 1 and key.method == "scratch"]
    assert next(key for key in seeds if key.budget == "B/4").rate == 2.0


ARGUMENTS = [
    "--size", "quick", "--methods", "scratch", "small", "width-40", "--budgets", "B/4", "B/2", "--seeds", "1",
    "--rates", "0.5", "1.0", "2.0",
]  # fmt: skip


def _records(folder: Path) -> dict[str, Any]:
    found = {path.name: json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))}
    for record in found.values():
        for name in ("seconds", "growing", "free_seconds"):
            del record["found"][name]
    return found


def test_a_killed_benchmark_goes_on_with_the_same_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    page = tmp_path / "worth.md"
    call = [*ARGUMENTS, "--rates", "1.0"]
    assert worth.main([*call, "--out", str(whole), "--markdown", str(page)]) == 0
    made = _records(whole)
    assert len(made) == 2 * 3 * 2
    assert "6 of " in page.read_text()
    assert (tmp_path / "pictures" / "worth.png").exists()

    class Killed(Exception):
        pass

    real, count = worth.Run.make, iter(range(100))

    def make(run: worth.Run) -> dict[str, Any]:
        if next(count) == 5:
            raise Killed
        return real(run)

    monkeypatch.setattr(worth.Run, "make", make)
    with pytest.raises(Killed):
        worth.main([*call, "--out", str(killed)])
    assert len(_records(killed)) == 5
    assert not list(killed.rglob("*.part"))
    monkeypatch.setattr(worth.Run, "make", real)
    assert worth.main([*call, "--out", str(killed)]) == 0
    assert _records(killed) == made
    monkeypatch.setattr(worth.Run, "make", lambda run: pytest.fail("it was measured before"))
    assert worth.main([*call, "--out", str(killed)]) == 0


def test_no_time_makes_no_run_and_the_order_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert worth.main([*ARGUMENTS, "--out", str(tmp_path), "--hours", "0"]) == 0
    assert worth.main([*ARGUMENTS, "--out", str(tmp_path), "--track", "text", "--order"]) == 0
    assert _records(tmp_path) == {}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "text scratch B/4 1.0 0"
    assert len(lines) == 18


def test_runs_stop_before_the_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 100_000, 900))  # each look at the clock is a quarter of an hour later
    monkeypatch.setattr(worth.time, "monotonic", lambda: float(next(now)))
    call = [*ARGUMENTS, "--out", str(tmp_path), "--track", "text", "--hours", "1"]
    assert worth.main(call) == 0
    assert len(_records(tmp_path)) == 1  # the next would take as long, and pass the hour


@pytest.mark.parametrize("argv", [["--methods", "none"], ["--folder", "x"]])
def test_wrong_arguments_are_refused(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        worth.main(["--size", "quick", *argv])
    assert refused.value.code not in (0, None)


def test_methods_are_data() -> None:
    of = QUICK["images"]
    mine = grown((of.small, of.big), 0.25, "mine", 0, schedule="wsd")
    assert mine == Method((Stage(of.small, 0.75), Stage(of.big, 0.25)), "mine", 0, "wsd")
    assert fixed(of.big, "big").is_fixed
    assert "title" not in mine.definition()


def test_the_loss_is_a_mean_over_bytes() -> None:
    outputs = torch.zeros(2, 3, 256)
    assert float(loss_of(outputs, torch.zeros(2, 3, dtype=torch.int64))) == pytest.approx(math.log(256))


def test_the_mean_loss_does_not_depend_on_the_split(data: dict[str, worth_data.Data]) -> None:
    of = QUICK["text"]
    model = built(of, of.small)
    x, y = data["text"].test, data["text"].test_classes
    loss, predictions = worth_run.evaluated(model, x.repeat(40, 1), y.repeat(40, 1))
    assert loss == pytest.approx(worth_run.evaluated(model, x, y)[0])
    assert predictions.shape == (40 * len(x), of.length)


def test_the_nets_have_the_sizes_that_the_page_states() -> None:
    with torch.device("meta"):
        sizes = {
            (size, track): sum(p.numel() for p in built(SIZES[size][track], SIZES[size][track].big).parameters())
            for size in ("cpu", "real")
            for track in TRACKS
        }
    assert sizes["real", "text"] == pytest.approx(122e6, rel=0.01)
    assert sizes["cpu", "text"] == pytest.approx(1.67e6, rel=0.01)
    assert sizes["cpu", "images"] == pytest.approx(272_186)


# -- steps that are timed side by side -----------------------------------------------------------------


def test_all_nets_of_the_methods_are_timed(data: dict[str, worth_data.Data], tmp_path: Path) -> None:
    of = QUICK["text"]
    methods = methods_of(of)
    pairs = worth_clock.pairs_of(of, methods.values())
    assert {(of.narrow, of.batch), (of.narrow, 2 * of.batch), (of.big, of.batch)} <= set(pairs)
    times = worth_clock.timed(of, methods.values(), data["text"], rounds=1, least=0.0)
    assert list(times) == pairs
    assert all(0 < one < 10 for one in times.values())
    path = tmp_path / "steps" / "text.json"
    worth_clock.write(path, of, times, "a machine")
    assert worth_clock.read(path, of) == times
    assert worth_clock.read(path, replace(of, examples=3)) == times  # the budget does not matter
    assert worth_clock.read(path, replace(of, batch=3)) == {}
    assert worth_clock.read(tmp_path / "none.json", of) == {}


def test_seconds_are_those_of_a_runs_steps_and_growths(data: dict[str, worth_data.Data]) -> None:
    of = QUICK["text"]
    methods = methods_of(of)
    times = {pair: 1.0 + i for i, pair in enumerate(worth_clock.pairs_of(of, methods.values()))}
    for name in ("scratch", "narrow", "narrow-undoubled", "both-40"):
        found = _made(of, name, data["text"])
        sizes = [worth_run.batch_in(of, methods[name], stage.net) for stage in methods[name].stages]
        pairs = [(stage.net, size) for stage, size in zip(methods[name].stages, sizes, strict=True)]
        expected = sum(times[pair] * steps for pair, steps in zip(pairs, found["steps"], strict=True))
        assert worth_clock.seconds_of(of, methods[name], found, times) == pytest.approx(expected + found["growing"])
    found = _made(of, "free-depth", data["text"])  # the teacher's steps do not count
    expected = found["steps"][1] * times[of.big, of.batch] + found["growing"]
    assert worth_clock.seconds_of(of, methods["free-depth"], found, times) == pytest.approx(expected)
    assert worth_clock.seconds_of(of, methods["scratch"], found | {"steps": [1]}, {}) is None
