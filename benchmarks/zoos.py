"""Where zoo.py gets its models from: one function per zoo. No model loads weights.

A zoo of a package that is not installed raises ImportError. Its models are built and sized in the ways that are
cheapest first: an entry's `fallback` is tried where the entry does not run in plain PyTorch.
"""

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.torchvision_shim import import_torchvision

Arguments = tuple[Any, ...] | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of a zoo.

    Args:
        name: unique within its zoo.
        build: makes the model with random weights, on the device that is the default.
        inputs: makes example inputs, positional or named, float32, two samples.
        train_inputs: makes those of train mode, where it needs others (targets, say); eval mode takes them too.
        family: what --per-family counts by; often the file that defines the model.
        fallback: another way to build or call it, to try where this one fails.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], Arguments]
    train_inputs: Callable[[], Arguments] | None = None
    family: str = ""
    fallback: "Entry | None" = None

    def given(self, mode: Literal["eval", "train"]) -> Arguments:
        """The inputs of a mode."""
        return (self.train_inputs or self.inputs)() if mode == "train" else self.inputs()


Zoo = Callable[[], Iterator[Entry]]
ZOOS: dict[str, Zoo] = {}
# How many models of a family a run takes where it is not told; all of the zoos that are not here.
PER_FAMILY = {"timm": 1, "pytorchcv": 1}


def zoo(name: str) -> Callable[[Zoo], Zoo]:
    """Register a function that yields a zoo's entries."""

    def register(entries: Zoo) -> Zoo:
        if name in ZOOS:
            raise ValueError(f"two zoos are called {name!r}")
        ZOOS[name] = entries
        return entries

    return register


def noise(*shapes: tuple[int, ...]) -> Callable[[], tuple[Tensor, ...]]:
    """Random tensors of these shapes."""

    def make() -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(0)
        return tuple(torch.randn(*shape, generator=generator, device="cpu") for shape in shapes)

    return make


def images(size: int, channels: int = 3) -> Callable[[], tuple[Tensor, ...]]:
    """Two random images."""
    return noise((2, channels, size, size))


def named(make: Callable[[], tuple[Any, ...]], *names: str, **others: Any) -> Callable[[], dict[str, Any]]:
    """The same inputs by name, and others that are no tensors."""
    return lambda: {**dict(zip(names, make(), strict=True)), **others}


def first_that_runs(entries: Sequence[Entry]) -> Entry:
    """One entry of several: each is the fallback of the one before."""
    *others, chain = entries
    for entry in reversed(others):
        chain = replace(entry, fallback=chain)
    return chain


# The smallest inputs that each family takes in both modes. 64 unless named: AlexNet pools 63 pixels down to
# one; Inception's auxiliary head, in train mode, needs a map of 17 x 17, which 299 pixels give; MaxViT is built
# for one size, and its windows are 7 x 7 from the first block on.
SIZES = {"inception_v3": 299, "maxvit_t": 224, "vit_h_14": 56}
# Initialisation by truncated normal distributions takes minutes.
OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": True, "init_weights": False},
    "inception_v3": {"aux_logits": True, "init_weights": False},
}


@zoo("torchvision")
def torchvision_zoo() -> Iterator[Entry]:
    """All classification models of torchvision."""
    models = import_torchvision().models
    for name in models.list_models(module=models):
        size = SIZES.get(name, 64)
        options = {"image_size": size} if name.startswith("vit_") else OPTIONS.get(name, {})
        yield Entry(name, functools.partial(models.get_model, name, weights=None, **options), images(size))


@zoo("torchvision-dense")
def torchvision_dense_zoo() -> Iterator[Entry]:
    """All models of torchvision for segmentation, video, optical flow and detection.

    Not its quantization builders: their weights are packed integers, which have no channels to replicate.
    """
    models = import_torchvision().models
    for name in models.list_models(module=models.segmentation):
        build = functools.partial(
            models.get_model, name, weights=None, weights_backbone=None, num_classes=5, aux_loss=True
        )
        if "lraspp" in name:
            build = functools.partial(models.get_model, name, weights=None, weights_backbone=None, num_classes=5)
        yield Entry(name, build, images(64), family="segmentation")
    for name in models.list_models(module=models.video):
        # S3D pools over two by seven by seven of what is left.
        shape = (2, 3, 16, 224, 224) if name == "s3d" else (2, 3, 4, 64, 64)
        build = functools.partial(models.get_model, name, weights=None, num_classes=5)
        yield Entry(name, _small_mvit(name) if name.startswith("mvit") else build, noise(shape), family="video")
    for name in models.list_models(module=models.optical_flow):
        pair = named(noise((2, 3, 128, 128), (2, 3, 128, 128)), "image1", "image2", num_flow_updates=2)
        yield Entry(name, functools.partial(models.get_model, name, weights=None), pair, family="flow")
    for name in models.list_models(module=models.detection):
        options = {"num_classes": 5, **_detector(name)}
        build = functools.partial(models.get_model, name, weights=None, weights_backbone=None, **options)
        yield Entry(name, build, _photographs, _photographs_and_targets, family="detection")


def _small_mvit(name: str) -> Callable[[], nn.Module]:
    """Its builders take no other size of clips than 16 x 224 x 224, which takes minutes; the model does."""

    def build() -> nn.Module:
        mvit = importlib.import_module("torchvision.models.video.mvit")
        make = mvit._mvit
        mvit._mvit = lambda **options: make(**{**options, "spatial_size": (64, 64), "temporal_size": 4})
        try:
            return getattr(mvit, name)(num_classes=5)
        finally:
            mvit._mvit = make

    return build


def _detector(name: str) -> dict[str, Any]:
    """Options that keep a detector small, and let it find something with random weights."""
    if "rcnn" not in name:
        few = {"score_thresh": 0.0, "detections_per_img": 10, "topk_candidates": 20}
        return few if "ssd" in name else {**few, "min_size": 64, "max_size": 96}
    proposals = {f"rpn_{when}_nms_top_n_{mode}": 20 for when in ("pre", "post") for mode in ("train", "test")}
    boxes = {"box_score_thresh": 0.0, "box_detections_per_img": 5, "box_batch_size_per_image": 16}
    return {"min_size": 64, "max_size": 96, **proposals, **boxes}


def _photographs() -> tuple[list[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return ([torch.rand(3, *size, generator=generator, device="cpu") for size in ((64, 64), (64, 80))],)


def _photographs_and_targets() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    (photographs,) = _photographs()
    targets = [
        {
            "boxes": torch.tensor([[5.0, 5.0, 40.0, 50.0], [20.0, 10.0, 60.0, 60.0]]),
            "labels": torch.tensor([1, 1]),
            "masks": (photograph[:2] > 0.5).to(torch.uint8),
            "keypoints": torch.tensor([[[20.0, 20.0, 1.0]] * 17] * 2),
        }
        for photograph in photographs
    ]
    return photographs, targets


# Words in the names of small models, smallest first.
SMALL = ("test_", "atto", "pico", "femto", "nano", "xxs", "xxtiny", "xtiny", "xs", "tiny", "mini", "_t", "_s", "small")


def _smallness(name: str) -> tuple[int, int, str]:
    """Sorts names by how small the model is likely to be."""
    return next((i for i, word in enumerate(SMALL) if word in name), len(SMALL)), len(name), name


@zoo("timm")
def timm_zoo() -> Iterator[Entry]:
    """All architectures of timm, the small ones of each file first; each at 64 or 96 pixels, or at its own size."""
    import_torchvision()
    timm = importlib.import_module("timm")
    registry = importlib.import_module("timm.models._registry")
    for name in sorted(timm.list_models(pretrained=False), key=_smallness):
        found = timm.get_pretrained_cfg(name, allow_unregistered=True)
        channels, own, _ = getattr(found, "input_size", None) or (3, 224, 224)
        fixed = bool(getattr(found, "fixed_input_size", False))
        build = functools.partial(timm.create_model, name, pretrained=False, num_classes=10)
        if (getattr(found, "num_classes", 1000) or 0) == 0:
            build = functools.partial(timm.create_model, name, pretrained=False)
        tries = []
        for size in (64, 96, own):
            sized = functools.partial(build, img_size=size) if fixed and size != own else build
            tries.append(Entry(name, sized, images(size, channels), family=registry._model_to_module[name]))
        yield first_that_runs(tries)


def _and_persons(shape: tuple[int, ...], persons: tuple[int, ...] = (2,)) -> Callable[[], tuple[Tensor, ...]]:
    """Noise, and the numbers of the persons whose faces are to speak."""
    return lambda: (*noise(shape)(), torch.full(persons, 3, device="cpu"))


# What pytorchcv's models take that are not made for two images in colour, by file.
PYTORCHCV_INPUTS: dict[str, Callable[[], tuple[Tensor, ...]]] = {
    "voca": _and_persons((2, 1, 16, 29)),
    "nvpattexp": _and_persons((2, 8, 16, 29)),
    "visemenet": _and_persons((34, 8, 195), (34, 76)),
    "raft": noise((2, 3, 128, 128), (2, 3, 128, 128)),
    "superpointnet": images(64, channels=1),
    "pfpcnet": noise((2, 1, 320, 240)),
    "propainter_rfc": noise((2, 3, 2, 64, 64), (2, 3, 1, 64, 64)),
}


@zoo("pytorchcv")
def pytorchcv_zoo() -> Iterator[Entry]:
    """All names that pytorchcv has, at 64 or 96 pixels, or at the size of the model."""
    import_torchvision()
    provider = importlib.import_module("pytorchcv.model_provider")
    for name, make in provider._models.items():
        family = make.__module__.rsplit(".", 1)[-1]
        if family in PYTORCHCV_INPUTS:
            yield Entry(name, functools.partial(make, pretrained=False), PYTORCHCV_INPUTS[family], family=family)
            continue
        if family.startswith(("jasper", "quartznet")):
            speech = named(noise((2, 64, 64)), "x", x_len=torch.tensor([64, 48]))
            build = functools.partial(make, pretrained=False, from_audio=False)
            yield Entry(name, build, speech, family=family)
            continue
        tries = []
        for size in (32,) if "cifar" in name or "svhn" in name else (64, 96, 224, 299, 480):
            build = functools.partial(make, pretrained=False)
            tries.append(Entry(name, build, images(size), family=family))
            sized = functools.partial(make, pretrained=False, in_size=(size, size))
            tries.append(Entry(name, sized, images(size), family=family))
        yield first_that_runs(tries)


SMP_ENCODERS = (
    "resnet18", "mobilenet_v2", "efficientnet-b0", "timm-skresnet18", "densenet121", "vgg11_bn", "dpn68",
    "mobileone_s0", "mit_b0", "xception", "se_resnet50", "timm-tf_efficientnet_lite0", "tu-regnetx_002",
)  # fmt: skip


@zoo("smp")
def smp_zoo() -> Iterator[Entry]:
    """All architectures of segmentation_models_pytorch on small encoders of each kind."""
    import_torchvision()
    smp = importlib.import_module("segmentation_models_pytorch")
    for encoder in SMP_ENCODERS:
        for arch in smp.MODEL_ARCHITECTURES_MAPPING:
            options = {"encoder_weights": None, "classes": 3}
            if arch == "dpt":  # it is made for vision transformers
                if encoder != SMP_ENCODERS[0]:
                    continue
                build = functools.partial(
                    smp.create_model, arch, "tu-vit_tiny_patch16_224", **options, img_size=64, dynamic_img_size=False
                )
                yield Entry("dpt-vit_tiny", build, images(64), family=arch)
                continue
            build = functools.partial(smp.create_model, arch, encoder, **options)
            tries = [Entry(f"{arch}-{encoder}", build, images(size), family=arch) for size in (64, 128)]
            yield first_that_runs(tries)


_WIDE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_SWIN = {"image_size": 64, "embed_dim": 16, "depths": [1, 2], "num_heads": [2, 4], "window_size": 4}
_STAGES = {"depths": [1, 2, 1, 1], "hidden_sizes": [16, 24, 32, 48]}
_PYRAMID = {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 2, 4]}
_HEADS = "ForImageClassification"
# The prefix of the classes, the head, and the configuration, which keeps the model small.
TRANSFORMERS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("ViT", _HEADS, {"image_size": 32, "patch_size": 8, **_WIDE}),
    ("DeiT", _HEADS, {"image_size": 32, "patch_size": 8, **_WIDE}),
    ("DeiT", "ForImageClassificationWithTeacher", {"image_size": 32, "patch_size": 8, **_WIDE}),
    ("Beit", _HEADS, {"image_size": 32, "patch_size": 8, "layer_scale_init_value": 0.1, **_WIDE}),
    ("Data2VecVision", _HEADS, {"image_size": 32, "patch_size": 8, **_WIDE}),
    ("Dinov2", _HEADS, {"image_size": 32, "patch_size": 8, "mlp_ratio": 2, **_WIDE}),
    ("ViTMSN", _HEADS, {"image_size": 32, "patch_size": 8, **_WIDE}),
    ("Swin", _HEADS, _SWIN),
    ("Swinv2", _HEADS, _SWIN),
    ("ConvNext", _HEADS, _STAGES),
    ("ConvNextV2", _HEADS, _STAGES),
    ("Cvt", _HEADS, {"embed_dim": [16, 24, 32], "depth": [1, 2, 10], "num_heads": [1, 2, 2]}),
    ("Levit", _HEADS, {"image_size": 64, "hidden_sizes": [32, 48, 64], "num_attention_heads": [2, 3, 4],
                       "depths": [1, 1, 1], "key_dim": [8, 8, 8]}),
    ("MobileNetV1", _HEADS, {"image_size": 64, "depth_multiplier": 0.25}),
    ("MobileNetV2", _HEADS, {"image_size": 64, "depth_multiplier": 0.35}),
    ("ResNet", _HEADS, {"embedding_size": 16, **_STAGES}),
    ("ResNet", _HEADS, {"embedding_size": 16, "layer_type": "basic", **_STAGES}),
    ("Bit", _HEADS, {"embedding_size": 16, "depths": [1, 2, 1, 1], "hidden_sizes": [32, 32, 64, 64],
                     "num_groups": 8}),
    ("RegNet", _HEADS, {"embedding_size": 16, "groups_width": 8, **_STAGES}),
    ("Segformer", _HEADS, _PYRAMID),
    ("Segformer", "ForSemanticSegmentation", {**_PYRAMID, "decoder_hidden_size": 32}),
    ("MobileViT", _HEADS, {"image_size": 64, "hidden_sizes": [32, 40, 48],
                           "neck_hidden_sizes": [8, 16, 24, 32, 40, 48, 96]}),
    ("MobileViTV2", _HEADS, {"image_size": 64, "width_multiplier": 0.5}),
    ("EfficientNet", _HEADS, {"image_size": 64, "width_coefficient": 0.5, "depth_coefficient": 0.5, "hidden_dim": 640}),
    ("PoolFormer", _HEADS, {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 24, 32, 48]}),
    ("PvtV2", _HEADS, _PYRAMID),
    ("SwiftFormer", _HEADS, {"depths": [1, 1, 1, 1], "embed_dims": [16, 24, 32, 48]}),
    ("FocalNet", _HEADS, {"image_size": 64, "embed_dim": 16, "depths": [1, 1, 1, 1]}),
    ("Hiera", _HEADS, {"image_size": [64, 64], "embed_dim": 16, "depths": [1, 1, 1, 1], "masked_unit_size": [8, 8]}),
    ("DPT", "ForDepthEstimation",
     {"image_size": 32, "patch_size": 8, "neck_hidden_sizes": [8, 16, 24, 32], "fusion_hidden_size": 16,
      "backbone_out_indices": [0, 1, 2, 3], **_WIDE, "num_hidden_layers": 4}),
    ("UperNet", "ForSemanticSegmentation", {"hidden_size": 32, "auxiliary_in_channels": 64, "auxiliary_channels": 16}),
    ("Detr", "ForObjectDetection",
     {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
      "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "num_queries": 5}),
    ("Yolos", "ForObjectDetection",
     {"image_size": [32, 32], "patch_size": 8, "num_detection_tokens": 5, **_WIDE}),
    ("CLIPVision", "ModelWithProjection", {"image_size": 32, "patch_size": 8, "projection_dim": 16, **_WIDE}),
    ("SiglipVision", "Model", {"image_size": 32, "patch_size": 8, **_WIDE}),
    ("ViTMAE", "ForPreTraining",
     {"image_size": 32, "patch_size": 8, "decoder_hidden_size": 32, "decoder_num_hidden_layers": 1,
      "decoder_num_attention_heads": 4, "decoder_intermediate_size": 64, **_WIDE}),
)  # fmt: skip


@zoo("transformers")
def transformers_zoo() -> Iterator[Entry]:
    """Models for images of transformers, from small configurations."""
    import_torchvision()
    package = importlib.import_module("transformers")
    seen: dict[str, int] = {}
    for prefix, head, options in TRANSFORMERS:
        seen[prefix + head] = seen.get(prefix + head, 0) + 1
        name = prefix + head + f"-{seen[prefix + head]}" * (seen[prefix + head] > 1)
        size = options.get("image_size", 64)
        pixels = named(images(size if isinstance(size, int) else size[0]), "pixel_values")
        yield Entry(name, functools.partial(_transformer, package, prefix, head, options), pixels, family=prefix)


def _transformer(package: Any, prefix: str, head: str, options: Mapping[str, Any]) -> nn.Module:
    """A model of transformers with random weights, on a small ResNet where it takes a backbone."""
    chosen = dict(options)
    if prefix in ("Detr", "UperNet"):
        stages = ["stage1", "stage2", "stage3", "stage4"] if prefix == "UperNet" else ["stage4"]
        chosen["backbone_config"] = package.ResNetConfig(
            embedding_size=16, depths=[1, 1, 1, 1], hidden_sizes=[16, 24, 64, 48], out_features=stages
        )
    return getattr(package, prefix + head)(getattr(package, prefix + "Config")(**chosen))
