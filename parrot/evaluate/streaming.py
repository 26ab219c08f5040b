"""An answer's text, handed out while it is generated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

UNFINISHED = "\ufffd"  # what decoding puts for bytes that make no character, such as the first half of one


class TextStream:
    """Pieces of text for `show`; put together they are the answer that `end` returns.

    Held back until more is known: a character of which not all bytes are there, and whitespace, which an answer's end
    loses.
    """

    def __init__(self, tokenizer: Any, show: Callable[[str], object]):
        self.tokenizer = tokenizer
        self.show = show
        self.shown = ""

    def grow(self, tokens: Sequence[int]) -> None:
        """Show what is certain of an answer that begins with `tokens`."""
        self._show(self._decode(tokens).rstrip(UNFINISHED).rstrip())

    def end(self, tokens: Sequence[int]) -> str:
        """Show the rest of the answer, which is `tokens`, and return it whole."""
        text = self._decode(tokens)
        self._show(text)
        return text

    def _decode(self, tokens: Sequence[int]) -> str:
        # All tokens every time: what a token stands for may depend on those before it.
        return self.tokenizer.decode(tokens, skip_special_tokens=True).strip()

    def _show(self, text: str) -> None:
        assert text.startswith(self.shown), "a longer answer begins as the shorter one does"
        if text != self.shown:
            self.show(text[len(self.shown) :])
            self.shown = text
