"""Prediction at the paper's sizes on one GPU: `python -m tests.bench.evaluation --gpu`.

Random models, images decoded and preprocessed within the time, 2 tokens out. The share of the prefill bound is
2 x parameters x tokens over the rate of a large matrix product of the same dtype, measured just before, and over the
time; parameters are those of the language model's layers, tokens those of the prompts. The released way computes in
float32, so that ours is held against it in float32; bfloat16 is reported apart with the answers that it changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from transformers import AutoTokenizer

from parrot.evaluate.parrot_predictor import ParrotPredictor
from parrot.evaluate.predictor import Item
from parrot.model import ParrotForConditionalGeneration, ParrotImageProcessor, ParrotProcessor
from tests.bench.asking import answer_questions
from tests.bench.gpu import matrix_product_rate
from tests.bench.subjects import Size

TOKENIZER = Path("workflow/resources/mini/backbones/qwen")
GOAL = 50  # per cent of the prefill bound
Built = tuple[ParrotForConditionalGeneration, ParrotProcessor]
Answers = list[list[int]]


def random_model(size: Size, device: str) -> Built:
    """In float32, with the mini scale's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    side = size.vision["image_size"]
    pixels = ParrotImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    config = size.parrot_config()
    processor = ParrotProcessor(pixels, tokenizer, config.num_image_tokens)
    config.image_token_id = processor.image_token_id
    torch.manual_seed(0)
    with torch.device(device):
        model = ParrotForConditionalGeneration(config).eval()
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
    return model, processor


def run(
    sizes: Mapping[str, Size],
    made_up: Callable[[ParrotProcessor], list[Item]],
    released_way: Callable[[Built, list[Item]], Answers],
    device: str = "cuda",
    batch: int = 64,
    product_side: int = 8192,
) -> None:
    """Print a table a model. The released way is asked every eighth question, which is all that its pace needs."""
    for name, size in sizes.items():
        model, processor = random_model(size, device)
        questions = made_up(processor)
        lengths = ParrotPredictor(model, processor, device).lengths(questions)
        print(
            f"\n{name}: {len(questions)} questions of {sum(lengths) / len(lengths):.0f} tokens, visual ones included\n"
        )
        print("| dtype | way | questions/s | of the released way | of the prefill bound, % | other answers |")
        print("| --- | --- | ---: | ---: | ---: | ---: |")
        parameters = sum(p.numel() for p in model.model.language_model.layers.parameters())
        exact = None
        for dtype in (torch.float32, torch.bfloat16):
            bound = 2 * parameters * sum(lengths) / matrix_product_rate(product_side, device, dtype)
            built = model.to(dtype), processor
            slow, released = timed(partial(released_way, built, questions[::8]), device)
            fast, ours = timed(partial(ours_way, built, questions, batch), device)
            exact = exact or ours
            pace, ours_pace = len(released) / slow, len(ours) / fast
            start = f"| {str(dtype).removeprefix('torch.')} |"
            print(f"{start} released way | {pace:.1f} | 1.00 |  | {differing(released, exact[::8])} |")
            share = f"{100 * bound / fast:.0f} (goal {GOAL})"
            print(
                f"{start} ours | {ours_pace:.1f} | {ours_pace / pace:.2f} | {share} | {differing(ours, exact)} |",
                flush=True,
            )
        del model, built


def ours_way(built: Built, questions: list[Item], batch: int) -> Answers:
    return [answer.tokens for answer in answer_questions(*built, questions, batch)]


def differing(answers: Answers, exact: Answers) -> str:
    """How many answers are not those that ours gave in float32."""
    return f"{sum(a != b for a, b in zip(answers, exact, strict=True))} of {len(answers)}"


def timed(ask: Callable[[], Answers], device: str) -> tuple[float, Answers]:
    """Seconds of the second of two passes, and its answers."""
    ask()
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    answers = ask()
    return time.perf_counter() - start, answers
