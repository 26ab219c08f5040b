"""Parrot as a model of VLMEvalKit, with the prompts and answers of its own wrapper for the released checkpoints.

VLMEvalKit asks a model by name and never by class, so this one derives from none of its classes: it has the methods
that its inference calls, and VLMEvalKit is needed only to say of which type a data set is.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch

from parrot.config.catalog import Language
from parrot.constants import IMAGE_TOKEN, LANGUAGES
from parrot.data.images import open_image
from parrot.data.tsv import LETTERS
from parrot.errors import UserError
from parrot.evaluate.kinds.yes_no import build_yes_no_prompt
from parrot.evaluate.parrot_predictor import load_predictor
from parrot.evaluate.postprocess import wrapper_answer
from parrot.evaluate.predictor import GenerationSettings, Item, encode_unnamed, generate_texts, with_images
from parrot.evaluate.prompts import LETTER_INSTRUCTION, build_prompt

Message = Sequence[Mapping[str, str]]


class Parrot:
    """A trained run's model folder, or a released checkpoint's.

    Args:
        model_path: the folder.
        dtype: of the weights; the wrapper of the released checkpoints asks them in float32 too.
        instruction: closing sentences of multiple-choice prompts by language, in place of the wrapper's, which ask for
            the letter; models that were taught to answer with the option's text need their own.
        max_new_tokens: the longest answer.
    """

    INTERLEAVE = False

    def __init__(
        self,
        model_path: str | Path,
        dtype: str = "float32",
        instruction: Mapping[Language, str] = LETTER_INSTRUCTION,
        max_new_tokens: int = 512,
    ):
        self.predictor = load_predictor(model_path, getattr(torch, dtype))
        self.where = str(model_path)
        self.instruction = instruction
        self.max_new_tokens = max_new_tokens

    def set_dump_image(self, dump_image_func: Callable[[pd.Series], Sequence[str]]) -> None:
        """Take the data set's way to write a row's images to files."""
        self.dump_image = dump_image_func

    def use_custom_prompt(self, dataset: str) -> bool:
        """Tell whether `build_prompt` words the data set's questions: yes/no and multiple choice."""
        return _type(dataset) in ("Y/N", "MCQ")

    def build_prompt(self, line: pd.Series, dataset: str) -> list[dict[str, str]]:
        """Return the message of a data set's row: its text, then its images' files."""
        if _type(dataset) == "Y/N":
            prompt = build_yes_no_prompt(str(line["question"]))
        else:
            language = self._language(dataset)
            prompt = build_prompt(_texts(line), self.instruction, language or "en", "dataset" if language else "group")
        images = [{"type": "image", "value": str(path)} for path in self.dump_image(line)]
        return [{"type": "text", "value": prompt}, *images]

    def generate(self, message: str | Message, dataset: str | None = None) -> str:
        """Generate for a message, or for a text without images, as VLMEvalKit does for each row."""
        return self.generate_inner(
            [{"type": "text", "value": message}] if isinstance(message, str) else message, dataset
        )

    def generate_inner(self, message: Message, dataset: str | None = None) -> str:
        """Generate for a message, shortened as the wrapper shortens it.

        Raises:
            UserError: an unreadable image.
        """
        query, paths = prepare_inputs(message)
        (images,) = encode_unnamed(self.predictor, [[open_image(path, path) for path in paths]])
        language = self._language(dataset or "")
        item = Item(query, images, self.where, GenerationSettings(self.max_new_tokens), language)
        (prediction,) = generate_texts(self.predictor, [item])
        return wrapper_answer(prediction.strip(string.whitespace), query)

    def _language(self, dataset: str) -> Language | None:
        """Return the language at the end of a data set's name, in lower case: MMMB_cn, but not MMBench_DEV_CN."""
        ends = {language: f"_{LANGUAGES[language].file_suffix}" for language in self.instruction}
        return next((language for language, end in ends.items() if dataset.endswith(end)), None)


def prepare_inputs(message: Message) -> tuple[str, list[str]]:
    """Return the user's turn of a message, and its images' files.

    One text with one image has it in front, on a line of its own; otherwise images stay where they are.
    """
    kinds = [part["type"] for part in message]
    if set(kinds) - {"text", "image"}:
        raise UserError(f"message: expected parts of type text or image, found {', '.join(sorted(set(kinds)))}")
    paths = [part["value"] for part in message if part["type"] == "image"]
    if sorted(kinds) == ["image", "text"]:
        (text,) = (part["value"] for part in message if part["type"] == "text")
        return with_images(text, 1), paths
    return "".join(IMAGE_TOKEN if part["type"] == "image" else part["value"] for part in message), paths


def _type(dataset: str) -> str:
    from vlmeval.dataset import DATASET_TYPE

    return DATASET_TYPE(dataset)


def _texts(line: pd.Series) -> dict[str, str]:
    """Question, hint and options of a row, without those that are missing values."""
    names = [name for name in ("question", "hint", *LETTERS) if name in line]
    return {name: str(line[name]) for name in names if not pd.isna(line[name])}
