"""Frozen CLIP: any open_clip backbone whose text tower can be driven by prompts.

Answers for: loading and checking weights, pictures to features, and prompts to features with what
classes share computed once. Nothing in it is trained. What is known of a backbone without its
weights needs no torch: ship.architectures.
"""

from ship.clip.arithmetic import products
from ship.clip.frozen_clip import FrozenCLIP, check_backbone_name
from ship.clip.prompts import class_prompts
from ship.clip.text_tower import InnerTokens

__all__ = [
    "FrozenCLIP",
    "InnerTokens",
    "check_backbone_name",
    "class_prompts",
    "products",
]
