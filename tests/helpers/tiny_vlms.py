"""Random image-text-to-text models of transformers' own architectures, in folders like those of their releases."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessorPil,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)

VOCABULARY = 280  # 256 bytes, then special tokens
LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32}
TEXT = LAYERS | {"num_key_value_heads": 2, "vocab_size": VOCABULARY, "bos_token_id": 1, "pad_token_id": 257}
CLIP = LAYERS | {"model_type": "clip_vision_model", "image_size": 16, "patch_size": 8}
TEMPLATE = (
    "{% for message in messages %}USER: {% for part in message['content'] %}"
    "{{ '<image>\n' if part['type'] == 'image' else part['text'] }}{% endfor %}{% endfor %} ASSISTANT:"
)


def _tokenizer(*special: str) -> PreTrainedTokenizerFast:
    """One token a byte; `</s>` is 256 and `<pad>` 257."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: index for index, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["</s>", "<pad>", *special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", additional_special_tokens=list(special)
    )


def _write(folder: Path, model: Any, pixels: Any, tokenizer: Any, template: str | None, **settings: Any) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.normal_(std=0.3)
    # At a third of the vocabulary answers end: their lengths differ.
    model.generation_config.eos_token_id = list(range(1, 256, 4))
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    for part in (model, pixels, tokenizer):
        part.save_pretrained(folder)
    (folder / "processor_config.json").write_text(json.dumps(settings))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)


def qwen2_vl(folder: Path) -> None:
    marks = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = _tokenizer(*marks)
    start, end, image, video = tokenizer.convert_tokens_to_ids(list(marks))
    vision = {"depth": 2, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "patch_size": 4, "mlp_ratio": 2}
    rope = {"rope_type": "default", "type": "default", "mrope_section": [1, 1, 2]}
    config = Qwen2VLConfig(
        text_config=TEXT | {"rope_scaling": rope},
        vision_config=vision,
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    pixels = Qwen2VLImageProcessorPil(patch_size=4, size={"shortest_edge": 64, "longest_edge": 1024})
    template = TEMPLATE.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>")
    _write(folder, Qwen2VLForConditionalGeneration(config), pixels, tokenizer, template)


def llava(folder: Path) -> None:
    tokenizer = _tokenizer("<image>")
    text = TEXT | {"model_type": "llama"}
    image = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(vision_config=CLIP, text_config=text, image_token_id=image, image_seq_length=4)
    pixels = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    settings = {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    _write(folder, LlavaForConditionalGeneration(config), pixels, tokenizer, TEMPLATE, **settings)


def llava_onevision(folder: Path) -> None:
    tokenizer = _tokenizer("<image>", "<video>")
    image, video = tokenizer.convert_tokens_to_ids(["<image>", "<video>"])
    grid = [[16, 16], [16, 32], [32, 16]]
    config = LlavaOnevisionConfig(
        vision_config=CLIP | {"model_type": "siglip_vision_model"},
        text_config=TEXT | {"model_type": "qwen2"},
        image_token_id=image,
        video_token_id=video,
        image_grid_pinpoints=grid,
    )
    side = {"height": 16, "width": 16}
    pixels = LlavaOnevisionImageProcessorPil(size=side, image_grid_pinpoints=grid)
    settings = {"num_image_tokens": 4, "vision_feature_select_strategy": "full"}
    _write(folder, LlavaOnevisionForConditionalGeneration(config), pixels, tokenizer, TEMPLATE, **settings)


def idefics3(folder: Path) -> None:
    marks = ("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>")
    tokenizer = _tokenizer(*marks, *(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)))
    vision = LAYERS | {"image_size": 16, "patch_size": 4}
    config = Idefics3Config(
        vision_config=vision,
        text_config=TEXT | {"model_type": "llama"},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=257,
    )
    pixels = Idefics3ImageProcessorPil(size={"longest_edge": 32}, max_image_size={"longest_edge": 16})
    _write(folder, Idefics3ForConditionalGeneration(config), pixels, tokenizer, TEMPLATE, image_seq_len=4)


def _blip2(folder: Path, text: dict[str, Any], tokenizer: Any, fields: dict[str, Any], **settings: Any) -> None:
    qformer = LAYERS | {"encoder_hidden_size": 16, "vocab_size": 8}
    vision = LAYERS | {"image_size": 16, "patch_size": 8}
    config = Blip2Config(vision_config=vision, qformer_config=qformer, text_config=text, num_query_tokens=3, **fields)
    pixels = BlipImageProcessorPil(size={"height": 16, "width": 16})
    _write(folder, Blip2ForConditionalGeneration(config), pixels, tokenizer, None, **settings)


def blip2(folder: Path) -> None:
    """BLIP-2 with OPT, which reads the image before the prompt."""
    tokenizer = _tokenizer("<image>")
    sizes = {"ffn_dim": 32, "word_embed_proj_dim": 16, "max_position_embeddings": 256}
    text = TEXT | {"model_type": "opt"} | sizes
    image = tokenizer.convert_tokens_to_ids("<image>")
    _blip2(folder, text, tokenizer, {"image_token_index": image}, num_query_tokens=3)


def mblip(folder: Path) -> None:
    """As mBLIP was released: an encoder reads the prompt, and nothing says where the image's tokens go."""
    text = {"model_type": "mt5", "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    text |= {"vocab_size": VOCABULARY, "decoder_start_token_id": 257, "pad_token_id": 257}
    _blip2(folder, text, _tokenizer(), {})


ARCHITECTURES: dict[str, Callable[[Path], None]] = {
    function.__name__: function for function in (qwen2_vl, llava, llava_onevision, idefics3, blip2, mblip)
}
