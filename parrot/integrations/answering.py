"""Questions about any number of pictures, by transformers' own `generate`: what other suites' wrappers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from parrot.config.catalog import Language
from parrot.constants import IMAGE
from parrot.errors import ConfigError
from parrot.model.checkpoint import load_parrot

# Greedy whatever the folder's generation settings say: the released ones ask for sampling and a repetition penalty.
GREEDY: Mapping[str, Any] = {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0}


class Answerer:
    """A trained run's model folder, or a released checkpoint's.

    Raises:
        ConfigError: it is no model folder, or its router reads other questions, which a suite does not pass on.
    """

    def __init__(self, folder: str | Path, dtype: str = "float32", device: str | torch.device | None = None):
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        model, self.processor = load_parrot(folder, getattr(torch, dtype))
        router = model.config.router if model.config.num_experts else None
        if router == "shuffled_text":
            raise ConfigError(f"{folder}: its router reads other questions (shuffled_text), which are not passed on")
        self.folder = folder
        self.told_language = router == "language"
        self.model = model.to(torch.device(device))

    def answer(
        self,
        queries: Sequence[str],
        pictures: Sequence[Sequence[Image.Image]],
        language: Language | None = None,
        **generation: Any,
    ) -> list[str]:
        """What the model says to each query, whose `<image>`s are its pictures in their order.

        `generation` are arguments of `generate`, greedy decoding where they say nothing else. `language` is that of
        all queries, for a router that is told it; ConfigError where it is missing then.
        """
        shown = [picture for some in pictures for picture in some]
        inputs = self.processor(
            text=[self.processor.format_prompt(query) for query in queries],
            images=shown or None,
            return_tensors="pt",
            padding=True,
        ).to(self.model.device)
        if self.told_language and shown:
            if language is None:
                raise ConfigError(f"{self.folder}: its router is told the language, which is not known here")
            places = self.processor.language_ids([language])
            if places is None:
                raise ConfigError(
                    f"{self.folder}: its router knows {', '.join(self.processor.languages)}; found {language}"
                )
            inputs["language_ids"] = torch.tensor(places * len(shown), device=self.model.device)
        output = self.model.generate(**inputs, **{**GREEDY, **generation})
        answers = output[:, inputs["input_ids"].shape[1] :]
        return self.processor.tokenizer.batch_decode(answers, skip_special_tokens=True)


def with_pictures(text: str, pictures: int) -> str:
    """`text` behind its pictures' placeholders: a single one on a line of its own, several without any break."""
    return f"{IMAGE}\n{text}" if pictures == 1 else IMAGE * pictures + text
