"""Frozen CLIP: any open_clip backbone whose text tower can be driven by prompts.

Answers for: loading and checking weights, pictures to features, and prompts to features with what
classes share computed once. Nothing in it is trained. What is known of a backbone without its
weights needs no torch: ship.architectures, whose names it hands on.
"""

from ship.architectures import (
    Architecture,
    BackboneError,
    Precision,
    architectures,
    context_length,
    feature_dim,
    load_tokenizer,
    text_settings,
)
from ship.clip.arithmetic import products
from ship.clip.frozen_clip import DTYPES, FrozenCLIP, check_backbone_name
from ship.clip.prompts import class_prompts, initial_context
from ship.clip.text_tower import SMALLEST_GROUP, InnerTokens, TextTower

__all__ = [
    "DTYPES",
    "SMALLEST_GROUP",
    "Architecture",
    "BackboneError",
    "FrozenCLIP",
    "InnerTokens",
    "Precision",
    "TextTower",
    "architectures",
    "check_backbone_name",
    "class_prompts",
    "context_length",
    "feature_dim",
    "initial_context",
    "load_tokenizer",
    "products",
    "text_settings",
]
