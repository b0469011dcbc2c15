"""Import torchvision where its compiled operators cannot be loaded.

A torchvision wheel built for CUDA beside a CPU build of torch cannot load its extension, and then fails at
import with "operator torchvision::nms does not exist". Here the operators are declared in its place, so that
torchvision registers its own meta and autograd kernels for them, and a model's calls are the same operators as
with the real extension. Detection models run as well: `nms` and `roi_align` have kernels in Python, for the CPU
and forward alone. Where torchvision imports by itself, this does nothing.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

_ROIS = "Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width"
_SIZES = "SymInt batch_size, SymInt channels, SymInt height, SymInt width"
_BACK = f"float spatial_scale, SymInt pooled_height, SymInt pooled_width, {_SIZES}"
_BACK_SAMPLED = f"float spatial_scale, SymInt pooled_height, SymInt pooled_width, int sampling_ratio, {_SIZES}"
_DEFORM = (
    "SymInt stride_h, SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, "
    "SymInt groups, SymInt offset_groups, bool use_mask"
)
# As torchvision/csrc/ops declares them.
SCHEMAS = {
    "_cuda_version": "() -> int",
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align": f"({_ROIS}, int sampling_ratio, bool aligned) -> Tensor",
    "qroi_align": (
        "(Tensor input, Tensor rois, float input_scale, int input_zero_point, float rois_scale, int rois_zero_point, "
        "float spatial_scale, SymInt pooled_height, SymInt pooled_width, int sampling_ratio, bool aligned) -> Tensor"
    ),
    "_roi_align_backward": (
        "(Tensor grad, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
        f"{_SIZES}, int sampling_ratio, bool aligned) -> Tensor"
    ),
    "roi_pool": f"({_ROIS}) -> (Tensor, Tensor)",
    "_roi_pool_backward": f"(Tensor grad, Tensor rois, Tensor argmax, {_BACK}) -> Tensor",
    "ps_roi_align": f"({_ROIS}, int sampling_ratio) -> (Tensor, Tensor)",
    "_ps_roi_align_backward": f"(Tensor grad, Tensor rois, Tensor channel_mapping, {_BACK_SAMPLED}) -> Tensor",
    "ps_roi_pool": f"({_ROIS}) -> (Tensor, Tensor)",
    "_ps_roi_pool_backward": f"(Tensor grad, Tensor rois, Tensor channel_mapping, {_BACK}) -> Tensor",
    "deform_conv2d": f"(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, {_DEFORM}) -> Tensor",
    "_deform_conv2d_backward": (
        f"(Tensor grad, Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, {_DEFORM}) "
        "-> (Tensor, Tensor, Tensor, Tensor, Tensor)"
    ),
    "box_iou_rotated": "(Tensor boxes1, Tensor boxes2) -> Tensor",
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
    library.impl("_cuda_version", lambda: -1, "CompositeExplicitAutograd")
    library.impl("nms", _nms, "CPU")
    library.impl("roi_align", _roi_align, "CPU")
    with _no_extension():
        return importlib.import_module("torchvision")


@contextmanager
def _no_extension() -> Iterator[None]:
    """Inside, loading torchvision's extension does nothing, and torchvision believes that it succeeded."""
    load = torch.ops.load_library

    def load_library(path: Any) -> None:
        if "torchvision" not in str(path):
            load(path)

    torch.ops.load_library = load_library
    try:
        yield
    finally:
        torch.ops.load_library = load


def _nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices of the boxes (N, 4) that no box of a higher score overlaps by more than the threshold."""
    area = (dets[:, 2] - dets[:, 0]) * (dets[:, 3] - dets[:, 1])
    order = scores.sort(stable=True, descending=True).indices
    keep = []
    while order.numel():
        best, order = order[0], order[1:]
        keep.append(best)
        low = torch.maximum(dets[best, :2], dets[order, :2])
        high = torch.minimum(dets[best, 2:], dets[order, 2:])
        overlap = (high - low).clamp(min=0).prod(1)
        order = order[~(overlap / (area[best] + area[order] - overlap) > iou_threshold)]
    return torch.stack(keep) if keep else order


def _roi_align(
    x: Tensor, rois: Tensor, scale: float, height: int, width: int, sampling_ratio: int, aligned: bool
) -> Tensor:
    """torchvision's own definition in PyTorch, without its `torch.compile`; a few boxes at a time, for memory."""
    # By its name: "torchvision.ops.roi_align" as an attribute is the function of that name.
    eager = importlib.import_module("torchvision.ops.roi_align")._roi_align.__wrapped__
    if not len(rois):
        return x.new_zeros(0, x.shape[1], height, width)
    return torch.cat([eager(x, some, scale, height, width, sampling_ratio, aligned) for some in rois.split(64)])
