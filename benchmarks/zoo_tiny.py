"""The zoo of all architectures of transformers, each in a tiny configuration and with a head.

The configuration is the default one with small sizes in the places that are named like sizes. An architecture that is
not built so, or does not run, is left out: this zoo asks what of real code grows, not what can be shrunk by names.
"""

import functools
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.torchvision_shim import import_torchvision
from benchmarks.zoos import Arguments, Entry, zoo

HEADS = (
    "CausalLM", "MaskedLM", "Seq2SeqLM", "ImageClassification", "CTC", "AudioClassification", "SequenceClassification",
    "SemanticSegmentation", "ObjectDetection",
)  # fmt: skip
SIZES: Mapping[int, tuple[str, ...]] = {
    64: ("vocab_size", "n_vocab", "max_position_embeddings", "n_positions", "n_ctx", "seq_length", "max_seq_len"),
    32: (
        "image_size", "input_size", "hidden_size", "d_model", "n_embd", "dim", "hidden_dim", "embed_dim",
        "embedding_size", "decoder_hidden_size", "encoder_hidden_size", "projection_dim", "word_embed_proj_dim",
        "encoder_dim",
    ),
    48: (
        "intermediate_size", "ffn_dim", "n_inner", "d_ff", "encoder_ffn_dim", "decoder_ffn_dim", "dim_feedforward",
        "ffn_hidden_size", "moe_intermediate_size", "shared_expert_intermediate_size", "mlp_dim",
    ),
    16: ("kv_lora_rank", "q_lora_rank", "num_mel_bins", "input_feat_per_channel"),
    10: ("num_queries",),
    8: (
        "head_dim", "d_kv", "d_head", "kv_channels", "attention_head_size", "qk_nope_head_dim", "v_head_dim",
        "qk_rope_head_dim", "qk_head_dim", "patch_size",
    ),
    4: (
        "num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads", "encoder_attention_heads",
        "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "rotary_dim",
    ),
    2: (
        "num_key_value_heads", "num_kv_heads", "multi_query_group_num", "num_hidden_layers", "n_layer", "n_layers",
        "num_layers", "encoder_layers", "decoder_layers", "num_encoder_layers", "num_decoder_layers", "num_blocks",
        "depth",
    ),
}  # fmt: skip
SIZE_OF = {name: size for size, names in SIZES.items() for name in names}
MOST = 30_000_000  # parameters; what is larger was not made tiny


@zoo("transformers-tiny")
def transformers_tiny_zoo() -> Iterator[Entry]:
    """Every architecture of transformers that is built and runs when its sizes are made small."""
    import_torchvision()
    package = importlib.import_module("transformers")
    package.logging.set_verbosity_error()
    for name, config in package.CONFIG_MAPPING.items():
        try:
            kind = _class(package, config)
            entry = Entry(name, functools.partial(_tiny, kind, config), functools.partial(_inputs, kind))
            model = entry.build().eval()
            with torch.no_grad():
                model(**entry.given("eval"))
        except Exception:  # noqa: BLE001 - whatever a model of a configuration that it was not meant for raises
            continue
        yield entry


def _class(package: Any, config: Any) -> Any:
    """The class of the first head that there is for a configuration."""
    tables = [getattr(package, f"AutoModelFor{head}")._model_mapping for head in HEADS]
    found = next(table[config] for table in tables if config in table)
    return found[0] if isinstance(found, tuple) else found


def _tiny(kind: Any, config: Any) -> nn.Module:
    """The model with random weights; it neither drops nor masks anything in train mode."""
    torch.manual_seed(0)
    made: nn.Module = kind._from_config(shrunk(config()))
    if sum(parameter.numel() for parameter in made.parameters()) > MOST:
        raise ValueError("it is not tiny")
    return made


def shrunk(config: Any, depth: int = 0) -> Any:
    """A configuration with small sizes, and those of its parts."""
    for name, value in list(vars(config).items()):
        if hasattr(value, "to_dict") and depth < 3:
            shrunk(value, depth + 1)
        elif not name.startswith("_"):
            small = _small(name, value)
            if small != value:
                setattr(config, name, small)
    kinds = getattr(config, "layer_types", None)
    if isinstance(kinds, list) and len(kinds) > 2:
        config.layer_types = [kinds[0], kinds[-1]]
    return config


def _small(name: str, value: Any) -> Any:
    """A small number in place of a size; 0 in place of the chance to drop or to mask something."""
    if isinstance(value, float) and ("drop" in name or name.startswith("mask_")):
        return 0.0
    if isinstance(value, int) and not isinstance(value, bool):
        if name.endswith("token_id"):
            return min(value, 60)
        return min(value, SIZE_OF.get(name, 2 if name.endswith("_layers") else 64 if value > 512 else value))
    if isinstance(value, list) and value and all(isinstance(n, int) and not isinstance(n, bool) for n in value):
        if "depths" in name:
            return [1] * len(value)
        if "heads" in name:
            return [2] * len(value)
        if "hidden_sizes" in name or "channels" in name or "dims" in name:
            return [16 * (i + 1) for i in range(len(value))]
    return value


def _inputs(kind: Any) -> Arguments:
    """Inputs of the kind that a class names as its main one."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 50, (2, 8), generator=generator)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    given: dict[str, dict[str, Tensor]] = {
        "input_ids": {"input_ids": ids},
        "pixel_values": {"pixel_values": noise(2, 3, 32, 32)},
        "input_values": {"input_values": noise(2, 1600)},
        "input_features": {"input_features": noise(2, 40, 16)},
    }
    second = {"decoder_input_ids": ids} if "ForConditionalGeneration" in kind.__name__ else {}
    return {**given[kind.main_input_name], **second}
