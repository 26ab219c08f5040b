"""Assemble a Parrot model from pretrained backbones, say what a stage trains, and keep the projector by itself."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    MODEL_MAPPING,
    AutoModelForCausalLM,
    GenerationConfig,
)
from transformers.utils import SAFE_WEIGHTS_NAME

from parrot.config.settings import ImageReading, Tuning
from parrot.config.stages import AlignSettings, TuneSettings
from parrot.constants import PAPER_LANGUAGES
from parrot.errors import UserError
from parrot.io.files import atomic_path
from parrot.model.configuration_parrot import ParrotConfig
from parrot.model.experts import ParrotProjector
from parrot.model.folder import check_folder, read_config
from parrot.model.modeling_parrot import NEW_MODULES, ParrotForConditionalGeneration
from parrot.model.processing_parrot import ParrotProcessor, processor_of
from parrot.model.weights import check, check_finite, headers_of, pretrained, unsharded


def build(
    settings: AlignSettings | TuneSettings, projector: Path | None = None, dtype: torch.dtype = torch.float32
) -> tuple[ParrotForConditionalGeneration, ParrotProcessor]:
    """Build a model from its backbone folders, ready for the stage that `settings` are of, and its processor.

    Stage 1 has no experts. Projector, router and experts are initialised by the run's seed, whatever was drawn
    before; `projector`, a folder that `save_projector` wrote, takes the initial one's place. A language model that
    does not know a turn's markers gets rows for them, which only a stage that tunes it whole trains.

    Raises:
        UserError: a folder is not whole, as `parrot.model.folder` finds before anything is loaded, or does not fit.
    """
    check_folder(settings.vision_tower.path, "vision encoder")
    check_folder(settings.language_model.path, "language model")
    if projector is not None:
        check_projector(settings, projector)
    vision = _vision_tower(settings.vision_tower.path, dtype)
    language = pretrained(AutoModelForCausalLM, settings.language_model.path, dtype)
    reading = settings.model_dump(include=set(ImageReading.model_fields))
    folders = (settings.vision_tower.path, settings.language_model.path)
    processor = processor_of(*folders, settings.vision_feature_select, **reading)
    _resize_token_embeddings(language, processor, settings.seed)
    config = configuration(settings, vision.config, language.config)
    config.image_token_id = processor.image_token_id
    processor.router_text = config.router_text
    processor.languages = list(config.languages)
    model = _assemble(config, vision, language, settings.seed, dtype)
    model.generation_config = GenerationConfig(
        eos_token_id=processor.turn_end_id, pad_token_id=processor.tokenizer.pad_token_id
    )
    if projector is not None:
        load_projector(model, projector)
    return model, processor


def configuration(settings: AlignSettings | TuneSettings, vision: Any, language: Any) -> ParrotConfig:
    """Build the model of a stage on backbones of these configurations; stage 1 has no experts.

    Raises:
        UserError: a setting that does not fit the backbones.
    """
    experts = settings.experts.model_dump() if isinstance(settings, TuneSettings) else {"num_experts": 0}
    try:
        return ParrotConfig(
            vision_config=vision,
            text_config=language,
            projector_type=settings.projector,
            vision_feature_layer=settings.vision_feature_layer,
            vision_feature_select=settings.vision_feature_select,
            moe_top_k=experts.pop("top_k", None),
            languages=settings.router_languages if isinstance(settings, TuneSettings) else PAPER_LANGUAGES,
            **experts,
        )
    except ValueError as error:
        raise UserError(f"model.{error}") from None


def _assemble(
    config: ParrotConfig, vision: Any, language: Any, seed: int, dtype: torch.dtype
) -> ParrotForConditionalGeneration:
    model = without_weights(config)
    model.model.vision_tower = vision
    model.model.language_model = language.base_model
    model.lm_head = language.get_output_embeddings()
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, NEW_MODULES):
            module.to_empty(device="cpu").to(dtype).reset_parameters(generator)
    model.tie_weights()
    return model.eval()


def without_weights(config: ParrotConfig) -> ParrotForConditionalGeneration:
    """Build a model on the meta device: modules and shapes, no memory."""
    with unsharded(), torch.device("meta"):
        return ParrotForConditionalGeneration(config)


def _resize_token_embeddings(language: Any, processor: ParrotProcessor, seed: int) -> None:
    """Add embeddings for the chat format's markers, where there are too few; the image token needs none."""
    needed = 1 + max(processor.tokenizer.convert_tokens_to_ids([*processor.chat.markers]), default=-1)
    if needed > language.get_input_embeddings().num_embeddings:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            language.resize_token_embeddings(needed)


def trainable(
    model: ParrotForConditionalGeneration, stage: Literal["align", "tune"], language_model: Tuning = "full"
) -> list[str]:
    """Set `requires_grad` for a stage and return the trained parameters' names, sorted.

    align: the projector only. tune: projector, router, experts and, of the language model, everything (`full`),
    the adapters that it has (`lora`) or nothing (`frozen`). The vision encoder is never trained.
    """
    parts = ["model.multi_modal_projector."]
    if stage == "tune":
        parts.append("model.expert_block.")
    if stage == "tune" and language_model == "full":
        parts += ["model.language_model.", "lm_head."]
    for name, parameter in model.named_parameters():
        adapter = stage == "tune" and language_model == "lora" and ".lora_" in name
        parameter.requires_grad_(adapter or name.startswith(tuple(parts)))
    return sorted(name for name, parameter in model.named_parameters() if parameter.requires_grad)


def save_projector(model: ParrotForConditionalGeneration, folder: str | Path) -> None:
    """Write the projector's weights (model.safetensors) and the model's config.json into `folder`, made if missing."""
    folder = Path(folder)
    with atomic_path(folder / SAFE_WEIGHTS_NAME) as partial:
        save_file(_projector_state(model), partial, metadata={"format": "pt"})
    with atomic_path(folder / "config.json") as partial:
        model.config.to_json_file(partial)


def load_projector(model: ParrotForConditionalGeneration, folder: str | Path) -> None:
    """Load what `save_projector` wrote, once it was checked.

    Raises:
        UserError: weights are not finite.
    """
    path = Path(folder) / SAFE_WEIGHTS_NAME
    state = load_file(path)
    check_finite(state, path)
    model.model.multi_modal_projector.load_state_dict(state)


def check_projector(settings: AlignSettings | TuneSettings, folder: str | Path) -> None:
    """Check, by its headers, that `folder` holds a complete projector that fits the model of these settings.

    Raises:
        UserError: it does not.
    """
    path = Path(folder) / SAFE_WEIGHTS_NAME
    if not os.path.lexists(path):
        raise UserError(f"{folder}: no {SAFE_WEIGHTS_NAME}; expected a projector that stage 1 saved")
    vision = read_config(Path(settings.vision_tower.path))
    language = read_config(Path(settings.language_model.path))
    config = configuration(settings, getattr(vision, "vision_config", vision), language)
    with torch.device("meta"):
        expected = ParrotProjector(config).state_dict()
    check(path, headers_of(path), expected)


def projector_sha256(model: ParrotForConditionalGeneration) -> str:
    """SHA-256 over the projector's tensors (names, shapes, dtypes, bytes), equal exactly when the projectors are."""
    digest = hashlib.sha256()
    for name, tensor in sorted(_projector_state(model).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _projector_state(model: ParrotForConditionalGeneration) -> dict[str, torch.Tensor]:
    state = model.model.multi_modal_projector.state_dict()
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def _vision_tower(folder: str | Path, dtype: torch.dtype) -> Any:
    """Load the vision encoder of `folder`, which may hold its text encoder too."""
    config = read_config(Path(folder))
    config = getattr(config, "vision_config", config)
    return pretrained(MODEL_MAPPING[type(config)], folder, dtype, config=config)
