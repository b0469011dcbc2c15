"""The benchmark of GradMax: its columns keep the function, and no others give the rows a longer gradient."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import gradmax


def _loss(model: nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(16, 1, 28, 28, generator=generator)
    return F.cross_entropy(model(x), torch.randint(0, 10, (16,), generator=generator))


def _students() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    teacher = gradmax.net(4)
    student = gradmax.fxgrow.grow(teacher, 2.0, torch.randn(2, 1, 28, 28), method="zero_out")
    gradmax.gradmax(student, _loss, 0)
    return teacher, student


def _rows_gradient(student: nn.Module, one: gradmax.NewChannels) -> float:
    (gradient,) = torch.autograd.grad(_loss(student), one.row)
    return float(gradient[one.old :].square().sum())


def test_no_other_columns_of_that_length_give_the_rows_a_longer_gradient() -> None:
    teacher, student = _students()
    x = torch.randn(4, 1, 28, 28)
    assert torch.equal(teacher(x), student(x))
    one = gradmax.new_channels(student)[1]
    best = _rows_gradient(student, one)
    with torch.no_grad():
        part = one.column[:, one.first :]
        lengths = part.transpose(0, 1).flatten(1).norm(dim=1)
        for _ in range(10):
            drawn = torch.linalg.qr(torch.randn(part.numel() // part.shape[1], part.shape[1])).Q
            part.copy_(drawn.t().view(part.transpose(0, 1).shape).transpose(0, 1) * lengths[0])
            with torch.enable_grad():
                assert _rows_gradient(student, one) < best


def test_a_quick_run_writes_its_page_and_a_second_one_measures_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--quick", "--seeds", "1", "--out", str(tmp_path / "r.json"), "--markdown", str(tmp_path / "r.md")]
    assert gradmax.main(words) == 0
    assert "gradmax 0" in capsys.readouterr().err
    assert gradmax.main(words) == 0
    assert capsys.readouterr().err == ""
    assert "| adam" in (tmp_path / "r.md").read_text()
