"""Models made of gromo's own classes, and how gromo grows them.

gromo 0.1.0 has no entry point for an nn.Module: what grows is a `GrowingModule` that knows the one before it, inside
a container, so that a network has to be written anew. Its ready-made containers are an MLP, a residual MLP, an
MLP-Mixer, ResNets of basic blocks (the widths inside the blocks grow) and VGGs (the widths inside the stages grow).
Where one of these has the layers of a model of the common list, it takes that model's weights here, in the order of
definition. (It also has a graph of linear layers or convolutions that it grows from nothing, which is not used here.)

New neurons come from an initialisation of the new rows and columns ("copy_uniform" by default: random, with the
standard deviation of the old), or from statistics of a batch with its gradients. Both are multiplied by a scaling
factor, which is 0 at first.
"""

import functools
import importlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.torchvision_shim import import_torchvision
from benchmarks.zoos import Entry, images, noise

WITH_STATE = (nn.Linear, nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm)


def container(name: str) -> Any:
    """A module of gromo.containers."""
    import_torchvision()  # gromo imports torchmetrics, which imports torchvision
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"gromo.containers.{name}")


def resnet(blocks: tuple[int, ...]) -> nn.Module:
    """As torchvision's, of basic blocks."""
    return container("resnet").init_full_resnet_structure(
        number_of_blocks_per_stage=blocks, reduction_factor=1, use_preactivation=False
    )


def vgg(convolutions: tuple[int, ...]) -> nn.Module:
    """As torchvision's with batch norm; the widths inside a stage may become half as large again."""
    cfg: list[int | str] = []
    for count, width in zip(convolutions, (64, 128, 256, 512, 512), strict=True):
        cfg += [*[width] * count, "M"]
    target = [size if isinstance(size, str) else size * 3 // 2 for size in cfg]
    widths = {"fc_layer_width": 6144, "initial_fc_layer_width": 4096}
    return container("vgg").VGG(cfg, target, init_weights=False, **widths)


def mlp() -> nn.Module:
    """As `peers_models.Mlp`."""
    return container("growing_mlp").GrowingMLP(784, 10, 128, 2, activation=nn.ReLU())


# What has the layers of a model of the common list.
REBUILT: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: resnet((2, 2, 2, 2)),
    "resnet34": lambda: resnet((3, 4, 6, 3)),
    "vgg11_bn": lambda: vgg((1, 1, 2, 2, 2)),
    "mlp": mlp,
}


def entries() -> Iterator[Entry]:
    """Models for its ways to fill new neurons: its ready-made containers but VGG, which is large."""
    yield Entry("mlp", mlp, noise((2, 1, 28, 28)))
    make = functools.partial(container("growing_residual_mlp").GrowingResidualMLP, (3, 32, 32), 10, 64, 128, 8)
    yield Entry("residual MLP", make, images(32))
    yield Entry("MLP-Mixer", container("growing_mlp_mixer").GrowingMLPMixer, images(32))
    yield Entry("resnet18", REBUILT["resnet18"], images(64))


def rebuilt(name: str, teacher: nn.Module) -> nn.Module:
    """The teacher written in gromo's classes, with its weights and dtype."""
    model = REBUILT[name]().to(next(teacher.parameters()).dtype)
    ours, theirs = ([m for m in net.modules() if isinstance(m, WITH_STATE)] for net in (teacher, model))
    for old, new in zip(ours, theirs, strict=True):
        new.load_state_dict(old.state_dict())
    return model.train(teacher.training)


@dataclass(frozen=True, slots=True)
class Way:
    """A way in which gromo fills new neurons.

    Args:
        title: for tables.
        options: of `create_layer_extensions`; of `compute_optimal_updates` where `optimal`.
        scale: the scaling factor; None: as it is at first.
        optimal: from the statistics of a batch.
    """

    title: str
    options: Mapping[str, Any] = field(default_factory=dict)
    scale: float | None = 1.0
    optimal: bool = False


# The last two are the options that the docstring of `compute_optimal_updates` gives for these two papers.
_TINY = {"compute_delta": False}
_GRADMAX = {
    "compute_delta": False,
    "use_covariance": False,
    "alpha_zero": True,
    "use_projection": False,
    "ignore_singular_values": True,
}
EXACT = "pairs"
WAYS = {
    "created": Way("as created: scaling factor 0", scale=None),
    "copy": Way("scaling factor 1, the rest by default (copy_uniform)"),
    "zeros": Way("new columns zero", {"input_extension_init": "zeros"}),
    "noisy pairs": Way("pairs (V, V), (Z, -Z), noise 1e-3 (default)", {"neuron_pairing": "vv_z_negz"}),
    EXACT: Way("pairs (V, V), (Z, -Z), no noise", {"neuron_pairing": "vv_z_negz", "noise_ratio": 0.0}),
    "tiny": Way("optimal neurons (TINY)", _TINY, optimal=True),
    "gradmax": Way("optimal neurons (GradMax)", _GRADMAX, optimal=True),
}


def grow(model: nn.Module, way: Way, inputs: Sequence[Tensor], factor: float = 1.5) -> nn.Module:
    """Grow all growable layers of a gromo model, in place and one after the other.

    Optimal neurons are found from random samples with random labels: enough of them that the old weights alone cannot
    fit them all, for then there is nothing left for new neurons.
    """
    generator = torch.Generator().manual_seed(1)
    samples = 256 if inputs[0][0].numel() < 4096 else 32
    inputs = [torch.randn(samples, *x.shape[1:], generator=generator, dtype=x.dtype) for x in inputs]
    for layer in model._growable_layers:
        if way.scale is not None:
            layer.set_scaling_factor(way.scale)
        width = layer.hidden_neurons if hasattr(layer, "hidden_neurons") else layer.in_neurons
        extension = 2 * round(width * (factor - 1) / 2)  # pairs need an even number
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="input_extension_scaling is null")
            if way.optimal:
                _add_optimal_neurons(model, layer, way, inputs, extension)
            else:
                layer.create_layer_extensions(extension, **way.options)
                layer.apply_change(extension_size=extension)
        layer.delete_update()
    return model


def _add_optimal_neurons(model: nn.Module, layer: Any, way: Way, inputs: Sequence[Tensor], most: int) -> None:
    dtype, before = next(model.parameters()).dtype, torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # some of the statistics are made in the default one
    try:
        layer.init_computation()
        logits = model.eval()(*inputs)  # in train mode it would move the running statistics
        nn.functional.cross_entropy(logits, torch.arange(len(logits)) % logits.shape[1]).backward()
        layer.update_computation()
        layer.compute_optimal_updates(maximum_added_neurons=most, dtype=dtype, **way.options)
        layer.reset_computation()
    finally:
        torch.set_default_dtype(before)
    model.zero_grad()
    found = (layer.second_layer if hasattr(layer, "second_layer") else layer).eigenvalues_extension
    layer.apply_change(extension_size=len(found))
