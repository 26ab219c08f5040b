"""Exports as the libraries of the released code read them: transformers 4.39.0 and tokenizers 0.15.2, in a venv."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from parrot.model import ParrotProcessor
from parrot.model.convert.convert import export_released, import_released
from tests.helpers.released_folders import read, released_copy
from tests.helpers.tiny_model import tiny_model, tiny_processor

pytestmark = pytest.mark.slow

PACKAGES = ("transformers==4.39.0", "tokenizers==0.15.2", "numpy==1.26.4", f"pillow=={version('pillow')}")
SCRIPT = Path(__file__).parents[2] / "helpers/released_era.py"


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The interpreter of a venv with the released code's libraries."""
    folder = tmp_path_factory.mktemp("era")
    venv.create(folder, with_pip=False)
    interpreter = folder / "bin" / "python"
    quiet = ["--quiet", "--disable-pip-version-check", "--no-compile", "--only-binary", ":all:"]
    pip = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", *quiet, *PACKAGES]
    installed = subprocess.run(pip, capture_output=True, text=True)
    if installed.returncode:
        pytest.fail(f"the package index did not give {', '.join(PACKAGES)}: {installed.stderr.strip()[-500:]}")
    return interpreter


def ask(python: Path, export: Path, texts: list[str], images: list[Path]) -> dict[str, Any]:
    tower = export / read(export / "config.json")["mm_vision_tower"]
    asked = json.dumps({"texts": texts, "images": [str(path) for path in images]})
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    said = subprocess.run(
        [python, SCRIPT, export, tower], input=asked, env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    assert said.returncode == 0, said.stderr
    answer = json.loads(said.stdout)
    assert answer["versions"] == ["4.39.0", "0.15.2"]
    return answer


def test_the_golden_checkpoint_after_import_and_export(python, golden, tmp_path):
    import_released(released_copy(golden, tmp_path), tmp_path / "model")
    export_released(tmp_path / "model", tmp_path / "export")
    cases = json.loads((golden / "model" / "tokenizer_cases.json").read_text())
    images = sorted((golden / "model" / "images").glob("*.png"))
    assert cases
    assert images
    answer = ask(python, tmp_path / "export", [case["text"] for case in cases], images)
    for way, ids in answer["ids"].items():
        assert ids == [case["ids"] for case in cases], way
    assert answer["decoded"] == [case["decoded_skip_special"] for case in cases]
    special = read(golden / "model" / "checkpoint" / "added_tokens.json")
    assert answer["tokens"][2:] == [special["<|im_end|>"], special["<|endoftext|>"]]
    assert not answer["image"]
    ours = ParrotProcessor.from_pretrained(tmp_path / "model").image_processor
    for path, pixels in zip(images, answer["pixels"], strict=True):
        expected = ours(Image.open(path), image_aspect_ratio="crop", return_tensors="np")["pixel_values"][0]
        np.testing.assert_allclose(np.array(pixels), expected, rtol=0, atol=1e-6)


def test_a_model_trained_here(python, tmp_path):
    processor = tiny_processor()
    model = tiny_model()
    model.config.image_token_id = processor.image_token_id
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    export_released(tmp_path / "model", tmp_path / "export")
    texts = ["Hello, world!", "<|im_start|>user\nQuantos gatos há?<|im_end|>\n", "图中有什么？ ماذا", "I'll  go\n\n "]
    answer = ask(python, tmp_path / "export", texts, [])
    for way, ids in answer["ids"].items():
        assert ids == [processor.encode(text) for text in texts], way
    assert answer["tokens"][:2] == ["Qwen2TokenizerFast", len(processor.tokenizer) - 1]
    assert not answer["image"]
