"""A model from a file with postponed annotations, whose annotations FX sees as text."""

from __future__ import annotations

import io

import torch
from torch import Tensor, nn

import fxgrow


class Annotated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def test_student_of_a_model_with_postponed_annotations_can_be_saved_whole() -> None:
    images = torch.randn(2, 1, 8, 8)
    student = fxgrow.grow(Annotated(), 2.0, images)
    file = io.BytesIO()
    torch.save(student, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert torch.equal(loaded(images), student(images))
