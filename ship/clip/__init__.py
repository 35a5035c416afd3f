"""Frozen CLIP: any open_clip backbone whose text tower can be driven by prompts.

Answers for: loading and checking weights (weights), pictures and whole sentences to features, and
the parts of prompts (backbone), classes of several sentences (sentences), and prompts to features
with what classes share computed once (text). Nothing in it is trained. What is known of a backbone
without its weights, such as whether prompts can drive it, needs no torch: ship.architectures.
"""

from ship.clip.backbone import FrozenCLIP, class_prompts
from ship.clip.sentences import class_features, mean_features
from ship.clip.weights import RANDOM, check_backbone_name

__all__ = [
    "RANDOM", "FrozenCLIP", "check_backbone_name", "class_features", "class_prompts",
    "mean_features",
]  # fmt: skip
