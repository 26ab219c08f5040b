"""Contrastive pretraining of a CLIP vision model (Radford et al., 2021), in small."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import cross_entropy, log_softmax, normalize, one_hot
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerBase
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from parrot.mini.backbones.images import Captioned
from parrot.mini.backbones.optimise import Optimiser
from parrot.mini.compose.scenes import SIDE
from parrot.model.chat_template import QWEN

PATCH = 8
WIDTH = 128
VISION_LAYERS = 4
BATCH = 128

logger = logging.getLogger(__name__)


def new_model(tokenizer: PreTrainedTokenizerBase) -> CLIPModel:
    """Return a randomly initialised CLIP: the vision model that ships, and a text tower of two layers to train it."""
    layers = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": 4, "initializer_factor": 1.0}
    vision = {**layers, "num_hidden_layers": VISION_LAYERS, "image_size": SIDE, "patch_size": PATCH}
    text = {
        **layers,
        "num_hidden_layers": 2,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 64,
        "bos_token_id": None,
        "eos_token_id": tokenizer.convert_tokens_to_ids(QWEN.turn_end),
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(
        text_config=text, vision_config=vision, projection_dim=WIDTH, logit_scale_init_value=np.log(14.0)
    )
    return CLIPModel(config)


def pixel_values(pixels: np.ndarray) -> torch.Tensor:
    """(B, S, S, 3) uint8 to CLIP's normalised (B, 3, S, S)."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - mean) / std


def embed_images(model: CLIPModel, pixels: np.ndarray) -> torch.Tensor:
    """Return unit vectors (B, d)."""
    return normalize(model.get_image_features(pixel_values=pixel_values(pixels)).pooler_output, dim=-1)


def embed_texts(model: CLIPModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> torch.Tensor:
    """Return unit vectors (B, d)."""
    ends = [text + QWEN.turn_end for text in texts]
    ids = tokenizer(ends, padding=True, padding_side="right", return_tensors="pt").input_ids
    # Causal attention and the pooled <|im_end|> never look at the padding behind it, so no mask is needed.
    return normalize(model.get_text_features(input_ids=ids).pooler_output, dim=-1)


def contrastive_loss(
    images: torch.Tensor, texts: torch.Tensor, owner: torch.Tensor, also: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Symmetric contrastive loss where equal captions are one text.

    images (B, d) and the distinct texts (U, d) are unit vectors; owner (B,) is each image's text, and also (B, U)
    marks the other texts that are true of it, which count neither for nor against it. A text's target is spread evenly
    over all images that carry it. So nothing true is a negative.
    """
    logits = (scale * images @ texts.T).masked_fill(also, -torch.inf)
    own = one_hot(owner, len(texts)).bool()
    over_images = log_softmax(logits, dim=0).masked_fill(~own, 0).sum(0) / own.sum(0)
    return (cross_entropy(logits, owner) - over_images.mean()) / 2


def _owners(batch: Captioned) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """Return the distinct captions, each image's own (B,), and the other captions of its very scene (B, U)."""
    distinct = sorted(set(batch.captions))
    place = {caption: index for index, caption in enumerate(distinct)}
    owner = torch.tensor([place[caption] for caption in batch.captions])
    shows = dict(zip(batch.captions, batch.scenes, strict=True))
    also = torch.tensor([[shows[caption] == scene for caption in distinct] for scene in batch.scenes])
    also[torch.arange(len(owner)), owner] = False
    return distinct, owner, also


def pretrain(
    draw: Callable[[int], Captioned], tokenizer: PreTrainedTokenizerBase, steps: int, seed: int, lr: float = 3e-3
) -> CLIPModel:
    """Train for `steps` batches of `draw(step)`; same seed, one thread: same weights."""
    torch.manual_seed(seed)
    model = new_model(tokenizer).train()
    optimiser = Optimiser(model.named_parameters(), steps, muon_lr=lr, adamw_lr=lr)
    started = time.process_time()
    for step in range(steps):
        batch = draw(step)
        distinct, owner, also = _owners(batch)
        images, texts = embed_images(model, batch.pixels), embed_texts(model, tokenizer, distinct)
        loss = contrastive_loss(images, texts, owner, also, model.logit_scale.exp().clamp(max=100))
        loss.backward()
        optimiser.step()
        if step % 50 == 0 or step == steps - 1:
            logger.info("step %d loss %.3f %.0f s", step, loss.item(), time.process_time() - started)
    return model.eval()


@torch.inference_mode()
def zero_shot(
    model: CLIPModel, tokenizer: PreTrainedTokenizerBase, pixels: np.ndarray, answers: np.ndarray, texts: list[str]
) -> dict[str, float]:
    """Per cent of images (N, S, S, 3) whose right text, `texts[answers[n]]`, ranks first or in the top five."""
    ranks = (embed_images(model, pixels) @ embed_texts(model, tokenizer, texts).T).argsort(descending=True).numpy()
    hits = ranks == answers[:, None]
    return {f"top{k}": round(100 * float(hits[:, :k].any(1).mean()), 1) for k in (1, 5)}
