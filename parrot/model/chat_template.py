r"""Chat formats, one row each: how conversations and questions are written as text.

`qwen`, whose last turn ends without the line feed that separates turns:

    <|im_start|>system\nYou are a helpful assistant.<|im_end|>\n
    <|im_start|>user\n<image>\n{question}<|im_end|>\n
    <|im_start|>assistant\n{answer}<|im_end|>
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from parrot.constants import IMAGE_TOKEN

ROLES = {"system": "system", "human": "user", "gpt": "assistant"}  # LLaVA's speakers in `apply_chat_template`'s words
# Messages carry a role and text or a list of typed parts, whose images come first. `headers`, `ends`, `separator` and
# `system` are the row's.
TEMPLATE = (
    "{%- if messages[0]['role'] != 'system' -%}{{ system }}{%- endif -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] not in headers -%}"
    "{{ raise_exception('a message is from ' ~ message['role'] ~ '; expected system, user or assistant') }}"
    "{%- endif -%}"
    "{{ headers[message['role']] }}"
    "{%- if message['content'] is string -%}"
    "{{ message['content'] }}"
    "{%- else -%}"
    "{%- for part in message['content'] if part['type'] not in ['image', 'text'] -%}"
    "{{ raise_exception('a message holds ' ~ part['type'] ~ '; expected image or text') }}"
    "{%- endfor -%}"
    "{%- for part in message['content'] if part['type'] == 'image' -%}{{ '<image>\\n' }}{%- endfor -%}"
    "{%- for part in message['content'] if part['type'] == 'text' -%}{{ part['text'] }}{%- endfor -%}"
    "{%- endif -%}"
    "{{ ends[message['role']] }}"
    "{%- if add_generation_prompt or not loop.last -%}{{ separator }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ headers['assistant'] }}{%- endif -%}"
)


class ChatFormat(NamedTuple):
    """One row: what stands around the turns of a conversation.

    Attributes:
        system_prompt: the system's turn of a conversation that brings none.
        headers: what precedes a turn's text, by its speaker: system, human or gpt.
        ends: what follows a turn's text, by its speaker.
        separator: what stands between two turns.
        markers: tokens that a tokenizer has to hold as one each.
        supervised: speakers whose text is supervised, with its end and the separator behind it.
        families: beginnings of the `model_type` of language models whose own format it is.
    """

    system_prompt: str
    headers: Mapping[str, str]
    ends: Mapping[str, str]
    separator: str
    markers: tuple[str, ...]
    supervised: frozenset[str]
    families: tuple[str, ...]

    @property
    def turn_end(self) -> str:
        """The token that ends a prediction."""
        return self.ends["gpt"]

    def turns(self, conversation: Sequence[Mapping[str, str]]) -> list[Turn]:
        """Split a LLaVA-style conversation ({"from": system|human|gpt, "value": text}) into turns.

        The default system turn is put in front where there is none.

        Raises:
            ValueError: the conversation is empty, or a turn is by someone else.
        """
        if not conversation:
            raise ValueError("a conversation needs at least one turn")
        unknown = [message["from"] for message in conversation if message["from"] not in self.headers]
        if unknown:
            raise ValueError(f"a turn is from {unknown[0]!r}; expected system, human or gpt")
        if conversation[0]["from"] != "system":
            conversation = [{"from": "system", "value": self.system_prompt}, *conversation]
        last = len(conversation) - 1
        return [
            Turn(
                self.headers[message["from"]],
                message["value"] + self.ends[message["from"]] + ("" if index == last else self.separator),
                message["from"] in self.supervised,
            )
            for index, message in enumerate(conversation)
        ]

    def format_prompt(self, query: str, preface: str = "") -> str:
        """Write the prompt of `query`, ending where the prediction begins, or where it goes on after `preface`."""
        written = "".join(turn.header + turn.body for turn in self.turns([{"from": "human", "value": query}]))
        return f"{written}{self.separator}{self.headers['gpt']}{preface}"

    @property
    def jinja(self) -> str:
        """The same format for `apply_chat_template`."""
        values = {
            "headers": {role: self.headers[speaker] for speaker, role in ROLES.items()},
            "ends": {role: self.ends[speaker] for speaker, role in ROLES.items()},
            "separator": self.separator,
            "system": self.headers["system"] + self.system_prompt + self.ends["system"] + self.separator,
        }
        return "".join(f"{{%- set {name} = {json.dumps(value)} -%}}" for name, value in values.items()) + TEMPLATE


class Turn(NamedTuple):
    """One turn as text: its role marker, then its text and the end marker."""

    header: str
    body: str
    supervised: bool


QWEN = ChatFormat(
    system_prompt="You are a helpful assistant.",
    headers={
        "system": "<|im_start|>system\n",
        "human": "<|im_start|>user\n",
        "gpt": "<|im_start|>assistant\n",
    },
    ends=dict.fromkeys(ROLES, "<|im_end|>"),
    separator="\n",
    markers=("<|im_start|>", "<|im_end|>"),
    supervised=frozenset({"gpt"}),
    families=("qwen",),
)
CHAT_FORMATS: Mapping[str, ChatFormat] = {"qwen": QWEN}


def image_first(value: str) -> str:
    """Move the image to the front of its turn: every `<image>` is taken out and one put on a line before the text."""
    return f"{IMAGE_TOKEN}\n{value.replace(IMAGE_TOKEN, '').strip()}".strip() if IMAGE_TOKEN in value else value
