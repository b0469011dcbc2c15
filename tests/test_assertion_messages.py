"""Texts that only an error would show bind a graph to nothing, and cost no comparison on other sizes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, _assert, nn

import fxgrow
from fxgrow.capture import draft
from fxgrow.capture.messages import is_message

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="no positions in the byte code")


class _Text:
    """Notes whether what formats it makes a message."""

    def __init__(self) -> None:
        self.seen: list[bool] = []
        self.maker = sys._getframe(1).f_code

    def __format__(self, spec: str) -> str:
        self.seen.append(is_message(sys._getframe(1), self.maker))
        return "text"


class _Box:
    def __init__(self, text: _Text) -> None:
        self.text, self.texts = text, [text]


def _of_torch(text: Any) -> None:
    torch._assert(True, f"not {text}")


def _imported(text: Any) -> None:
    _assert(True, f"not {text} but {text!s:>3}and {text:>{4}}")


def _on_several_lines(text: Any) -> None:
    box = _Box(text)
    torch._assert(
        box is not None,
        message=f"not {box.text}, {box.texts[0]} but {box.texts[-1]}",
    )


@pytest.mark.parametrize("formats", [_of_torch, _imported, _on_several_lines])
def test_what_goes_into_an_assertion_alone_is_a_message(formats: Callable[[Any], None]) -> None:
    text = _Text()
    formats(text)
    assert text.seen
    assert all(text.seen)


_kept: list[str] = []


def _kept_before(text: Any) -> None:
    message = f"not {text}"
    torch._assert(True, message)


def _kept_inside(text: Any) -> None:
    torch._assert(True, f"not {(inner := f'{text}')}")
    _kept.append(inner)


def _kept_by_a_call(text: Any) -> None:
    torch._assert(True, f"not {_kept.append(f'{text}')}")


def _in_the_condition(text: Any) -> None:
    torch._assert(f"{text}" == "text", "no text")


def _of_another_function(text: Any) -> None:
    def _assert(ok: bool, message: str) -> None:
        _kept.append(message)

    _assert(True, f"not {text}")


def _whose_result_counts(text: Any) -> None:
    _kept.append(str(torch._assert(True, f"not {text}")))


# Written to a file of its own: where code names the error, no text is a message.
_CATCHES = (
    """
import torch

def caught(text, kept):
    try:
        torch._assert(False, f"{text}")
    except Assertion"""
    """Error as error:
        kept.append(str(error))
"""
)


def test_a_message_that_code_may_catch_is_none(tmp_path: Path) -> None:
    file = tmp_path / "catches.py"
    file.write_text(_CATCHES)
    space: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), space)
    text = _Text()
    space["caught"](text, kept := [])
    assert kept == ["text"]
    assert text.seen == [False]


def _without_source(text: Any) -> None:
    exec("torch._assert(True, f'{text}')", {"torch": torch, "text": text})


@pytest.mark.parametrize(
    "formats",
    [
        _kept_before, _kept_inside, _kept_by_a_call, _in_the_condition, _of_another_function, _whose_result_counts,
        _without_source,
    ],
)  # fmt: skip
def test_what_code_could_keep_is_no_message(formats: Callable[[Any], None]) -> None:
    text = _Text()
    formats(text)
    assert text.seen
    assert not any(text.seen)
    _kept.clear()


class _Asserts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        torch._assert(x.ndim == 4, f"expected images, not {x.shape}")
        return self.b(self.a(x).relu())


class _Formats(_Asserts):
    def forward(self, x: Tensor) -> Tensor:
        message = f"expected images, not {x.shape}"
        torch._assert(x.ndim == 4, message)
        return self.b(self.a(x).relu())


@pytest.mark.parametrize(("kind", "compared"), [(_Asserts, 0), (_Formats, 1)])
def test_a_graph_is_compared_on_other_sizes_where_a_text_may_be_kept(
    kind: type[nn.Module], compared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(draft, "check_elsewhere", lambda *given: calls.append(given))
    model, x = kind().double().eval(), torch.randn(2, 3, 8, 8).double()
    student = fxgrow.grow(model, 2.0, x)
    assert len(calls) == compared
    wide = torch.randn(1, 3, 12, 9).double()
    torch.testing.assert_close(student(wide), model(wide), rtol=1e-10, atol=1e-10)
