"""From pictures and text to what the model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import AddedToken, PreTrainedTokenizerBase, ProcessorMixin

from parrot.model.conversation import CHAT_TEMPLATE, IMAGE, format_prompt, image_first, turns
from parrot.model.image_processing import ParrotImageProcessor

IGNORE_INDEX = -100


class ParrotProcessor(ProcessorMixin):
    """Image processor and tokenizer of one model.

    In text a picture is one `<image>`; here it becomes `num_image_tokens` image tokens. The tokenizer gets the token
    where it has none. Batches are padded on the left, as generation needs.

    Args:
        num_image_tokens: visual tokens a picture, `ParrotConfig.num_image_tokens`.
    """

    image_processor: ParrotImageProcessor
    tokenizer: PreTrainedTokenizerBase

    def __init__(
        self,
        image_processor: ParrotImageProcessor,
        tokenizer: PreTrainedTokenizerBase,
        num_image_tokens: int = 577,
        chat_template: str | None = None,
    ):
        if IMAGE not in tokenizer.get_vocab():
            tokenizer.add_tokens([AddedToken(IMAGE, special=True, normalized=False)], special_tokens=True)
        tokenizer.padding_side = "left"
        self.num_image_tokens = num_image_tokens
        self.image_token = IMAGE
        self.image_token_id = tokenizer.get_vocab()[IMAGE]
        super().__init__(image_processor, tokenizer, chat_template=chat_template or CHAT_TEMPLATE)

    def replace_image_token(self, image_inputs: dict[str, Any], image_idx: int, **kwargs: Any) -> str:
        return IMAGE * self.num_image_tokens

    def format_prompt(self, query: str, preface: str = "") -> str:
        """The text that asks `query`, for `encode` or for this processor's `text`; see `conversation.format_prompt`."""
        return format_prompt(query, preface)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, each `<image>` as `num_image_tokens` image tokens; nothing is put around it."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [token for id_ in ids for token in self._expand(id_)]

    def _expand(self, token: int) -> list[int]:
        return [token] * (self.num_image_tokens if token == self.image_token_id else 1)

    def format_conversation(self, conversation: Sequence[Mapping[str, str]]) -> tuple[list[int], list[int]]:
        """Token ids and labels of a LLaVA-style training conversation.

        Learnt are an answer, its <|im_end|> and, before a further turn, the line feed after it; every other label,
        and those of image tokens, is -100. A picture is moved to the front of its turn.
        """
        input_ids: list[int] = []
        labels: list[int] = []
        placed = [{**message, "value": image_first(message["value"])} for message in conversation]
        for header, body, learnt in turns(placed):
            # Tokenised as one text, since a header's line feed may merge with the body's first characters.
            ids = self.encode(header + body)
            learnt_from = len(self.encode(header)) if learnt else len(ids)
            input_ids += ids
            labels += [
                token if place >= learnt_from and token != self.image_token_id else IGNORE_INDEX
                for place, token in enumerate(ids)
            ]
        return input_ids, labels
