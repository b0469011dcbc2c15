"""The gallery of examples/see_it.py, run small, and what the docs show of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import fxgrow
from examples import see_it
from fxgrow.drawing.html import data_of

from .test_draw import GRAPHVIZ

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery")
    assert see_it.main(["--only", "unet", "deep", "--out", str(folder)]) == 0
    return folder


def test_the_gallery_has_each_network_before_and_after_with_links(written: Path) -> None:
    text = (written / "index.html").read_text(encoding="utf-8")
    for name in ("unet", "deep"):
        assert see_it.NETS[name].title in text
        for when in ("before", "after"):
            assert f"{name}.html#when={when}" in text
            assert not GRAPHVIZ or f"{name}_{when}.svg" in text
        page = data_of((written / f"{name}.html").read_text(encoding="utf-8"))
        assert page["grows"]
    links = re.findall(r"(?:href|src)='([^'#]+)", text)
    assert all((written / link).exists() for link in links)
    assert "1.93 M → 4.33 M parameters" in text


def test_without_graphviz_the_links_stay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = fxgrow.draw

    def without(given: object, path: Path) -> Path:
        if path.suffix == ".svg":
            raise fxgrow.DrawError("a .svg needs Graphviz")
        return draw(given, path)

    monkeypatch.setattr(fxgrow, "draw", without)
    monkeypatch.setitem(
        see_it.NETS, "deep", see_it.Net("small", lambda: see_it.deep_net(2), see_it.NETS["deep"].inputs, 2.0)
    )
    assert see_it.main(["--only", "deep", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "deep.html#when=after" in text
    assert "<img" not in text
    assert "needs Graphviz" in capsys.readouterr().err


def test_a_network_that_cannot_be_made_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> None:
        raise ImportError("No module named 'transformers'")

    monkeypatch.setitem(see_it.NETS, "bert", see_it.Net("BERT", missing, None, 2.0))  # type: ignore[arg-type]
    assert see_it.main(["--only", "bert", "--out", str(tmp_path)]) == 1
    assert "bert is left out: No module named 'transformers'" in capsys.readouterr().err


def test_the_docs_show_the_gallery() -> None:
    text = (DOCS / "gallery.md").read_text(encoding="utf-8")
    titles = [net.title for net in see_it.NETS.values()]
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == titles
    pictures = re.findall(r'src="([^"]+)"', text)
    assert pictures == [f"pictures/gallery/{name}_{when}.svg" for name in see_it.NETS for when in ("before", "after")]
    assert {path.name for path in (DOCS / "pictures" / "gallery").iterdir()} == {Path(one).name for one in pictures}
    assert "see_it.py" in (DOCS / "drawing.md").read_text(encoding="utf-8")


def test_pictures_of_other_viewers_are_small_and_of_the_same_networks() -> None:
    text = (DOCS / "drawing.md").read_text(encoding="utf-8")
    shown = re.findall(r'src="pictures/viewers/([\w-]+)_(\w+)\.png"', text)
    viewers = dict.fromkeys(viewer for viewer, _ in shown)
    assert list(viewers) == ["fxgrow", "netron", "model-explorer", "torchvista", "torchview"]
    assert shown == [(viewer, name) for viewer in viewers for name in ("resnet18", "vit", "unet")]
    files = list((DOCS / "pictures" / "viewers").iterdir())
    assert len(files) == len(shown)
    assert all(path.stat().st_size < 150_000 for path in files)
