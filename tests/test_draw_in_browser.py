"""The HTML driven as a reader would, in a headless Chromium: it lays itself out, loads nothing, and answers."""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fxgrow
from fxgrow.drawing.colours import contrast
from fxgrow.drawing.view import SIGNS

from .test_draw import DEEPER, IMAGES, Small

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no browser: apt-get install chromium"),
    pytest.mark.xdist_group("browser"),  # one browser, one page
]

FLAGS = (
    "--no-sandbox",  # Chromium asks root for it
    "--disable-gpu",
    "--disable-quic",  # and what follows: keep off the network
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Reader:
    """A page, what it asked the network for, and what it complained of."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, path: Path, level: str) -> None:
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(path.as_uri())
        self.wait(f"{level} after")

    def wait(self, shown: str) -> None:
        self.page.wait_for_selector(f"body[data-shown='{shown}']", timeout=60_000)

    def texts(self) -> list[str]:
        return [text.strip() for text in self.page.locator("#picture .node").all_text_contents()]

    def node(self, path: str) -> Any:
        return self.page.locator(f"#picture .node[data-path='{path}']").first

    def count(self, selector: str) -> int:
        return int(self.page.locator(selector).count())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=BROWSER, args=list(FLAGS))
        yield found
        found.close()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = fxgrow.widths(Small(), IMAGES)
    plan = fxgrow.plan(found, [fxgrow.Widen("*", 1.5), *DEEPER])
    return fxgrow.draw((found, plan), tmp_path_factory.mktemp("drawn") / "plan.html", level="groups")


# What a reader did is undone by the page's own controls; it then has to be what it was when it opened.
KEEP = """() => {
  const $ = (selector) => document.querySelector(selector);
  const now = () => { // all that can be seen
    const seen = document.documentElement.cloneNode(true);
    seen.querySelectorAll("[hidden], script, style").forEach((one) => one.remove());
    delete seen.querySelector("body").dataset.layoutMs;
    return seen.outerHTML;
  };
  const opened = now(), light = $("#theme").textContent;
  const until = async (done) => { while (!done()) await new Promise((next) => setTimeout(next, 5)); };
  const change = async (input, shown) => {
    input.checked = true;
    input.dispatchEvent(new Event("change"));
    await until(() => document.body.dataset.shown === shown);
  };
  window.restored = async () => {
    $("#search").value = "";
    $("#search").dispatchEvent(new Event("input"));
    document.activeElement.blur();
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
    if ($("#theme").textContent !== light) $("#theme").click();
    $("#signs").open = false;
    if ($("#only input").checked) $("#only input").click();
    for (const [select, value] of [["#colour", "width"], ["#order", "model"]]) {
      if (!$(select) || $(select).value === value) continue;
      $(select).value = value;
      $(select).dispatchEvent(new Event("change"));
    }
    $("#strip [aria-pressed=true]:not([data-list=changes])")?.click(); // a second click gives the list back
    const collapsed = () => $("#modules [aria-expanded=false]");
    if (collapsed() && $("#modules").hidden) return false; // at another level
    if (collapsed()) $("#expand").click();
    await until(() => !collapsed());
    const [level] = document.body.dataset.shown.split(" ");
    await change($("input[name=when][value=after]"), `${level} after`);
    await change($("input[name=level][value=groups]"), "groups after");
    $("#fit").click();
    return now() === opened;
  };
}"""
VIEWPORT = {"width": 1300, "height": 900}


@pytest.fixture(scope="module")
def kept(browser: Any, drawn: Path) -> Iterator[Reader]:
    context = browser.new_context(viewport=VIEWPORT, color_scheme="light", offline=True)
    found = Reader(context.new_page())
    found.open(drawn, "groups")
    found.page.evaluate(KEEP)
    yield found
    context.close()


@pytest.fixture
def reader(kept: Reader) -> Iterator[Reader]:
    """The page as it opens: one for all tests, as it was; opened anew where it cannot be made so."""
    kept.page.emulate_media(media="screen", color_scheme="light")
    kept.page.set_viewport_size(VIEWPORT)
    kept.page.mouse.move(2, 2)
    if not kept.page.evaluate("restored()"):
        kept.page.reload()
        kept.wait("groups after")
        kept.page.evaluate(KEEP)
    kept.complaints.clear()
    yield kept
    assert [url for url in kept.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert kept.complaints == []


@pytest.fixture(scope="module")
def by_size(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, str], Path]:
    """Drawings of so many blocks that open at a level, each drawn once."""
    folder = tmp_path_factory.mktemp("drawn")

    @functools.cache
    def path(blocks: int, level: str) -> Path:
        return fxgrow.draw(Small(blocks=blocks), folder / f"{blocks}-{level}.html", level=level, example_inputs=IMAGES)

    return path


class Branches(nn.Module):
    """Convolutions beside each other."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(3, 4, 3) for _ in range(40))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("drawn") / "wide.html"
    return fxgrow.draw(Branches(), path, level="layers", example_inputs=IMAGES)


def test_it_opens_at_its_level_with_a_box_for_each_width(reader: Reader) -> None:
    assert reader.count("#picture .node") == 6
    assert "4→6" in reader.node("stem.0").text_content()


def test_levels_switch_by_click_and_by_key(reader: Reader) -> None:
    for level in ("blocks", "layers", "ops"):
        reader.page.get_by_label(level, exact=True).check()
        reader.wait(f"{level} after")
    boxes = reader.count("#picture .node")
    reader.page.keyboard.press("1")
    reader.wait("groups after")
    assert reader.count("#picture .node") < boxes


def test_before_growth_the_old_sizes_show_and_no_new_layers(reader: Reader) -> None:
    reader.page.keyboard.press("3")
    reader.wait("layers after")
    assert reader.count("#picture .node.new") > 0
    after = reader.count("#picture .node")
    reader.page.get_by_label("before").check()
    reader.wait("layers before")
    assert reader.count("#picture .node.new") == 0
    assert reader.count("#picture .node") < after
    assert not any("→6" in text for text in reader.texts())
    reader.page.keyboard.press("b")
    reader.wait("layers after")
    assert reader.count("#picture .node") == after


def test_hovering_lights_the_whole_width_and_says_why(reader: Reader) -> None:
    reader.page.keyboard.press("3")
    reader.wait("layers after")
    reader.node("blocks.1.conv2").hover()
    lit, near = (
        {box.get_attribute("data-path") for box in reader.page.locator(f"#picture .node.{kind}").all()}
        for kind in ("on", "near")
    )
    assert {"stem.0", "blocks.0.conv2", "blocks.1.conv2"} <= lit
    assert {"fc", "blocks.1.conv1"} <= near
    reader.node("fc").hover()
    assert "it is an output of the model" in reader.page.locator("#details").inner_text()


def test_clicking_shows_parameters_flops_and_the_way_of_why(reader: Reader) -> None:
    reader.page.keyboard.press("3")
    reader.wait("layers after")
    reader.node("blocks.1.conv2").click()
    details = reader.page.locator("#details").inner_text()
    assert "148 → 330" in details
    assert "FLOPs" in details
    assert "add" in reader.page.locator("#details .why").inner_text()
    assert reader.count("#picture .node.chosen") == 1


def test_searching_finds_boxes_by_name(reader: Reader) -> None:
    reader.page.keyboard.press("3")
    reader.wait("layers after")
    reader.page.keyboard.press("/")
    reader.page.keyboard.type("2_deeper1.conv1")
    assert reader.count("#picture .node.hit") == 1
    assert reader.page.locator("#hits").inner_text() == "1 found"
    reader.page.keyboard.press("Escape")
    assert reader.count("#picture .node.hit") == 0


def test_modules_collapse_and_expand(reader: Reader) -> None:
    reader.page.keyboard.press("4")
    reader.wait("ops after")
    before = reader.count("#picture .node")
    reader.page.locator("#picture .name[data-module='blocks.1'] text").click()
    reader.page.wait_for_selector("#picture .node.module")
    assert reader.count("#picture .node") == before - 5
    reader.page.locator("#picture .node.module").dblclick()
    reader.page.wait_for_selector("#picture .cluster[data-module='blocks.1']")
    assert reader.count("#picture .node") == before
    reader.page.get_by_role("button", name="Collapse all").click()
    reader.page.wait_for_selector("#picture .node.module")
    assert reader.count("#picture .node") < before - 10
    reader.page.get_by_role("button", name="Expand all").click()
    playwright.expect(reader.page.locator("#picture .node")).to_have_count(before)


def test_the_keyboard_walks_along_the_arrows_and_opens_boxes(reader: Reader) -> None:
    reader.page.keyboard.press("4")
    reader.wait("ops after")
    reader.node("stem.0").focus()
    reader.page.keyboard.press("ArrowDown")
    assert "stem.1" in reader.page.evaluate("document.activeElement.textContent")
    reader.page.keyboard.press("ArrowUp")
    reader.page.keyboard.press("Enter")
    assert reader.page.locator("#details h2").inner_text() == "stem.0"


def test_dark_and_light(reader: Reader) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    light = reader.page.evaluate(colour)
    reader.page.keyboard.press("t")
    assert reader.page.evaluate(colour) != light


def test_in_print_the_picture_stays_and_the_controls_go(reader: Reader) -> None:
    reader.page.emulate_media(media="print")
    assert not reader.page.locator("#bar").is_visible()
    assert reader.page.locator("#picture svg").is_visible()


def test_labels_lie_inside_their_boxes(reader: Reader) -> None:
    for key, level in enumerate(("groups", "blocks", "layers", "ops"), 1):
        reader.page.keyboard.press(str(key))
        reader.wait(f"{level} after")
        outside = reader.page.evaluate(
            """() => [...document.querySelectorAll("#picture .node")].filter((node) => {
              const box = node.querySelector("path, polygon, ellipse").getBoundingClientRect();
              return [...node.querySelectorAll("text")].some((text) => {
                const inner = text.getBoundingClientRect();
                return inner.left < box.left - 1 || inner.right > box.right + 1;
              });
            }).map((node) => node.textContent)"""
        )
        assert outside == []


def test_the_legend_has_the_widths_of_the_picture_with_their_sizes_at_the_time(reader: Reader) -> None:
    reader.page.keyboard.press("2")
    reader.wait("blocks after")
    rows = reader.page.locator("#legend li:visible").all_inner_texts()
    assert [row.split() for row in rows] == [["stem.0", "4→6"], ["fc", "5"]]
    reader.page.keyboard.press("b")
    reader.wait("blocks before")
    assert reader.page.locator("#legend li:visible").first.inner_text().split() == ["stem.0", "4"]


def test_a_wide_picture_opens_where_the_model_begins(browser: Any, wide: Path) -> None:
    context = browser.new_context(offline=True, viewport={"width": 900, "height": 700})
    found = Reader(context.new_page())
    found.open(wide, "layers")
    stage, first = (found.page.locator(one).first.bounding_box() for one in ("#stage", "#n0"))
    assert found.page.locator("#picture svg").bounding_box()["width"] > 2 * stage["width"]
    assert stage["x"] <= first["x"]
    assert first["x"] + first["width"] <= stage["x"] + stage["width"]
    context.close()


def test_before_growth_kernels_are_the_old_ones(reader: Reader) -> None:
    reader.page.keyboard.press("3")
    reader.wait("layers after")
    assert "3×3→5×5" in reader.node("blocks.0.conv1").text_content()
    reader.page.keyboard.press("b")
    reader.wait("layers before")
    assert "3×3" in reader.node("blocks.0.conv1").text_content()
    assert not any("5×5" in text for text in reader.texts())


def test_a_module_of_clones_has_the_class_of_the_block_and_shows_no_sum(reader: Reader) -> None:
    reader.page.keyboard.press("3")
    reader.wait("layers after")
    reader.page.keyboard.press("c")
    reader.page.wait_for_selector("#picture .node.module")
    lines = reader.page.locator("#picture .node[data-path='blocks.2_deeper1'] text").all_text_contents()
    assert [line.strip() for line in lines] == ["6", "▸ new: Block", "blocks.2_deeper1"]


def test_names_of_modules_stand_above_the_arrows(reader: Reader) -> None:
    reader.page.keyboard.press("4")
    reader.wait("ops after")
    assert reader.count("#picture .cluster") > 2
    assert reader.count("#picture .edge ~ g > .name text") == reader.count("#picture .cluster")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_contrast_on_every_box_and_beside_every_arrow(reader: Reader, theme: str) -> None:
    reader.page.emulate_media(color_scheme=theme)
    reader.page.wait_for_selector("html.dark" if theme == "dark" else "html:not(.dark)")
    found = 0
    for key, level in enumerate(("groups", "blocks", "layers", "ops"), 1):
        reader.page.keyboard.press(str(key))
        reader.wait(f"{level} after")
        pairs = reader.page.evaluate(
            """() => {
              const colour = (one, name) => getComputedStyle(one)[name].match(/[\\d.]+/g).slice(0, 3).map(Number);
              const ground = colour(document.body, "backgroundColor");
              const on = (node) => colour(node.querySelector("path, polygon, ellipse"), "fill");
              const all = (selector) => [...document.querySelectorAll(selector)];
              const beside = all("#picture .edge text, #picture .name text, .hint, legend, dt");
              return all("#picture .node text").map((t) => [colour(t, "fill"), on(t.closest(".node"))])
                .concat(beside.map((t) => [colour(t, t.closest("svg") ? "fill" : "color"), ground]));
            }"""
        )
        for text, ground in pairs:
            ratio = contrast(*("#" + "".join(f"{int(part):02x}" for part in one) for one in (text, ground)))
            assert ratio >= 4.5, (level, text, ground)
            found += 1
    assert found > 60


def test_a_dark_system_gets_a_dark_page(reader: Reader) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    assert reader.page.evaluate(colour) == "rgb(255, 255, 255)"
    reader.page.emulate_media(color_scheme="dark")
    reader.page.wait_for_selector("html.dark")
    assert reader.page.evaluate(colour) == "rgb(20, 24, 29)"
    reader.page.get_by_role("button", name="Light", exact=True).click()  # it says what it leads to
    assert reader.page.evaluate(colour) == "rgb(255, 255, 255)"
    assert reader.page.get_by_role("button", name="Dark", exact=True).is_visible()


def test_the_picture_is_one_stop_of_the_tab_key_and_the_focus_shows(reader: Reader) -> None:
    assert reader.count("#picture [tabindex='0']") == 1
    stroke = "getComputedStyle(document.querySelector('#picture .node:focus path')).stroke"
    reader.page.locator("#theme").focus()
    reader.page.keyboard.press("Tab")
    while not reader.page.evaluate("document.activeElement.matches('.node')"):
        reader.page.keyboard.press("Tab")
    assert reader.page.evaluate(stroke) == "rgb(11, 92, 173)"
    reader.page.keyboard.press("ArrowDown")
    assert reader.count("#picture [tabindex='0']") == 1
    assert reader.page.evaluate("document.activeElement.tabIndex") == 0


def test_everything_has_a_role_and_a_name(reader: Reader) -> None:
    snapshot = reader.page.locator("body").aria_snapshot()
    for expected in ('toolbar "What is shown"', 'region "Drawing"', 'complementary "Details"', 'button "4→6'):
        assert expected in snapshot


def test_on_a_phone_nothing_is_wider_than_the_screen(reader: Reader) -> None:
    reader.page.set_viewport_size({"width": 360, "height": 720})
    for key, level in enumerate(("groups", "blocks", "layers", "ops"), 1):
        reader.page.keyboard.press(str(key))
        reader.wait(f"{level} after")
        assert reader.page.evaluate("document.documentElement.scrollWidth") <= 360
        for box in reader.page.locator("#bar label:visible, #bar button:visible").all():
            found = box.bounding_box()
            assert found["x"] >= 0
            assert found["x"] + found["width"] <= 360
            assert found["height"] < 40
        assert reader.page.locator("#stage").bounding_box()["height"] >= 360


# -- the worker ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("drawn") / "large.html"
    return fxgrow.draw(Small(blocks=150), path, example_inputs=torch.zeros(2, 3, 8, 8))


SLOW = """
  const post = Worker.prototype.postMessage;
  Worker.prototype.postMessage = function (text) {
    setTimeout(() => post.call(this, text), text.length < 50_000 ? 0 : 4000);
  };
"""  # four seconds for a picture of many boxes, however fast the machine is


@pytest.fixture
def stranger(browser: Any, large: Path) -> Iterator[Reader]:
    context = browser.new_context(offline=True)
    found = Reader(context.new_page())
    found.page.add_init_script(SLOW)
    found.open(large, "groups")
    yield found
    assert found.complaints == []
    context.close()


def test_the_page_answers_while_it_lays_out_and_another_level_stops_that(stranger: Reader) -> None:
    stranger.page.keyboard.press("4")
    stranger.wait("ops after")
    collapsed = stranger.count("#picture .node")
    stranger.page.keyboard.press("x")
    assert stranger.page.evaluate("!document.querySelector('#busy').hidden")  # a page that thinks would say so too late
    assert "boxes" in stranger.page.locator("#busy").inner_text()
    stranger.page.keyboard.press("2")
    stranger.wait("blocks after")
    assert not stranger.page.locator("#busy").is_visible()
    assert stranger.count("#picture .node") < 20
    stranger.page.keyboard.press("4")  # what was stopped is not taken up again
    stranger.wait("ops after")
    assert stranger.count("#picture .node") == collapsed < 300


ENDLESS = """
  const post = Worker.prototype.postMessage;
  Worker.prototype.postMessage = function (text) { if (text.length < 50_000) post.call(this, text); };
"""


def test_what_is_being_laid_out_can_be_stopped(browser: Any, large: Path) -> None:
    context = browser.new_context(offline=True)
    found = Reader(context.new_page())
    found.page.add_init_script(ENDLESS)  # a worker that never ends with a large picture
    found.open(large, "groups")
    for how in ("click", "key"):
        found.page.keyboard.press("4")
        found.wait("ops after")
        collapsed = found.count("#picture .node")
        found.page.keyboard.press("x")
        found.page.wait_for_selector("#stop", state="visible")
        found.page.locator("#stop").click() if how == "click" else found.page.keyboard.press("Escape")
        found.page.wait_for_selector("#busy", state="hidden")
        assert found.count("#picture .node") == collapsed
        found.page.keyboard.press("3")  # with a new worker
        found.wait("layers after")
    assert found.complaints == []
    context.close()


NO_WORKERS = {
    "none": "delete window.Worker",
    "refused": "window.Worker = class { constructor() { throw new DOMException('no') } }",
    "broken": "window.Worker = class { postMessage() { setTimeout(() => this.onerror(new Event('error'))) } }",
}


@pytest.mark.parametrize("how", NO_WORKERS)
def test_where_there_are_no_workers_the_page_lays_out_itself(browser: Any, drawn: Path, how: str) -> None:
    context = browser.new_context(offline=True)
    found = Reader(context.new_page())
    found.page.add_init_script(NO_WORKERS[how])
    found.open(drawn, "groups")
    found.page.keyboard.press("3")
    found.wait("layers after")
    assert found.count("#picture .node") > 8
    assert found.page.workers == []
    assert found.complaints == []
    context.close()


def test_the_page_is_laid_out_by_a_worker(reader: Reader) -> None:
    assert len(reader.page.workers) == 1


def test_a_net_of_900_nodes_opens_at_a_level_that_reads_at_once(stranger: Reader) -> None:
    assert stranger.count("#picture .node") < 20
    stranger.page.keyboard.press("4")  # opens with its modules collapsed
    stranger.wait("ops after")
    assert stranger.count("#picture .node") < 300


# -- in a notebook --------------------------------------------------------------------------------------


def test_a_drawing_without_a_path_shows_itself_in_a_notebook(browser: Any, tmp_path: Path) -> None:
    cell = fxgrow.draw(Small(), level="layers", example_inputs=IMAGES)
    page = tmp_path / "notebook.html"
    page.write_text(f"<!DOCTYPE html><body>{cell._repr_html_()}</body>", encoding="utf-8")
    found = Reader(browser.new_context(offline=True).new_page())
    found.page.on("console", lambda message: found.complaints.append(message.text))
    found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
    found.page.goto(page.as_uri())
    frame = found.page.frame_locator("iframe")
    frame.locator("body[data-shown='layers after']").wait_for(timeout=60_000)
    assert frame.locator("#picture .node[data-path='stem.0']").count() == 1
    assert found.complaints == []


# -- search ---------------------------------------------------------------------------------------------


def test_searching_finds_what_a_collapsed_module_encloses_and_enter_opens_it(reader: Reader) -> None:
    reader.page.keyboard.press("4")
    reader.wait("ops after")
    reader.page.keyboard.press("c")
    reader.page.wait_for_selector("#picture .node.module")
    reader.page.locator("#search").fill("blocks.1.conv1")
    hits = reader.page.locator("#picture .node.hit")
    assert reader.page.locator("#hits").inner_text() == "1 found"
    assert hits.get_attribute("data-path") == "blocks.1"
    reader.page.keyboard.press("Enter")
    assert reader.page.evaluate("document.activeElement.dataset.path") == "blocks.1"
    reader.page.keyboard.press("Enter")
    reader.page.wait_for_selector("#picture .cluster[data-module='blocks.1']")
    reader.page.wait_for_function("document.activeElement.dataset.path === 'blocks.1.conv1'")
    assert hits.first.get_attribute("data-path") == "blocks.1.conv1"  # and what follows it, which has its width
    assert reader.count("#picture .node.module") > 1  # the others stay as they were


def test_searching_leaves_out_boxes_whose_width_has_the_name_of_another_layer(reader: Reader) -> None:
    reader.page.keyboard.press("4")
    reader.wait("ops after")
    reader.page.locator("#search").fill("stem.0")
    hits = reader.page.locator("#picture .node.hit").evaluate_all("all => all.map((one) => one.dataset.path)")
    assert hits
    assert all(path.startswith("stem.0") for path in hits), "the sums of the blocks have its width"


def test_searching_finds_what_was_folded_into_a_box(reader: Reader) -> None:
    reader.page.keyboard.press("2")
    reader.wait("blocks after")
    for name in ("blocks.0.conv1", "blocks.2.conv2"):  # the first and the last of those that are alike
        reader.page.locator("#search").fill(name)
        assert reader.page.locator("#hits").inner_text() == "1 found", name
        assert reader.page.locator("#picture .node.hit").get_attribute("data-path").startswith("blocks.")


def test_enter_goes_from_hit_to_hit_and_begins_with_the_first(reader: Reader) -> None:
    reader.page.keyboard.press("3")
    reader.wait("layers after")
    paths = [box.get_attribute("data-path") for box in reader.page.locator("#picture .node").all()]
    expected = [path for path in paths if path.endswith("conv2")]
    reader.page.locator("#search").fill(".conv2")
    focused = "document.activeElement.dataset.path"
    reader.page.keyboard.press("Enter")
    assert reader.page.evaluate(focused) == expected[0]
    reader.page.keyboard.press("n")
    assert reader.page.evaluate(focused) == expected[1]
    reader.page.keyboard.press("Shift+N")
    assert reader.page.evaluate(focused) == expected[0]
    reader.page.keyboard.press("/")
    reader.page.keyboard.press("Enter")
    assert reader.page.evaluate(focused) == expected[1]


# -- what is chosen -------------------------------------------------------------------------------------


def test_a_chosen_box_stays_chosen_before_and_after_growth_until_escape(reader: Reader) -> None:
    details = reader.page.locator("#details")
    reader.node("blocks.1.conv1").click()
    assert "4 → 6" in details.inner_text()
    reader.page.keyboard.press("b")
    reader.wait("groups before")
    assert reader.page.locator("#picture .node.chosen").get_attribute("data-path") == "blocks.1.conv1"
    assert details.locator("h2").inner_text() == "blocks.1.conv1"
    assert "blocks.1.conv1 (4)" in details.inner_text()  # as it was then
    reader.page.locator("#legend button:visible").first.focus()
    reader.page.keyboard.press("Escape")
    assert reader.count("#picture .node.chosen") == 0
    reader.page.locator("#fit").focus()
    assert details.locator(".hint").is_visible()
    reader.node("fc").hover()
    assert details.locator("h2").inner_text() == "fc"


def test_escape_clears_the_choice_from_the_search_too(reader: Reader) -> None:
    reader.node("fc").click()
    reader.page.locator("#search").focus()
    reader.page.keyboard.press("Escape")
    assert reader.count("#picture .node.chosen") == 0


def test_a_chosen_box_that_was_not_there_before_growth_is_described_no_more(reader: Reader) -> None:
    reader.page.keyboard.press("3")
    reader.wait("layers after")
    reader.page.locator("#picture .node.new").first.click()
    reader.page.mouse.move(2, 2)
    reader.page.keyboard.press("b")
    reader.wait("layers before")
    assert reader.page.locator("#details .hint").is_visible()


def test_at_groups_a_box_shows_the_operators_that_tie_its_layers(reader: Reader) -> None:
    reader.node("stem.0").click()
    ties = reader.page.locator("#details .why li").all_inner_texts()
    assert any("blocks.0.conv2.weight[0]" in tie and "add" in tie for tie in ties)
    assert any("blocks.2.conv2.weight[0]" in tie for tie in ties)
    assert len(ties) == len(set(ties))
    reader.node("fc").click()
    assert "it is an output of the model" in reader.page.locator("#details").inner_text()


@pytest.mark.parametrize(
    ("spec", "said"),
    [({"0": 8}, "stays\nin this plan; can grow to any width"), (None, "growth\ncan grow to any width")],
)
def test_a_width_that_could_grow_says_that_only_this_plan_leaves_it(
    browser: Any, tmp_path: Path, spec: Any, said: str
) -> None:
    found = fxgrow.widths(torch.nn.Sequential(*[torch.nn.Linear(4, 4) for _ in range(3)]), torch.randn(2, 4))
    shown = found if spec is None else (found, fxgrow.plan(found, spec))
    page = Reader(browser.new_context(offline=True).new_page())
    page.open(fxgrow.draw(shown, tmp_path / "plan.html", level="groups"), "groups")
    page.node("1").click()
    assert said in page.page.locator("#details").inner_text()
    page.page.context.close()


def test_a_width_of_the_legend_leads_to_its_first_box_and_stays_lit(
    browser: Any, by_size: Callable[[int, str], Path]
) -> None:
    context = browser.new_context(offline=True, viewport={"width": 1100, "height": 500})
    found = Reader(context.new_page())
    found.open(by_size(25, "layers"), "layers")
    lit = found.page.locator("#picture .node.on").first
    entry = found.page.locator("#legend li[data-name='blocks.20.conv1'] button")
    for how in ("click", "key"):
        found.page.locator("#stage").evaluate("stage => stage.scrollTo(0, 0)")
        if how == "click":
            entry.click()
            found.page.mouse.move(5, 5)
        else:
            entry.focus()
            found.page.keyboard.press("Enter")
            found.page.locator("#search").focus()
        assert lit.get_attribute("data-path") == "blocks.20.conv1"
        stage, box = found.page.locator("#stage").bounding_box(), lit.bounding_box()
        assert stage["y"] <= box["y"]
        assert box["y"] + box["height"] <= stage["y"] + stage["height"]
        assert entry.get_attribute("aria-pressed") == "true"
        found.node("fc").dispatch_event("pointerenter")
        found.node("fc").dispatch_event("pointerleave")
        assert lit.get_attribute("data-path") == "blocks.20.conv1"
        found.page.keyboard.press("Escape")
        assert found.count("#picture .node.on, #picture svg.lit") == 0
    assert found.complaints == []
    context.close()


def test_a_model_without_widths_opens_with_its_layers(browser: Any, tmp_path: Path) -> None:
    path = fxgrow.draw(nn.Sequential(nn.ReLU()), tmp_path / "relu.html", example_inputs=IMAGES)
    context = browser.new_context(offline=True)
    found = Reader(context.new_page())
    found.open(path, "blocks")
    assert "ReLU" in " ".join(found.texts())
    assert found.complaints == []
    context.close()


# -- on paper, and signs --------------------------------------------------------------------------------

PARTS = """() => [...document.querySelectorAll("#print svg")].map((svg) => {
  const [x, y, width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  return { x, y, width, height, scale: parseFloat(svg.getAttribute("width")) / width };
})"""
CUT = """(at) => [...document.querySelectorAll("#picture .node")].filter((node) => {
  const { e, f } = node.closest("g.graph").transform.baseVal.consolidate().matrix;
  const box = node.querySelector("path, polygon, ellipse").getBBox();
  return at.some(({ x, y, width, height }) => // some of it lies in this part, and some does not
    box.x + e < x + width && box.x + e + box.width > x && box.y + f < y + height && box.y + f + box.height > y
    && (box.x + e < x || box.x + e + box.width > x + width || box.y + f < y || box.y + f + box.height > y + height));
}).length"""


@pytest.mark.parametrize("shape", ["tall", "wide"])
def test_on_paper_the_text_reads_over_several_pages_and_no_box_is_cut(
    browser: Any, by_size: Callable[[int, str], Path], wide: Path, shape: str
) -> None:
    context = browser.new_context(offline=True)
    found = Reader(context.new_page())
    found.open(wide if shape == "wide" else by_size(25, "layers"), "layers")
    found.node("branches.1" if shape == "wide" else "blocks.1.conv1").click()
    found.page.evaluate(
        "addEventListener('beforeprint', () => { window.seen = document.querySelectorAll('#print figure').length; })"
    )
    pages = len(re.findall(rb"/Type\s*/Page\b", found.page.pdf(format="A4", prefer_css_page_size=True)))
    number = found.page.evaluate("seen")
    assert number > 1
    assert 1 < pages <= number + 2  # low parts share a page; then come the details
    assert found.count("#print *") == 0
    found.page.emulate_media(media="print")
    found.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    parts = found.page.evaluate(PARTS)
    assert all(0.7777 < part["scale"] <= 1 and part["width"] * part["scale"] <= 528 for part in parts)  # points
    assert found.page.evaluate(CUT, parts) == 0
    whole = found.page.locator("#picture svg").get_attribute("viewBox").split()[2:]
    assert sum(part["width"] * part["height"] for part in parts) == pytest.approx(float(whole[0]) * float(whole[1]))
    said = "#legend button:visible, #strip button:visible, #rows button:visible"  # names and figures
    assert found.count("button:visible") == found.count(said)
    assert found.complaints == []
    context.close()


def test_the_page_says_what_its_signs_mean(reader: Reader) -> None:
    reader.page.locator("#signs summary").click()
    signs = reader.page.locator("#signs li").all_inner_texts()
    assert len(signs) == len(SIGNS)
    assert all(any(meaning in sign for sign in signs) for meaning in SIGNS.values())
    assert reader.page.evaluate("getComputedStyle(document.querySelector('.sign.pinned')).borderStyle") == "dashed"
