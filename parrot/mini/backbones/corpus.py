"""The language model's text: each language on its own, from its own seed, so that no sentence has a translation.

Questions are worded exactly as the benchmarks' ``text`` control words them, with the image replaced by the scene in
words, and none of them is reserved for the benchmarks.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tokenizers import pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import Qwen2Tokenizer

from parrot.config.catalog import Language
from parrot.constants import IMAGE_TOKEN, PAPER_LANGUAGES
from parrot.mini.compose.concepts import TRAIN_EMOJI_SETS
from parrot.mini.compose.material import Material
from parrot.mini.compose.questions import KINDS, Question, word
from parrot.mini.compose.training_questions import Drawer
from parrot.model.chat_template import QWEN

# By kind of text, for each language: category facts must be memorised, the rest is read off the prompt.
_SHARES = {
    **dict.fromkeys(KINDS, 1.0),
    "category": 1.5,
    "position": 2.0,
    "same_different": 2.0,
    "yes_no": 2.0,
    "caption": 0.6,
    "sentence": 0.4,
    "fact": 0.6,
}
# What is trained first: to find a name again. Everything else builds on that, and forms several times faster after it.
_COPYING = ("naming", "fine_naming", "caption")
_OPENING = 0.15


@dataclass(frozen=True)
class Line:
    """One text of the corpus; `prompt` is empty for plain text, which is supervised from its first token."""

    language: Language
    kind: str
    prompt: str
    answer: str


class Writer:
    """Writes random lines in any language, about the shipped concepts."""

    def __init__(self, material: Material, instruction: Mapping[Language, str]):
        self._material = material
        self._instruction = instruction
        self._drawer = Drawer(material, TRAIN_EMOJI_SETS)

    def corpus(self, total: int, seed: int) -> tuple[list[Line], list[Line]]:
        """About `total` lines, as many in each language: the opening, of copying alone, and then everything."""
        opening = self._lines(total * _OPENING, dict.fromkeys(_COPYING, 1.0), f"{seed} opening")
        return opening, self._lines(total * (1 - _OPENING), _SHARES, str(seed))

    def _lines(self, total: float, shares: Mapping[str, float], seed: str) -> list[Line]:
        unit = total / len(PAPER_LANGUAGES) / sum(shares.values())
        return [
            self.line(language, kind, rng)
            for language in PAPER_LANGUAGES
            for kind, share in shares.items()
            for rng in [random.Random(f"{seed} {language} {kind}")]
            for _ in range(round(unit * share))
        ]

    def line(self, language: Language, kind: str, rng: random.Random) -> Line:
        """Draw a line of `kind`: one of the question kinds, caption, sentence or fact."""
        if kind in KINDS:
            return self.ask(self._drawer.draw(kind, rng), language, rng.randrange(6))
        phrases = self._material.phrases
        if kind == "fact":
            return Line(language, kind, "", self._fact(language, rng))
        _, scene = self._drawer.scene(rng.choice(("naming", "counting", "position", "same_different")), rng)
        caption = rng.choice(phrases.captions(scene, language)) + QWEN.turn_end
        if kind == "sentence":
            return Line(language, kind, "", caption)
        return Line(
            language,
            kind,
            QWEN.format_prompt(f"{phrases.scene(scene, language)}\n{rng.choice(phrases.describe(language))}"),
            caption,
        )

    def ask(self, question: Question, language: Language, wording: int) -> Line:
        """Draw a question with the image's words in the image's place."""
        worded = word(question, language, self._material.phrases, wording)
        user = f"{worded.image_text}\n{worded.prompt(self._instruction[language])}"
        return Line(language, question.kind, QWEN.format_prompt(user), worded.answer + QWEN.turn_end)

    def _fact(self, language: Language, rng: random.Random) -> str:
        """Draw a category and some of its members, in a random order: "fruit: pear, lemon, banana"."""
        concepts, words = self._material.concepts, self._material.phrases.raw["scene"]
        category, members = rng.choice(sorted(self._material.categories.items()))
        names = [concepts.name(member, language) for member in rng.sample(members, min(4, len(members)))]
        heading = concepts.categories[category][language] + words["colour"][language]
        return heading + words["list"][language].join(names) + QWEN.turn_end


VOCABULARY = 4096
SPECIAL = ("<|endoftext|>", *QWEN.markers, IMAGE_TOKEN)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    f"{QWEN.headers['system']}{QWEN.system_prompt}{QWEN.turn_end}\n"
    "{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def train_tokenizer(lines: Iterable[str], size: int = VOCABULARY) -> Qwen2Tokenizer:
    """Train on `lines`; `size` counts the 256 bytes and the special tokens."""
    blank = Qwen2Tokenizer(vocab={}, merges=[])
    trainer = BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    blank.backend_tokenizer.train_from_iterator(lines, trainer)
    tokenizer = Qwen2Tokenizer(
        tokenizer_object=blank.backend_tokenizer,
        eos_token=QWEN.turn_end,
        pad_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>", IMAGE_TOKEN],
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
