"""How long the HTML takes to show its first picture, and every op of a large net, in a headless Chromium.

For each net the file is written and opened; what is timed is Graphviz alone ("layout", in its worker), and from the
start of the navigation to the picture ("shown"). "ops, all" is every node of the graph, with all modules expanded.
Anything that the page asks of the network or complains of is an error.

Usage (with playwright and a Chromium):
    PYTHONPATH=. OMP_NUM_THREADS=1 python benchmarks/draw_speed.py
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from playwright.sync_api import sync_playwright
from torch import nn

import fxgrow
from benchmarks.torchvision_shim import import_torchvision

FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
RUNS = 5


class Block(nn.Module):
    """A residual block of six nodes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.conv2(torch.relu(self.norm(self.conv1(x)))))


def generated() -> nn.Module:
    """A net of 1504 nodes."""
    blocks = [Block(4) for _ in range(250)]
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *blocks, nn.Conv2d(4, 5, 1))


def nets() -> Iterator[tuple[str, Callable[[], nn.Module], torch.Tensor]]:
    """A name, what makes the net, and an input."""
    models, images = import_torchvision().models, torch.zeros(2, 3, 224, 224)
    yield "ResNet-50", lambda: models.resnet50(weights=None), images
    yield "ResNet-152", lambda: models.resnet152(weights=None), images
    yield "DenseNet-121", lambda: models.densenet121(weights=None), images
    yield "generated", generated, torch.zeros(2, 3, 8, 8)


def main() -> None:
    """Print a row for each net."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    print("| net | nodes | HTML | opens with | layout | shown | ops, all |\n|---|---|---|---|---|---|---|")
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        browser = driver.chromium.launch(executable_path=program, args=list(FLAGS))
        for name, make, inputs in nets():
            found = fxgrow.widths(make(), inputs)
            plan = fxgrow.plan(found, 1.5)
            path = fxgrow.draw((found, plan), Path(folder) / f"{name}.html")
            nodes = len(list(found.traced.graph("eval").nodes))
            runs = sorted((_opened(browser, path) for _ in range(RUNS)), key=lambda run: float(run["shown"]))
            run = runs[RUNS // 2]
            print(
                f"| {name} | {nodes} | {path.stat().st_size / 1e6:.2f} MB | `{run['level']}`, {run['boxes']} boxes "
                f"| {run['layout']} ms | {run['shown']:.0f} ms | {_expanded(browser, path):.1f} s |",
                flush=True,
            )
        browser.close()


def _opened(browser: Any, path: Path) -> dict[str, Any]:
    page = _page(browser)
    start = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-shown]", timeout=120_000)
    shown = 1000 * (time.perf_counter() - start)
    found = {
        "shown": shown,
        "layout": page.evaluate("document.body.dataset.layoutMs"),
        "level": page.evaluate("document.body.dataset.shown.split(' ')[0]"),
        "boxes": page.locator("#picture .node").count(),
    }
    page.context.close()
    return found


def _expanded(browser: Any, path: Path) -> float:
    """Seconds until every op is there."""
    page = _page(browser)
    page.goto(path.as_uri())
    page.keyboard.press("4")
    page.wait_for_selector("body[data-shown='ops after']", timeout=120_000)
    number = page.evaluate("unpacked")
    start = time.perf_counter()
    page.keyboard.press("x")
    page.wait_for_selector(f"#n{number - 1}", timeout=580_000)
    taken = time.perf_counter() - start
    page.context.close()
    return taken


def _page(browser: Any) -> Any:
    page = browser.new_context(offline=True, viewport={"width": 1400, "height": 900}).new_page()
    page.on("request", lambda request: _refuse(request.url, request.url.startswith(("file:", "blob:", "data:"))))
    page.on("console", lambda message: _refuse(message.text, False))
    page.on("pageerror", lambda error: _refuse(str(error), False))
    return page


def _refuse(what: str, allowed: bool) -> None:
    if not allowed:
        raise SystemExit(f"the page asked for or complained of: {what}")


if __name__ == "__main__":
    main()
