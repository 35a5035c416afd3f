"""Text features of classes, averaged over their sentences."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ship.clip.backbone import FrozenCLIP

# Number of sentences that pass through the text tower at once; bounds memory.
_AT_ONCE = 1024


def encode_classes(
    clip: FrozenCLIP, sentences: Sequence[Sequence[str]]
) -> Float[Tensor, "n_cls feature"]:
    """Return unit-norm text features of classes, averaged if there are several sentences per class.

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
    """Return the normalized mean of the unit-norm features of each class's sentences.

    Averaging features instead of logits costs nothing at inference (arXiv:2103.00020, sec. 3.1.4).

    Args:
        clip: Backbone that encodes the sentences.
        sentences: Sentences of each class, at least one.
    """
    flat = [text for texts in sentences for text in texts]
    parts = [clip.encode_texts(flat[at : at + _AT_ONCE]) for at in range(0, len(flat), _AT_ONCE)]
    return torch.stack(
        [
            F.normalize(rows.mean(0), dim=-1)
            for rows in torch.cat(parts).split([len(texts) for texts in sentences])
        ]
    )
