"""Frames → latents; latents + text → logits → caption.

Importing this package registers the classes with transformers' Auto classes, so that `AutoModelForImageTextToText`,
`AutoConfig` and `AutoProcessor` open our folders.
"""

from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from egoinstructor.model.configuration import EgoInstructorConfig, EgoInstructorTextConfig
from egoinstructor.model.modeling import CaptionOutput, EgoInstructorForConditionalGeneration
from egoinstructor.model.processing import EgoInstructorProcessor

AutoConfig.register(EgoInstructorConfig.model_type, EgoInstructorConfig, exist_ok=True)
AutoModelForImageTextToText.register(EgoInstructorConfig, EgoInstructorForConditionalGeneration, exist_ok=True)
AutoProcessor.register(EgoInstructorConfig, EgoInstructorProcessor, exist_ok=True)

__all__ = [
    "CaptionOutput",
    "EgoInstructorConfig",
    "EgoInstructorForConditionalGeneration",
    "EgoInstructorProcessor",
    "EgoInstructorTextConfig",
]
