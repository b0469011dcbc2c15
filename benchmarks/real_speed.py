"""How long it takes to grow models that decide by the numbers in tensors, so that they are run for real.

    OMP_NUM_THREADS=1 python benchmarks/grow_speed.py --only real

Detectors of torchvision and transformers, and models that compute masks from sizes. `grow_speed.py` prints the table.
"""

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

import fxgrow
from benchmarks.page import Table
from benchmarks.torchvision_shim import import_torchvision

HEAD = ("model", "student", "forward s", "trace + widths s", "grow s", "grow / forward")
Made = tuple[Callable[[], nn.Module], Any]


def real_speed(names: list[str] | None, factor: float) -> Table:
    """A row per model: a forward pass, the analysis and the whole growth, each once, in processor time.

    Args:
        names: Of models; None: all.
        factor: By which they grow.
    """
    table = Table("Models that are run for real", HEAD)
    for name, output, (build, inputs) in _models():
        if names is not None and name not in names:
            continue
        torch.manual_seed(0)
        model = build().eval()
        args, kwargs = ((), inputs) if isinstance(inputs, dict) else (inputs, {})
        with torch.no_grad():
            forward = min(_seconds(lambda m=model, a=args, k=kwargs: m(*a, **k)) for _ in range(3))
        options: dict[str, Any] = {"output": output}
        widths = _seconds(lambda m=model, x=inputs, o=options: fxgrow.widths(m, x, **o))
        grow = _seconds(lambda m=model, x=inputs, o=options: fxgrow.grow(m, factor, x, **o))
        row = (name, output, f"{forward:.2f}", f"{widths:.1f}", f"{grow:.1f}", f"{grow / forward:.0f}")
        table.rows.append(row)
        print(" | ".join(row), file=sys.stderr, flush=True)
    table.remarks.append(
        f"By {factor}, one image. Slow calls of the later runs of a model on the same inputs are not made again. Where "
        "the code mixes sizes of inputs with widths, the model and the student also run on two other sizes. Faster "
        "R-CNN pools its boxes by torch's Python code here, which takes most of its forward pass."
    )
    return table


def _seconds(action: Callable[[], Any]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


def _models() -> Iterator[tuple[str, str, Made]]:
    """Name, output, and what makes the model with its inputs: arguments by position or by name."""
    detection = import_torchvision().models.detection
    nothing: dict[str, Any] = {"weights": None, "weights_backbone": None, "min_size": 320, "max_size": 320}
    image = ([torch.rand(3, 320, 320)],)
    yield "fasterrcnn_resnet50_fpn, 320 px", "graph", (lambda: detection.fasterrcnn_resnet50_fpn(**nothing), image)
    import transformers

    def detector(kind: str, *stages: str) -> Made:
        body = transformers.ResNetConfig(out_features=list(stages))
        options = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None}
        config = getattr(transformers, f"{kind}Config")(backbone_config=body, **options)
        made = getattr(transformers, f"{kind}ForObjectDetection")
        return lambda: made(config), {"pixel_values": torch.rand(1, 3, 256, 256)}

    yield "DETR ResNet-50, 256 px", "module", detector("Detr", "stage4")
    yield "Conditional DETR ResNet-50, 256 px", "module", detector("ConditionalDetr", "stage4")
    yield "Deformable DETR ResNet-50, 256 px", "module", detector("DeformableDetr", "stage2", "stage3", "stage4")
    swin = transformers.Swin2SRConfig()
    pixels = {"pixel_values": torch.rand(1, 3, 64, 64)}
    yield "Swin2SR, 64 px", "module", (lambda: transformers.Swin2SRForImageSuperResolution(swin), pixels)
