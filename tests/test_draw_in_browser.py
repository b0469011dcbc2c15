"""The HTML driven as a reader would, in a headless Chromium: it lays itself out, loads nothing, and answers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

import fxgrow

from .test_draw import DEEPER, IMAGES, Small

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no browser: apt-get install chromium")

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


@pytest.fixture
def reader(browser: Any, drawn: Path) -> Iterator[Reader]:
    context = browser.new_context(viewport={"width": 1300, "height": 900}, color_scheme="light", offline=True)
    found = Reader(context.new_page())
    found.open(drawn, "groups")
    yield found
    assert [url for url in found.requests if not url.startswith(("file:", "data:"))] == []
    assert found.complaints == []
    context.close()


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
    reader.page.locator("#picture .cluster[data-module='blocks.1'] text").click()
    reader.page.wait_for_selector("#picture .node.module")
    assert reader.count("#picture .node") == before - 5
    reader.page.locator("#picture .node.module").dblclick()
    reader.page.wait_for_selector("#picture .cluster[data-module='blocks.1']")
    assert reader.count("#picture .node") == before
    reader.page.get_by_text("Collapse all").click()
    reader.page.wait_for_selector("#picture .node.module")
    assert reader.count("#picture .node") < before - 10
    reader.page.get_by_text("Expand all").click()
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


def test_a_net_of_1500_nodes_opens_at_a_level_that_reads_at_once(browser: Any, tmp_path: Path) -> None:
    model = Small(blocks=250)
    path = fxgrow.draw(model, tmp_path / "large.html", example_inputs=torch.zeros(2, 3, 8, 8))
    context = browser.new_context(offline=True)
    found = Reader(context.new_page())
    found.open(path, "blocks")
    assert found.count("#picture .node") < 20
    found.page.keyboard.press("4")  # opens with its modules collapsed
    found.wait("ops after")
    assert found.count("#picture .node") < 300
    assert found.complaints == []
    context.close()
