"""Frozen CLIP: any open_clip backbone whose text tower can be driven by prompts.

Answers for: loading and checking weights, pictures to features, and prompts to features with what
classes share computed once. Nothing in it is trained.
"""

from ship.clip.architectures import (
    Architecture,
    Precision,
    architectures,
    context_length,
    feature_dim,
    load_tokenizer,
    text_settings,
)
from ship.clip.fewest_tokens import SMALLEST_GROUP
from ship.clip.frozen_clip import BackboneError, FrozenCLIP, check_backbone_name
from ship.clip.prompts import NamePosition, class_prompts, initial_context

__all__ = [
    "SMALLEST_GROUP",
    "Architecture",
    "BackboneError",
    "FrozenCLIP",
    "NamePosition",
    "Precision",
    "architectures",
    "check_backbone_name",
    "class_prompts",
    "context_length",
    "feature_dim",
    "initial_context",
    "load_tokenizer",
    "text_settings",
]
