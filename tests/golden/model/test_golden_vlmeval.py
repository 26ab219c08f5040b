"""The wrapper for VLMEvalKit gives the released implementation's answers, from a released checkpoint's folder."""

from __future__ import annotations

import string
from pathlib import Path

from parrot.integrations.vlmeval import Parrot
from tests.golden.model.reference import read_json


def test_answers(folder: Path, checkpoint) -> None:
    questions = read_json(folder / "generation.json")
    wrapper = Parrot(checkpoint("main"), max_new_tokens=max(len(asked["output_ids"]) for asked in questions))
    for asked in questions:
        message = [{"type": "text", "value": asked["query"].removeprefix("<image>\n")}]
        if asked["image"]:
            message.append({"type": "image", "value": str(folder / "images" / asked["image"])})
        assert wrapper.generate(message, "MMMB_en") == asked["text"].strip(string.whitespace)
