"""Decoders of Hugging Face transformers get deeper in their own class; skipped where transformers is not installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fxgrow
from benchmarks.torchvision_shim import import_torchvision
from fxgrow import Deepen
from tests.thinned import THOROUGH, pairs, thinned

if importlib.util.find_spec("transformers") is None:
    pytest.skip("transformers is not installed", allow_module_level=True)
if importlib.util.find_spec("torchvision") is not None:
    import_torchvision()  # transformers imports it
import transformers

transformers.logging.set_verbosity_error()
pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers
SIZES = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = {**SIZES, "intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 64}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
OPT = {**SIZES, "ffn_dim": 48, "max_position_embeddings": 64, "word_embed_proj_dim": 32}
DECODERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "Llama": ("LlamaForCausalLM", LLAMA, "model.layers"),
    "Qwen2": ("Qwen2ForCausalLM", LLAMA, "model.layers"),
    "Qwen3": ("Qwen3ForCausalLM", {**LLAMA, "head_dim": 8}, "model.layers"),
    "Mistral": ("MistralForCausalLM", LLAMA, "model.layers"),
    "Mistral, sliding": ("MistralForCausalLM", {**LLAMA, "sliding_window": 6}, "model.layers"),
    "Gemma": ("GemmaForCausalLM", {**LLAMA, "head_dim": 8}, "model.layers"),
    "Gemma2": ("Gemma2ForCausalLM", {**LLAMA, "head_dim": 8, "sliding_window": 6}, "model.layers"),
    "GPT-2": ("GPT2LMHeadModel", {"vocab_size": 64, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4},
              "transformer.h"),
    "OPT": ("OPTForCausalLM", OPT, "model.decoder.layers"),
    "Phi-3": ("Phi3ForCausalLM", LLAMA, "model.layers"),
}  # fmt: skip
IDS = torch.arange(3, 11)[None]


def decoder(name: str) -> nn.Module:
    """A decoder with random weights, float64."""
    kind, sizes, _ = DECODERS[name]
    torch.manual_seed(0)
    model_class = getattr(transformers, kind)
    model: nn.Module = model_class(model_class.config_class(**sizes, **TOKENS)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def generated(model: Any, use_cache: bool) -> torch.Tensor:
    """The tokens that a model adds, each the likeliest."""
    result: torch.Tensor = model.generate(IDS, max_new_tokens=8, do_sample=False, use_cache=use_cache)
    return result


@thinned("decoders that generate")
@pytest.mark.parametrize(("name", "use_cache"), pairs([*DECODERS], [True, False]))
def test_a_decoder_gets_deeper_and_generates_as_before(name: str, use_cache: bool) -> None:
    teacher: Any = decoder(name)
    path, x = DECODERS[name][2], {"input_ids": IDS, "use_cache": use_cache}
    spec = [Deepen(f"{path}.0", blocks=1), Deepen(f"{path}.1", blocks=2)]
    student: Any = fxgrow.grow(teacher, spec, x, output="module")
    assert type(student) is type(teacher)
    assert fxgrow.verify(teacher, student, x).errors["eval"] <= 1e-10
    assert (student.config.num_hidden_layers, teacher.config.num_hidden_layers) == (5, 2)
    for cached in (True, False):
        assert torch.equal(generated(student, cached), generated(teacher, cached))
    student.train()(IDS, labels=IDS).loss.backward()
    assert not [parameter for parameter in student.parameters() if parameter.grad is None]


@thinned("decoders that are saved")
@pytest.mark.parametrize("name", DECODERS)
def test_a_deeper_decoder_is_saved_and_loaded_by_its_own_library(name: str, tmp_path: Path) -> None:
    teacher: Any = decoder(name)
    student: Any = fxgrow.grow(teacher, Deepen(DECODERS[name][2], blocks=2), {"input_ids": IDS}, output="module")
    student.save_pretrained(tmp_path)
    loaded = type(teacher).from_pretrained(tmp_path, dtype=torch.float64).eval()
    assert (loaded(IDS).logits - student(IDS).logits).abs().max() < 1e-5  # the library holds some constants in float32


@pytest.mark.parametrize("name", ["GPT-2", *(pytest.param(name, marks=THOROUGH) for name in ("Llama", "Gemma2"))])
def test_wider_and_deeper_with_all_hidden_states(name: str) -> None:
    teacher: Any = decoder(name)
    path, x = DECODERS[name][2], {"input_ids": IDS, "output_hidden_states": True}
    spec = [fxgrow.Widen(f"{path}.*.mlp*", 1.5), Deepen(path, blocks=1)]
    student: Any = fxgrow.grow(teacher, spec, x, output="module")
    assert fxgrow.verify(teacher, student, x).errors["eval"] <= 1e-10
    again: Any = fxgrow.grow(student, Deepen(f"{path}.1", blocks=1), x, output="module")
    assert fxgrow.verify(teacher, again, x).errors["eval"] <= 1e-10
    assert len(again(**x).hidden_states) == len(teacher(**x).hidden_states) + 2
