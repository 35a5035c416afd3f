"""Hand-written prompts that name no dataset, and the zero-shot classifiers that they make."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.datasets import sentence

SINGLE = ("a photo of a {}.",)

# Found by CLIP's authors by forward selection among their 80 ImageNet templates; "performs a bit
# better than the full 80" there (openai/CLIP, notebooks/Prompt_Engineering_for_ImageNet.ipynb).
SUBSET = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


@torch.no_grad()
def template_features(
    clip: FrozenCLIP, class_names: Sequence[str], templates: Sequence[str]
) -> Float[Tensor, "n_cls feature"]:
    """Mean over templates of each class's unit-norm text features, normalised again.

    Args:
        templates: at least one, each with one {} for the class name (CLIP, arXiv:2103.00020,
            sec. 3.1.4: ensembled in feature space, so that it costs nothing at inference).
    """
    features = [
        clip.encode_texts([sentence(template, name) for name in class_names])
        for template in templates
    ]
    return F.normalize(torch.stack(features).mean(0), dim=-1)
