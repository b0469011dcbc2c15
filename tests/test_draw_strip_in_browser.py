"""The strip, the list of changes, the search and the colours of the page, used in a headless Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import fxgrow

from .test_draw import DEEPER, IMAGES, Small
from .test_draw_in_browser import KEEP, VIEWPORT, Reader, browser, playwright, pytestmark

__all__ = ["browser", "pytestmark"]  # the fixture and the marks apply here, too

SPEC = [fxgrow.Widen("blocks.1.conv1", 1.5), *DEEPER]
DATA = {"blocks.0.conv1": 0.125, "blocks.2": 3.0, "fc": -2.0}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = fxgrow.widths(Small(), IMAGES)
    return fxgrow.draw((found, fxgrow.plan(found, SPEC)), tmp_path_factory.mktemp("drawn") / "a.html", level="groups")


def _opened(browser: Any, path: Path) -> Iterator[Reader]:
    context = browser.new_context(viewport=VIEWPORT, color_scheme="light", offline=True)
    found = Reader(context.new_page())
    found.open(path, "groups")
    yield found
    assert [url for url in found.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert found.complaints == []
    context.close()


@pytest.fixture(scope="module")
def kept(browser: Any, drawn: Path) -> Iterator[Reader]:
    for found in _opened(browser, drawn):
        found.page.evaluate(KEEP)
        yield found


@pytest.fixture
def reader(kept: Reader, drawn: Path) -> Iterator[Reader]:
    """The page as it opens: one for all tests, as it was; opened anew where it cannot be made so."""
    kept.page.mouse.move(2, 2)
    if "#" in kept.page.url or not kept.page.evaluate("restored()"):
        kept.page.goto("about:blank")
        kept.page.goto(drawn.as_uri())
        kept.wait("groups after")
        kept.page.evaluate(KEEP)
    yield kept
    assert kept.complaints == []


@pytest.fixture
def measured(browser: Any, tmp_path: Path) -> Iterator[Reader]:
    """A page with data of the user."""
    found = fxgrow.widths(Small(), IMAGES)
    path = fxgrow.draw((found, fxgrow.plan(found, SPEC)), tmp_path / "a.html", level="groups", data=DATA)
    yield from _opened(browser, path)


def _to(reader: Reader, level: str) -> None:
    reader.page.get_by_label(level, exact=True).check()
    reader.wait(f"{level} after")


def _hits(reader: Reader, query: str) -> list[str]:
    reader.page.locator("#search").fill(query)
    hits = reader.page.locator("#picture .node.hit")
    return [str(path) for path in hits.evaluate_all("all => all.map((one) => one.dataset.path)")]


def _rows(reader: Reader) -> list[str]:
    return [
        str(name) for name in reader.page.locator("#rows button").evaluate_all("all => all.map((b) => b.dataset.name)")
    ]


def test_the_strip_says_totals_and_counts_without_a_click(reader: Reader) -> None:
    strip = reader.page.locator("#strip").inner_text()
    assert "parameters" in strip
    assert "→" in strip
    assert "×" in strip
    assert "1 of " in strip
    assert "grows" in strip
    assert "new block" in strip
    assert "1 larger kernel" in strip
    assert reader.page.locator("#strip").bounding_box()["y"] < 100


def test_a_figure_of_the_strip_fills_the_list_and_gives_it_back(reader: Reader) -> None:
    changes = _rows(reader)
    assert "blocks.1.conv1" in changes
    reader.page.locator("#strip [data-list=pinned]").click()
    assert "fc" in _rows(reader)
    assert "it is an output of the model" in reader.page.locator("#rows").inner_text()
    reader.page.locator("#strip [data-list=pinned]").click()
    assert _rows(reader) == changes
    reader.page.locator("#strip [data-list=parameters]").click()
    assert not reader.page.locator("#sorting").is_visible()
    assert "%" in reader.page.locator("#rows").inner_text()


def test_the_list_is_sorted_by_factor_and_by_cost(reader: Reader) -> None:
    reader.page.locator("#order").select_option("factor")
    assert _rows(reader)[0] == "blocks.0.conv1"  # the kernel, 25 / 9
    orders = [tuple(_rows(reader))]
    for order in ("model", "parameters"):
        reader.page.locator("#order").select_option(order)
        orders.append(tuple(_rows(reader)))
    assert {frozenset(order) for order in orders} == {frozenset(orders[0])}
    assert len(set(orders)) > 1
    assert list(orders[1]).index("blocks.0.conv1") < list(orders[1]).index("blocks.1.conv1")


def test_a_row_selects_its_box_and_opens_what_is_folded(reader: Reader) -> None:
    _to(reader, "layers")
    reader.page.keyboard.press("c")
    reader.page.wait_for_selector("#picture .node.module")
    reader.page.locator("#rows button[data-name='blocks.1.conv1']").click()
    reader.page.wait_for_selector("#picture .node.chosen[data-path='blocks.1.conv1']")
    assert reader.count("#picture .node.module") > 0  # the others stay as they were
    assert "blocks.1.conv1" in reader.page.locator("#details h2").inner_text()


def test_a_row_of_a_new_block_leads_to_it_from_groups_and_from_before(reader: Reader) -> None:
    reader.page.get_by_label("before").check()
    reader.wait("groups before")
    reader.page.locator("#rows button[data-kind=block]").first.click()
    reader.page.wait_for_selector("#picture .node.chosen")
    assert reader.count("#picture .node.chosen.new") == 1
    chosen, stage = (reader.page.locator(one).bounding_box() for one in ("#picture .node.chosen", "#stage"))
    assert stage["y"] <= chosen["y"] <= stage["y"] + stage["height"]


def test_the_search_answers_states_sizes_and_types(reader: Reader) -> None:
    _to(reader, "layers")
    assert "fc" in _hits(reader, "pinned")
    assert _hits(reader, "grows") == _hits(reader, "4->6") == _hits(reader, "4 → 6") == _hits(reader, "6")
    assert _hits(reader, "grows")[0] == "blocks.1.conv1"
    assert all("deeper" in path for path in _hits(reader, "new"))
    assert _hits(reader, "new")
    assert _hits(reader, "linear") == ["fc"]
    assert "fc" in _hits(reader, "5")
    assert _hits(reader, "64") == []
    _to(reader, "blocks")
    assert any("deeper" in path for path in _hits(reader, "new"))
    assert _hits(reader, "grows")


def test_the_search_finds_the_width_of_a_new_layer(reader: Reader) -> None:
    """At groups a new layer is an arrow; the width that it belongs to answers, and only after growth."""
    found = _hits(reader, "new")
    loops = reader.page.locator("#picture .edge", has_text="new:")
    assert len(found) == loops.count() > 0
    reader.page.locator("#search").fill("")
    reader.page.get_by_label("before").check()
    reader.wait("groups before")
    assert _hits(reader, "new") == []
    assert reader.page.locator("#hits").inner_text() == "0 found"


def test_the_search_answers_kernels(reader: Reader) -> None:
    """At groups a layer is an arrow; the width that it makes answers."""
    assert _hits(reader, "kernel") == _hits(reader, "3x3 -> 5x5") == _hits(reader, "5×5") == ["blocks.0.conv1"]
    assert len(_hits(reader, "3x3")) > 1
    assert _hits(reader, "7x7") == []
    _to(reader, "layers")
    assert _hits(reader, "kernel") == _hits(reader, "3x3->5x5") == ["blocks.0.conv1"]
    assert len(_hits(reader, "conv2d 3*3")) > 1
    _to(reader, "blocks")
    (block,) = _hits(reader, "kernel")
    assert "blocks.0.conv1".startswith(block.partition("…")[0])


def test_the_row_of_a_larger_kernel_has_its_sign(reader: Reader) -> None:
    sign = reader.page.locator("#rows button[data-kind=kernel] .sign.kernel")
    assert sign.count() == 1
    assert sign.bounding_box() is not None
    boxes = [sign.bounding_box(), reader.page.locator("#rows button[data-kind=width] .swatch").first.bounding_box()]
    assert boxes[0]["width"] == boxes[1]["width"]
    assert boxes[0]["x"] == boxes[1]["x"]


def test_the_search_says_where_else_it_would_find_something(reader: Reader) -> None:
    assert _hits(reader, "Linear") == []  # types are those of modules
    assert reader.page.locator("#hits").inner_text() == "0 found; 1 at blocks"
    _to(reader, "layers")
    assert _hits(reader, "Linear") == ["fc"]
    assert reader.page.locator("#hits").inner_text() == "1 found"
    assert _hits(reader, "nothing of this name") == []
    assert reader.page.locator("#hits").inner_text() == "0 found"


def test_the_hint_in_the_search_fits(reader: Reader) -> None:
    over = """() => { const box = document.querySelector("#search"), style = getComputedStyle(box);
      const pen = document.createElement("canvas").getContext("2d");
      pen.font = `${style.fontSize} ${style.fontFamily}`;
      const room = box.clientWidth - 2 * parseFloat(style.paddingLeft) - 20; // its cross
      return pen.measureText(box.placeholder).width - room; }"""
    assert reader.page.evaluate(over) <= 0


def test_large_numbers_of_the_user_read_as_powers(browser: Any, tmp_path: Path) -> None:
    data = {"blocks.0.conv1": -3e30, "fc": 2.5e12}
    for found in _opened(
        browser, fxgrow.draw(Small(), tmp_path / "a.html", level="groups", example_inputs=IMAGES, data=data)
    ):
        said = found.page.locator("#scale").inner_text()
        assert "\N{MINUS SIGN}3.00e30" in said
        assert "2.50 T" in said


def test_only_what_changes_leaves_out_the_rest_and_arrows_lead_past_it(reader: Reader) -> None:
    _to(reader, "layers")
    whole = reader.count("#picture .node")
    reader.page.keyboard.press("o")
    playwright.expect(reader.node("stem.0")).to_have_count(0)
    assert reader.node("blocks.1.conv1").count() == 1
    assert 1 < reader.count("#picture .node") < whole
    assert reader.count("#picture .edge.past") > 0
    reader.page.locator("#strip [data-list=pinned]").click()
    reader.page.locator("#rows button[data-name='fc']").click()  # what is left out comes back
    reader.page.wait_for_selector("#picture .node.chosen[data-path='fc']")
    assert reader.count("#picture .node") == whole


def test_colours_by_a_measure_have_a_legend_in_units(reader: Reader) -> None:
    _to(reader, "layers")
    fill = "getComputedStyle(document.querySelector(\"#picture .node[data-path='{}'] path\")).fill"
    for measure, said in (("factor", "×1.5"), ("flops", "→"), ("parameters", "→")):
        reader.page.locator("#colour").select_option(measure)
        playwright.expect(reader.page.locator("#scale")).to_contain_text(said)
        assert not reader.page.locator("#legend").is_visible()
    reader.page.locator("#colour").select_option("factor")
    playwright.expect(reader.page.locator("#scale li")).to_have_count(2)
    grown, stays = (reader.page.evaluate(fill.format(path)) for path in ("blocks.1.conv1", "stem.0"))
    assert grown != stays
    reader.page.locator("#colour").select_option("width")
    assert reader.page.locator("#legend").is_visible()


def test_data_of_the_user_colours_boxes_and_stands_beside_them(measured: Reader) -> None:
    _to(measured, "layers")
    assert "3" in measured.page.locator("#scale").inner_text()
    assert "\N{MINUS SIGN}2" in measured.page.locator("#scale").inner_text()
    measured.node("blocks.2.conv1").click()
    assert "data\n3" in measured.page.locator("#details dl").inner_text()
    measured.node("blocks.0.conv1").click()
    assert "0.125" in measured.page.locator("#details dl").inner_text()
    assert "plain" in str(measured.node("stem.0").get_attribute("class"))  # without a number


def test_the_picture_is_saved_as_it_looks(reader: Reader, tmp_path: Path) -> None:
    _to(reader, "layers")
    for suffix, begin in (("svg", b"<svg"), ("png", b"\x89PNG")):
        with reader.page.expect_download() as download:
            reader.page.locator(f"#{suffix}").click()
        assert download.value.suggested_filename == f"Small_layers_after.{suffix}"
        download.value.save_as(tmp_path / suffix)
        assert (tmp_path / suffix).read_bytes().startswith(begin)
    text = (tmp_path / "svg").read_text(encoding="utf-8")
    ElementTree.fromstring(text)
    assert "var(--" not in text
    assert "<script" not in text
    assert "blocks.1" in text


def test_a_link_leads_to_the_view_that_it_was_made_of(browser: Any, drawn: Path, reader: Reader) -> None:
    _to(reader, "layers")
    reader.node("blocks.1.conv1").click()
    reader.page.locator("#link").click()
    reader.page.wait_for_function("location.hash.includes('select=blocks.1.conv1')")
    context = browser.new_context(viewport=VIEWPORT, offline=True)
    page = context.new_page()
    page.goto(reader.page.url)
    page.wait_for_selector("body[data-shown='layers after'] #picture .node.chosen[data-path='blocks.1.conv1']")
    assert page.locator("#picture .node.chosen").get_attribute("data-path") == "blocks.1.conv1"
    context.close()


@pytest.fixture(scope="module")
def stray(browser: Any) -> Iterator[Reader]:
    context = browser.new_context(offline=True)
    found = Reader(context.new_page())
    found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
    yield found
    context.close()


@pytest.mark.parametrize(
    "asked", ["level=nowhere", "select=nothing", "level=layers&select=%3Cimg%3E", "%%%", "__proto__=1"]
)
def test_a_link_to_what_is_not_there_opens_the_page_all_the_same(stray: Reader, drawn: Path, asked: str) -> None:
    found = stray
    found.page.goto("about:blank")
    found.page.goto(f"{drawn.as_uri()}#{asked}")
    found.page.wait_for_selector("body[data-shown]")
    assert found.count("#picture .node") > 1
    assert found.complaints == []


def test_the_picture_stays_where_it_was_before_and_after_growth(browser: Any, drawn: Path) -> None:
    found = Reader(browser.new_context(offline=True, viewport={"width": 1000, "height": 500}).new_page())
    found.open(drawn, "groups")
    _to(found, "ops")
    box = found.node("blocks.1.conv1")
    box.scroll_into_view_if_needed()
    at = box.bounding_box()
    found.page.keyboard.press("b")
    found.wait("ops before")
    box = found.node("blocks.1.conv1").bounding_box()
    stage = found.page.locator("#stage").bounding_box()
    assert stage["y"] - 60 <= box["y"] <= stage["y"] + stage["height"]
    assert abs(box["y"] - at["y"]) < 150  # though all that is new above it is gone
