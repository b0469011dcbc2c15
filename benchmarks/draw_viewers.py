"""Pictures of the same three networks by fxgrow and by other viewers of networks, each as it opens.

Each viewer is installed into an environment of its own, which also has torch and torchvision. An environment's Python
makes what its viewer shows: a file, or a server that this script ends. A headless Chromium of 1300 by 800 pixels then
takes one picture of each, after some seconds and without a click (but for the button that Netron asks to be pressed).

    python benchmarks/draw_viewers.py netron=/tmp/netron/bin/python torchview=/tmp/torchview/bin/python ...

The names are fxgrow, netron, model-explorer, torchvista and torchview. torchview needs pygraphviz here, and netron and
model-explorer show what `torch.export` exports. The pictures go to docs/pictures/viewers/.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures" / "viewers"
NETS = ("resnet18", "vit", "unet")
PORT = 8090
WINDOW = {"width": 1300, "height": 800}
WIDTH, COLOURS = 780, 64  # of a picture in the docs
FLAGS = ("--no-sandbox", "--use-gl=swiftshader", "--enable-unsafe-swiftshader")


# -- in the environment of a viewer -------------------------------------------------------------------


def model(name: str) -> tuple[Any, Any]:
    """A network of the gallery, and an input."""
    sys.path.insert(0, str(ROOT))
    import_module("benchmarks.torchvision_shim").import_torchvision()
    net = import_module("examples.see_it").NETS[name]
    return net.make().eval(), net.inputs[:1]


def fxgrow(name: str, out: Path) -> None:
    """The page of the gallery."""
    sys.path.insert(0, str(ROOT))
    import_module("benchmarks.torchvision_shim").import_torchvision()
    import_module("examples.see_it").shown(name, out.parent)


def netron(name: str, out: Path) -> None:
    """A server of the exported program."""
    export = import_module("torch.export")
    net, inputs = model(name)
    export.save(export.export(net, (inputs,)), out.with_suffix(".pt2"))
    import_module("netron").start(str(out.with_suffix(".pt2")), address=PORT, browse=False)
    time.sleep(600)


def model_explorer(name: str, out: Path) -> None:
    """A server of the exported program."""
    viewer, export = import_module("model_explorer"), import_module("torch.export")
    net, inputs = model(name)
    config = viewer.config()
    config.add_model_from_pytorch(name, export.export(net, (inputs,)))
    viewer.visualize_from_config(config, no_open_in_browser=True, port=PORT)


def torchvista(name: str, out: Path) -> None:
    """An HTML."""
    net, inputs = model(name)
    import_module("torchvista").trace_model(net, inputs, export_format="html", export_path=str(out))


def torchview(name: str, out: Path) -> None:
    """A graph with all modules expanded, drawn by Graphviz."""
    net, inputs = model(name)
    graph = import_module("torchview").draw_graph(net, input_data=inputs, device="cpu", expand_nested=True, depth=3)
    import_module("pygraphviz").AGraph(string=graph.visual_graph.source).draw(str(out.with_suffix(".svg")), prog="dot")


VIEWERS: dict[str, Callable[[str, Path], None]] = {
    "fxgrow": fxgrow,
    "netron": netron,
    "model-explorer": model_explorer,
    "torchvista": torchvista,
    "torchview": torchview,
}
SERVERS = ("netron", "model-explorer")


# -- here --------------------------------------------------------------------------------------------


@contextmanager
def shown(viewer: str, python: str, name: str, folder: Path) -> Iterator[str]:
    """The address of what a viewer makes."""
    out = folder / viewer / f"{name}.html"
    out.parent.mkdir(exist_ok=True)
    command = [python, "-u", __file__, "--make", viewer, name, str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if viewer not in SERVERS:
        subprocess.run(command, env=environment, check=True, capture_output=True)
        made = out if out.exists() else out.with_suffix(".svg")
        yield made.as_uri()
        return
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as server:
        assert server.stdout is not None
        said = iter(server.stdout.readline, "")
        yield next(found[0].rstrip("'\n") for line in said if (found := re.search(r"http://localhost\S+", line)))
        server.terminate()


def main(arguments: list[str]) -> None:
    """Take the pictures."""
    from PIL import Image  # not in the environments of the viewers
    from playwright.sync_api import sync_playwright

    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=list(FLAGS))
        for viewer, python in (argument.split("=") for argument in arguments):
            for name in NETS:
                with shown(viewer, python, name, Path(folder)) as address:
                    page = browser.new_page(viewport=WINDOW, color_scheme="light")
                    page.goto(address)
                    page.wait_for_timeout(2000)
                    if viewer == "netron":
                        page.get_by_text("Accept").click()
                    page.wait_for_timeout(12_000 if viewer in SERVERS else 5000)
                    picture = Image.open(io.BytesIO(page.screenshot()))
                    page.close()
                size = WIDTH, WIDTH * WINDOW["height"] // WINDOW["width"]
                small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
                path = PICTURES / f"{viewer}_{name}.png"
                small.quantize(COLOURS).save(path, optimize=True)
                print(path.relative_to(ROOT), f"{path.stat().st_size:,} bytes", flush=True)
        browser.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        VIEWERS[sys.argv[2]](sys.argv[3], Path(sys.argv[4]))
    else:
        main(sys.argv[1:])
