"""Classes to text features: those of their sentences, averaged."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ship.clip.backbone import FrozenCLIP

# Sentences that go through the text tower at once; bounds memory.
_AT_ONCE = 1024


def class_features(
    clip: FrozenCLIP, sentences: Sequence[Sequence[str]]
) -> Float[Tensor, "n_cls feature"]:
    """Unit-norm text features of classes: of a class's one sentence, or the mean of its several.

    Args:
        clip: encodes them.
        sentences: of each class, as many of each, one at least.
    """
    if all(len(own) == 1 for own in sentences):
        return clip.encode_texts([own[0] for own in sentences])
    return mean_features(clip, sentences)


def mean_features(
    clip: FrozenCLIP, sentences: Sequence[Sequence[str]]
) -> Float[Tensor, "n_cls feature"]:
    """Mean of the unit-norm features of each class's sentences, normalised (arXiv:2103.00020).

    Ensembled in feature space (sec. 3.1.4 there), so that it costs nothing at inference.

    Args:
        clip: encodes them.
        sentences: of each class, one at least.
    """
    flat = [text for own in sentences for text in own]
    parts = [clip.encode_texts(flat[at : at + _AT_ONCE]) for at in range(0, len(flat), _AT_ONCE)]
    return torch.stack(
        [
            F.normalize(rows.mean(0), dim=-1)
            for rows in torch.cat(parts).split([len(own) for own in sentences])
        ]
    )
