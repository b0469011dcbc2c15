"""A gallery: ten networks before and after growth, on one page, with a link to the page of each.

    python examples/see_it.py                            # all ten, into runs/see_it/index.html; some minutes
    python examples/see_it.py --only resnet18 vit        # some of them

Weights are random: a drawing shows sizes. No file needs a network. The small pictures need Graphviz (the extra `viz`);
without it, the gallery has the figures and the links. Networks of torchvision or transformers are left out where these
are not installed.
"""

import argparse
import html
import importlib
import itertools
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import fxgrow


class Double(nn.Sequential):
    """Two convolutions with their norms."""

    def __init__(self, inputs: int, outputs: int) -> None:
        layers: list[nn.Module] = []
        for i in (inputs, outputs):
            layers += [nn.Conv2d(i, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        super().__init__(*layers)


class UNet(nn.Module):
    """Four resolutions down and up again, with a skip connection each."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128, 256)) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(widths))
        self.stem = Double(3, widths[0])
        self.down = nn.ModuleList(Double(a, b) for a, b in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in reversed(pairs))
        self.join = nn.ModuleList(Double(2 * a, a) for a, _ in reversed(pairs))
        self.head = nn.Conv2d(widths[0], 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 2, H, W)."""
        seen = [self.stem(x)]
        for layer in self.down:
            seen.append(layer(nn.functional.max_pool2d(seen[-1], 2)))
        x = seen.pop()
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([seen.pop(), up(x)], 1))
        return self.head(x)


class Block(nn.Module):
    """A residual block of six nodes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return torch.relu(x + self.conv2(torch.relu(self.norm(self.conv1(x)))))


def deep_net(blocks: int = 250) -> nn.Module:
    """A net of 1,504 nodes."""
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *[Block(4) for _ in range(blocks)], nn.Conv2d(4, 5, 1))


@dataclass(frozen=True)
class Net:
    """A network, inputs for it, and how it grows.

    Attributes:
        title: Its name, and how it grows.
        make: Makes it.
        inputs: Example inputs.
        spec: The requests.
    """

    title: str
    make: Callable[[], nn.Module]
    inputs: Any
    spec: Any


def _torchvision(name: str, where: str = "torchvision.models", **options: Any) -> Callable[[], nn.Module]:
    return lambda: getattr(importlib.import_module(where), name)(weights=None, **options)


def _bert() -> nn.Module:
    transformers = importlib.import_module("transformers")
    model: nn.Module = transformers.BertModel(transformers.BertConfig())
    return model


def _detector() -> nn.Module:
    return _torchvision(
        "fasterrcnn_mobilenet_v3_large_320_fpn", "torchvision.models.detection", weights_backbone=None
    )()


IMAGES = torch.zeros(2, 3, 224, 224)
STAGES = [fxgrow.Widen("layer[34].*", 1.5), fxgrow.Deepen("layer2", blocks=1), fxgrow.Kernel("conv1", 9)]
NETS = {
    "resnet18": Net(
        "ResNet-18: two stages × 1.5, a new block, a larger kernel", _torchvision("resnet18"), IMAGES, STAGES
    ),
    "resnet152": Net("ResNet-152: every width × 1.5", _torchvision("resnet152"), IMAGES, 1.5),
    "mobilenet": Net("MobileNetV3: every width × 1.5", _torchvision("mobilenet_v3_large"), IMAGES, 1.5),
    "densenet": Net("DenseNet-121: every width × 1.5", _torchvision("densenet121"), IMAGES, 1.5),
    "vit": Net("ViT-B: every width × 2", _torchvision("vit_b_16"), IMAGES, 2.0),
    "swin": Net("Swin-T: every width × 2", _torchvision("swin_t"), IMAGES, 2.0),
    "unet": Net("U-Net: every width × 1.5", UNet, torch.zeros(2, 3, 64, 64), 1.5),
    "detector": Net("Faster R-CNN: every width × 1.5", _detector, ([torch.rand(3, 320, 320)],), 1.5),
    "bert": Net("BERT: every width × 2", _bert, {"input_ids": torch.zeros(2, 16, dtype=torch.long)}, 2.0),
    "deep": Net("A net of 1,504 nodes: every width × 1.5", deep_net, torch.zeros(2, 3, 8, 8), 1.5),
}


@dataclass(frozen=True)
class Shown:
    """What the gallery has of a network.

    Attributes:
        name: Of its files.
        title: Its name, and how it grows.
        plan: What grows.
        pictures: The files before and after growth; none without Graphviz.
    """

    name: str
    title: str
    plan: fxgrow.Plan
    pictures: tuple[str, ...]

    @property
    def figures(self) -> str:
        """What growth costs."""
        cost = self.plan.cost()
        pairs = [("parameters", cost.parameters), ("FLOPs", cost.flops)]
        said = [f"{short(one.before)} → {short(one.after)} {what}" for what, one in pairs if one is not None]
        return ", ".join([*said, f"{len(self.plan.grown_widths)} widths grow"])


def short(number: float) -> str:
    """A number in units: 1038090240 as "1.04 G"."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g}"


def shown(name: str, folder: Path, pages: bool = True) -> Shown:
    """Plan a network's growth and draw it.

    Args:
        name: Of NETS.
        folder: Where the files go.
        pages: Whether its page is drawn, too, and not only the pictures.
    """
    net = NETS[name]
    torch.manual_seed(0)
    model = net.make().eval()
    widths = fxgrow.widths(model, net.inputs)
    plan = fxgrow.plan(widths, net.spec)
    if pages:
        fxgrow.draw((widths, plan), folder / f"{name}.html")
    pictures: list[str] = []
    for when, given in (("before", widths), ("after", (widths, plan))):
        try:
            pictures.append(fxgrow.draw(given, folder / f"{name}_{when}.svg").name)
        except fxgrow.DrawError as error:  # no Graphviz
            print(f"{name}: {str(error)[:100]}", file=sys.stderr)
    return Shown(name, net.title, plan, tuple(pictures))


STYLE = """
body { font: 15px/1.5 system-ui, Helvetica, Arial, sans-serif; margin: 24px; color: #1c2128; background: #fff; }
section { border-top: 1px solid #d4d9de; padding: 12px 0 20px; }
h2 { font-size: 18px; margin: 0; }
p { margin: 2px 0 8px; }
.pair { display: flex; gap: 16px; align-items: flex-start; } figure { flex: 1; margin: 0; min-width: 0; }
img { max-width: 100%; max-height: 420px; border: 1px solid #d4d9de; border-radius: 6px; }
figcaption { color: #59636e; }
"""


def gallery(nets: Iterable[Shown]) -> str:
    """The page with all of them."""
    parts = ["<!DOCTYPE html><html lang='en'><meta charset='utf-8'><title>fxgrow: a gallery</title>"]
    parts.append(f"<style>{STYLE}</style><h1>Ten networks, before and after growth</h1>")
    for one in nets:
        parts.append(f"<section id='{one.name}'><h2>{html.escape(one.title)}</h2><p>{html.escape(one.figures)}</p>")
        views = {when: f"{one.name}.html#when={when}" for when in ("before", "after")}
        links = " · ".join(f"<a href='{view}'>its page {when} growth</a>" for when, view in views.items())
        figures = (
            f"<figure><a href='{views[when]}'><img src='{file}' alt='{html.escape(one.title)}, {when} growth'></a>"
            f"<figcaption>{when}</figcaption></figure>"
            for when, file in zip(views, one.pictures, strict=False)
        )
        parts.append(f"<p>{links}</p><div class='pair'>{''.join(figures)}</div></section>")
    return "\n".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=sorted(NETS), help="some of the networks")
    parser.add_argument("--out", type=Path, default=Path("runs/see_it"), help="folder for the pages")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    nets = []
    for name in args.only or NETS:
        try:
            nets.append(shown(name, args.out))
        except (ImportError, RuntimeError) as error:  # not installed, or a torchvision for another torch
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        print(f"{nets[-1].title}: {nets[-1].figures}")
    index = args.out / "index.html"
    index.write_text(gallery(nets), encoding="utf-8")
    print(f"wrote {index}")
    return 0 if nets else 1


if __name__ == "__main__":
    sys.exit(main())
