"""The Parrot model in transformers' terms; importing this package registers it with the Auto classes."""

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText

# From their own modules, since earlier 5.x versions hide the top-level names where torchvision is missing.
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.models.auto.processing_auto import AutoProcessor

from parrot.model.configuration_parrot import ParrotConfig
from parrot.model.image_processing_parrot import ParrotImageProcessor
from parrot.model.modeling_parrot import ParrotForConditionalGeneration, ParrotModel
from parrot.model.processing_parrot import ParrotProcessor

AutoConfig.register(ParrotConfig.model_type, ParrotConfig)
AutoModel.register(ParrotConfig, ParrotModel)
AutoModelForImageTextToText.register(ParrotConfig, ParrotForConditionalGeneration)
AutoImageProcessor.register(ParrotConfig, image_processor_classes={"pil": ParrotImageProcessor})
AutoProcessor.register(ParrotConfig, ParrotProcessor)

__all__ = ["ParrotConfig", "ParrotForConditionalGeneration", "ParrotImageProcessor", "ParrotModel", "ParrotProcessor"]
