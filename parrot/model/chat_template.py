"""Qwen's chat format: conversations and questions as text.

    <|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n
    <|im_start|>user\\n<image>\\n{question}<|im_end|>\\n
    <|im_start|>assistant\\n{answer}<|im_end|>

Turns are separated by a line feed; the last one ends without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from parrot.constants import IMAGE

SYSTEM_PROMPT = "You are a helpful assistant."
TURN_END = "<|im_end|>"
SPECIAL_TOKENS = ("<|im_start|>", TURN_END, IMAGE)
HEADERS = {
    "system": "<|im_start|>system\n",
    "human": "<|im_start|>user\n",
    "gpt": "<|im_start|>assistant\n",
}
# The same format for `apply_chat_template`, where messages carry a role and text or a list of typed parts.
CHAT_TEMPLATE = (
    "{%- if messages[0]['role'] != 'system' -%}"
    "{{ '<|im_start|>system\\n" + SYSTEM_PROMPT + "<|im_end|>\\n' }}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{%- if message['content'] is string -%}"
    "{{ message['content'] }}"
    "{%- else -%}"
    "{%- for part in message['content'] if part['type'] not in ['image', 'text'] -%}"
    "{{ raise_exception('a message holds ' ~ part['type'] ~ '; expected image or text') }}"
    "{%- endfor -%}"
    "{%- for part in message['content'] if part['type'] == 'image' -%}{{ '<image>\\n' }}{%- endfor -%}"
    "{%- for part in message['content'] if part['type'] == 'text' -%}{{ part['text'] }}{%- endfor -%}"
    "{%- endif -%}"
    "{{ '<|im_end|>' }}"
    "{%- if add_generation_prompt or not loop.last -%}{{ '\\n' }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)


class Turn(NamedTuple):
    """One turn as text: its role marker, then what is said and the end marker."""

    header: str
    body: str
    learnt: bool


def turns(conversation: Sequence[Mapping[str, str]]) -> list[Turn]:
    """Split a LLaVA-style conversation ({"from": system|human|gpt, "value": text}) into turns.

    The default system turn is put in front where there is none; answers (gpt) are learnt.

    Raises:
        ValueError: the conversation is empty, or a turn is by someone else.
    """
    if not conversation:
        raise ValueError("a conversation needs at least one turn")
    unknown = [message["from"] for message in conversation if message["from"] not in HEADERS]
    if unknown:
        raise ValueError(f"a turn is from {unknown[0]!r}; expected system, human or gpt")
    if conversation[0]["from"] != "system":
        conversation = [{"from": "system", "value": SYSTEM_PROMPT}, *conversation]
    last = len(conversation) - 1
    return [
        Turn(
            HEADERS[message["from"]],
            message["value"] + TURN_END + ("" if index == last else "\n"),
            message["from"] == "gpt",
        )
        for index, message in enumerate(conversation)
    ]


def image_first(value: str) -> str:
    """Move the picture to the front of its turn: every `<image>` is taken out and one put on a line before the text."""
    return f"{IMAGE}\n{value.replace(IMAGE, '').strip()}".strip() if IMAGE in value else value


def format_prompt(query: str, preface: str = "") -> str:
    """The text that asks `query`, ending where the answer begins, or where it goes on after `preface`."""
    asked = "".join(turn.header + turn.body for turn in turns([{"from": "human", "value": query}]))
    return f"{asked}\n{HEADERS['gpt']}{preface}"
