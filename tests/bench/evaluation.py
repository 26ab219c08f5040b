"""Questions a second: the released runner's way, this project's without sharing images' features, and this project's.

    python -m tests.bench.evaluation [--questions 96] [--threads 1 2] [--gpu]

The released way asks one question at a time, decodes, preprocesses and encodes its image anew for every row, in every
language and rotation, runs the encoder's last layer too, and computes the logits of every position of the prompt; it
decodes greedily with a cache. All three give the same answers, which the run checks; a tie that rounding decides is
counted and printed.

Models: the mini scale's (results/mini/parrot/model where `make demo` left one, else its backbones with random experts),
on questions of data/mini (`parrot fetch` makes it); and a larger random one, LM 8 layers of 512 with Qwen's vocabulary,
encoder 12 layers of 384 with 256 patches, 6 experts of 512, on made-up questions, 2 tokens an answer.
Arithmetic is the ratio of matrix products' operations, those of the released way over those that the answers need:
every image encoded once, no padding, no more of a prompt's logits than its last. At equal speed of arithmetic that is
the most that can be won; the released way's small products run slower than that where they wait for memory.
A pass is timed whole, model loading left out: by the clock, and in processor seconds, which other work on the machine
distorts less; the ratio is that of processor seconds with one thread, of the clock with more.
"""

from __future__ import annotations

import argparse
import base64
import io
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from transformers import CLIPVisionConfig, DynamicCache, Qwen2Config

from parrot.config.suite import Suite
from parrot.data.tsv import decode_rgb
from parrot.evaluate.items import read_tables
from parrot.evaluate.predictor import Generation, GenerationSettings, Item
from parrot.model import ParrotConfig, ParrotForConditionalGeneration, ParrotProcessor
from parrot.model.build import build
from parrot.model.checkpoint import load_parrot
from tests.bench import prediction
from tests.bench.asking import answer_questions
from tests.bench.subjects import qwen_1_8b, qwen_7b

BATCH = 128
GOAL = 8.0
Built = tuple[ParrotForConditionalGeneration, ParrotProcessor]


def mini(count: int) -> tuple[Built, list[Item]]:
    """The mini model, and `count` questions of each language about the same images."""
    run = Suite.load().run("parrot")
    folder = Path("results/mini/parrot/model")
    built = load_parrot(folder) if folder.is_dir() else build(run.tune)
    tables = [table for table in read_tables(run.predict, Path()) if table.file.stem.startswith("MMMB_")]
    plain = [table for table in tables if "." not in table.file.stem]
    return (built[0].eval(), built[1]), [item for table in plain for item in table.items[: count // len(plain)]]


def larger(count: int, processor: ParrotProcessor) -> tuple[Built, list[Item]]:
    """A random model with the mini tokenizer, and `count` questions, 12 about each image."""
    vision = CLIPVisionConfig(
        hidden_size=384,
        intermediate_size=1536,
        num_hidden_layers=12,
        num_attention_heads=6,
        image_size=224,
        patch_size=14,
    )
    text = Qwen2Config(
        vocab_size=151_936,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
    )
    torch.manual_seed(0)
    config = ParrotConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=processor.image_token_id,
        expert_intermediate_size=512,
    )
    model = ParrotForConditionalGeneration(config).eval()
    model.generation_config.eos_token_id = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    questions = made_up(count, processor, 12)
    pixels = type(processor.image_processor)(size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224})
    return (model, ParrotProcessor(pixels, processor.tokenizer, config.num_image_tokens)), questions


def made_up(count: int, processor: ParrotProcessor, about_each: int, words: tuple[int, int] = (20, 40)) -> list[Item]:
    """`count` questions of so many random words, `about_each` about each image, for 2 tokens of answer."""
    random = np.random.default_rng(0)
    known = [word for word in processor.tokenizer.get_vocab() if word.isascii() and word.isalpha()]
    return [
        Item(
            "<image>\n" + " ".join(random.choice(known, random.integers(*words))),
            (_image(n // about_each),),
            f"{n}",
            GenerationSettings(2),
            "en",
        )
        for n in range(count)
    ]


def _image(seed: int) -> str:
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((400, 300)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@torch.inference_mode()
def released_way(built: Built, questions: list[Item]) -> list[list[int]]:
    """One question at a time, its image encoded for it alone."""
    model, processor = built
    ends = {*torch.tensor(model.generation_config.eos_token_id).flatten().tolist()}
    answers = []
    for question in questions:
        image = decode_rgb(question.images[0], question.where)
        inputs = processor(image, processor.format_prompt(question.query), return_tensors="pt").to(model.device)
        pixels = inputs.pop("pixel_values")
        seen = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states
        features = seen[model.config.vision_feature_layer]
        cache = DynamicCache(config=model.config.text_config)
        answer: list[int] = []
        output = model(**inputs, image_features=features, past_key_values=cache, use_cache=True)
        while (token := int(output.logits[0, -1].argmax())) not in ends:
            answer.append(token)
            if len(answer) == question.generation.max_new_tokens:
                break
            output = model(torch.tensor([[token]], device=model.device), past_key_values=cache, use_cache=True)
        answers.append(answer)
    return answers


def without_sharing(built: Built, questions: list[Item]) -> list[list[int]]:
    """This project's batches, every row's image being one of its own: bytes after a PNG's end make it so."""
    own = [
        replace(q, images=(base64.b64encode(base64.b64decode(q.images[0]) + f"{n}".encode()).decode(),))
        for n, q in enumerate(questions)
    ]
    return tokens(answer_questions(*built, own, BATCH))


def ours(built: Built, questions: list[Item]) -> list[list[int]]:
    return tokens(answer_questions(*built, questions, BATCH))


def tokens(answers: list[Generation]) -> list[list[int]]:
    return [answer.tokens for answer in answers]


def counted(ask: Callable[[], object]) -> int:
    """Matrix products' operations of `ask`, two a multiply-add; masked positions of attention count too."""
    attention = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_operations}
    with FlopCounterMode(display=False, custom_mapping=attention) as counter:
        ask()
    return counter.get_total_flops()


def _attention_operations(query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object) -> int:
    return sdpa_flop_count(query, key, value)


def arithmetic(built: Built, questions: list[Item]) -> float:
    needed = counted(lambda: answer_questions(*built, questions, 1))
    return counted(lambda: released_way(built, questions)) / needed


def compare(name: str, built: Built, questions: list[Item], threads: int, bound: float) -> None:
    torch.set_num_threads(threads)
    ways: dict[str, Callable[[Built, list[Item]], list[list[int]]]] = {
        "released way": released_way,
        "ours, features not shared": without_sharing,
        "ours": ours,
    }
    images = len({question.image for question in questions})
    print(f"\n{name}, {threads} thread(s): {len(questions)} questions about {images} images, arithmetic {bound:.2f}x")
    first: tuple[float, list[list[int]]] | None = None
    clock = time.process_time if threads == 1 else time.perf_counter
    for way, ask in ways.items():
        ask(built, questions[:BATCH])  # warm-up
        wall, start = time.perf_counter(), clock()
        answers = ask(built, questions)
        seconds, wall = clock() - start, time.perf_counter() - wall
        first = first or (seconds, answers)
        other = sum(a != b for a, b in zip(answers, first[1], strict=True))
        ratio = first[0] / seconds
        goal = f" (goal {GOAL:.0f}x)" if way == "ours" else ""
        pace = f"{len(questions) / wall:7.1f} questions/s by the clock, {len(questions) / seconds:7.1f}"
        print(f"  {way:<26} {pace}  {ratio:5.2f}x{goal}  other answers: {other}")
        assert other <= len(questions) // 50, "more than ties"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=384)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--gpu", action="store_true", help="the paper's sizes on the first GPU (prediction.py)")
    chosen = parser.parse_args()
    if chosen.gpu:
        sizes = {"1.8B": qwen_1_8b(), "7B": qwen_7b()}
        prediction.run(sizes, lambda processor: made_up(chosen.questions, processor, 4), released_way)
        return
    small = mini(chosen.questions)
    large = larger(chosen.questions, small[0][1])
    bounds = arithmetic(*small), arithmetic(*large)
    for threads in chosen.threads:
        compare("mini model", *small, threads, bounds[0])
        compare("larger model", *large, threads, bounds[1])


if __name__ == "__main__":
    main()
