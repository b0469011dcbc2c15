"""A drawing in a notebook: a page where it may run, else a picture or a text; and what pictures say in words."""

from __future__ import annotations

import shutil
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

import fxgrow
from fxgrow import DrawError
from fxgrow.drawing import drawing, render, source_of
from fxgrow.drawing.dot import short
from fxgrow.drawing.inline import slim

graphviz = pytest.mark.skipif(find_spec("pygraphviz") is None and shutil.which("dot") is None, reason="needs Graphviz")


def planned() -> tuple[fxgrow.WidthGraph, fxgrow.Plan]:
    found = fxgrow.widths(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(2, 4))
    return found, fxgrow.plan(found, 2.0)


@graphviz
def test_a_notebook_gets_a_page_a_picture_and_a_text() -> None:
    bundle = fxgrow.draw(planned())._repr_mimebundle_()
    assert list(bundle) == ["text/html", "image/svg+xml", "text/plain"]
    assert bundle["text/html"].startswith("<iframe")
    assert bundle["image/svg+xml"].startswith("<svg")
    assert "8→16" in bundle["text/plain"]


class Kept(HTMLParser):
    """What is left of HTML where iframes and styles are taken out, as JupyterLab does in a cell that is not trusted."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.styles: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.styles.append(data)


@graphviz
def test_the_html_holds_the_picture_for_where_iframes_and_styles_are_taken_out() -> None:
    shown = fxgrow.draw(planned())
    kept = Kept()
    kept.feed(shown._repr_html_())
    (image,) = kept.images
    kind, _, svg = str(image["src"]).partition(",")
    assert kind == "data:image/svg+xml"
    assert "8→16" in "".join(ElementTree.fromstring(unquote(svg)).itertext())
    assert f".{image['class']} {{" in "".join(kept.styles), "hidden beside the page"


@graphviz
def test_the_picture_of_a_cell_shows_what_the_file_shows(tmp_path: Path) -> None:
    path = fxgrow.draw(planned(), tmp_path / "plan.svg")
    whole = path.read_text(encoding="utf-8")
    whole = whole[whole.index("<svg") :]
    small = slim(whole)
    assert len(small) < 0.8 * len(whole)
    assert _seen(whole) == _seen(small) != []


def _seen(svg: str) -> list[tuple[str, str, str | None, str | None]]:
    """The shapes and words of a picture."""
    return [
        (one.tag, "".join(one.itertext()), one.get("fill"), one.get("stroke"))
        for one in ElementTree.fromstring(svg).iter()
        if one.tag.rpartition("}")[2] in ("text", "path", "polygon")
    ]


def test_without_graphviz_the_text_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(suffix: str) -> Any:
        raise DrawError("no Graphviz")

    right = render.writer
    monkeypatch.setattr(render, "writer", lambda suffix: missing(suffix) if suffix == ".svg" else right(suffix))
    assert list(fxgrow.draw(planned())._repr_mimebundle_()) == ["text/html", "text/plain"]


@pytest.mark.parametrize(
    ("include", "exclude", "kinds"),
    [({"text/plain"}, None, ["text/plain"]), (None, {"text/html", "image/svg+xml"}, ["text/plain"])],
)
def test_a_notebook_may_ask_for_some_forms(include: Any, exclude: Any, kinds: list[str]) -> None:
    assert list(fxgrow.draw(planned())._repr_mimebundle_(include, exclude)) == kinds


def test_the_height_is_that_of_the_page() -> None:
    assert "height: 900px" in fxgrow.draw(planned(), height=900)._repr_html_()
    for wrong in (10, -1, "tall", 1e9, None):
        with pytest.raises(DrawError, match="height is"):
            fxgrow.draw(planned(), height=wrong)  # type: ignore[call-overload]


@graphviz
def test_a_picture_says_what_it_shows_to_those_who_cannot_see_it(tmp_path: Path) -> None:
    path = fxgrow.draw(planned(), tmp_path / "plan.svg")
    root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    name = root.tag.removesuffix("svg")
    assert root.get("role") == "img"
    assert "Sequential" in str(root.findtext(f"{name}title"))
    assert "Widths that grow: 0 8 to 16" in str(root.findtext(f"{name}desc"))


class Shared(nn.Module):
    """One head for three maps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = self.stem(x)
        return [self.head(x), self.head(x[:, :, ::2]), self.head(torch.relu(x))]


@pytest.mark.parametrize("level", ["groups", "blocks", "layers", "ops"])
def test_a_layer_that_is_called_several_times_counts_once(level: str) -> None:
    model = Shared()
    boxes = drawing(source_of(model, torch.randn(1, 3, 8, 8)), level).nodes
    assert sum(box.parameters[0] for box in boxes) == sum(p.numel() for p in model.parameters())


def test_short_names_keep_what_tells_them_apart() -> None:
    paths = [
        f"backbone.transition_with_{kind}.{number}"
        for kind in ("squeeze_excitation", "channel_shuffle_x2")
        for number in (0, 2)
    ]
    paths += ["encoder.layers.encoder_layer_11.self_attention.out_proj", "a" * 60, f"{'b' * 60}.3", "conv1"]
    names = [short(path) for path in paths]
    assert len(set(names)) == len(paths)
    assert all(len(name) <= 34 for name in names)
    assert names[0] == "…transition_with…eeze_excitation.0"
    assert names[4] == "…self_attention.out_proj"
    assert names[-1] == "conv1"


def test_short_names_keep_the_words_around_a_path() -> None:
    path = "features.1.0…1.attn.qkv"
    assert short(f"heads of {path}") == "heads of …1.0…1.attn.qkv"
    assert short(f"{path} per head").endswith(".attn.qkv per head")
    assert short("num_heads of encoder.layers.encoder_layer_0…11.self_attention").startswith("num_heads of ")
    assert short("input of features.0.0") == "input of features.0.0"
    for name in (f"heads of {path}", f"{path} per head", f"rows of {path}.{path}", f"heads per group of {path}"):
        assert len(short(name)) <= 34
