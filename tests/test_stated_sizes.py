"""Sizes that the code states and its forward does not read follow where that can be told, and else are named."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from benchmarks.torchvision_shim import import_torchvision
from tests.thinned import THOROUGH


class Config:
    def __init__(self, hidden: int = 8, inner_size: int = 12, num_layers: int = 2, vocab_size: int = 12) -> None:
        self.hidden, self.inner_size, self.num_layers, self.vocab_size = hidden, inner_size, num_layers, vocab_size


class Block(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.inner_size, self.patience = config.inner_size, config.inner_size
        self.up, self.down = nn.Linear(config.hidden, config.inner_size), nn.Linear(config.inner_size, config.hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.relu(self.up(x)))


class Words(nn.Module):
    """A model that is made from its config, as those of transformers are."""

    config_class = Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.vocab_size, config.hidden)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.head = nn.Linear(config.hidden, config.vocab_size)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids)
        for layer in self.layers:
            x = layer(x)
        result: torch.Tensor = self.head(x)
        return result


class NotMade(Words):
    """The same, but for a class that says nothing of a config."""

    config_class = None  # type: ignore[assignment]


IDS = torch.randint(12, (2, 5), generator=torch.Generator().manual_seed(0))


def made(kind: type[Words] = Words) -> Words:
    torch.manual_seed(0)
    return kind(Config()).double()


def test_a_config_follows_if_the_class_makes_the_student_from_it() -> None:
    teacher = made()
    student = fxgrow.grow(teacher, {"layers.*.up": 18}, IDS, output="module")
    assert vars(student.config) == {"hidden": 8, "inner_size": 18, "num_layers": 2, "vocab_size": 12}
    assert student.config is student.layers[0].config
    assert vars(teacher.config)["inner_size"] == 12, "the user's config is a copy, never the teacher's"
    again = Words(student.config).double()
    again.load_state_dict(student.state_dict())
    assert torch.equal(again(IDS), student(IDS))
    assert torch.allclose(student(IDS), teacher(IDS))


def test_a_config_that_cannot_state_the_student_stays_and_is_named() -> None:
    student = fxgrow.grow(made(), {"layers.0.up": 18}, IDS, output="module")
    assert student.config.inner_size == 12
    plan = fxgrow.plan_of(student)
    assert plan is not None
    assert any("config.inner_size (12)" in note for note in plan.notes)


def test_attributes_with_the_name_of_a_size_follow_where_all_of_that_size_grow() -> None:
    student = fxgrow.grow(made(), {"layers.*.up": 18}, IDS, output="module")
    assert [layer.inner_size for layer in student.layers] == [18, 18]
    assert [layer.patience for layer in student.layers] == [12, 12], "no name of a size"


def test_without_a_class_that_is_made_from_it_a_config_follows_by_unambiguous_values() -> None:
    student = fxgrow.grow(made(NotMade), {"layers.*.up": 18}, IDS, output="module")
    plan = fxgrow.plan_of(student)
    assert plan is not None
    assert student.config.inner_size == 12, "twelve words stay"
    assert any("config.inner_size (12)" in note for note in plan.notes)
    config = Config(inner_size=20)
    student = fxgrow.grow(NotMade(config).double(), {"layers.*.up": 30}, IDS, output="module")
    assert student.config.inner_size == 30
    assert config.inner_size == 20


def test_a_number_that_the_forward_reads_after_all_stays() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner_size = 12
            self.up, self.down = nn.Linear(4, 12), nn.Linear(12, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.down(torch.relu(self.up(x))) / self.inner_size
            return result

    teacher = Reads().double()
    x = torch.randn(3, 4, dtype=torch.float64)
    student = fxgrow.grow(teacher, {"up": 18}, x, output="module")
    assert torch.allclose(student(x), teacher(x), rtol=1e-10)
    assert student.inner_size == 12
    plan = fxgrow.plan_of(student)
    assert plan is not None
    assert any("inner_size (12)" in note for note in plan.notes)


class OfOtherHeads(Words):
    """A class that makes no student from any config, since its words have a table of their own size."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        config.num_heads, config.head_dim = 3, 5  # type: ignore[attr-defined]
        self.words = nn.Embedding(config.vocab_size, 8)


def test_heads_in_a_config_are_named_where_no_config_makes_the_student() -> None:
    """Another number of heads may make the same shapes, and another function."""
    plan = fxgrow.plan_of(fxgrow.grow(made(OfOtherHeads), 2.0, IDS, output="module"))
    assert "config.num_heads (3)" in str(plan)
    assert "head_dim" not in str(plan)
    assert "num_heads" not in str(fxgrow.plan_of(fxgrow.grow(made(), 2.0, IDS, output="module")))


def test_a_graph_states_no_sizes() -> None:
    plan = fxgrow.plan(fxgrow.widths(made(), IDS), {"layers.*.up": 18})
    assert plan.grown_widths
    assert plan.stated == ()
    plan = fxgrow.plan(fxgrow.widths(made(), IDS), {"layers.0.up": 18})
    assert not any("inner_size" in note for note in plan.notes)
    kept = fxgrow.plan(fxgrow.widths(made(), IDS, leaf_modules=[Block]), {"layers.0.up": 18})
    assert kept.stated == (), "nor where a block stays a call"
    plan = fxgrow.plan(fxgrow.widths(made(), IDS, output="module"), {"layers.*.up": 18})
    assert {size.name.rpartition(".")[2] for size in plan.stated} == {"inner_size"}


def test_a_size_that_is_not_what_the_plan_expects_is_refused() -> None:
    plan = fxgrow.plan(fxgrow.widths(made(), IDS, output="module"), {"layers.*.up": 18})
    other = made()
    other.layers[0].inner_size = 13
    with pytest.raises(fxgrow.PlanError, match=r"expects layers\.0\.inner_size to be 12, but it is 13"):
        fxgrow.apply(plan, other)


def test_what_stays_can_be_set_by_the_user() -> None:
    def resize(student: Any, plan: fxgrow.Plan) -> None:
        student.config.inner_size = max(width.new for width in plan.grown_widths)

    student = fxgrow.grow(made(), {"layers.0.up": 18}, IDS, output="module", resize=resize)
    assert student.config.inner_size == 18
    plan = fxgrow.plan_of(student)
    assert plan is not None
    assert fxgrow.apply(plan, made(), resize=resize).config.inner_size == 18


def test_a_resize_that_fails_is_a_reason() -> None:
    def resize(student: Any, plan: fxgrow.Plan) -> None:
        raise KeyError("inner")

    with pytest.raises(fxgrow.GrowError, match=r"resize fails.*KeyError"):
        fxgrow.grow(made(), {"layers.*.up": 18}, IDS, output="module", resize=resize)
    with pytest.raises(fxgrow.GrowError, match="resize is to be a function"):
        fxgrow.grow(made(), {"layers.*.up": 18}, IDS, output="module", resize=3)  # type: ignore[call-overload]


def test_plans_keep_what_follows() -> None:
    plan = fxgrow.plan(fxgrow.widths(made(), IDS, output="module"), {"layers.*.up": 18})
    student = fxgrow.apply(fxgrow.Plan.from_json(plan.to_json()), made())
    assert student.config.inner_size == 18


@pytest.mark.parametrize("name", ["config.__class__", "_modules.x", "training", "config.3x", "a b", "", "forward.x"])
def test_a_plan_of_a_stranger_sets_no_other_names(name: str) -> None:
    plan = fxgrow.plan(fxgrow.widths(made(), IDS, output="module"), {"layers.*.up": 18})
    text = plan.to_json().replace('"config.inner_size"', f'"{name}"')
    with pytest.raises(fxgrow.PlanError):
        fxgrow.apply(fxgrow.Plan.from_json(text), made())


# -- transformers ----------------------------------------------------------------------------------


def models(transformers: Any) -> dict[str, Any]:
    words = {"vocab_size": 50, "max_position_embeddings": 32}
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
    stages = {"depths": [1, 1, 1, 1], "num_labels": 5}
    t = transformers
    return {
        "ViT": lambda: t.ViTForImageClassification(t.ViTConfig(**small, image_size=32, patch_size=8, num_labels=5)),
        "ConvNeXt": lambda: t.ConvNextForImageClassification(t.ConvNextConfig(hidden_sizes=[8, 12, 20, 28], **stages)),
        "ResNet": lambda: t.ResNetForImageClassification(
            t.ResNetConfig(embedding_size=8, hidden_sizes=[16, 24, 32, 40], **stages)
        ),
        "BERT": lambda: t.BertForSequenceClassification(t.BertConfig(**small, **words, num_labels=5)),
        "BERT alone": lambda: t.BertModel(t.BertConfig(**small, **words)),
        "Llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**small, **words, num_key_value_heads=2)),
        "Llama alone": lambda: t.LlamaModel(t.LlamaConfig(**small, **words, num_key_value_heads=2)),
        "Qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**small, **words, num_key_value_heads=2, head_dim=4)),
        "T5": lambda: t.T5ForConditionalGeneration(
            t.T5Config(d_model=16, d_kv=4, num_layers=2, num_heads=4, d_ff=24, vocab_size=50)
        ),
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    [
        "ViT",
        "ConvNeXt",
        "ResNet",
        "BERT",
        "BERT alone",
        pytest.param("Llama", marks=THOROUGH),
        "Llama alone",
        "Qwen3",
        "T5",
    ],
)
def test_a_grown_model_of_transformers_is_saved_and_loaded(name: str, tmp_path: Path) -> None:
    import_torchvision()
    transformers = pytest.importorskip("transformers", reason="the extra transformers is not installed")
    torch.manual_seed(0)
    teacher = models(transformers)[name]().eval()
    inputs: dict[str, torch.Tensor] = (
        {"pixel_values": torch.randn(2, 3, 32, 32)}
        if name in ("ViT", "ConvNeXt", "ResNet")
        else {"input_ids": torch.randint(50, (2, 7))}
    )
    if name == "T5":
        inputs["decoder_input_ids"] = torch.randint(50, (2, 5))
    # Heads that grow in the encoder alone, or where the residual width is the output's, no config of these can state.
    spec: Any = {"T5": {"*.wi": 2.0}, "BERT alone": {"*.intermediate.dense": 2.0}}.get(name, 2.0)
    student = fxgrow.grow(teacher, spec, inputs, output="module")
    expected = student(**inputs)[0]
    assert torch.allclose(expected, teacher(**inputs)[0], rtol=1e-4, atol=1e-5)
    student.save_pretrained(tmp_path)
    loaded = type(teacher).from_pretrained(tmp_path).eval()
    assert torch.allclose(loaded(**inputs)[0], expected, atol=1e-6)
    assert sum(p.numel() for p in loaded.parameters()) > sum(p.numel() for p in teacher.parameters())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_config_follows_where_the_teacher_was_cast_after_it_was_made(dtype: torch.dtype, tmp_path: Path) -> None:
    """A class makes float32, and the calls of its model are compared with those of a student in another dtype."""
    import_torchvision()
    transformers = pytest.importorskip("transformers", reason="the extra transformers is not installed")
    torch.manual_seed(0)
    teacher = models(transformers)["Llama alone"]().eval().to(dtype)
    inputs = {"input_ids": torch.randint(50, (2, 7))}
    student = fxgrow.grow(teacher, 2.0, inputs, output="module")
    assert student.config.num_attention_heads == 2 * teacher.config.num_attention_heads
    assert student.config.intermediate_size == 2 * teacher.config.intermediate_size
    student.save_pretrained(tmp_path)
    loaded = type(teacher).from_pretrained(tmp_path, dtype=dtype).eval()
    expected = student(**inputs)[0]
    assert torch.allclose(loaded(**inputs)[0], expected, atol=1e-2 if dtype == torch.bfloat16 else 1e-6)
    assert loaded.layers[0].self_attn.q_proj.weight.shape == student.layers[0].self_attn.q_proj.weight.shape


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet", "test_byobnet"])
def test_a_grown_model_of_timm_gets_another_classifier(name: str) -> None:
    """`reset_classifier` reads sizes that `forward` does not read, as `num_features`."""
    import_torchvision()
    timm = pytest.importorskip("timm", reason="timm is not installed")
    teacher = timm.create_model(name, num_classes=10).eval()
    x = torch.randn(2, *timm.data.resolve_data_config({}, model=teacher)["input_size"])
    student: Any = fxgrow.grow(teacher, 2.0, x, output="module")
    assert student.num_features == 2 * teacher.num_features
    torch.testing.assert_close(student(x), teacher(x), rtol=1e-4, atol=1e-5)
    student.reset_classifier(7)
    assert student(x).shape == (2, 7)
    assert student.get_classifier().in_features == 2 * teacher.get_classifier().in_features


class StatesASizeAndDecides(nn.Module):
    """Decides by the numbers in a tensor, so that it is run for real, and spells the sizes of one width out."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 1e9:
            x = x + 1
        h = self.a(x).view(len(x), 2, 4).flatten(1)
        return self.d(self.c(self.b(h).relu()).relu())


@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_size_that_the_code_states_keeps_its_own_width_alone_in_a_model_that_runs_for_real(output: Any) -> None:
    teacher, x = StatesASizeAndDecides().double(), torch.randn(2, 4, dtype=torch.float64)
    student = fxgrow.grow(teacher, 2.0, x, output=output)
    shapes = [tuple(student.get_parameter(f"{name}.weight").shape) for name in "abcd"]
    assert shapes == [(8, 4), (12, 8), (12, 12), (3, 12)]
    torch.testing.assert_close(student(x), teacher(x))
