"""From images and text to what the model reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import (
    AddedToken,
    AutoConfig,
    AutoTokenizer,
    BatchFeature,
    PreTrainedTokenizerBase,
    ProcessorMixin,
    SiglipVisionConfig,
)

from parrot.config.catalog import Language
from parrot.constants import IGNORE_INDEX, IMAGE_TOKEN, PAPER_LANGUAGES
from parrot.model.chat_template import CHAT_FORMATS, ChatFormat, Turn, image_first
from parrot.model.configuration_parrot import ParrotConfig
from parrot.model.image_processing_parrot import ParrotImageProcessor

Row = tuple[Sequence[int] | np.ndarray, Sequence[int] | None]  # token ids, and labels where something is supervised


def processor_of(
    vision_tower: str | Path,
    language_model: str | Path,
    vision_feature_select: Literal["cls_patch", "patch"],
    **image_reading: Any,
) -> ParrotProcessor:
    """Make the processor of a model on these backbone folders, with fields of its image processor, without weights."""
    vision = AutoConfig.from_pretrained(vision_tower)
    vision = getattr(vision, "vision_config", vision)
    config = ParrotConfig(vision_config=vision, vision_feature_select=vision_feature_select, num_experts=0)
    return ParrotProcessor(
        image_processor_of(vision_tower, vision, **image_reading),
        AutoTokenizer.from_pretrained(language_model),
        config.num_image_tokens,
    )


def image_processor_of(vision_tower: str | Path, vision: Any, **image_reading: Any) -> ParrotImageProcessor:
    """Make the image processor of an encoder's folder, `vision` being the encoder's configuration."""
    # SigLIP's settings say nothing of a crop, since it has none; CLIP's default would cut its images.
    without_crop = {"do_center_crop": False} if isinstance(vision, SiglipVisionConfig) else {}
    return ParrotImageProcessor.from_pretrained(vision_tower, **without_crop, **image_reading)


class ParrotProcessor(ProcessorMixin):
    """Image processor and tokenizer of one model.

    In text an image is one `<image>`; here it becomes `num_image_tokens` image tokens. A tokenizer that lacks it, a
    turn's markers or padding, as Llama's, gets them. Batches are padded on the left, as generation needs.

    A conversation starts with what the tokenizer puts in front of a text, Llama's <s>; nothing else is put around it.

    Args:
        num_image_tokens: visual tokens per image, `ParrotConfig.num_image_tokens`.
        router_text: `ParrotConfig.router_text`; with `user` a batch comes with its `router_mask`.
        languages: `ParrotConfig.languages`.
        chat_format: the row of `parrot.model.chat_template.CHAT_FORMATS` that conversations are written by.
    """

    image_processor: ParrotImageProcessor
    tokenizer: PreTrainedTokenizerBase
    text_kwargs = {"add_special_tokens": False}

    def __init__(
        self,
        image_processor: ParrotImageProcessor,
        tokenizer: PreTrainedTokenizerBase,
        num_image_tokens: int = 577,
        router_text: Literal["prompt", "user"] = "prompt",
        languages: Sequence[Language] = PAPER_LANGUAGES,
        chat_template: str | None = None,
        chat_format: str = "qwen",
    ):
        if chat_format not in CHAT_FORMATS:
            raise ValueError(f"chat_format: expected {' or '.join(CHAT_FORMATS)}, found {chat_format!r}")
        self.chat_format = chat_format
        missing = [token for token in (*self.chat.markers, IMAGE_TOKEN) if token not in tokenizer.get_vocab()]
        tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in missing], True)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = self.chat.turn_end
        tokenizer.padding_side = "left"
        self.start = tokenizer.decode(tokenizer("")["input_ids"])
        self.num_image_tokens = num_image_tokens
        self.router_text = router_text
        self.languages = list(languages)
        self.image_token = IMAGE_TOKEN
        self.image_token_id = tokenizer.get_vocab()[IMAGE_TOKEN]
        super().__init__(image_processor, tokenizer, chat_template=chat_template or self.start + self.chat.jinja)

    @property
    def chat(self) -> ChatFormat:
        """The row of `CHAT_FORMATS` that conversations are written by."""
        return CHAT_FORMATS[self.chat_format]

    @property
    def turn_end_id(self) -> int:
        """The token that ends a prediction."""
        return self.tokenizer.convert_tokens_to_ids(self.chat.turn_end)

    def __call__(self, *args: Any, **kwargs: Any) -> BatchFeature:
        """Return the inputs of the model's `forward` and `generate`; see `ProcessorMixin.__call__`."""
        batch = super().__call__(*args, **kwargs)
        if self.router_text == "user":
            read = [self.router_reads(ids) for ids in batch["input_ids"]]
            batch["router_mask"] = torch.tensor(np.array(read)) if torch.is_tensor(batch["input_ids"]) else read
        return batch

    def language_ids(self, languages: Sequence[Language | None]) -> list[int] | None:
        """Return the places of languages among those that the router knows; None where it does not know one."""
        known = set(languages) <= set(self.languages)
        return [self.languages.index(language) for language in languages if language] if known else None

    def replace_image_token(self, image_inputs: dict[str, Any], image_idx: int, **kwargs: Any) -> str:
        """Return the image tokens of one image; see `ProcessorMixin`."""
        return IMAGE_TOKEN * self.num_image_tokens

    def format_prompt(self, query: str, preface: str = "") -> str:
        """Return the prompt of `query`, for `encode` or for this processor's `text`; see `ChatFormat.format_prompt`."""
        return self.start + self.chat.format_prompt(query, preface)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, each `<image>` as `num_image_tokens` image tokens; nothing is put around it."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [token for id_ in ids for token in self._expand(id_)]

    def _expand(self, token: int) -> list[int]:
        return [token] * (self.num_image_tokens if token == self.image_token_id else 1)

    def format_conversation(self, conversation: Sequence[Mapping[str, str]]) -> tuple[list[int], list[int]]:
        """Token ids and labels of a LLaVA-style training conversation.

        Supervised are the turns that the chat format says: in Qwen's an answer, its <|im_end|> and, before a further
        turn, the line feed after it. Every other label, and those of image tokens, is -100. An image is moved to the
        front of its turn.
        """
        return self.format_conversations([conversation])[0]

    def format_conversations(
        self, conversations: Iterable[Sequence[Mapping[str, str]]]
    ) -> list[tuple[list[int], list[int]]]:
        """`format_conversation` of each; many at once are tokenised on all cores."""
        moved = ([{**turn, "value": image_first(turn["value"])} for turn in said] for said in conversations)
        return self._encode([self.chat.turns(said) for said in moved])

    def encode_turns(self, conversation: Sequence[Mapping[str, str]]) -> tuple[list[int], list[int]]:
        """As `format_conversation`, with every image where it stands in its turn."""
        return self._encode([self.chat.turns(conversation)])[0]

    def _encode(self, conversations: list[list[Turn]]) -> list[tuple[list[int], list[int]]]:
        # A turn is tokenised as one text, since a header's line feed may merge with the body's first characters.
        said = (text for turn in chain(*conversations) for text in (turn.header, turn.header + turn.body))
        texts = list(dict.fromkeys([self.start, *said]))
        ids = dict(zip(texts, self.tokenizer(texts, add_special_tokens=False)["input_ids"], strict=True))
        return [self._join(conversation, ids) for conversation in conversations]

    def _join(self, conversation: list[Turn], ids: dict[str, list[int]]) -> tuple[list[int], list[int]]:
        input_ids = list(ids[self.start])
        supervised = [False] * len(input_ids)
        for turn in conversation:
            header, whole = ids[turn.header], ids[turn.header + turn.body]
            input_ids += whole
            supervised += [turn.supervised and place >= len(header) for place in range(len(whole))]
        tokens = np.array(input_ids)
        is_image = tokens == self.image_token_id
        labels = np.where(np.array(supervised) & ~is_image, tokens, IGNORE_INDEX)
        times = np.where(is_image, self.num_image_tokens, 1)
        return tokens.repeat(times).tolist(), labels.repeat(times).tolist()

    def router_inputs(
        self,
        rows: Sequence[Row],
        instead: Sequence[Row] | None,
        languages: Sequence[Language | None],
        side: Literal["left", "right"] = "right",
    ) -> dict[str, torch.Tensor]:
        """Resolve what the model's router reads: the one place that training, prediction and chat ask.

        Args:
            rows: token ids and labels (None: all is prompt) of the batch's rows, as they are padded on `side`.
            instead: the rows that the router of each of N images reads in its own row's stead; None: its own row.
            languages: of each image's row, (N,); None: unknown.

        Returns:
            `router_mask`, (B, T) bool; or with `instead` `router_input_ids` and `router_mask`, (N, R), one token for
            the model's blank image where N is 0. And `language_ids`, (N,), unless N is 0 or a language is none that
            the router knows.
        """
        batch: dict[str, torch.Tensor] = {}
        if instead is None:
            batch["router_mask"] = pad([self.router_reads(*row) for row in rows], False, side)
        else:
            texts = [np.asarray(ids)[self.router_reads(ids, labels)] for ids, labels in instead] or [np.zeros(1)]
            batch["router_input_ids"] = pad(texts, 0, side)
            batch["router_mask"] = pad([np.ones(len(text), bool) for text in texts], False, side)
        if places := self.language_ids(languages):
            batch["language_ids"] = torch.tensor(places)
        return batch

    def router_reads(self, input_ids: Sequence[int] | np.ndarray, labels: Sequence[int] | None = None) -> np.ndarray:
        """Which tokens of one sample the router reads, (T,) bool: no image tokens and nothing supervised.

        Where `router_text` is `user`, no system prompt and no role markers either.
        """
        ids = np.asarray(input_ids)
        read = ids != self.image_token_id
        if labels is not None:
            read &= np.asarray(labels) == IGNORE_INDEX
        if self.router_text == "user":
            read &= self._in_user_turn(ids.tolist())
        return read

    def _in_user_turn(self, ids: list[int]) -> list[bool]:
        """Tell whether each token stands between a user's role marker and the end of that turn."""
        header = self.tokenizer(self.chat.headers["human"], add_special_tokens=False)["input_ids"]
        header, end = header[:-1], self.turn_end_id  # its line feed may merge
        inside, read = False, []
        for place, token in enumerate(ids):
            if ids[max(0, place - len(header) - 1) : place - 1] == header:
                inside = True
            inside = inside and token != end
            read.append(inside)
        return read


def pad(rows: Sequence[Any], fill: int | bool, side: Literal["left", "right"]) -> torch.Tensor:
    """Rows of numbers as one tensor (B, T), int64 or bool as `fill` is, padded with it on `side`."""
    array = np.full((len(rows), max(map(len, rows))), fill, bool if isinstance(fill, bool) else np.int64)
    for index, row in enumerate(rows):
        place = slice(array.shape[1] - len(row), None) if side == "left" else slice(len(row))
        array[index, place] = row
    return torch.from_numpy(array)
