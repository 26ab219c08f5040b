"""Questions about one picture: the model is loaded and the picture encoded once, and every question stands alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from parrot.config.catalog import Language
from parrot.data.images import open_image
from parrot.errors import ConfigError
from parrot.evaluate.generate import check_length, generate, use_accelerator
from parrot.evaluate.streaming import TextStream
from parrot.model.checkpoint import load_parrot


@dataclass(frozen=True)
class Reply:
    """What was said, why it ended, and the weights that the experts had (empty without experts)."""

    text: str
    stop_reason: str
    router_weights: list[float]


class Chat:
    """A trained model that looks at one picture; `language` is that of the questions, where its router is told that.

    Raises:
        ConfigError: the picture is missing or cannot be read, the folder is no model folder, or the model's router
            lacks what it goes by.
    """

    def __init__(self, model_folder: str | Path, picture: str | Path, language: Language | None = None):
        opened = open_image(picture, str(picture))  # before the model is loaded
        model, self.processor = load_parrot(model_folder)
        if model.config.num_experts and model.config.router == "shuffled_text":
            raise ConfigError(f"{model_folder}: its router reads other questions (shuffled_text); here is none")
        if model.config.num_experts and model.config.router == "language" and language is None:
            raise ConfigError(f"{model_folder}: its router is told the language; expected --language")
        self.languages = None if language is None else self.processor.language_ids([language])
        if model.config.num_experts and model.config.router == "language" and self.languages is None:
            known = ", ".join(model.config.languages)
            raise ConfigError(f"{model_folder}: --language: its router knows {known}; found {language}")
        self.model = use_accelerator(model)
        pixels = self.processor.image_processor(images=[opened], return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            self.features = self.model.encode_images(pixels.to(self.model.device))

    def ask(self, query: str, max_new_tokens: int, show: Callable[[str], object] = lambda piece: None) -> Reply:
        """Answer the user's turn `query`, whose `<image>` is the picture; `show` gets the text as it is generated.

        ConfigError for a question that is too long for the model.
        """
        stream = TextStream(self.processor.tokenizer, show)
        prompt = np.array(self.processor.encode(self.processor.format_prompt(query)), dtype=np.int32)
        check_length(self.model, prompt, "question")
        whole = self.processor.router_text == "prompt"
        (answer,) = generate(
            self.model,
            [prompt],
            self.features,
            max_new_tokens,
            router_texts=None if whole else [prompt[self.processor.router_reads(prompt.tolist())]],
            languages=self.languages,
            watch=lambda answers: stream.grow(answers[0].tokens),
        )
        return Reply(stream.end(answer.tokens), answer.stop_reason, answer.router_weights)
