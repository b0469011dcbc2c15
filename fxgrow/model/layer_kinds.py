"""What the layers of torch.nn are: the sizes that each kind states, its functions, and which modules are layers.

Other files ask here instead of listing classes of their own. A new kind of layer is a new `LayerKind` in the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..base.torch_private import InstanceNormBase
from .walk import modules


@dataclass(frozen=True, slots=True)
class LayerKind:
    """One kind of layer.

    Attributes:
        classes: Of torch.nn; of those that differ in rank, the one for each number of spatial dimensions, from 1 on.
        functions: What computes the same for weights that are given: the functions of `torch.nn.functional`, and those
            of `torch` that these call. The sizes among their arguments have equal names and positions.
        weight_sizes: Attributes that state a size of `weight`, with its dimension, where there is one group.
        arguments: Arguments of the functions that state sizes or counts of channels, with their positions.
    """

    classes: tuple[type[nn.Module], ...]
    functions: tuple[Any, ...] = ()
    weight_sizes: Mapping[str, int] = field(default_factory=dict)
    arguments: Mapping[str, int] = field(default_factory=dict)


LINEAR = LayerKind((nn.Linear,), (F.linear,), weight_sizes={"out_features": 0, "in_features": 1})
EMBEDDING = LayerKind((nn.Embedding,), (F.embedding,), weight_sizes={"num_embeddings": 0, "embedding_dim": 1})
CONVOLUTION = LayerKind(
    (nn.Conv1d, nn.Conv2d, nn.Conv3d),
    (F.conv1d, F.conv2d, F.conv3d),  # torch.conv1d, ... are the same objects
    weight_sizes={"out_channels": 0, "in_channels": 1},
    arguments={"groups": 6},
)
TRANSPOSED_CONVOLUTION = LayerKind(
    (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
    weight_sizes={"in_channels": 0, "out_channels": 1},
    arguments={"groups": 6},
)

BATCH_NORM = LayerKind(
    (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm), (F.batch_norm, torch.batch_norm)
)
GROUP_NORM = LayerKind((nn.GroupNorm,), (F.group_norm, torch.group_norm), arguments={"num_groups": 1})
LAYER_NORM = LayerKind((nn.LayerNorm,), (F.layer_norm, torch.layer_norm), arguments={"normalized_shape": 1})
RMS_NORM = LayerKind((nn.RMSNorm,), (F.rms_norm, torch.rms_norm), arguments={"normalized_shape": 1})
INSTANCE_NORM = LayerKind(
    (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), (F.instance_norm, torch.instance_norm)
)
LOCAL_RESPONSE_NORM = LayerKind((nn.LocalResponseNorm,), (F.local_response_norm,))

POOLING = LayerKind(
    (
        nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d,
        nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
    ),
    (
        F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, F.adaptive_avg_pool1d,
        F.adaptive_avg_pool2d, F.adaptive_avg_pool3d, F.adaptive_max_pool1d, F.adaptive_max_pool2d,
        F.adaptive_max_pool3d, torch.max_pool1d, torch.max_pool2d, torch.max_pool3d,
    ),
)  # fmt: skip
DROPOUT = LayerKind(
    (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout),
    (
        F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout,
        torch.feature_dropout, torch.alpha_dropout, torch.feature_alpha_dropout,
    ),
)  # fmt: skip

EMBEDDINGS = (*EMBEDDING.classes, nn.EmbeddingBag)  # whose rows are looked up
CONVOLUTIONS = (CONVOLUTION, TRANSPOSED_CONVOLUTION)
LINEAR_MAPS = (LINEAR, *CONVOLUTIONS)  # the layers that a new layer can follow
AFFINE_NORMS = (BATCH_NORM, GROUP_NORM, LAYER_NORM, RMS_NORM, INSTANCE_NORM)  # with a weight and a bias per channel
NORMS = (*AFFINE_NORMS, LOCAL_RESPONSE_NORM)

ATTENTIONS = (nn.MultiheadAttention,)
ATTENTION_SIZES = ("embed_dim", "kdim", "vdim")  # the sizes of its first arguments: query, key and value
ADAPTIVE_SOFTMAX = (nn.AdaptiveLogSoftmaxWithLoss,)
RECURRENT_LAYERS = (nn.RNNBase,)
RECURRENT = (*RECURRENT_LAYERS, nn.RNNCellBase)  # cells are single steps
NAMED_SIZES = (  # what the name of a layer means, where that is not the rows of its weight
    (EMBEDDING.classes, "embedding_dim"),
    (RECURRENT, "hidden_size"),
    (ATTENTIONS, "embed_dim"),
)
BY_POSITION = (nn.BatchNorm1d, nn.ChannelShuffle, nn.GroupNorm, nn.SyncBatchNorm)  # the channels are dimension 1
ALONG = (nn.CosineSimilarity, nn.GLU, nn.LogSoftmax, nn.Softmax, nn.Softmin)  # work along their `dim`
SEQUENCE = nn.Sequential
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
NUMBERED = (nn.Sequential, nn.ModuleList)  # whose entries are named by their places, if nothing else is said


def classes_of(*kinds: LayerKind) -> tuple[type[nn.Module], ...]:
    """The classes of some kinds, as `isinstance` takes them."""
    return tuple([cls for kind in kinds for cls in kind.classes])


def functions_of(*kinds: LayerKind) -> tuple[Any, ...]:
    """The functions of some kinds."""
    return tuple([function for kind in kinds for function in kind.functions])


def is_a(module: nn.Module, *kinds: LayerKind) -> bool:
    """Whether a module is of one of some kinds."""
    return isinstance(module, classes_of(*kinds))


def named_size(kind: type) -> str:
    """The attribute that states the size which the name of a layer of a class means; empty where that is its rows."""
    return next((size for classes, size in NAMED_SIZES if issubclass(kind, classes)), "")


def spatial_rank(layer: nn.Module) -> int:
    """The number of spatial dimensions of a convolution; 0 for a linear layer."""
    kinds = enumerate(zip(*(kind.classes for kind in CONVOLUTIONS), strict=True), 1)
    return next((rank for rank, classes in kinds if isinstance(layer, classes)), 0)


def layer_class(rank: int) -> type[nn.Module]:
    """The convolution over so many spatial dimensions; a linear layer for none."""
    return CONVOLUTION.classes[rank - 1] if rank else nn.Linear


def is_instance_norm(module: nn.Module) -> bool:
    """Whether a module is an instance norm, also one of a user's own class."""
    return isinstance(module, InstanceNormBase)


def counts_from_front(module: nn.Module) -> bool:
    """Whether a layer of torch.nn takes an image without a batch for something else than an image.

    Those that do not (a convolution, pooling) are told by the number of dimensions, or treat all entries alike.
    """
    if isinstance(module, nn.PReLU):
        return module.num_parameters > 1
    if isinstance(module, ALONG):
        return module.dim == 0
    return isinstance(module, BY_POSITION)


def is_layer_class(kind: type) -> bool:
    """Whether a class of modules is a layer of torch.nn: neither a user's own nor a container."""
    return kind.__module__.startswith("torch.nn.") and kind is not nn.Module and not issubclass(kind, CONTAINERS)


def is_layer(module: nn.Module) -> bool:
    """Whether a module is of torch.nn, runs no hooks and no patched forward, and holds no modules of a user's class."""
    return _is_torchs(module) and (not module._modules or all(_is_torchs(child) for child in modules(module)))


def _is_torchs(module: nn.Module) -> bool:
    hooked = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return type(module).__module__.startswith("torch.nn.") and type(module) not in CONTAINERS and not hooked


def settings_of(layer: nn.Module) -> str:
    """What a layer of torch.nn was made with besides numbers with a fraction: its class, and its plain attributes."""
    plain = {k: v for k, v in sorted(vars(layer).items()) if not k.startswith("_") and k != "training"}
    told = {k: "" if isinstance(v, float) else v for k, v in plain.items() if isinstance(v, (*_SETTINGS, float))}
    return f"{type(layer).__qualname__} {told}"


_SETTINGS = (type(None), bool, int, str, tuple)


def is_hooked(module: nn.Module) -> bool:
    """Whether hooks have to run when the module is called."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )
