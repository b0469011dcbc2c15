"""The two notebooks' experiments run, keep their students' predictions, and go on where they were killed."""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import net2net_keras_notebook
import net2net_pytorch_notebook
from experiment import figures, runs, summary
from experiment.command import main
from experiment.runs import Experiment, Outcome
from experiment.tables import Table, spread
from experiment.training import Epoch, Record, Score, epoch, evaluate, flops

NOTEBOOKS = [net2net_pytorch_notebook.EXPERIMENT, net2net_keras_notebook.EXPERIMENT]
KERAS = net2net_keras_notebook.EXPERIMENT

Start = Callable[..., tuple[int, Path]]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture
def start(tmp_path: Path, images: Path) -> Start:
    """Runs a script's command line on few images; its exit status and its folder."""

    def start(experiment: Experiment, *argv: str) -> tuple[int, Path]:
        given = ["--quick", "--no-bars", "--out", str(tmp_path), "--folder", str(images), *argv]
        status = main(experiment, given)
        (folder,) = (tmp_path / experiment.name).iterdir()
        return status, folder

    return start


def recorded(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "record.json").read_text())["runs"]
    return read


@pytest.mark.parametrize("experiment", NOTEBOOKS, ids=lambda e: e.name)
def test_students_start_where_their_teachers_ended(
    experiment: Experiment, start: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, folder = start(experiment)
    assert status == 0
    done = recorded(folder)
    assert list(done) == [f"0/{run.name}" for run in experiment.runs]
    for run in experiment.runs:
        one = done[f"0/{run.name}"]
        if run.parent is None:
            continue
        parent = done[f"0/{run.parent}"]
        assert one["parameters"] > parent["parameters"]
        if run.exact:
            assert one["changed"] == 0
            assert one["error"] < 1e-5
            assert one["before"]["accuracy"] == parent["epochs"][-1]["test"]["accuracy"]
        else:
            assert one["changed"] > 0
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    for run in experiment.runs:
        assert run.name in printed

    # A second call does nothing anew.
    before = (folder / "record.json").read_bytes()
    monkeypatch.setattr(runs, "_perform", lambda *_: pytest.fail("a finished run was performed again"))
    assert start(experiment)[0] == 0
    assert (folder / "record.json").read_bytes() == before
    assert capsys.readouterr().out == printed


def test_scratch_nets_have_the_students_size_but_not_its_weights(start: Start) -> None:
    experiment = net2net_pytorch_notebook.EXPERIMENT
    done = recorded(start(experiment)[1])
    for run in experiment.runs:
        if run.rival and run.parent:
            student, rival = done[f"0/{run.name}"], done[f"0/{run.rival}"]
            assert student["parameters"] == rival["parameters"]
            assert student["flops"] == rival["flops"]
            assert student["before"] != rival["before"]


def test_a_baselines_new_layers_are_drawn_as_those_of_a_new_net() -> None:
    """In the Keras notebook's experiment by Glorot, with biases of zero; the teacher's layers stay."""
    images = torch.zeros(2, 1, 28, 28)
    torch.manual_seed(0)
    teacher = runs.untrained(KERAS, KERAS.run("teacher"), images, 0)
    weights = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    net = runs._net(KERAS, KERAS.run("deeper, random init"), teacher, images, 0)
    new = {name: tensor for name, tensor in net.state_dict().items() if name not in weights}
    assert sorted(name.rpartition(".")[2] for name in new) == ["bias", "bias", "weight", "weight"]
    for name, tensor in new.items():
        if name.endswith("bias"):
            assert not tensor.any()
        else:
            fans = tensor[0].numel() + tensor[:, 0].numel()
            torch.testing.assert_close(float(tensor.var()), 2 / fans, rtol=0.1, atol=0)
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in weights.items())


def test_a_killed_run_goes_on_as_if_it_had_not_been_killed(start: Start) -> None:
    experiment = net2net_pytorch_notebook.EXPERIMENT
    folder = start(experiment)[1]
    whole = recorded(folder)
    text = json.loads((folder / "record.json").read_text())
    for name in ("wider + deeper student", "wider, from scratch"):  # the first grows from kept weights
        del text["runs"][f"0/{name}"]
    (folder / "record.json").write_text(json.dumps(text))
    start(experiment)
    again = recorded(folder)
    for one in (*whole.values(), *again.values()):
        del one["seconds"]
    assert again == whole


def test_a_student_that_predicts_something_else_stops_the_script(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tuple(replace(run, exact=True) for run in KERAS.runs)
    status, folder = start(replace(KERAS, runs=wrong))
    assert status == 1
    assert "are classified differently from 'teacher'" in capsys.readouterr().err
    assert list(recorded(folder)) == ["0/teacher"]


def test_the_page_gets_figures_between_its_comments(start: Start, tmp_path: Path) -> None:
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text(f"before\n<!-- {KERAS.name} -->\nfigures of yesterday\n<!-- /{KERAS.name} -->\nafter\n")
    few = replace(KERAS, runs=KERAS.runs[:1])
    start(few, "--markdown", str(page))
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "yesterday" not in text
    assert "| teacher |" in text
    assert (page.parent / "pictures" / f"{KERAS.name}.png").exists()
    assert len(json.loads((page.parent / "pictures" / f"{KERAS.name}.json").read_text())["runs"]) == 1


def test_a_page_that_cannot_take_the_figures_is_refused_before_anything_runs(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runs, "_perform", lambda *_: pytest.fail("it ran"))
    page = tmp_path / "page.md"
    for reason in ("there is no", "must hold <!-- net2net_keras_notebook -->"):
        with pytest.raises(SystemExit):
            start(KERAS, "--markdown", str(page))
        assert reason in capsys.readouterr().err
        page.write_text("no comments")
    assert [path.name for path in tmp_path.iterdir()] == ["page.md"]


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("--seeds=0", "'0' is not a number of at least 1"),
        ("--train=-3", "'-3' is not a number of at least 1"),
        ("--device=nonsense", "'nonsense' is no device"),
        ("--device=cuda", "torch sees no GPU here"),
    ],
)
def test_a_wrong_argument_is_one_line(
    argument: str, reason: str, start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        start(KERAS, argument)
    assert stopped.value.code == 2
    assert reason in capsys.readouterr().err.splitlines()[-1]


def test_a_quick_run_takes_as_many_images_as_it_is_told(start: Start) -> None:
    settings = json.loads((start(replace(KERAS, runs=KERAS.runs[:1]), "--train", "64")[1] / "record.json").read_text())
    assert (settings["settings"]["train"], settings["settings"]["test"]) == (64, 256)


def test_other_settings_are_kept_apart(tmp_path: Path) -> None:
    record = Record(tmp_path / "record.json", {"batch": 32})
    record.add("0/one", Score(1.0, 50.0))
    assert "0/one" in Record(tmp_path / "record.json", {"batch": 32})
    with pytest.raises(ValueError, match="other settings"):
        Record(tmp_path / "record.json", {"batch": 64})


def test_an_epoch_is_the_same_for_the_same_seed() -> None:
    x, y = torch.randn(50, 1, 4, 4), torch.arange(50) % 3

    def trained(seed: int) -> nn.Module:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Dropout(), nn.Linear(8, 3))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        steps: list[int] = []
        epoch(net, x, y, optimizer, 16, torch.Generator().manual_seed(seed), after_step=lambda: steps.append(1))
        assert net.training
        assert len(steps) == 4
        return net

    one, same, other = trained(0), trained(0), trained(1)
    assert torch.equal(one[1].weight, same[1].weight)  # type: ignore[index]
    assert not torch.equal(one[1].weight, other[1].weight)  # type: ignore[index]


def test_evaluation_is_without_dropout_and_gradients() -> None:
    x, y = torch.randn(600, 5), torch.arange(600) % 5
    net = nn.Sequential(nn.Dropout(0.9), nn.Linear(5, 5, bias=False))
    nn.init.eye_(net[1].weight)  # type: ignore[arg-type]
    found = evaluate(net.train(), x, y)
    assert not net.training
    assert found.accuracy == pytest.approx(100 * float((x.argmax(1) == y).double().mean()))
    assert found.loss == pytest.approx(float(F.cross_entropy(x, y)), rel=1e-5)


def test_flops_are_of_forward_and_backward() -> None:
    # 4 x 3 products forward, and as many for the gradient of the weight; the images need none.
    net = nn.Linear(4, 3)
    assert flops(net, torch.randn(10, 4), torch.zeros(10, dtype=torch.int64)) == 2 * 12 + 2 * 12
    assert net.weight.grad is None


def outcome(run: str, seed: int, *accuracies: float, flops: float = 1e9) -> Outcome:
    before, *after = (Score(1.0, a) for a in accuracies)
    return Outcome(run, seed, 10, flops, before, None, None, tuple(Epoch(1.0, s) for s in after), 1.0)


def test_cost_counts_the_epochs_until_a_goal_and_the_teachers() -> None:
    experiment = net2net_pytorch_notebook.EXPERIMENT
    names = [run.name for run in experiment.runs]
    done = [
        outcome(names[0], 0, 10, 50, 60),
        outcome(names[1], 0, 60, 80, 90, flops=2e9),
        outcome(names[2], 0, 90, 91, 92, flops=3e9),
        outcome(names[3], 0, 10, 70, 80, flops=2e9),
        outcome(names[4], 0, 10, 20, 95, flops=3e9),
    ]
    table = summary.cost_table(experiment, done, images=1000)
    rows = {row[0]: row[3:] for row in table.rows}
    assert rows[names[0]] == ("2.0", "2.00", "", "", "")
    assert rows[names[1]] == ("0.0", "0.00", "1.0", "2.00", "4.00")  # 1 epoch of 2, after the teacher's 2
    assert rows[names[2]] == ("0.0", "0.00", "not reached", "-", "-")
    assert rows[names[3]] == ("1.0", "2.00", "2.0", "4.00", "4.00")
    assert rows[names[4]] == ("2.0", "6.00", "2.0", "6.00", "6.00")


def test_tables_show_mean_and_deviation() -> None:
    assert spread([1, 2, 3]) == "2.00 ± 1.00"
    assert spread([1.5]) == "1.50"
    assert spread([]) == "-"
    table = Table(("run", "figure"), (("a", "1"), ("long", "22")))
    assert str(table) == "run   figure\n----  ------\na          1\nlong      22"
    assert table.markdown() == "| run | figure |\n| --- | --: |\n| a | 1 |\n| long | 22 |"


@pytest.mark.parametrize("experiment", NOTEBOOKS, ids=lambda e: e.name)
def test_nets_that_keep_a_function_have_solid_lines(experiment: Experiment) -> None:
    number = summary.styles(experiment)
    assert sorted(number.values()) == list(range(len(experiment.runs)))
    for run in experiment.runs[1:]:
        solid = figures.STYLES[number[run.name]].line == "-"
        assert solid == (run.parent is not None and run.exact)


def test_an_epoch_is_timed_for_each_net(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = replace(KERAS, runs=KERAS.runs[:1])
    assert main(few, ["--quick", "--time", "--out", str(tmp_path), "--folder", str(images)]) == 0
    name, seconds = capsys.readouterr().out.splitlines()[-1].split()
    assert name == "teacher"
    assert float(seconds) > 0
    assert not list(tmp_path.iterdir())


def test_no_band_is_cut_off_at_the_top() -> None:
    few = replace(KERAS, runs=KERAS.runs[:1])
    done = [outcome("teacher", seed, 10, 80, last) for seed, last in enumerate((90, 92, 94))]
    view = summary.panels(few, done, images=1)[0].y_range
    assert view is not None
    assert view[1] > 94  # 92 + 2, the top of the band


def test_curves_differ_without_colour(tmp_path: Path) -> None:
    assert len({(style.line, style.marker) for style in figures.STYLES}) == len(figures.STYLES)
    curves = tuple(figures.Curve(f"run {i}", (0, 1, 2), ((i, 2, 3), (i, 3, 5))) for i in range(3))
    panels = [figures.Panel("epoch", "loss", curves, whole_x=True), figures.Panel("FLOPs", "loss", curves[:1])]
    small, large = (figures.save(panels[:n], tmp_path / f"{n}.png") for n in (1, 2))
    assert small.read_bytes().startswith(b"\x89PNG")
    assert small.read_bytes() != large.read_bytes()


def test_every_setting_that_a_result_depends_on_is_a_field_of_the_record(start: Start) -> None:
    settings = json.loads((start(replace(KERAS, runs=KERAS.runs[:1]))[1] / "record.json").read_text())["settings"]
    assert set(settings) >= {"data", "difficulty", "train", "test", "batch", "runs", "device", "torch"}
    assert len(settings["runs"][0]) == len([f for f in fields(runs.Run) if f.name not in ("exact", "rival")])


@pytest.mark.parametrize("experiment", NOTEBOOKS, ids=lambda e: e.name)
def test_the_page_shows_what_the_record_beside_it_holds(experiment: Experiment) -> None:
    docs = Path(__file__).parent.parent / "docs"
    read = json.loads((docs / "pictures" / f"{experiment.name}.json").read_text())
    done = [Outcome.read(run) for run in read["runs"].values()]
    assert {o.run for o in done} == {run.name for run in experiment.runs}
    assert all(len(o.epochs) == experiment.run(o.run).epochs for o in done)
    for o in done:
        run = experiment.run(o.run)
        (parent,) = [p.accuracies[-1] for p in done if (p.run, p.seed) == (run.parent, o.seed)] or [None]
        if parent is not None and run.exact:
            assert o.changed == 0
            assert o.before.accuracy == parent
    page = (docs / "notebooks.md").read_text()
    for table in (
        summary.accuracy_table(experiment, done),
        summary.cost_table(experiment, done, read["settings"]["train"]),
        summary.loss_table(experiment, done),
    ):
        assert table.markdown() in page
