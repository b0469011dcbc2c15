"""The ten networks of the gallery in a headless Chromium: each reads when it opens, in light, in dark and on paper.

Each page is drawn once for all tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import fxgrow
from benchmarks.torchvision_shim import import_torchvision
from examples.see_it import NETS
from fxgrow.drawing.html import GRAPHVIZ, data_of
from fxgrow.drawing.shape import LEAST, WINDOW, shape_of

from .test_draw_in_browser import Reader, browser, pytestmark
from .thinned import THOROUGH

__all__ = ["browser", "pytestmark"]

SCREEN = {"width": 1300, "height": 800}
READ = """() => {
  const svg = document.querySelector("#picture svg"), { width, height } = svg.viewBox.baseVal;
  const frames = (those) => [...those].map((one) => one.getBoundingClientRect());
  const nodes = [...svg.querySelectorAll(".node")];
  const boxes = frames(nodes.map((node) => node.querySelector("path, polygon, ellipse")));
  const apart = (a, b) => a.right < b.left + 1 || b.right < a.left + 1 || a.bottom < b.top + 1 || b.bottom < a.top + 1;
  const fits = (text, i) => text.left > boxes[i].left - 1 && text.right < boxes[i].right + 1;
  const rows = frames([...document.querySelectorAll("#bar > *")].filter((one) => one.offsetParent))
    .map((one) => one.top + one.height / 2);
  return {
    text: 11 * svg.getBoundingClientRect().width / width, width: width * 4 / 3, height: height * 4 / 3,
    outside: nodes.filter((node, i) => !frames(node.querySelectorAll("text")).every((text) => fits(text, i)))
      .map((node) => node.dataset.path),
    overlap: boxes.filter((a, i) => boxes.some((b, j) => i < j && !apart(a, b))).length,
    boxes: boxes.length, bar: Math.max(...rows) - Math.min(...rows),
  };
}"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A page of each network, drawn when it is asked for first."""
    folder, drawn = tmp_path_factory.mktemp("models"), dict[str, tuple[Path, fxgrow.WidthGraph, fxgrow.Plan]]()

    def page(name: str) -> tuple[Path, fxgrow.WidthGraph, fxgrow.Plan]:
        if name not in drawn:
            if name == "bert":
                pytest.importorskip("transformers")
            if name not in ("unet", "deep"):  # transformers imports torchvision
                if find_spec("torchvision") is None:
                    pytest.skip("torchvision is not installed")
                import_torchvision()
            net = NETS[name]
            widths = fxgrow.widths(net.make().eval(), net.inputs, output="module" if name == "bert" else "graph")
            plan = fxgrow.plan(widths, net.spec)
            drawn[name] = fxgrow.draw((widths, plan), folder / f"{name}.html"), widths, plan
        return drawn[name]

    return page


@pytest.fixture(scope="module")
def screen(browser: Any) -> Iterator[Reader]:
    context = browser.new_context(viewport=SCREEN, color_scheme="light", offline=True)
    found = Reader(context.new_page())
    found.page.on("request", lambda request: found.requests.append(request.url))
    found.page.on("console", lambda message: found.complaints.append(message.text))
    found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
    yield found
    context.close()


def _open(screen: Reader, path: Path, view: str = "") -> None:
    screen.page.goto("about:blank")
    screen.page.goto(path.as_uri() + view)
    screen.page.wait_for_selector("body[data-shown]", timeout=60_000)


def _until(screen: Reader, condition: str) -> None:
    """Wait for an expression; the page allows no code that is made of text, and so no `wait_for_function`."""
    for _ in range(1000):
        if screen.page.evaluate(condition):
            return
        screen.page.wait_for_timeout(20)
    raise AssertionError(condition)


SLOW = ("detector", "deep", "resnet152", "densenet", "bert")  # to trace, or to lay out
EACH = [pytest.param(name, marks=THOROUGH if name in SLOW else ()) for name in NETS]


@pytest.mark.parametrize("name", EACH)
def test_a_network_reads_when_it_opens(name: str, pages: Any, screen: Reader) -> None:
    path, widths, plan = pages(name)
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) - GRAPHVIZ.stat().st_size < 300_000, "what a drawing adds to the layout engine"
    _open(screen, path)
    seen = screen.page.evaluate(READ)
    assert seen["text"] >= LEAST
    assert seen["height"] * seen["text"] / (11 * 4 / 3) <= 5 * WINDOW[1]
    assert seen["outside"] == []
    assert seen["overlap"] == 0
    assert seen["boxes"] <= 60
    assert seen["bar"] < 12, "the tools are in one row"
    # the five questions, without a click: what grows, what it costs, what is new, what is pinned, what is tied
    strip = screen.page.locator("#strip").inner_text()
    grown = len(plan.grown_widths)
    assert f"{grown} of {len(widths.groups)} width" in strip
    assert strip.count("→") == 2
    assert ("pinned" in strip) is any(entry["kind"] == "pinned" for entry in data_of(text)["changes"])
    changes = [entry for entry in data_of(text)["changes"] if entry["kind"] not in ("pinned", "left")]
    assert screen.count("#rows button") == len(changes) >= grown
    assert all(url.startswith(("file:", "blob:", "data:", "about:")) for url in screen.requests)
    assert screen.complaints == []


@pytest.mark.parametrize("name", ["resnet18", "vit", "swin", pytest.param("deep", marks=THOROUGH)])
def test_the_estimate_of_a_shape_is_near_what_graphviz_makes(name: str, pages: Any, screen: Reader) -> None:
    path, widths, plan = pages(name)
    _open(screen, path, "#level=groups")
    seen = screen.page.evaluate(READ)
    shape = shape_of(fxgrow.drawing.drawing(fxgrow.drawing.source_of((widths, plan)), "groups"))
    assert 0.6 < seen["width"] / shape.width < 1.6
    assert 0.7 < seen["height"] / shape.height < 1.3


def test_a_box_of_many_opens_into_a_spine_and_closes(pages: Any, screen: Reader) -> None:
    _open(screen, pages("vit")[0])
    folded = screen.count("#picture .node")
    box = screen.page.locator("#picture .node", has_text="×12").first
    box.focus()
    screen.page.keyboard.press("e")
    _until(screen, f"document.querySelectorAll('#picture .node').length > {folded + 10}")
    assert screen.count("#picture .edge.spine") == 4
    seen = screen.page.evaluate(READ)
    assert seen["text"] >= LEAST
    assert screen.page.evaluate("document.activeElement.closest('#picture') !== null"), "the focus is on what opened"
    opened = screen.page.evaluate("document.activeElement.dataset.path")
    assert opened == "num_heads of encoder.layers.encoder_layer_0.self_attention"
    screen.page.keyboard.press("e")
    _until(screen, f"document.querySelectorAll('#picture .node').length === {folded}")
    assert "×12" in screen.page.evaluate("document.activeElement.textContent")


def test_what_is_one_of_many_is_found_in_their_box(pages: Any, screen: Reader) -> None:
    """By its row in the list, by its width in the legend, by a link and by the search."""
    path = pages("vit")[0]
    box, one = "encoder.layers.encoder_layer_0…11.mlp.0", "encoder.layers.encoder_layer_3.mlp.0"
    chosen = "[...document.querySelectorAll('#picture .chosen')].map((one) => one.dataset.path)"
    _open(screen, path)
    screen.page.locator(f"#rows button[data-name='{one}']").click()
    _until(screen, f"{chosen}.length === 1")
    assert screen.page.evaluate(chosen) == [box]
    screen.page.keyboard.press("Escape")
    screen.page.locator(f"#legend li[data-name='{one}'] button").click()
    lit = screen.page.evaluate("[...document.querySelectorAll('#picture .node.on')].map((one) => one.dataset.path)")
    assert lit == [box]
    screen.page.keyboard.press("Escape")
    screen.page.locator("#search").fill("encoder_layer_3.mlp.0")
    hits = screen.page.evaluate("[...document.querySelectorAll('#picture .hit')].map((one) => one.dataset.path)")
    assert box in hits
    _open(screen, path, f"#level=groups&select={one}")
    _until(screen, f"{chosen}.length === 1")
    assert screen.page.evaluate(chosen) == [box]
    assert screen.page.evaluate("document.body.dataset.shown") == "groups after"


def test_a_block_opens_in_place(pages: Any, screen: Reader) -> None:
    _open(screen, pages("resnet152")[0], "#level=blocks")
    assert screen.count("#picture .cluster") == 0
    box = screen.page.locator("#picture .node", has_text="×35").first
    for number in (35, 4):  # the row of blocks, then the layers of its first block
        boxes = screen.count("#picture .node")
        (box if number == 35 else screen.page.locator("#picture :focus")).press("e")
        _until(screen, f"document.querySelectorAll('#picture .node').length > {boxes}")
    paths = screen.page.evaluate(
        """() => {
          const number = (one) => Number(one.id.slice(1)), nodes = [...document.querySelectorAll("#picture .node")];
          return nodes.sort((a, b) => number(a) - number(b)).map((one) => one.dataset.path);
        }"""
    )
    assert {"layer3.1.conv1", "layer3.1.conv2", "layer3.1.conv3", "layer3.2", "layer3.35"} <= set(paths)
    assert paths.index("layer2.0") < paths.index("layer3.1.conv1") < paths.index("layer3.2") < paths.index("fc")
    names = screen.page.evaluate("[...document.querySelectorAll('#picture .name')].map((one) => one.dataset.module)")
    assert names == ["layer3.1", "layer3.1 … 35"]
    screen.page.locator("#picture .name[data-module='layer3.1']").click()
    _until(
        screen, "![...document.querySelectorAll('#picture .node')].some((one) => one.dataset.path === 'layer3.1.conv1')"
    )
    screen.page.get_by_role("button", name="Collapse all").click()
    _until(screen, "document.querySelectorAll('#picture .cluster').length === 0")


@pytest.mark.parametrize("name", ["vit", "swin", "unet", pytest.param("bert", marks=THOROUGH)])
@pytest.mark.parametrize("level", ["groups", "blocks"])
def test_the_arrow_keys_reach_every_box(name: str, level: str, pages: Any, screen: Reader) -> None:
    _open(screen, pages(name)[0], f"#level={level}")
    screen.page.locator("#n0").focus()
    reached = set()
    for _ in range(screen.count("#picture .node")):
        reached.add(screen.page.evaluate("document.activeElement.id"))
        screen.page.keyboard.press("ArrowRight")
    assert len(reached) == screen.count("#picture .node")


WHOLE = """() => { // boxes that are whole in a part of the picture, parts
  const parts = [...document.querySelectorAll("#print svg")]
    .map((svg) => svg.getAttribute("viewBox").split(" ").map(Number));
  const { e, f } = document.querySelector("#picture g.graph").transform.baseVal.consolidate().matrix;
  const within = (low, size, from, length) => low >= from && low + size <= from + length;
  const whole = [...document.querySelectorAll("#picture .node")].filter((node) => {
    const box = node.querySelector("path, polygon, ellipse").getBBox();
    return parts.some(([x, y, width, height]) =>
      within(box.x + e, box.width, x, width) && within(box.y + f, box.height, y, height));
  });
  return [whole.length, parts.length];
}"""


def test_a_dark_page_prints_light(pages: Any, screen: Reader) -> None:
    _open(screen, pages("swin")[0])
    colours = """() => [document.body, document.querySelector("#picture .node.grows path")].map((one) => {
      const look = getComputedStyle(one); return [look.backgroundColor, look.fill];
    })"""
    light = screen.page.evaluate(colours)
    screen.page.keyboard.press("t")
    assert screen.page.evaluate(colours) != light
    screen.page.emulate_media(media="print")
    assert screen.page.evaluate(colours) == light
    screen.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert screen.page.evaluate(WHOLE) == [screen.count("#picture .node"), 2]
    screen.page.evaluate("dispatchEvent(new Event('afterprint'))")
    screen.page.emulate_media(media="screen")


def test_the_map_shows_where_the_window_is_and_leads_there(pages: Any, screen: Reader) -> None:
    _open(screen, pages("vit")[0])
    assert not screen.page.locator("#map").is_visible(), "all of it is in the window"
    _open(screen, pages("densenet")[0])
    box = screen.page.locator("#map").bounding_box()
    assert screen.page.locator("#map rect:not(.view)").count() == screen.count("#picture .node")
    top = "document.querySelector('#stage').scrollTop"
    assert screen.page.evaluate(top) == 0
    view = "Number(document.querySelector('#map .view').getAttribute('y'))"
    before = screen.page.evaluate(view)
    overlap = """() => { const map = document.querySelector("#map").getBoundingClientRect();
      return [...document.querySelectorAll("#picture .node")].map((one) => one.getBoundingClientRect())
        .filter((box) => box.left < map.right && box.bottom > map.top && box.top < map.bottom).length; }"""
    assert screen.page.evaluate(overlap) == 0
    screen.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] - 4)
    assert screen.page.evaluate(top) > 500
    _until(screen, f"{view} > {before} + 100")


def test_a_larger_kernel_is_drawn_to_scale(pages: Any, screen: Reader) -> None:
    _open(screen, pages("resnet18")[0], "#level=layers&select=conv1")
    sides = screen.page.evaluate(
        """() => ["was", "becomes"].flatMap((name) => {
          const box = document.querySelector(`#picture .node[data-path=conv1] polygon.${name}`).getBBox();
          return [box.width, box.height];
        })"""
    )
    assert sides == pytest.approx([20 * 7 / 9] * 2 + [21] * 2, abs=1.6)
    gap = screen.page.evaluate(
        """() => {
          const box = document.querySelector("#picture .node[data-path=conv1]");
          const edge = (one) => one.getBoundingClientRect();
          const texts = [...box.querySelectorAll("text")].map((one) => edge(one).right);
          return edge(box.querySelector("polygon.becomes")).left - Math.max(...texts);
        }"""
    )
    assert gap > 2, "the sign stands beside the text"
    screen.page.keyboard.press("b")
    screen.wait("layers before")
    assert screen.count("#picture polygon.was") == 0
    _open(screen, pages("resnet18")[0], "#level=groups")
    assert "7×7→9×9" in screen.page.locator("#picture .edge.larger").text_content()
    screen.page.keyboard.press("2")
    screen.wait("blocks after")
    assert screen.count("#picture polygon.becomes") == 1


def test_the_focus_stays_in_a_module_that_is_opened(pages: Any, screen: Reader) -> None:
    _open(screen, pages("resnet152")[0], "#level=layers")
    module = screen.page.locator("#picture .node[data-path='layer2.0']")
    module.focus()
    screen.page.keyboard.press("e")
    screen.page.wait_for_selector("#picture .node[data-path='layer2.0.conv1']")
    _until(screen, "document.activeElement.dataset.path === 'layer2.0.conv1'")
    screen.page.keyboard.press("e")
    _until(screen, "document.activeElement.dataset.path === 'layer2.0'")
    assert screen.page.evaluate("document.activeElement.dataset.path") == "layer2.0"


def test_a_model_that_is_one_call_is_drawn_with_its_inside(pages: Any, screen: Reader) -> None:
    path, widths, _ = pages("bert")
    assert widths.traced.opaque
    _open(screen, path, "#level=blocks")
    assert "×12" in screen.page.locator("#picture").text_content()
    screen.page.keyboard.press("3")
    screen.wait("layers after")
    assert screen.count("#picture .node") > 12


# -- in a notebook, whose page has a smaller layout engine ---------------------------------------------


@pytest.fixture
def cell(pages: Any, screen: Reader, tmp_path: Path) -> Callable[[str], None]:
    """Opens the frame of a cell that shows a network."""

    def opened(name: str) -> None:
        _, widths, plan = pages(name)
        shown = fxgrow.draw((widths, plan))
        forms = shown._repr_mimebundle_()
        assert sum(len(form.encode()) for form in forms.values()) < 300_000, "what it adds to a notebook"
        (tmp_path / "cell.html").write_text(forms["text/html"], encoding="utf-8")
        screen.page.goto("about:blank")
        screen.page.goto((tmp_path / "cell.html").as_uri())
        frame = screen.page.frames[1]
        frame.wait_for_selector("body[data-shown]", timeout=60_000)

    return opened


@pytest.mark.parametrize("name", EACH)
def test_a_network_reads_in_a_notebook(name: str, cell: Any, screen: Reader) -> None:
    screen.complaints.clear()
    cell(name)
    assert screen.page.locator("img").is_hidden(), "the picture is for where no page may run"
    frame = screen.page.frames[1]
    seen = frame.evaluate(READ)
    assert seen["outside"] == []
    assert seen["overlap"] == 0
    assert seen["boxes"] > 3
    number = frame.evaluate("document.querySelectorAll('#picture .edge path').length")
    assert number == frame.evaluate("document.querySelectorAll('#picture .edge').length") > 2
    assert screen.complaints == []


def test_every_level_is_laid_out_in_a_notebook(cell: Any, screen: Reader) -> None:
    screen.complaints.clear()
    cell("resnet18")
    frame = screen.page.frames[1]
    frame.locator("#title").click()
    for key, level in (("2", "blocks"), ("3", "layers"), ("4", "ops"), ("1", "groups")):
        screen.page.keyboard.press(key)
        frame.wait_for_selector(f"body[data-shown='{level} after']", timeout=30_000)
        seen = frame.evaluate(READ)
        assert seen["overlap"] == 0
        assert seen["outside"] == []
        ends = frame.evaluate(ENDS)
        assert ends["number"] > 10
        assert ends["far"] == 0, "each arrow begins and ends at a box"
        frames = frame.evaluate("document.querySelectorAll('#picture .cluster').length")
        assert (frames > 0) is (level in ("layers", "ops"))
    assert frame.evaluate("document.querySelectorAll('#picture .edge.larger').length") == 1
    screen.page.keyboard.press("b")
    frame.wait_for_selector("body[data-shown='groups before']", timeout=30_000)
    assert frame.evaluate("document.querySelectorAll('#picture .edge.larger').length") == 0
    assert screen.complaints == []


ENDS = """() => {
  const boxes = [...document.querySelectorAll("#picture .node")].map((one) => one.getBoundingClientRect());
  const inside = (at, low, high) => at > low - 9 && at < high + 9;
  const near = ({ x, y }) => boxes.some((box) => inside(x, box.left, box.right) && inside(y, box.top, box.bottom));
  const paths = [...document.querySelectorAll("#picture .edge path")];
  const point = (path, at) => path.getPointAtLength(at).matrixTransform(path.getScreenCTM());
  const ends = paths.flatMap((path) => [point(path, 0), point(path, path.getTotalLength())]);
  return { number: paths.length, far: ends.filter((one) => !near(one)).length };
}"""


def test_arrows_that_pass_many_boxes_are_drawn_beside_the_layout_of_a_notebook(cell: Any, screen: Reader) -> None:
    """Each layer of a DenseNet reads all before it."""
    screen.complaints.clear()
    cell("densenet")
    frame = screen.page.frames[1]
    frame.locator("#title").click()
    for key in "4x":
        screen.page.keyboard.press(key)
        frame.wait_for_selector("body[data-shown='ops after']", timeout=60_000)
    frame.wait_for_selector("#n434", timeout=60_000)
    seen, ends = frame.evaluate(READ), frame.evaluate(ENDS)
    assert (seen["overlap"], seen["outside"], ends["far"]) == (0, [], 0)
    assert ends["number"] == frame.evaluate("document.querySelectorAll('#picture .edge').length") > 900
    view = frame.evaluate("document.querySelector('#picture svg').viewBox.baseVal.width")
    reach = frame.evaluate("document.querySelector('#picture g.graph').getBBox().width")
    assert reach <= view < 4000
    assert screen.complaints == []


FAILS = (
    "window.Worker = class { postMessage() { setTimeout(() => this.onmessage({ data: { error: 'RangeError' } })); } }"
)


def test_what_is_too_large_for_a_notebook_says_so(browser: Any, pages: Any, tmp_path: Path) -> None:
    _, widths, plan = pages("unet")
    found = Reader(browser.new_context(offline=True).new_page())
    found.page.add_init_script(FAILS)
    (tmp_path / "page.html").write_text(fxgrow.draw((widths, plan)).page, encoding="utf-8")
    found.page.goto((tmp_path / "page.html").as_uri())
    found.page.wait_for_selector("#busy:has-text('too many')", state="attached", timeout=30_000)
    said = found.page.locator("#busy").inner_text()
    assert "22 boxes are too many for the layout engine of a notebook (RangeError)" in said
    assert 'fxgrow.draw(…, "page.html")' in said
    found.page.context.close()
