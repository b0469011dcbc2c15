"""The example that grows in mid-training: exact at each growth, and a run that is stopped goes on where it was."""

from pathlib import Path

import pytest

import grow_while_training


def run(monkeypatch: pytest.MonkeyPatch, out: Path, epochs: int) -> None:
    monkeypatch.setattr("sys.argv", ["grow_while_training.py", "--epochs", str(epochs), "--out", str(out)])
    assert grow_while_training.main() == 0


def test_the_loss_is_the_same_before_and_after_each_growth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("safetensors")
    run(monkeypatch, tmp_path, 4)
    lines = [line for line in capsys.readouterr().out.splitlines() if " -> " in line][1:]
    assert len(lines) == 2
    assert all(line.count("->") == 3 for line in lines)
    assert (tmp_path / "loss.svg").read_text(encoding="utf-8").count("<path") > 20
    carried = lines[0]
    run(monkeypatch, tmp_path, 4)  # from the files: nothing is left to train
    again = [line for line in capsys.readouterr().out.splitlines() if " -> " in line][1]
    assert again == carried
