"""Drawings: every level of several nets, every output, what is refused, and an HTML that loads nothing."""

from __future__ import annotations

import functools
import itertools
import json
import re
import runpy
import shutil
from collections import Counter
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import fxgrow
from benchmarks.torchvision_shim import import_torchvision
from fxgrow.drawing import LEVELS, Drawing, Source, drawing, opening, outputs, source_of
from fxgrow.drawing import image as image_output
from fxgrow.drawing.html import data_of
from fxgrow.drawing.registry import level, output
from fxgrow.drawing.text import text as table_of
from fxgrow.drawing.view import GROWS, PINNED, SIGNS, finest

from .nets import NETS
from .thinned import THOROUGH

SOME = ("dense_net", "inception", "squeeze_and_excitation", "unet", "vit_qkv_separate", "channel_shuffle_module")
GRAPHVIZ = find_spec("pygraphviz") is not None or shutil.which("dot") is not None
BY_GRAPHVIZ = (".svg", ".png", ".pdf")
KINDS = {".html": b"<!DOCTYPE html>", ".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF", ".dot": b"digraph"}


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.conv2(torch.relu(self.norm(self.conv1(x)))))


class Small(nn.Module):
    """A stem, residual blocks that are alike, and a classifier."""

    def __init__(self, blocks: int = 3, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU())
        self.blocks = nn.Sequential(*[Block(width) for _ in range(blocks)])
        self.fc = nn.Linear(width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


IMAGES = torch.zeros(2, 3, 8, 8)


@functools.cache
def _found(blocks: int) -> fxgrow.WidthGraph:
    return fxgrow.widths(Small(blocks), IMAGES)


@functools.cache
def _found_of(name: str) -> fxgrow.WidthGraph:
    return fxgrow.widths(NETS[name].make(), NETS[name].inputs())


def _widened(spec: object = 1.5, blocks: int = 3) -> Source:
    found = _found(blocks)
    return source_of((found, fxgrow.plan(found, spec)))  # type: ignore[arg-type]


def _shapes(found: Drawing) -> dict[str, tuple[int, int]]:
    return {node.path: node.size for node in found.nodes if node.path}


# -- levels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("at", LEVELS)
def test_every_level_of_several_nets(name: str, at: str) -> None:
    found = _found_of(name)
    for given in (found, (found, fxgrow.plan(found, 2.0))):
        drawn = drawing(source_of(given), at)
        keys = [node.key for node in drawn.nodes]
        assert len(keys) == len(set(keys)) > 1
        assert drawn.edges
        assert all(edge.source in keys and edge.target in keys for edge in drawn.edges)
        assert drawn.grows is isinstance(given, tuple)
        assert any(node.state == GROWS for node in drawn.nodes) is drawn.grows


def test_groups_have_a_box_each_with_its_sizes() -> None:
    source = _widened()
    drawn = finest(drawing(source, "groups"))
    assert {node.key for node in drawn.nodes} == {group.name for group in source.widths.groups}
    assert _shapes(drawn)["stem.0"] == (4, 6)
    outputs_ = [node for node in drawn.nodes if node.kind == "output"]
    assert [(node.path, node.size, node.state) for node in outputs_] == [("fc", (5, 5), PINNED)]
    assert "output of the model" in outputs_[0].reason


def test_a_concatenation_leads_to_the_next_one_so_that_a_dense_net_is_a_chain() -> None:
    for at in ("groups", "layers"):
        drawn = drawing(source_of(_found_of("dense_net")), at)
        joins = [node.key for node in drawn.nodes if node.what == "cat"]
        into = [sum(edge.target == join for edge in drawn.edges) for join in joins]
        assert len(joins) > 1
        assert max(into) == 2


def test_ops_have_a_box_for_each_node_of_the_graph() -> None:
    source = _widened()
    nodes = [node.name for node in source.widths.traced.graph("eval").nodes]
    assert [node.key for node in drawing(source, "ops").nodes] == nodes


def test_layers_hold_their_norm_and_activation() -> None:
    drawn = drawing(_widened(), "layers")
    conv = next(node for node in drawn.nodes if node.path == "blocks.0.conv1")
    assert conv.inside == ("BatchNorm2d blocks.0.norm", "relu")
    assert conv.parameters == (4 * 4 * 9 + 4 + 8, 6 * 6 * 9 + 6 + 12)


def test_blocks_that_are_alike_are_one() -> None:
    drawn = drawing(_widened(blocks=5), "blocks")
    block = next(node for node in drawn.nodes if node.times > 1)
    assert (block.times, block.path, block.what) == (5, "blocks.0 … 4", "Block 2 layers")


def test_skips_are_marked_and_the_trunk_is_not() -> None:
    edges = drawing(_widened(blocks=1), "layers").edges
    assert [(edge.source, edge.skip) for edge in edges if edge.target == "add"] == [
        ("stem_0", True),
        ("blocks_0_conv2", False),
    ]


def test_the_way_from_the_first_width_to_the_output_is_drawn_straight() -> None:
    main = [(edge.source, edge.target) for edge in drawing(_widened(), "groups").edges if edge.main]
    assert main == [("input of stem.0", "stem.0"), ("stem.0", "fc")]


def test_each_call_of_a_shared_layer_is_a_box_of_its_own() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.MaxPool2d(2)
            self.parts = nn.ModuleList([nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)) for _ in range(3)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for part in self.parts:
                x = self.pool(part(x))
            return x

    drawn = drawing(source_of(Pooled(), IMAGES), "blocks")
    assert [node.path for node in drawn.nodes if node.kind != "input"][:4] == ["parts.0", "pool", "parts.1", "pool"]


def test_shapes_stand_on_the_arrows_without_the_batch() -> None:
    edge = next(e for e in drawing(_widened(), "ops").edges if e.source == "stem_0")
    assert edge.shapes == ("4×6×6", "6×6×6")


def test_a_large_net_opens_at_a_level_that_reads_at_once() -> None:
    source = source_of(_found(70))
    assert len(drawing(source, "ops").nodes) > 400
    shown = opening(source)
    assert shown.level == "groups"
    assert len(shown.nodes) == 4
    assert [node.times for node in shown.nodes] == [1, 1, 70, 1]
    assert opening(_widened()).level == "groups"


def test_no_two_widths_have_one_colour() -> None:
    source = source_of(_found(70))
    colours = [(swatch.hue, swatch.shade) for swatch in source.legend.values() if swatch.state != PINNED]
    assert len(colours) == len(set(colours)) == 71


# -- what a plan does ---------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["layers", "ops"])
def test_a_student_looks_as_its_plan_said(at: str) -> None:
    teacher = Small()
    student = fxgrow.grow(teacher, 1.5, IMAGES)
    planned = drawing(source_of((teacher, fxgrow.plan_of(student))), at)
    done = drawing(source_of(student), at)
    assert _shapes(planned) == _shapes(done)
    assert [n.parameters for n in planned.nodes] == [n.parameters for n in done.nodes]
    assert [n.flops for n in planned.nodes] == [n.flops for n in done.nodes]


def test_a_students_boxes_stand_where_they_stood_though_its_nodes_are_numbered_anew() -> None:
    student = fxgrow.grow(Small(), fxgrow.Deepen("blocks.1.conv2", kind="residual"), IMAGES)
    drawn = drawing(source_of(student), "ops")
    adds = [node.path for node in drawn.nodes if node.what == "add"]
    assert adds == ["blocks.0", "blocks.1", "blocks.1", "blocks.2"]
    assert not any(edge.back for edge in drawing(source_of(student), "blocks").edges)


@pytest.mark.parametrize("spec", [[fxgrow.Inputs("x", 6), fxgrow.Outputs(9)], [fxgrow.Widen("*", 2.0)]])
@pytest.mark.parametrize("form", ["graph", "module"])
def test_grown_inputs_and_outputs_and_modules_look_as_planned(spec: list[object], form: str) -> None:
    teacher = Small()
    student = fxgrow.grow(teacher, spec, IMAGES, output=form)  # type: ignore[arg-type]
    planned = drawing(source_of((teacher, fxgrow.plan_of(student))), "groups")
    done = drawing(source_of(student), "groups")
    assert _shapes(planned) == _shapes(done)
    assert planned.edges == done.edges
    assert any(old < new for old, new in _shapes(done).values())
    assert len(drawing(source_of((teacher, fxgrow.plan_of(student))), "ops").nodes) > 20


def test_a_chain_of_plans_shows_the_first_width_and_the_last() -> None:
    teacher = Small()
    first = fxgrow.grow(teacher, 2.0, IMAGES)
    second = fxgrow.grow(first, 1.5, IMAGES)
    chain = fxgrow.plan_of(second)
    assert chain is not None
    assert len(chain.steps) == 2
    for given in ((teacher, chain), fxgrow.apply(chain, teacher)):
        assert _shapes(drawing(source_of(given), "groups"))["stem.0"] == (4, 12)


DEEPER = [fxgrow.Deepen("stem.0"), fxgrow.Deepen("blocks.2", blocks=2), fxgrow.Kernel("blocks.0.conv1", 5)]


@pytest.mark.parametrize("at", ["layers", "ops", "blocks"])
def test_new_layers_are_marked_and_before_growth_arrows_lead_past_them(at: str) -> None:
    source = _widened(DEEPER)
    drawn = drawing(source, at)
    new = {node.key for node in drawn.nodes if node.new}
    assert new
    assert all(node.size[0] == 0 for node in drawn.nodes if node.new)
    assert not any(edge.when != "after" for edge in drawn.edges if {edge.source, edge.target} & new)
    before = {(e.source, e.target) for e in drawn.edges if e.when != "after"}
    alone = drawing(source_of(source.widths), at)
    assert before >= {(e.source, e.target) for e in alone.edges if at != "blocks"}


def test_new_layers_of_a_student_are_marked() -> None:
    student = fxgrow.grow(Small(), DEEPER, IMAGES)
    new = {node.path for node in drawing(source_of(student), "layers").nodes if node.new}
    assert {"stem.0_deeper1.conv", "blocks.2_deeper1.conv1", "blocks.2_deeper2.conv2"} <= new
    assert all(path.partition("_deeper")[1] for path in new)


def test_parameters_and_flops_of_a_plan_are_those_of_its_student_at_every_level() -> None:
    teacher = Small()
    student = fxgrow.grow(teacher, [*DEEPER, fxgrow.Widen("*", 2.0)], IMAGES)
    flops = fxgrow.verify(teacher, student, IMAGES).flops
    for at in LEVELS:
        found = [drawing(source_of(g), at) for g in ((teacher, fxgrow.plan_of(student)), student)]
        for drawn in found:
            old, new = (sum(node.parameters[i] for node in drawn.nodes) for i in (0, 1))
            assert old == sum(p.numel() for p in teacher.parameters())
            assert new == sum(p.numel() for p in student.parameters())
            assert tuple(sum(node.flops[i] for node in drawn.nodes) for i in (0, 1)) == flops


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        pytest.param("unet", [fxgrow.Widen("*", 2.0)], marks=THOROUGH),
        ("unet", [fxgrow.Widen("*", 2.0), fxgrow.Kernel("*", 7)]),
        ("inception", [fxgrow.Kernel("*", 9)]),
        ("vit_qkv_separate", [fxgrow.Widen("*", 2.0)]),
        ("dense_net", [fxgrow.Widen("*", 2.0)]),
        ("weight_norm_depthwise", [fxgrow.Widen("*", 2.0)]),
    ],
)
def test_flops_are_those_that_torch_counts(name: str, spec: list[object]) -> None:
    net = NETS[name]
    teacher = net.make().eval()
    student = fxgrow.grow(teacher, spec, net.inputs()).eval()
    ops, groups = (drawing(source_of((teacher, fxgrow.plan_of(student)), net.inputs()), at) for at in ("ops", "groups"))
    for i, model in enumerate((teacher, student)):
        inputs = net.inputs()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(**inputs) if isinstance(inputs, dict) else model(*inputs)
        assert sum(node.flops[i] for node in ops.nodes) == counter.get_total_flops()
        assert sum(node.flops[i] for node in groups.nodes) == counter.get_total_flops()


def test_an_enlarged_kernel_shows_both_sizes() -> None:
    conv = next(n for n in drawing(_widened(DEEPER), "layers").nodes if n.path == "blocks.0.conv1")
    assert conv.what == "Conv2d 3×3→5×5"


@pytest.mark.parametrize("spec", [1.5, {"blocks.1.*": 1.5}, [fxgrow.Widen("stem.*", 2.0), *DEEPER]])
def test_a_plan_alone_shows_the_widths_that_grow_as_they_are_with_the_model(spec: object) -> None:
    source = _widened(spec)
    assert source.plan is not None
    plan = fxgrow.Plan.from_json(source.plan.to_json())
    alone, whole = finest(drawing(source_of(plan), "groups")), finest(drawing(source, "groups"))
    shapes = _shapes(alone)
    assert {path: size for path, size in shapes.items() if size[0] < size[1]} == {
        width.name: (width.old, width.new) for width in plan.grown_widths
    }
    assert shapes.items() <= _shapes(whole).items()
    ways = [{(e.source, e.target): e.label for e in d.edges if e.source != e.target} for d in (alone, whole)]
    assert ways[0].keys() <= ways[1].keys()
    assert all((start, end) in ways[0] for start, end in ways[1] if {start, end} & {w.name for w in plan.grown_widths})
    assert all(f"{change.path}: {change}" in alone.notes for change in plan.changes)


def test_what_a_plan_leaves_is_said_where_it_is_drawn_alone() -> None:
    source = _widened({"*": 1.5})
    assert source.plan is not None
    assert any(note.startswith("fc is left as it is: ") for note in drawing(source_of(source.plan), "groups").notes)


@pytest.mark.parametrize("spec", [1.5, [fxgrow.Widen("*", 2.0), *DEEPER]])
def test_a_box_of_a_width_has_the_parameters_of_the_layers_that_make_it(spec: object) -> None:
    teacher = Small()
    drawn = drawing(_widened(spec), "groups")
    assert sum(node.parameters[0] for node in drawn.nodes) == sum(p.numel() for p in teacher.parameters())


# -- outputs ------------------------------------------------------------------------------------------


@functools.cache
def _deeper() -> tuple[fxgrow.WidthGraph, fxgrow.Plan]:
    return _found(3), fxgrow.plan(_found(3), DEEPER)


@functools.cache
def _twins() -> list[nn.Module]:
    """Students of two teachers that were built in the same way."""
    return [fxgrow.grow(Small(), DEEPER, IMAGES) for _ in range(2)]


@pytest.mark.parametrize("at", LEVELS)
@pytest.mark.parametrize("suffix", sorted(outputs()))
def test_every_output_draws_every_level(suffix: str, at: str, tmp_path: Path) -> None:
    if suffix in BY_GRAPHVIZ and not GRAPHVIZ:
        pytest.skip("neither pygraphviz nor a dot on the PATH")
    path = fxgrow.draw(_deeper(), tmp_path / f"a{suffix}", level=at)
    written = path.read_bytes()
    assert written.startswith(KINDS.get(suffix, b""))
    if suffix in (".txt", ".mmd", ".dot", ".html"):
        text = written.decode() if suffix != ".html" else json.dumps(data_of(written.decode()))
        assert "Small" in text
        assert "_deeper1" in text or at == "groups"
    if suffix == ".svg":
        texts = " ".join(ElementTree.fromstring(written).itertext())
        assert "conv1" in texts or at == "blocks"


@pytest.mark.parametrize("suffix", [s for s in sorted(outputs()) if s not in BY_GRAPHVIZ])
def test_the_same_model_gives_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    paths = [fxgrow.draw(twin, tmp_path / f"{i}{suffix}") for i, twin in enumerate(_twins())]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_names_cannot_break_out_of_any_format(tmp_path: Path) -> None:
    model = nn.Sequential()
    model.add_module('a"]<b>&</script>', nn.Linear(3, 4))
    model.add_module("<b>", nn.Linear(4, 2))
    for suffix in outputs():
        if GRAPHVIZ or suffix not in BY_GRAPHVIZ:
            fxgrow.draw(model, tmp_path / f"a{suffix}", example_inputs=torch.zeros(2, 3))
    assert (tmp_path / "a.html").read_text(encoding="utf-8").count("</script>") == 3
    assert '"]<b>' not in (tmp_path / "a.mmd").read_text(encoding="utf-8")


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.data = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "input", "rect", "br"):
            self.open.append(tag)
        self.links += [value or "" for key, value in attrs if key in ("src", "href", "data", "action")]
        self._json = ("id", "data") in attrs

    def handle_endtag(self, tag: str) -> None:
        if tag != "rect":
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script" and self._json:
            self.data += data


def test_the_html_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    text = fxgrow.draw(Small(), tmp_path / "a.html", example_inputs=IMAGES).read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert page.links == ["data:,"]
    data = data_of(text)
    assert list(data["levels"]) == list(LEVELS)
    assert data["opening"] == "groups"
    assert "default-src 'none'" in text
    assert not re.search(r"@import|url\((?!#)|fetch\(\s*[\"']http|sourceMappingURL", text.replace(page.data, ""))


def test_the_vendored_library_comes_with_its_notices() -> None:
    vendor = Path(fxgrow.__file__).parent / "drawing" / "vendor"
    assert {path.name for path in vendor.iterdir()} >= {
        "graphviz.js", "NOTICE.md", "LICENSE.wasm-graphviz", "LICENSE.graphviz", "LICENSE.expat",
        "dagre.js", "LICENSE.dagre",
    }  # fmt: skip
    assert (vendor / "graphviz.js").stat().st_size < 1_000_000
    assert (vendor / "dagre.js").stat().st_size < 60_000


def test_the_way_of_why_leads_from_each_layer_to_its_width(tmp_path: Path) -> None:
    page = _Page()
    text = fxgrow.draw(Small(), tmp_path / "a.html", example_inputs=IMAGES).read_text(encoding="utf-8")
    page.feed(text)
    data = data_of(text)
    at, steps = "blocks.2.conv2.weight[0]", []
    while at in data["ties"]:
        at, site = data["ties"][at]
        steps.append(site)
    assert at == "stem.0.weight[0]"
    assert any("add" in site for site in steps)


def test_notebooks_show_tables_without_any_extra() -> None:
    source = _widened(DEEPER)
    for shown in (source.widths, source.plan):
        page = _Page()
        page.feed(shown._repr_html_())  # type: ignore[union-attr]
        assert page.open == []
        assert shown._repr_html_().count("<tr>") >= 5  # type: ignore[union-attr]


# -- what is refused ----------------------------------------------------------------------------------


def test_levels_that_need_a_graph_are_refused_of_a_plan_alone(tmp_path: Path) -> None:
    for at in LEVELS[1:]:
        with pytest.raises(fxgrow.DrawError, match=r"give \(widths, plan\) or the student"):
            fxgrow.draw(_widened().plan, tmp_path / "a.txt", level=at)


def test_a_plan_for_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(fxgrow.PlanError):
        fxgrow.draw((fxgrow.widths(Small(blocks=2), IMAGES), _widened().plan), tmp_path / "a.txt")


@pytest.mark.parametrize("given", [3, (), ("a",), None])
def test_what_is_no_model_is_refused(given: object, tmp_path: Path) -> None:
    with pytest.raises(fxgrow.DrawError, match="give a model"):
        fxgrow.draw(given, tmp_path / "a.txt")


def test_unknown_levels_and_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(fxgrow.DrawError, match=r"cannot draw suffix '\.gif'; use one of \.dot"):
        fxgrow.draw(Small(), tmp_path / "a.gif")
    with pytest.raises(fxgrow.DrawError, match="no level 'atoms'; use one of groups, blocks, layers, ops"):
        fxgrow.draw(Small(), tmp_path / "a.txt", level="atoms", example_inputs=IMAGES)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_without_graphviz_an_svg_is_refused_and_the_ways_out_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_output, "find_spec", lambda name: None)
    monkeypatch.setattr(image_output.shutil, "which", lambda name: None)
    with pytest.raises(fxgrow.DrawError, match=r"fxgrow\[viz\].*\.html"):
        fxgrow.draw(Small(), tmp_path / "a.svg", example_inputs=IMAGES)


def test_names_of_modules_are_drawn_last_in_an_svg(tmp_path: Path) -> None:
    """Above the arrows that pass them."""
    if not GRAPHVIZ:
        pytest.skip("neither pygraphviz nor a dot on the PATH")
    drawn = ElementTree.parse(fxgrow.draw(Small(), tmp_path / "a.svg", level="layers", example_inputs=IMAGES))
    graph = drawn.getroot()[2]  # behind a title and a description
    svg = "{http://www.w3.org/2000/svg}"
    assert {text.text for text in graph[-1].iter(f"{svg}text")} == {"blocks.0", "blocks.1", "blocks.2"}
    modules = [one for one in graph if one.get("class") == "cluster"]
    assert modules
    assert not any(list(one.iter(f"{svg}text")) for one in modules)
    assert {"node", "edge"} <= {one.get("class") for one in graph[:-1]}


def test_mermaid_has_a_legend_of_the_classes_that_occur(tmp_path: Path) -> None:
    student = fxgrow.grow(Small(), DEEPER, IMAGES)
    text = fxgrow.draw(student, tmp_path / "a.mmd", level="layers").read_text(encoding="utf-8")
    legend = dict(re.findall(r'^ {4}(l\d+)\("(.*)"\)$', text, re.MULTILINE))
    assert {SIGNS[sign] for sign in ("pinned", "new")} < set(legend.values())
    assert "4 stem.0" in legend.values()
    styled = re.findall(r"^  class (.*) c\d+$", text, re.MULTILINE)
    assert all(sum(name in boxes.split(",") for boxes in styled) == 1 for name in legend)
    assert "legend" not in fxgrow.draw(nn.Sequential(nn.ReLU()), tmp_path / "b.mmd", example_inputs=IMAGES).read_text()


def test_without_a_path_a_drawing_is_an_object(tmp_path: Path) -> None:
    shown = fxgrow.draw(Small(), level="blocks", example_inputs=IMAGES)
    written = fxgrow.draw(Small(), tmp_path / "a.html", level="blocks", example_inputs=IMAGES)
    page = written.read_text(encoding="utf-8")
    assert data_of(shown.page) == data_of(page)
    assert 'data-engine="dagre"' in shown.page
    assert 'data-engine="graphviz"' in page
    assert len(repr(shown)) < 200


def test_a_folder_that_is_not_there_is_said_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none/a\.html"):
        fxgrow.draw(nn.Linear(2, 2), tmp_path / "none" / "a.html", example_inputs="nothing is run on this")


def test_mermaid_draws_a_width_that_many_layers_share_as_a_spine(tmp_path: Path) -> None:
    class Stream(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.ModuleList(nn.Linear(8, 9 + i) for i in range(12))
            self.b = nn.ModuleList(nn.Linear(9 + i, 8) for i in range(12))

        def forward(self, x: Tensor) -> Tensor:
            for a, b in zip(self.a, self.b, strict=True):
                x = x + b(torch.relu(a(x)))
            return x

    model = nn.Sequential(nn.Linear(4, 8), Stream(), nn.Linear(8, 2))
    drawn = fxgrow.draw(model, tmp_path / "a.mmd", level="groups", example_inputs=torch.zeros(2, 4))
    lines = drawn.read_text(encoding="utf-8").splitlines()
    thick = [line.split() for line in lines if " === " in line]
    assert len(thick) >= 3
    assert all(one[2] == other[0] for one, other in itertools.pairwise(thick)), "one column"
    readers = Counter(line.split()[0] for line in lines if " --> " in line or " -->|" in line)
    assert max(readers.values()) <= 4


def test_more_than_mermaid_shows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(fxgrow.DrawError, match="use level 'blocks'"):
        fxgrow.draw(Small(blocks=80), tmp_path / "a.mmd", level="ops", example_inputs=IMAGES)


def test_a_second_builder_of_a_level_or_writer_of_a_suffix_is_refused() -> None:
    with pytest.raises(ValueError, match="already registered or not in LEVELS"):
        level("groups")(lambda source: drawing(source, "ops"))
    with pytest.raises(ValueError, match="already registered or has no dot"):
        output(".svg")(lambda picture: b"")


def test_a_table_says_what_its_signs_mean(tmp_path: Path) -> None:
    found = fxgrow.widths(Small(), IMAGES)
    plan = fxgrow.plan(found, [fxgrow.Widen("*", 1.5), *DEEPER])
    grown = fxgrow.draw((found, plan), tmp_path / "grown.txt", level="layers").read_text(encoding="utf-8")
    assert f"\n+ {SIGNS['new']}\n· {SIGNS['pinned']}\n" in grown
    alone = fxgrow.draw(found, tmp_path / "alone.txt", level="layers").read_text(encoding="utf-8")
    assert f"\n· {SIGNS['pinned']}\n" in alone
    assert SIGNS["new"] not in alone


def test_a_table_names_the_module_above_what_stands_in_it() -> None:
    source = source_of(fxgrow.widths(Small(), IMAGES))
    lines = [line[2:].rstrip() for line in table_of(drawing(source, "ops")).splitlines()]
    at = lines.index("blocks.1")
    assert [line.split()[0] for line in lines[at + 1 : at + 3]] == ["conv1", "norm"]
    assert all(line.startswith("  ") for line in lines[at + 1 : at + 3])
    assert not any(line.split()[:1] == ["0"] for line in lines)  # a number alone tells nothing


def test_the_page_in_the_docs_is_up_to_date(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    if find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    pictures = Path(__file__).parents[1] / "docs" / "pictures"
    spec = runpy.run_path(str(pictures.with_suffix(".py")))["RESNET"]
    found = fxgrow.widths(import_torchvision().models.resnet18(weights=None), torch.zeros(2, 3, 224, 224))
    path = fxgrow.draw((found, fxgrow.plan(found, spec)), tmp_path / "resnet18.html")
    texts = [one.read_text(encoding="utf-8") for one in (path, pictures / "resnet18.html")]
    assert data_of(texts[0]) == data_of(texts[1]), "run python docs/pictures.py"
    bare = [re.sub(r'id="data">[^<]*<', "", text) for text in texts]  # zlib does not promise the same bytes everywhere
    assert bare[0] == bare[1], "run python docs/pictures.py"
