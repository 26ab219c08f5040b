"""transformers' common model tests, over the model and over the model with its head."""

from __future__ import annotations

import unittest
from fnmatch import fnmatch
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, LlamaConfig, Qwen2Config, SiglipVisionConfig
from transformers.models.auto import modeling_auto

from parrot.model import ParrotConfig, ParrotForConditionalGeneration, ParrotModel
from tests.common import upstream

common = upstream.common()

# Every test that may be skipped and why. The first we skip, the others skip themselves.
SKIPPED = {
    "test_generation_tester_mixin_inheritance": "the mixin is not in the source package; "
    "tests/unit/model/test_generate*.py hold its checks",
    "test_eager_matches_batched_and_grouped_inference_*": "for mixtures of transformers' kind, which choose by token; "
    "tests/unit/model/test_experts.py holds all experts, and a choice of them, to the equations",
    "test_eager_matches_sdpa_inference_24_*": "the test finds output_attentions by an annotation of **kwargs; "
    "test_attention_outputs runs it",
    "test_can_load_with_*": "needs an accelerator",
    "test_cpu_offload": "needs an accelerator",
    "test_disk_offload_*": "needs an accelerator",
    "test_flex_attention_with_grads": "needs an accelerator",
    "test_model_parallelism": "needs several accelerators",
    "test_sdpa_can_compile_dynamic": "needs an accelerator",
    "test_sdpa_can_dispatch_on_flash": "needs an accelerator",
    "test_torch_compile_for_training": "slow, and needs an accelerator",
    "test_flash_attn_*": "needs flash-attn, its kernels or MPS",
    "test_kernels_can_load_without_crashing": "needs the kernels library",
    "test_*_with_deepspeed*": "needs deepspeed and a GPU",
    "test_encoder_decoder_loss_no_double_shift": "no encoder-decoder",
    "test_keep_in_fp32_modules*": "no module is kept in float32",
    "test_model_rope_with_partial_rotation": "the language model rotates whole heads",
    "test_moe_models_record_router_logits": "for mixtures of transformers' kind",
    "test_output_router_logits_from_config": "for mixtures of transformers' kind",
    "test_resize_position_vector_embeddings": "no supervised positions in the language model",
    "test_reverse_loading_mapping": "our own format needs no mapping; "
    "tests/unit/model/test_released_*.py hold the released",
    "test_sdpa_can_dispatch_non_composite_models": "for models of one part; the composite's test runs",
    "test_sliding_window_mask": "no sliding window in these configs",
    "test_vision_axial_rope": "no rotary positions in the encoder",
}

# The tests tell a class's task by its name in these tables.
modeling_auto.MODEL_MAPPING_NAMES["parrot"] = ParrotModel.__name__
modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES["parrot"] = ParrotForConditionalGeneration.__name__

VOCABULARY = 99
IMAGE_TOKEN = 5


def text_ids(shape: list[int], vocab_size: int, **_: Any) -> Tensor:
    return torch.randint(IMAGE_TOKEN + 1, vocab_size, shape)


common.ids_tensor = text_ids  # the mixin's own random ids hold image tokens without images


class ParrotTester:
    """What the tests ask of a model: a small config and a batch."""

    batch_size = 7
    hidden_size = 32
    num_hidden_layers = 2
    num_attention_heads = 4
    image_size = 8
    is_training = True

    def __init__(self, vision: type = CLIPVisionConfig, text: type = Qwen2Config, **over: Any) -> None:
        self.kinds = (vision, text)
        self.over = over
        self.vision_config = {
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": self.image_size,
            "patch_size": 4,
        }
        self.text_config = {
            "vocab_size": VOCABULARY,
            "hidden_size": self.hidden_size,
            "intermediate_size": 37,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "pad_token_id": 1,
        }
        self.seq_length = 7 + self.get_config().num_image_tokens

    def get_config(self) -> ParrotConfig:
        vision, text = self.kinds
        fields = {"image_token_id": IMAGE_TOKEN, "num_experts": 3, "expert_intermediate_size": 8} | self.over
        return ParrotConfig(vision_config=vision(**self.vision_config), text_config=text(**self.text_config), **fields)

    def prepare_config_and_inputs_for_common(self) -> tuple[ParrotConfig, dict[str, Tensor]]:
        config = self.get_config()
        ids = text_ids([self.batch_size, self.seq_length], VOCABULARY)
        ids[:, 2 : 2 + config.num_image_tokens] = IMAGE_TOKEN
        pixels = torch.rand(self.batch_size, 3, self.image_size, self.image_size)
        return config, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


class Common(common.ModelTesterMixin):
    all_model_classes = (ParrotModel, ParrotForConditionalGeneration)
    additional_model_inputs = ("pixel_values",)
    test_can_init_all_missing_weights_before_2023 = True
    test_all_params_have_gradient = False  # the encoder's layers above the selected one do not run
    _is_composite = True

    @unittest.skip(SKIPPED["test_generation_tester_mixin_inheritance"])
    def test_generation_tester_mixin_inheritance(self) -> None: ...


def test_the_table_names_tests() -> None:
    for pattern in SKIPPED:
        assert any(fnmatch(name, pattern) for name in dir(Common)), pattern


class TestParrot(Common, unittest.TestCase):
    """The released variant: CLIP, Qwen2, all gated experts."""

    def setUp(self) -> None:
        self.model_tester = ParrotTester()


class TestSiglipAndLlama(Common, unittest.TestCase):
    """Another encoder and language model, and the paper's variant with one expert an image."""

    def setUp(self) -> None:
        paper = {"residual": "paper", "expert_type": "two_layer", "moe_top_k": 1}
        self.model_tester = ParrotTester(SiglipVisionConfig, LlamaConfig, **paper)
