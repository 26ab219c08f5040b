"""Any image-text-to-text model of transformers, with its own processor and chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoTokenizer, Blip2Config, GenerationConfig
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from parrot.constants import IMAGE_TOKEN
from parrot.errors import UserError
from parrot.model.folder import check_folder, read_config
from parrot.model.weights import pretrained

TOKEN_IDS = ("bos_token_id", "eos_token_id", "decoder_start_token_id")


class ChatTemplateProcessor:
    """A model's own processor, which words a user's turn by the model's chat template, if it has one."""

    def __init__(self, processor: Any):
        self.processor = processor
        self.tokenizer = processor.tokenizer

    def format_prompt(self, query: str) -> str:
        """Return the processor's text for `query`, each image at its `<image>`.

        A line feed behind the first `<image>`, with which our prompts begin, is left to the template.
        """
        text = query.removeprefix(f"{IMAGE_TOKEN}\n")
        if self.processor.chat_template is None:
            return text
        content = [{"type": "image"}] if text != query else []
        for place, part in enumerate(text.split(IMAGE_TOKEN)):
            content += [{"type": "image"}] if place else []
            content += [{"type": "text", "text": part}] if part else []
        return self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)


def load_vlm(folder: str | Path, dtype: torch.dtype = torch.float32) -> tuple[Any, ChatTemplateProcessor]:
    """Load the model of a folder in transformers' format, in evaluation mode, and its processor; no code of it runs.

    The model generates greedily: sampling and penalties that its generation_config.json suggests are left out.

    Raises:
        UserError: the folder lacks something, or is of no image-text-to-text model that transformers knows.
    """
    loaded = load_vlm_processor(folder)
    config, processor = read_config(Path(folder)), loaded.processor
    model = pretrained(AutoModelForImageTextToText, folder, dtype).eval()
    if isinstance(config, Blip2Config):
        _show_blip2_the_image(model, processor, folder)
    tokenizer, text = processor.tokenizer, config.get_text_config()
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    # An encoder counts positions from the prompt's start, and what follows its end changes nothing.
    tokenizer.padding_side = "right" if text.is_encoder_decoder else "left"
    ids = {name: getattr(model.generation_config, name) or getattr(text, name, None) for name in TOKEN_IDS}
    ids["eos_token_id"] = ids["eos_token_id"] or tokenizer.eos_token_id
    model.generation_config = GenerationConfig(do_sample=False, pad_token_id=tokenizer.pad_token_id, **ids)
    return model, loaded


def load_vlm_processor(folder: str | Path) -> ChatTemplateProcessor:
    """Load the processor of a folder in transformers' format, which is checked.

    Raises:
        UserError: as `load_vlm`.
    """
    check_folder(folder, "image-text-to-text model")
    try:
        return ChatTemplateProcessor(_processor(folder, PROCESSOR_MAPPING[type(read_config(Path(folder)))]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder}: no readable processor: {error}") from None


def _processor(folder: str | Path, kind: Any) -> Any:
    """Load the processor of class `kind` for images and text: video parts need torchvision, and no item has a video."""

    class ImagesOnly(kind):
        @classmethod
        def get_attributes(cls) -> list[str]:
            return [part for part in super().get_attributes() if part != "video_processor"]

    parts = [AutoImageProcessor.from_pretrained(folder, backend="pil"), AutoTokenizer.from_pretrained(folder)]
    settings, _ = ImagesOnly.get_processor_dict(folder)
    return ImagesOnly.from_args_and_dict(parts, settings)


def _show_blip2_the_image(model: Any, processor: Any, folder: str | Path) -> None:
    """Complete a checkpoint from when an image's tokens went unsaid before every prompt, as mBLIP's."""
    token = processor.tokenizer.convert_tokens_to_ids(str(processor.image_token))
    if model.config.image_token_index is None:
        model.config.image_token_index = token
    rows = len(model.get_input_embeddings().weight)
    if token != model.config.image_token_index or token >= rows:
        raise UserError(
            f"{folder}: tokenizer: expected {processor.image_token} to be token {model.config.image_token_index} of "
            f"{rows}, found {token}"
        )
    processor.num_query_tokens = model.config.num_query_tokens
