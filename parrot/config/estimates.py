"""What a catalogue may say of a thing that is not on this machine, so that it can be planned for before it is fetched.

None of it is read by a stage, so that better figures make no result out of date.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from parrot.config.base import Several, Strict

Size = Annotated[int, Field(gt=0, le=1 << 24)]


class VisionShape(Strict):
    """Sizes of a CLIP vision encoder, by the names of its config.json."""

    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Size
    num_attention_heads: Size
    image_size: Size
    patch_size: Size


class TextShape(Strict):
    """Sizes of a Qwen2-like language model, by the names of its config.json."""

    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Size
    num_attention_heads: Size
    num_key_value_heads: Size
    vocab_size: Size
    tie_word_embeddings: bool = False


class SampleEstimate(Strict):
    """So many samples of about the same lengths, in tokens of the language model."""

    samples: int = Field(gt=0)
    text: int = Field(gt=0, description="text tokens, system prompt and role markers included, visual tokens not")
    supervised: int = Field(gt=0, description="those of the answers")
    pictures: Literal[0, 1] = 1


class ConversationEstimate(Strict):
    """A conversation set that is not tokenised yet."""

    groups: Several[SampleEstimate] = Field(min_length=1)
    gigabytes: float = Field(0, ge=0, description="pictures on disk that no other set counts")
    source: str = Field(description="where the figures come from")


class BenchmarkEstimate(Strict):
    """A benchmark that is not fetched yet."""

    rows: int = Field(gt=0, description="of one language")
    pictures: int = Field(gt=0, description="distinct ones; languages and rotations share them")
    text: int = Field(gt=0, description="text tokens of a prompt, visual tokens not")
    answer: int = Field(gt=0, description="tokens of an answer, its end included")
    source: str = Field(description="where the figures come from")
