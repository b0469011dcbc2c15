"""How long the page of a drawing takes to show its first picture, and how it reads, in a headless Chromium.

For each of the ten networks of examples/see_it.py the file is written and opened in a window of 1300 by 800 pixels.
Timed are Graphviz alone ("layout", in its worker), from the start of the navigation to the picture ("shown"), and the
longest task of the main thread until then ("blocked"); of RUNS runs, each in a new page, the one with the median of
"shown". "text" is the height of the text of boxes as it opens, "windows" how many windows high the picture is. "ops" is
from a key to the level `ops` as it opens, "ops, all" from "Expand all" to every node of the graph, of one run.
"notebook" is what the drawing adds to one, in all its forms; "there" is its page there, with the other layout engine.
Anything that the page asks of the network or complains of is an error.

Usage (with playwright and a Chromium):
    PYTHONPATH=. OMP_NUM_THREADS=1 python benchmarks/draw_speed.py
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

import fxgrow
from benchmarks.torchvision_shim import import_torchvision
from examples.see_it import NETS

FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
RUNS = 5
WINDOW = {"width": 1300, "height": 800}
HEAD = ("net", "nodes", "HTML", "opens with", "text", "windows", "layout", "shown", "blocked", "ops", "ops, all")
CELL = ("notebook", "shown there", "blocked there")

WATCH = """window.blocked = 0;
const longest = (list) => Math.max(...list.getEntries().map((one) => one.duration));
const watch = (list) => { window.blocked = Math.max(window.blocked, longest(list)); };
new PerformanceObserver(watch).observe({ type: "longtask", buffered: true });"""
LOOK = """() => {
  const [level] = document.body.dataset.shown.split(" "), svg = document.querySelector("#picture svg");
  const box = svg.getBoundingClientRect(), stage = document.querySelector("#stage").getBoundingClientRect();
  return {
    level, layout: document.body.dataset.layoutMs, boxes: document.querySelectorAll("#picture .node").length,
    text: 11 * box.width / svg.viewBox.baseVal.width, windows: box.height / stage.height, blocked: window.blocked,
  };
}"""


def main() -> None:
    """Print a row for each net that is named, or for all."""
    import_torchvision()
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    print(f"| {' | '.join((*HEAD, *CELL))} |\n{'|---' * len((*HEAD, *CELL))}|")
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        browser = driver.chromium.launch(executable_path=program, args=list(FLAGS))
        for name in sys.argv[1:] or NETS:
            net = NETS[name]
            found = fxgrow.widths(net.make().eval(), net.inputs)
            plan = fxgrow.plan(found, net.spec)
            path = fxgrow.draw((found, plan), Path(folder) / f"{name}.html")
            cell = fxgrow.draw((found, plan))
            (Path(folder) / "cell.html").write_text(cell.page, encoding="utf-8")
            kept = sum(len(form.encode()) for form in cell._repr_mimebundle_().values())
            row = [*_row(browser, path), f"{kept / 1e3:.0f} kB", *_times(_median(browser, path.with_name("cell.html")))]
            nodes = len(found.calls["eval"]) if found.traced.opaque else len(list(found.traced.graph("eval").nodes))
            print(f"| {' | '.join([net.title.partition(':')[0], f'{nodes:,}', *row])} |", flush=True)
        browser.close()


def _row(browser: Any, path: Path) -> list[str]:
    run = _median(browser, path)
    first, every = _expanded(browser, path)
    return [
        f"{path.stat().st_size / 1e6:.2f} MB",
        f"`{run['level']}`, {run['boxes']} boxes",
        f"{run['text']:.1f} px",
        f"{run['windows']:.1f}",
        f"{run['layout']} ms",
        *_times(run),
        f"{first:.1f} s",
        f"{every:.1f} s",
    ]


def _median(browser: Any, path: Path) -> dict[str, Any]:
    runs = sorted((_opened(browser, path) for _ in range(RUNS)), key=lambda run: float(run["shown"]))
    return runs[RUNS // 2]


def _times(run: dict[str, Any]) -> list[str]:
    return [f"{run['shown']:.0f} ms", f"{run['blocked']:.0f} ms" if run["blocked"] else "< 50 ms"]


def _opened(browser: Any, path: Path) -> dict[str, Any]:
    page = _page(browser)
    page.add_init_script(WATCH)
    start = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-shown]", timeout=120_000)
    shown = 1000 * (time.perf_counter() - start)
    page.wait_for_timeout(200)  # until the observer of long tasks was told
    found: dict[str, Any] = page.evaluate(LOOK) | {"shown": shown}
    page.context.close()
    return found


def _expanded(browser: Any, path: Path) -> tuple[float, float]:
    """Seconds until `ops` is there, and from then until every op is."""
    page = _page(browser)
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-shown]", timeout=120_000)
    start = time.perf_counter()
    page.keyboard.press("4")
    page.wait_for_selector("body[data-shown='ops after']", timeout=120_000)
    first = time.perf_counter() - start
    number = page.evaluate("document.querySelector('label[title$=\"(4)\"]').title.split(' ')[0]")
    start = time.perf_counter()
    page.keyboard.press("x")
    page.wait_for_selector(f"#n{int(number) - 1}", timeout=580_000)
    taken = time.perf_counter() - start
    page.context.close()
    return first, taken


def _page(browser: Any) -> Any:
    page = browser.new_context(offline=True, viewport=WINDOW).new_page()
    page.on("request", lambda request: _refuse(request.url, request.url.startswith(("file:", "blob:", "data:"))))
    page.on("console", lambda message: _refuse(message.text, False))
    page.on("pageerror", lambda error: _refuse(str(error), False))
    return page


def _refuse(what: str, allowed: bool) -> None:
    if not allowed:
        raise SystemExit(f"the page asked for or complained of: {what}")


if __name__ == "__main__":
    main()
