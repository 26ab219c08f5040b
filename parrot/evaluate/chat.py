"""`parrot chat`: one question about one picture file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from parrot.config import ConfigError
from parrot.evaluate.generate import use_accelerator
from parrot.evaluate.predict import answer_questions
from parrot.evaluate.questions import IMAGE, Question
from parrot.evaluate.tsv import LETTERS, open_picture
from parrot.model.build import load


def answer(
    model_folder: str | Path,
    picture: str | Path,
    question: str,
    options: Sequence[str] | None = None,
    max_new_tokens: int = 64,
) -> str:
    """What a trained run says to `question` about the picture file.

    `options`, where given, are listed below the question as a benchmark lists them (A. first, B. second, ...).
    ConfigError when the folder is no model folder, or the picture is missing or cannot be read.
    """
    open_picture(picture, str(picture))  # before the model is loaded
    if IMAGE in question:
        raise ConfigError(f"question: expected no {IMAGE} in the text; it stands for the picture")
    lines = [question, *(f"{letter}. {option}" for letter, option in zip(LETTERS, options or (), strict=False))]
    model, processor = load(model_folder)
    content = base64.b64encode(Path(picture).read_bytes()).decode()
    asked = Question("\n".join([IMAGE, *lines]), content, str(picture), max_new_tokens, "en")
    (said,) = answer_questions(use_accelerator(model), processor, [asked], batch=1)
    return processor.tokenizer.batch_decode([said.tokens], skip_special_tokens=True)[0].strip()
