"""How drawings read: colours that differ and carry text, names that tell, arrows that go around boxes."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import fxgrow
from fxgrow.drawing import LEVELS, Drawing, Node, Source, drawing, source_of, writer
from fxgrow.drawing.colours import DARK, LIGHT, Theme, colour, contrast, oklch
from fxgrow.drawing.dot import dot, short
from fxgrow.drawing.folding import folded, layered
from fxgrow.drawing.graph import graph_of
from fxgrow.drawing.html import data_of
from fxgrow.drawing.registry import Picture, drawings
from fxgrow.drawing.view import GROWS, PINNED, Swatch, arrow, finest, own, quiet

from .nets import NETS
from .test_draw import DEEPER, GRAPHVIZ, IMAGES, Small


def _source(model: nn.Module, spec: object, inputs: object = IMAGES) -> Source:
    found = fxgrow.widths(model, inputs)
    return source_of((found, fxgrow.plan(found, spec)))  # type: ignore[arg-type]


def _dot(drawn: Drawing, source: Source) -> str:
    return writer(".dot")(Picture(drawn, source, ".dot")).decode()


def _node(drawn: Drawing, path: str) -> Node:
    return next(node for node in drawn.nodes if node.path == path)


# -- colours ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_reads_on_every_fill(theme: Theme) -> None:
    fills = [colour(Swatch("", hue, shade, (1, 1), "", "", ()), theme) for hue in range(360) for shade in range(3)]
    fills += [colour(None, theme), colour(Swatch("", -1, 0, (1, 1), PINNED, "", ()), theme)]
    assert min(contrast(theme.ink, fill) for fill, _ in fills) >= 4.5
    assert min(contrast(line, fill) for fill, line in fills) >= 3.0


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)
    assert contrast("#1a7f37", "#1a7f37") == 1


def test_oklch_gives_the_primaries_and_keeps_to_the_screen() -> None:
    assert [oklch(0.628, 0.2577, 29.23), oklch(1, 0, 0), oklch(0, 0, 0)] == ["#ff0000", "#ffffff", "#000000"]
    assert oklch(0.9, 0.4, 264) == oklch(0.9, 0.4, 264 + 360)
    assert re.fullmatch("#[0-9a-f]{6}", oklch(0.9, 0.4, 264))


def test_what_shows_at_blocks_has_the_colours_that_differ_most() -> None:
    source = _source(NETS["dense_net"].make(), 1.5, NETS["dense_net"].inputs())
    legends = {one.level: one.legend for one in drawings(source, *LEVELS)}
    first = [s.hue for s in legends["blocks"] if s.hue >= 0]
    assert sorted(first) == sorted([s.hue for s in source.legend.values() if s.hue >= 0][: len(first)])
    for one, other in itertools.pairwise(legends.values()):  # and a width has one colour at all levels
        both = {s.name: colour(s) for s in one}
        assert all(both.get(s.name, colour(s)) == colour(s) for s in other)


def test_a_drawing_alone_has_the_colours_that_it_has_beside_others() -> None:
    source = _source(Small(), 1.5)
    for one in drawings(source, *LEVELS):
        assert drawing(source, one.level) == one


def test_eighty_widths_have_eighty_fills() -> None:
    source = source_of(fxgrow.widths(Small(blocks=79), IMAGES))
    legend = [swatch for swatch in drawing(source, "groups").legend if swatch.state != PINNED]
    assert len({colour(swatch)[0] for swatch in legend}) == len(legend) == 80


# -- boxes --------------------------------------------------------------------------------------------


def test_a_new_box_says_new_and_its_width_without_a_sign() -> None:
    source = _source(Small(), DEEPER)
    new = _node(drawing(source, "blocks"), "blocks.2_deeper1 … 2_deeper2")
    assert new.new
    assert arrow(new.size) == "4"
    for level in LEVELS:
        assert not re.search(r"\+\d", _dot(drawing(source, level), source))


def test_a_block_with_a_new_layer_in_it_is_not_new() -> None:
    source = _source(Small(), [fxgrow.Widen("*", 1.5), fxgrow.Deepen("blocks.1.conv1"), fxgrow.Deepen("stem.0")])
    flow = folded(layered(graph_of(source)), lambda key: "stem_0" if key.startswith("stem.0_deeper1") else key)
    stem = flow.nodes["stem_0"]
    assert (stem.new, stem.size, stem.parameters[0]) == (False, (4, 6), 4 * 27 + 4)
    assert {(e.when, e.shapes) for e in flow.edges if e.source == "stem_0"} == {("both", ("4×6×6", "6×6×6"))}
    assert "Block 2→3 layers" in [node.what for node in drawing(source, "blocks").nodes]


@pytest.mark.parametrize("at", ["layers", "ops"])
def test_words_of_features_show_their_features(at: str) -> None:
    net = NETS["vit_qkv_separate"]
    drawn = drawing(_source(net.make(), 2.0, net.inputs()), at)
    for path in ("blocks.0.norm1", "blocks.0.attn.proj", "blocks.0.mlp.2"):
        node = _node(drawn, path)
        assert (node.size, node.state) == ((8, 16), GROWS), path


def test_boxes_are_called_by_the_rest_of_their_path() -> None:
    drawn = drawing(_source(Small(), 1.5), "ops")
    assert own(_node(drawn, "blocks.1.conv1")) == "conv1"
    assert own(_node(drawn, "stem.0")) == "stem.0"  # a number alone tells nothing
    add = next(node for node in drawn.nodes if node.what == "add")
    assert (add.home, own(add)) == ("blocks.0", "")


def test_sums_of_the_code_are_quiet_and_what_flows_is_not() -> None:
    net = NETS["vit_qkv_separate"]
    source = _source(net.make(), 2.0, net.inputs())
    drawn = drawing(source, "ops")
    names = {node.what for node in drawn.nodes if quiet(node)}
    assert {"guard", "size", "eq"} <= names
    assert not names & {"add", "cat", "matmul", "Linear", "LayerNorm", "cls_token", "pos_embed"}
    assert _dot(drawn, source).count('fontsize="9", height="0.2"') == sum(map(quiet, drawn.nodes))


def test_nothing_is_striped_and_what_is_pinned_is_grey_and_dashed() -> None:
    source = _source(Small(), 1.5)
    for level in LEVELS:
        drawn = drawing(source, level)
        text = _dot(drawn, source)
        assert "striped" not in text
        assert text.count("rounded,filled,dashed") == sum(node.state == PINNED for node in drawn.nodes) > 0


def test_names_in_the_legend_are_told_apart() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential()
            for i in (1, 2):
                block = nn.Sequential()
                block.add_module("denselayer1", nn.Conv2d(3, 3, 1))
                block.add_module("denselayer2", nn.Conv2d(3, 3, 1))
                self.features.add_module(f"denseblock{i}", block)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.features(x)

    source = _source(Twice(), 2.0)
    rows = re.findall(r"POINT-SIZE='10'>(\d+→\d+ [^<]+)<", _dot(drawing(source, "layers"), source))
    assert len(rows) == len(set(rows)) == 3


# -- arrows -------------------------------------------------------------------------------------------


def test_an_arrow_back_is_laid_out_from_above_so_that_it_goes_around_boxes() -> None:
    source = _source(Small(), 1.5)
    drawn = finest(drawing(source, "groups"))
    back = [edge for edge in drawn.edges if edge.back]
    text = _dot(drawn, source)
    assert len(back) == text.count('dir="back"') == 3
    assert "constraint" not in text
    above = {f"n{i}": i for i in range(len(drawn.nodes))}
    assert all(above[a] < above[b] for a, b in re.findall(r"(n\d+) -> (n\d+) \[", text))


def test_the_colours_of_the_legend_stand_beside_their_names() -> None:
    source = _source(Small(), 1.5)
    text = _dot(drawing(source, "layers"), source)
    assert "COLSPAN" not in text, "a title over all columns would stretch them"


def test_many_new_layers_of_one_width_are_one_loop() -> None:
    spec = [fxgrow.Deepen("blocks.*.conv2"), fxgrow.Deepen("blocks", blocks=2)]
    loops = [e for e in drawing(_source(Small(), spec), "groups").edges if e.source == e.target and e.when == "after"]
    assert [loop.label for loop in loops] == ["new: 3×3 (3), 2 blocks"]
    assert "blocks.0.conv2_deeper1" in loops[0].tip


def test_layers_without_a_kernel_are_counted_in_words() -> None:
    net = NETS["vit_qkv_separate"]
    labels = {edge.label for edge in drawing(_source(net.make(), 2.0, net.inputs()), "groups").edges}
    assert "3 layers" in labels
    assert not any(label.startswith("(") for label in labels)


def test_the_page_has_each_colour_for_light_and_dark(tmp_path: Path) -> None:
    text = fxgrow.draw(Small(), tmp_path / "a.html", example_inputs=IMAGES).read_text(encoding="utf-8")
    swatch = next(s for s in drawing(source_of(Small(), IMAGES), "groups").legend if s.state != PINNED)
    page = next(one for one in data_of(text)["legend"] if one["name"] == swatch.name)
    assert page["fill"] == [colour(swatch)[0], colour(swatch, DARK)[0]]


@pytest.mark.parametrize("index", ["0", "2", "0.1", "12.0.3"])
@pytest.mark.parametrize("stem", ["backbone.", "", "model.backbone.stages."])
def test_shortened_names_keep_what_tells_them_apart(stem: str, index: str) -> None:
    parts = ("squeeze_excitation", "channel_shuffle_x2", "pooling_a_to_b")
    names = [f"{stem}transition_with_{part}.{index}" for part in parts]
    found = [short(name) for name in names]
    assert len(set(found)) == 3
    assert all(len(name) <= 34 and name.endswith(f".{index}") for name in found)
    assert "excitation" in found[0]
    assert "shuffle" in found[1]


def test_short_names_are_whole_and_a_single_long_step_keeps_both_ends() -> None:
    assert short("layer1.0.conv1") == "layer1.0.conv1"
    assert short("backbone.features.denseblock1.denselayer1.conv1") == "…denseblock1.denselayer1.conv1"
    long = short("first_" + "x" * 60 + "_last")
    assert len(long) == 34
    assert long.startswith("first_")
    assert long.endswith("_last")


@pytest.mark.parametrize(
    ("old", "new", "sides"),
    [((3, 3), (5, 5), "12x12 in 20x20"), ((3,), (9,), "7x2 in 20x2"), ((1, 3, 3), (1, 3, 7), "9x9 in 20x9")],
)
def test_the_sign_of_a_larger_kernel_is_true_to_scale(
    old: tuple[int, ...], new: tuple[int, ...], sides: str, capfd: pytest.CaptureFixture[str]
) -> None:
    drawn = drawing(_source(Small(), 1.5), "layers")
    node = next(node for node in drawn.nodes if node.path == "stem.0")
    others = tuple(replace(one, kernel=(old, new)) if one is node else one for one in drawn.nodes)
    text = dot(replace(drawn, nodes=others))
    found = re.findall(r"<TD FIXEDSIZE='TRUE' WIDTH='(\d+)' HEIGHT='(\d+)'", text.partition("penwidth")[0])
    assert " in ".join("x".join(pair) for pair in reversed(found[-2:])) == sides
    assert "larger kernel" in text
    if GRAPHVIZ:
        writer(".svg")(Picture(replace(drawn, nodes=others), _source(Small(), 1.5), ".svg"))
        assert "too small" not in capfd.readouterr().err
