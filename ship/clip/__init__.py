"""Frozen CLIP: any open_clip backbone whose text tower accepts prompt embeddings.

- weights loads and checks weights; checkpoint_files explains why a file cannot be loaded.
- backbone encodes images and sentences.
- prompts embeds class names and the other fixed parts of prompts.
- sentences averages the features of several sentences per class.
- text is the base of the two kinds of text towers, which encode prompts. In a causal one, the part
  that classes share is computed once (causal, packing). In a bidirectional one, every prompt is
  computed whole (bidirectional).

Nothing is trained here. ship.architectures has the properties of a backbone that do not require its
weights, and imports no torch.
"""

from ship.clip.backbone import FrozenCLIP
from ship.clip.prompts import make_class_prompts
from ship.clip.sentences import average_features, encode_classes
from ship.clip.weights import RANDOM, check_backbone_name

__all__ = [
    "RANDOM", "FrozenCLIP", "average_features", "check_backbone_name", "encode_classes",
    "make_class_prompts",
]  # fmt: skip
