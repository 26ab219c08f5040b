"""Items predicted as prediction does it, in this process and without a record."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from parrot.data.tsv import decode_image
from parrot.evaluate.items import shards
from parrot.evaluate.parrot_predictor import ParrotPredictor
from parrot.evaluate.predictor import Generation, Item, Predictor
from parrot.model import ParrotForConditionalGeneration, ParrotProcessor


def answer_questions(
    model: ParrotForConditionalGeneration, processor: ParrotProcessor, items: Sequence[Item], batch: int
) -> list[Generation]:
    """Predictions for `items`, in their order."""
    predictor = ParrotPredictor(model, processor)
    items = predictor.prepare(items)
    generations = [Generation() for _ in items]
    for shard in shards(items, predictor.lengths(items), batch, predictor.images_at_once)[0]:
        encode(predictor, shard.images, batch)
        for places in shard.batches:
            found = predictor.generate([items[place] for place in places])
            for place, generation in zip(places, found, strict=True):
                generations[place] = generation
    return generations


def encode(predictor: Predictor, images: Sequence[str], batch: int) -> None:
    """Encode base64 images."""
    predictor.encode_images({image: partial(decode_image, image, "here") for image in images}, batch)
