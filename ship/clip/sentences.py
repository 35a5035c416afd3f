"""Text features of classes, averaged over their sentences."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ship.clip.backbone import FrozenCLIP

# Maximum number of sentences per pass through the text tower, which bounds memory.
_SENTENCES_AT_ONCE = 1024


def encode_classes(
    clip: FrozenCLIP, sentences: Sequence[Sequence[str]]
) -> Float[Tensor, "n_cls feature"]:
    """Return unit-norm text features of classes, averaged over the sentences of each class.

    Args:
        clip: Backbone that encodes the sentences.
        sentences: Sentences of each class, at least one.
    """
    if all(len(texts) == 1 for texts in sentences):
        return clip.encode_texts([texts[0] for texts in sentences])
    return average_features(clip, sentences)


def average_features(
    clip: FrozenCLIP, sentences: Sequence[Sequence[str]]
) -> Float[Tensor, "n_cls feature"]:
    """Return the normalized mean of each class's unit-norm sentence features.

    Averaging features costs nothing at inference, unlike averaging probabilities
    (arXiv:2103.00020, sec. 3.1.4).

    Args:
        clip: Backbone that encodes the sentences.
        sentences: Sentences of each class, at least one.
    """
    texts = [text for class_texts in sentences for text in class_texts]
    starts = range(0, len(texts), _SENTENCES_AT_ONCE)
    parts = [clip.encode_texts(texts[start : start + _SENTENCES_AT_ONCE]) for start in starts]
    by_class = torch.cat(parts).split([len(class_texts) for class_texts in sentences])
    return torch.stack([F.normalize(features.mean(0), dim=-1) for features in by_class])
