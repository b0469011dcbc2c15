"""Pairs of public models of one family, of which the first is to become the second, and which of them growth cannot.

Each pair that is said to be out of reach was looked at: the reason is one of the function that the larger builder
computes, not of what fxgrow can do today.
"""

import itertools
from dataclasses import dataclass

GROUPS = "another number of groups for the same channels is another function"
BLOCKS = "blocks of another class"
FEWER = "the larger builder has fewer blocks or channels somewhere"
STAGE = "the larger builder has one more stage"
NORM = "a norm over channels that grow by no whole multiple, where new channels cannot carry their mean"
SOFTMAX = "a softmax over channels counts them"
SKIP = "a skip connection that the larger builder does not have"
HALVES = "halves of halves that are concatenated have no such sizes"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two builders.

    Attributes:
        zoo: "torchvision" or "timm".
        small: The name of the trained model; with `name:option=value` an option of its builder.
        large: That of the model that it is to become.
        size: Height and width of the images, pixels.
        why: Why growth cannot reach it; "" where it can.
    """

    zoo: str
    small: str
    large: str
    size: int = 64
    why: str = ""


def _chain(zoo: str, names: str, size: int = 64) -> tuple[Pair, ...]:
    several = names.split()
    return tuple(Pair(zoo, a, b, size) for a, b in itertools.pairwise(several))


PAIRS = (
    *_chain("torchvision", "resnet50 resnet101 resnet152"),
    Pair("torchvision", "resnet18", "resnet34"),
    Pair("torchvision", "resnet18", "resnet50", why=BLOCKS),
    Pair("torchvision", "resnet34", "resnet50", why=BLOCKS),
    Pair("torchvision", "resnet50", "wide_resnet50_2"),
    Pair("torchvision", "resnet101", "wide_resnet101_2"),
    Pair("torchvision", "wide_resnet50_2", "wide_resnet101_2"),
    Pair("torchvision", "resnet50", "resnext50_32x4d", why=GROUPS),
    Pair("torchvision", "resnext50_32x4d", "resnext101_32x8d"),
    Pair("torchvision", "resnext101_32x8d", "resnext101_64x4d", why=FEWER),
    *_chain("torchvision", "vgg11 vgg13 vgg16 vgg19", 32),
    Pair("torchvision", "vgg11_bn", "vgg16_bn", 32),
    *_chain("torchvision", "mobilenet_v2:width_mult=0.5 mobilenet_v2:width_mult=0.75 mobilenet_v2 "
            "mobilenet_v2:width_mult=1.4"),
    Pair("torchvision", "mobilenet_v3_large:width_mult=0.75", "mobilenet_v3_large"),
    Pair("torchvision", "mobilenet_v3_small:width_mult=0.75", "mobilenet_v3_small"),
    Pair("torchvision", "mobilenet_v3_small", "mobilenet_v3_large", why=FEWER),
    *_chain("torchvision", "mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3"),
    *_chain("torchvision", "efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4"),
    Pair("torchvision", "efficientnet_v2_s", "efficientnet_v2_m", why=STAGE),
    Pair("torchvision", "convnext_tiny", "convnext_small"),
    Pair("torchvision", "convnext_small", "convnext_base", why=NORM),
    Pair("torchvision", "convnext_tiny", "convnext_large"),
    Pair("torchvision", "swin_t", "swin_s"),
    Pair("torchvision", "swin_s", "swin_b", why=NORM),
    Pair("torchvision", "swin_v2_t", "swin_v2_s"),
    Pair("torchvision", "vit_b_32", "vit_l_32", 224),
    Pair("torchvision", "densenet121", "densenet169"),
    Pair("torchvision", "densenet169", "densenet201"),
    Pair("torchvision", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", why=HALVES),
    Pair("torchvision", "regnet_x_400mf", "regnet_x_800mf", why=FEWER),
    Pair("torchvision", "regnet_x_1_6gf", "regnet_x_3_2gf", why=FEWER),
    *_chain("timm", "vit_tiny_patch16_224 vit_small_patch16_224 vit_base_patch16_224", 224),
    Pair("timm", "deit_tiny_patch16_224", "deit_small_patch16_224", 224),
    Pair("timm", "mixer_s32_224", "mixer_b32_224", 224, why=NORM),
    *_chain("timm", "convnext_atto convnext_nano"),
    Pair("timm", "convnext_tiny", "convnext_small"),
    Pair("timm", "convnext_pico", "convnext_base", why=BLOCKS),
    Pair("timm", "resnet18", "resnet34"),
    Pair("timm", "resnet26", "resnet50"),
    Pair("timm", "resnet50", "resnet101"),
    Pair("timm", "seresnet50", "seresnet101"),
    Pair("timm", "resnetv2_50", "resnetv2_101"),
    Pair("timm", "res2net50_26w_4s", "res2net101_26w_4s"),
    Pair("timm", "skresnet18", "skresnet34"),
    Pair("timm", "ecaresnet50d", "ecaresnet101d"),
    Pair("timm", "mobilenetv3_small_050", "mobilenetv3_small_075", why=SKIP),
    Pair("timm", "mobilenetv3_small_075", "mobilenetv3_small_100"),
    Pair("timm", "mobilenetv3_large_075", "mobilenetv3_large_100"),
    *_chain("timm", "mobilenetv2_050 mobilenetv2_100 mobilenetv2_140"),
    *_chain("timm", "efficientnet_b0 efficientnet_b1 efficientnet_b2"),
    *_chain("timm", "tf_efficientnet_lite0 tf_efficientnet_lite1 tf_efficientnet_lite2"),
    *_chain("timm", "ghostnet_050 ghostnet_100 ghostnet_130"),
    *_chain("timm", "poolformer_s12 poolformer_s24 poolformer_s36"),
    *_chain("timm", "pvt_v2_b1 pvt_v2_b2 pvt_v2_b3"),
    Pair("timm", "pvt_v2_b0", "pvt_v2_b1"),
    Pair("timm", "swin_tiny_patch4_window7_224", "swin_small_patch4_window7_224", 224),
    Pair("timm", "swin_tiny_patch4_window7_224", "swin_large_patch4_window7_224", 224),
    Pair("timm", "deit_small_patch16_224", "deit_base_patch16_224", 224),
    Pair("timm", "hrnet_w18_small", "hrnet_w18", why=FEWER),
    Pair("timm", "dla34", "dla60", why=BLOCKS),
    Pair("timm", "repvgg_a0", "repvgg_a1"),
    Pair("timm", "edgenext_xx_small", "edgenext_x_small", why=SOFTMAX),
    Pair("timm", "mobilevit_xxs", "mobilevit_xs", why=SKIP),
    Pair("timm", "xcit_nano_12_p16_224", "xcit_tiny_12_p16_224", 224, why=SOFTMAX),
    Pair("timm", "cait_xxs24_224", "cait_xxs36_224", 224),
)  # fmt: skip
