"""Frozen CLIP: any open_clip backbone whose text tower accepts prompt embeddings.

- weights loads and checks weights; checkpoint_files explains why a file cannot be loaded.
- backbone encodes images and sentences.
- prompts embeds class names and the other fixed parts of prompts.
- sentences averages the features of several sentences per class.
- text is the base class of text towers, which encode prompts. There are two kinds: causal computes
  a shared context once for several classes (see packing), bidirectional encodes every prompt
  separately.

Nothing is trained here. Properties of a backbone that can be read without its weights are in
ship.architectures, which does not import torch.
"""

from ship.clip.backbone import FrozenCLIP
from ship.clip.prompts import make_class_prompts
from ship.clip.sentences import average_features, encode_classes
from ship.clip.weights import RANDOM, check_backbone_name

__all__ = [
    "RANDOM", "FrozenCLIP", "average_features", "check_backbone_name", "encode_classes",
    "make_class_prompts",
]  # fmt: skip
