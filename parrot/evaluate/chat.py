"""Questions about one image: the model is loaded and the image encoded once, and every question is independent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from parrot.config.catalog import Language
from parrot.data.images import open_image
from parrot.errors import UserError
from parrot.evaluate.generate import TextStream
from parrot.evaluate.parrot_predictor import load_predictor
from parrot.evaluate.predictor import GenerationSettings, Item


@dataclass(frozen=True)
class Reply:
    """A prediction's text, why it ended, and the weights that the experts had (empty without experts)."""

    text: str
    stop_reason: str
    router_weights: list[float]


class Chat:
    """A trained model that looks at one image; `language` is that of the questions, where its router is told that.

    Raises:
        UserError: the image is missing or cannot be read, the folder is no model folder, or the model's router lacks
            what it goes by.
    """

    def __init__(self, model_folder: str | Path, image: str | Path, language: Language | None = None):
        opened = open_image(image, str(image))  # before the model is loaded
        self.predictor = load_predictor(model_folder)
        if self.predictor.router != "language" and language is not None:
            raise UserError(f"{model_folder}: --language: expected none, since its router does not read the language")
        if self.predictor.router == "language" and language is None:
            raise UserError(f"{model_folder}: its router reads the language; expected --language")
        if self.predictor.router == "language" and self.predictor.processor.language_ids([language]) is None:
            known = ", ".join(self.predictor.processor.languages)
            raise UserError(f"{model_folder}: --language: its router knows {known}; found {language}")
        self.language = language
        self.predictor.encode_images({"image": lambda: opened}, 1)

    def reply(self, query: str, max_new_tokens: int, show: Callable[[str], object] = lambda piece: None) -> Reply:
        """Reply to the user's turn `query`, whose `<image>` is the image; `show` gets the text as it is generated.

        Raises:
            UserError: the question is too long for the model.
        """
        stream = TextStream(self.predictor.processor.tokenizer, show)
        item = Item(query, ("image",), "question", GenerationSettings(max_new_tokens), self.language)
        (found,) = self.predictor.generate([item], watch=lambda generations: stream.grow(generations[0].tokens))
        return Reply(stream.end(found.tokens), found.stop_reason, found.router_weights)
