"""Parrot as a native transformers model: vision encoder, projector, text-guided experts, language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, Cache, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast, BaseModelOutputWithPooling, CausalLMOutputWithPast
from transformers.utils.generic import can_return_tuple

from parrot.constants import IGNORE_INDEX
from parrot.model.configuration_parrot import ParrotConfig
from parrot.model.experts import ParrotExpertBlock, ParrotExperts, ParrotProjector, ProjectorLayer, Routed
from parrot.model.loss import cross_entropy_sum
from parrot.model.router import ParrotRouter, RouterInputs, balance_loss

ROUTER_INPUTS = ("router_mask", "router_input_ids", "language_ids")
NEW_MODULES = (ProjectorLayer, ParrotRouter, ParrotExperts)  # modules that no pretrained backbone brings


@dataclass
class ParrotModelOutputWithPast(BaseModelOutputWithPast):
    """Outputs with the router's.

    `router_weights` is (N_images, num_experts) float32, 0 for an expert that was not used; `router_balance` is the
    load-balancing loss before its coefficient. Both are None without images or without experts.
    """

    router_weights: Tensor | None = None
    router_balance: Tensor | None = None


@dataclass
class ParrotCausalLMOutputWithPast(CausalLMOutputWithPast):
    """Adds `router_weights` and `router_balance`, as in `ParrotModelOutputWithPast`."""

    router_weights: Tensor | None = None
    router_balance: Tensor | None = None


class ParrotPreTrainedModel(PreTrainedModel):
    """What transformers must know of all Parrot models."""

    config_class = ParrotConfig
    config: ParrotConfig
    base_model_prefix = "model"
    input_modalities = ["image", "text"]
    supports_gradient_checkpointing = True
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @classmethod
    def is_custom_code(cls) -> bool:
        """Return False: all below is initialised by transformers.initialization.

        transformers cannot know that of custom code, and would initialise an encoder's missing weights by other rules.
        """
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise projector, router and experts as torch does linear layers; the rest as transformers does."""
        if isinstance(module, NEW_MODULES):
            module.reset_parameters()
        else:
            super()._init_weights(module)

    def _is_image(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """(B, T) bool, where the image token is; without ids, where its own embedding is among `inputs_embeds`.

        ValueError for embeddings where the token has none.
        """
        token, embedding = self.config.image_token_id, self.get_input_embeddings()
        if inputs_embeds is None:
            assert input_ids is not None, "the model checks its inputs"
            return input_ids == token
        if token >= embedding.num_embeddings:
            raise ValueError(f"inputs_embeds: the image token {token} has no embedding; images need input_ids")
        return (inputs_embeds == embedding(torch.tensor(token, device=inputs_embeds.device))).all(-1)

    def _image_rows(self, is_image: Tensor, images: int) -> Tensor:
        """Return the batch row of each of `images`, (images,).

        ValueError unless the image tokens fit the images.
        """
        counts, length = is_image.sum(-1).tolist(), self.config.num_image_tokens
        if sum(counts) != images * length or any(count % length for count in counts):
            raise ValueError(
                f"image tokens and images do not match: {images} image(s) of {length} tokens each, "
                f"but the batch's samples have {counts} image tokens"
            )
        places = [row for row, count in enumerate(counts) for _ in range(count // length)]
        return torch.tensor(places, dtype=torch.long, device=is_image.device)


class ParrotModel(ParrotPreTrainedModel):
    """Everything but the language-model head.

    `always_visual`: a text-only batch runs the visual modules in evaluation too, as it does in training.
    """

    always_visual = False

    def __init__(self, config: ParrotConfig):
        super().__init__(config)
        self.vision_tower = AutoModel.from_config(config.vision_config)
        self.multi_modal_projector = ParrotProjector(config)
        self.expert_block = ParrotExpertBlock(config) if config.num_experts else None
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    def encode_images(self, pixel_values: Tensor) -> Tensor:
        """Compute the vision encoder's features: pixel_values (N, 3, S, S) -> (N, `config.num_image_tokens`, d_vision).

        Hidden state `vision_feature_layer` of the encoder, without its closing norm, as `vision_feature_select` says.
        Layers above it are not run.
        """
        # Gradient checkpointing has every embedding's output ask for gradients, a frozen encoder's too.
        learns = pixel_values.requires_grad or any(weight.requires_grad for weight in self.vision_tower.parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
            return self._select(self._hidden_state(pixel_values))

    def _hidden_state(self, pixel_values: Tensor) -> Tensor:
        tower = self.vision_tower
        depth = self.config.vision_feature_layer % (len(tower.encoder.layers) + 1)
        hidden = tower.embeddings(pixel_values.to(tower.dtype))
        if hasattr(tower, "pre_layrnorm"):  # CLIP, unlike SigLIP
            hidden = tower.pre_layrnorm(hidden)
        for layer in tower.encoder.layers[:depth]:
            hidden = layer(hidden, None)
        return hidden

    def _select(self, hidden: Tensor) -> Tensor:
        has_class_token = hasattr(self.vision_tower.embeddings, "class_embedding")
        if self.config.vision_feature_select == "patch":
            return hidden[:, 1:] if has_class_token else hidden
        return hidden if has_class_token else torch.cat([hidden.mean(1, keepdim=True), hidden], dim=1)

    @can_return_tuple
    def get_image_features(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Return encoder features (`last_hidden_state`) and their projection (`pooler_output`, (N, 1 + P, d)).

        With `output_hidden_states` or `output_attentions` those of the whole encoder, which then runs for them alone.
        """
        features = self.encode_images(pixel_values)
        outputs = BaseModelOutputWithPooling(
            last_hidden_state=features, pooler_output=self.multi_modal_projector(features)
        )
        config = self.config.vision_config
        if any(kwargs.get(name, getattr(config, name)) for name in ("output_hidden_states", "output_attentions")):
            whole = self.vision_tower(pixel_values.to(self.vision_tower.dtype), **kwargs | {"return_dict": True})
            outputs.hidden_states, outputs.attentions = whole.hidden_states, whole.attentions
        return outputs

    def _embed(
        self,
        input_ids: Tensor | None,
        embeds: Tensor | None,
        attention_mask: Tensor | None,
        image_features: Tensor | None,
        inputs: RouterInputs,
        blank: bool,
    ) -> tuple[Tensor, Routed | None]:
        """Text embeddings with the guided visual tokens in the placeholders' stead, and what the router did.

        `blank` features are those of one image that no token stands for: they are guided and left out.
        """
        is_image = self._is_image(input_ids, embeds)
        if input_ids is not None:
            embeds = self.get_input_embeddings()(input_ids.masked_fill(is_image, 0))
        assert embeds is not None
        images = 0 if image_features is None or blank else len(image_features)
        rows = self._image_rows(is_image, images)
        if image_features is None or not len(image_features):
            return embeds, None
        if blank:
            rows = rows.new_zeros(1)
            inputs = RouterInputs(inputs.mask, inputs.ids, rows)
        visual = self.multi_modal_projector(image_features)
        routed = None
        if self.expert_block is not None:
            if not blank:
                inputs.check(self.config, images)
            if inputs.ids is not None:
                text = self.get_input_embeddings()(inputs.ids)
                readable = torch.ones_like(inputs.ids, dtype=torch.bool) if inputs.mask is None else inputs.mask.bool()
            else:
                readable = ~is_image
                for mask in (attention_mask, inputs.mask):
                    readable = readable if mask is None else readable & mask.bool()
                text, readable = embeds.index_select(0, rows), readable.index_select(0, rows)
            routed = self.expert_block(visual, text, readable, inputs.languages)
            visual = routed.visual
            routed = None if blank else routed
        return embeds.masked_scatter(is_image.unsqueeze(-1), visual.to(embeds.dtype)), routed

    def _blank(self, no_features: Tensor | None, device: torch.device) -> Tensor:
        """Features of one image that is not there, (1, `config.num_image_tokens`, d_vision).

        Where images come as features, `no_features` is (0, L, d_vision), and the encoder is not run here either.
        """
        if no_features is not None:
            return no_features.new_zeros(1, *no_features.shape[1:])
        side = self.config.vision_config.image_size
        return self.encode_images(torch.zeros(1, 3, side, side, device=device))

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_features: Tensor | None = None,
        router_mask: Tensor | None = None,
        router_input_ids: Tensor | None = None,
        language_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> ParrotModelOutputWithPast:
        """Run the model.

        Args:
            input_ids: (B, T); every image is a run of `config.num_image_tokens` times `config.image_token_id`.
            attention_mask: (B, T), or (B, cached + T) with a cache; 0 at padding, on either side.
            position_ids: (B, T); by default counted from the attention mask, so that padding does not shift them.
                Samples packed into one row are told apart by positions that start anew, without an attention mask.
            inputs_embeds: (B, T, d) instead of `input_ids`; images are merged already, or come as well and replace
                the image token's embeddings.
            pixel_values: (N, 3, S, S), images in the order in which their tokens stand in the batch.
            image_features: what `encode_images` gave, instead of `pixel_values`. Where other training batches come with
                features, a batch of text alone has none of them, (0, L, d_vision).
            router_mask: (B, T), the positions whose text the router may read, padding and image tokens apart;
                by default all. The router works where images enter, so with a cache the prompt alone decides.
            router_input_ids: (N, R), the text that each image's router reads instead of its row of `input_ids`, for
                packed samples and the router `shuffled_text`; `router_mask` is then (N, R).
            language_ids: (N,), places in `config.languages`, for the router `language`.

        Raises:
            ValueError: image tokens and images do not match, or the router lacks what its kind needs.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("exactly one of input_ids and inputs_embeds must be given")
        if pixel_values is not None and image_features is None:
            image_features = self.encode_images(pixel_values)
        # With a compilable cache, `generate` passes ready-made masks by kind of layer instead.
        padding = attention_mask if isinstance(attention_mask, Tensor) and attention_mask.ndim == 2 else None
        decoding = past_key_values is not None and past_key_values.get_seq_length() > 0
        # Every process of a distributed step has to run the same modules in the same order, and every trained parameter
        # gets a gradient, so that a step does not depend on how its samples are spread.
        without = image_features is None or not len(image_features)
        blank = without and not decoding and (self.training or self.always_visual)
        if blank and input_ids is not None:
            image_features = self._blank(image_features, input_ids.device)
        routed = None
        if image_features is not None or (inputs_embeds is None and not decoding):
            read = RouterInputs(router_mask, router_input_ids, language_ids)
            inputs_embeds, routed = self._embed(input_ids, inputs_embeds, padding, image_features, read, blank)
        elif inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        if position_ids is None and padding is not None:
            counted = padding.long().cumsum(-1) - 1
            position_ids = counted.clamp(min=0)[:, -inputs_embeds.shape[1] :]
        outputs = self.language_model(
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        if routed is None:
            return ParrotModelOutputWithPast(**outputs)
        balance = balance_loss(routed.probabilities, routed.weights)
        return ParrotModelOutputWithPast(**outputs, router_weights=routed.weights, router_balance=balance)


class ParrotForConditionalGeneration(ParrotPreTrainedModel, GenerationMixin):
    """Parrot with its language-model head: loss, logits, `generate`."""

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}

    def __init__(self, config: ParrotConfig):
        super().__init__(config)
        self.model = ParrotModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    def encode_images(self, pixel_values: Tensor) -> Tensor:
        """See `ParrotModel.encode_images`."""
        return self.model.encode_images(pixel_values)

    def get_image_features(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """See `ParrotModel.get_image_features`."""
        return self.model.get_image_features(pixel_values, **kwargs)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_features: Tensor | None = None,
        router_mask: Tensor | None = None,
        router_input_ids: Tensor | None = None,
        language_ids: Tensor | None = None,
        labels: Tensor | None = None,
        shift_labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: int | Tensor | None = None,
        **kwargs: Any,
    ) -> ParrotCausalLMOutputWithPast:
        """Run the model; arguments not listed here are those of `ParrotModel.forward`.

        Args:
            labels: (B, T), -100 where nothing is supervised. Unless `router_mask` says otherwise the router reads
                only those positions: the prompt, never an answer.
            shift_labels: (B, T), each position's next label, in the place of `labels` where a sequence is split over
                processes, which shift it beforehand.
            logits_to_keep: compute the last so many positions' logits only (0: all).
            num_items_in_batch: supervised tokens of all micro-batches of an optimiser step; the loss is divided by
                it, by default by this batch's own count.

        Returns:
            `loss`: mean cross entropy over the supervised positions, the only ones whose logits it computes, and in
                training `config.router_balance` times the load-balancing loss, by the batch's share of those positions.
            `logits`: (B, T or `logits_to_keep`, V); None in training when `labels` are given.
            `router_weights`: (N, num_experts).
        """
        router = RouterInputs(router_mask, router_input_ids, language_ids)
        if labels is not None:
            kwargs.setdefault("use_cache", False)
            router = router.or_prompt(self.config, labels == IGNORE_INDEX)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            pixel_values=pixel_values,
            image_features=image_features,
            router_mask=router.mask,
            router_input_ids=router.ids,
            language_ids=router.languages,
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        loss = None
        if labels is not None:
            targets = F.pad(labels, (0, 1), value=IGNORE_INDEX)[:, 1:] if shift_labels is None else shift_labels
            loss = self._supervised_loss(hidden, targets, num_items_in_batch, outputs.router_balance)
        logits = None
        if labels is None or not self.training:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = self.lm_head(hidden[:, kept])
        return ParrotCausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            router_weights=outputs.router_weights,
            router_balance=outputs.router_balance,
        )

    def _supervised_loss(
        self, hidden: Tensor, targets: Tensor, count: int | Tensor | None, balance: Tensor | None
    ) -> Tensor:
        targets = targets.flatten()
        positions = (targets != IGNORE_INDEX).nonzero().squeeze(-1)
        logits = self.lm_head(hidden.flatten(0, 1).index_select(0, positions))
        total = cross_entropy_sum(logits, targets.index_select(0, positions))
        if self.training and self.config.router_balance and balance is not None:
            total = total + self.config.router_balance * len(positions) * balance
        return total / (max(len(positions), 1) if count is None else count)

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        inputs_embeds: Tensor | None = None,
        past_key_values: Cache | None = None,
        is_first_iteration: bool | None = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Prepare a step's inputs; images and router inputs enter with the prompt alone."""
        # An assistant's first step is called a later one, which would leave out the images.
        first = is_first_iteration or (past_key_values is not None and not past_key_values.get_seq_length())
        given = {"inputs_embeds": inputs_embeds, "past_key_values": past_key_values, "is_first_iteration": first}
        inputs = super().prepare_inputs_for_generation(input_ids, **given, **kwargs)
        if kwargs.get("use_cache", True) and not first:
            # The cache holds the images as the router made them.
            for name in ("image_features", *ROUTER_INPUTS):
                inputs.pop(name, None)
        mask = inputs.get("router_mask")
        if mask is not None and inputs.get("router_input_ids") is None:
            # What the prompt is followed by, an answer or an assistant's draft of it, is not read.
            inputs["router_mask"] = F.pad(mask, (0, max(input_ids.shape[1] - mask.shape[1], 0)))
        return inputs

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Tensor | None = None, **kwargs: Any
    ) -> tuple[Tensor | None, dict[str, Any]]:
        """For beams, keep images and their router inputs in the order of their tokens.

        Routers read the prompt by default: without a cache every step routes again, and must not read the answer.
        """
        names = ["pixel_values", "image_features", "language_ids"]
        if kwargs.get("router_input_ids") is not None:
            names += ["router_input_ids", "router_mask"]
        elif input_ids is not None:
            mask = kwargs.get("attention_mask")
            prompt = torch.ones_like(input_ids) if mask is None else mask
            kwargs["router_mask"] = RouterInputs(kwargs.get("router_mask")).or_prompt(self.config, prompt).mask
        images = [name for name in names if kwargs.get(name) is not None]
        if images:
            is_image = self._is_image(input_ids, kwargs.get("inputs_embeds"))
            rows = self._image_rows(is_image, len(kwargs[images[0]]))
            beams = torch.arange(expand_size, device=rows.device)
            order = (rows[:, None] * expand_size + beams).flatten().argsort(stable=True)
        input_ids, kwargs = super()._expand_inputs_for_generation(expand_size, is_encoder_decoder, input_ids, **kwargs)
        return input_ids, kwargs | {name: kwargs[name][order] for name in images}
