"""Import torchvision where its compiled operators cannot be loaded.

A torchvision wheel built for CUDA beside a CPU build of torch cannot load its extension, and then fails at
import with "operator torchvision::nms does not exist". Models need none of these operators; declaring two
schemas is enough. Where torchvision imports by itself, this does nothing.
"""

import importlib
import sys
from types import ModuleType

import torch

SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_declared: list[torch.library.Library] = []  # a library's schemas live as long as the object


def import_torchvision() -> ModuleType:
    """The torchvision package.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    _declared.append(library)
    for name, schema in SCHEMAS.items():
        library.define(name + schema)
    return importlib.import_module("torchvision")
