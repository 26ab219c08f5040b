"""How each backbone is made: its sizes, seeds and steps, and what is measured on the validation emoji set."""

from __future__ import annotations

import logging
import random
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import CLIPImageProcessorPil
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from parrot.config.benchmarks import Benchmark
from parrot.config.catalog import Language, load_catalogue
from parrot.constants import PAPER_LANGUAGES
from parrot.io.digests import file_sha256
from parrot.io.files import new_folder, write_json
from parrot.mini import RESOURCES
from parrot.mini.backbones import contrastive, corpus, language
from parrot.mini.backbones.corpus import train_tokenizer
from parrot.mini.backbones.images import Sampler
from parrot.mini.compose.benchmark_questions import BlockMaker
from parrot.mini.compose.concepts import TRAIN_EMOJI_SETS, VALIDATION_EMOJI_SET
from parrot.mini.compose.material import Material, load_material
from parrot.mini.compose.questions import KINDS
from parrot.mini.compose.scenes import SIDE, Scene

# All that are shipped: those that the questions leave out help features and words all the same.
CONCEPTS = 160
SEED = 0
LINES = 72_000
STEPS = 1000
CHECKED = 80  # held-out questions by language and kind
CAPTIONS: dict[str, Language] = {"clip": "en", "clip_zh": "zh"}
WORDS = ("categories.json", "concepts.json", "phrases.json")


def make_language_model(material: Material, folder: Path) -> dict[str, Any]:
    """Train the language model and its tokenizer; return them with the validation figures."""
    writer = corpus.Writer(material, load_catalogue("config/benchmarks.yaml", Benchmark)["mini_mmmb"].instruction)
    phases = writer.corpus(LINES, SEED)
    tokenizer = train_tokenizer(line.prompt + line.answer for phase in phases for line in phase)
    model = language.pretrain(tokenizer, [language.encode(tokenizer, phase) for phase in phases], SEED)
    figures = check_language_model(model, tokenizer, writer)
    with new_folder(folder) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        write_provenance(
            partial,
            seed=SEED,
            languages=PAPER_LANGUAGES,
            lines=[len(phase) for phase in phases],
            batch=language.BATCH,
            sources=sources(RESOURCES, *WORDS, *(f"images/{emoji_set}.zip" for emoji_set in TRAIN_EMOJI_SETS)),
            validation=figures,
        )
    return figures


def check_language_model(model: Any, tokenizer: Any, writer: corpus.Writer) -> dict[str, dict[str, float]]:
    """Per cent right, by language and kind, of reserved questions, as the validation emoji set draws them."""
    blocks = BlockMaker(load_material(RESOURCES), VALIDATION_EMOJI_SET, random.Random("backbones"))
    asked = {kind: [question for block in blocks.blocks(kind, CHECKED) for question in block] for kind in KINDS}
    return {
        tongue: {
            kind: language.accuracy(model, language.encode(tokenizer, [writer.ask(q, tongue, 0) for q in questions]))
            for kind, questions in asked.items()
        }
        for tongue in PAPER_LANGUAGES
    }


def make_encoder(material: Material, folder: Path, tongue: Language) -> dict[str, Any]:
    """Train a vision encoder on captions in one language; return it with its image processor and validation figures."""
    used = load_material(RESOURCES).concepts.ids
    sampler = Sampler(material, used, TRAIN_EMOJI_SETS, tongue, contrastive.BATCH, SEED)
    # The text tower reads captions alone, so its words are none of the language model's.
    tokenizer = train_tokenizer((caption for step in range(40) for caption in sampler(step).captions), size=1024)
    model = contrastive.pretrain(sampler, tokenizer, STEPS, SEED)
    figures = check_encoder(model, tokenizer, material, tongue)
    square = {"height": SIDE, "width": SIDE}
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size=square, image_mean=OPENAI_CLIP_MEAN, image_std=OPENAI_CLIP_STD
    )
    with new_folder(folder) as partial:
        model.vision_model.save_pretrained(partial)
        processor.save_pretrained(partial)
        write_provenance(
            partial,
            seed=SEED,
            languages=[tongue],
            emoji_sets=TRAIN_EMOJI_SETS,
            steps=STEPS,
            batch=contrastive.BATCH,
            concepts=len(material.concepts.ids),
            favoured=used,
            sources=sources(RESOURCES, *WORDS, *(f"images/{emoji_set}.zip" for emoji_set in TRAIN_EMOJI_SETS)),
            validation=figures,
        )
    return figures


def check_encoder(model: Any, tokenizer: Any, material: Material, tongue: Language) -> dict[str, dict[str, float]]:
    """Measure zero-shot naming on the validation emoji set, among all shipped concepts and among those in questions."""
    figures = {}
    for chosen in (material, load_material(RESOURCES)):
        concepts = chosen.concepts.ids
        emoji_set, rng = chosen.emoji_sets[VALIDATION_EMOJI_SET], random.Random("backbones")
        shown = [index for index, concept in enumerate(concepts) if concept in emoji_set for _ in range(3)]
        pixels = np.stack([np.asarray(emoji_set.draw(Scene("single", (concepts[index],)), rng)) for index in shown])
        names = [chosen.concepts.name(concept, tongue) for concept in concepts]
        figures[f"{VALIDATION_EMOJI_SET}_{len(concepts)}"] = contrastive.zero_shot(
            model, tokenizer, pixels, np.array(shown), names
        )
    return figures


def make(name: str) -> None:
    """Make the backbone `name` on one thread."""
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, format=f"{name}: %(message)s")
    material, folder = load_material(RESOURCES, CONCEPTS, None), RESOURCES / "backbones" / name
    figures = (
        make_language_model(material, folder) if name == "qwen" else make_encoder(material, folder, CAPTIONS[name])
    )
    print(f"{name}: {figures}")


_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pillow")


def sources(resources: Path, *names: str) -> dict[str, str]:
    """SHA-256 of the shipped files, relative to `resources`, that a backbone was made from."""
    return {name: file_sha256(resources / name) for name in sorted(names)}


def write_provenance(folder: Path, **record: Any) -> None:
    """Write provenance.json: what the caller says, the weights' digest, package versions and CPU seconds so far."""
    packages = {name: version(name) for name in _PACKAGES}
    digest = file_sha256(folder / "model.safetensors")
    write_json(
        folder / "provenance.json",
        {**record, "sha256": digest, "packages": packages, "cpu_seconds": round(time.process_time())},
    )
