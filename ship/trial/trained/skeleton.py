"""A task without pictures, for parts that are built again: what they took from pictures is kept."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs.finetuners import TCPConfig
from ship.configs.generators import uses_z
from ship.tasks import Task, no_pictures
from ship.trial.trained.read import Kept, refusal

# Settings that shape training alone: there is no training, and what they shape is not kept.
_TRAINING_ALONE = {
    "encoder_hidden": 1,
    "critic_hidden": 1,
    "early_stopping": None,
    "epochs": 1,
    "batch_size": 1,
    # what they gave was kept; and a path is somebody else's word
    "descriptions": "",
}
# Characters of the words that a context starts from.
MOST_WORDS = 1000


def skeleton(
    class_names: Sequence[str],
    text_features: Float[Tensor, "n_cls feature"],
    n_base: int,
    clip: FrozenCLIP,
) -> Task:
    """A task of one replica, without pictures.

    Args:
        class_names: the universe.
        text_features: its zero-shot classifier.
        n_base: how many of the classes, the first ones, are seen.
        clip: the backbone.
    """
    text = text_features.to(clip.device)
    is_seen = torch.arange(len(text), device=text.device) < n_base
    return Task(
        class_names=tuple(class_names),
        text_features=text,
        seen=is_seen.unsqueeze(0),
        **no_pictures(text, 1),
        n_nominal=2,
        shots=1,
        logit_scale=clip.logit_scale,
        unseen=list,
        held_out=list,
    )


def untrained(config: Any) -> Any:
    """Settings of a generator or a fine-tuner, without what shapes its training alone."""
    own = {
        name: value
        for name, value in _TRAINING_ALONE.items()
        if getattr(config, name, None) is not None
    }
    return config.model_copy(update=own)


def require_sizes(kept: Kept, clip: FrozenCLIP) -> None:
    """Refuse what would take more to build than the file has: sizes are somebody else's word.

    Raises:
        TrainedError: text features of another shape than the classes and the backbone have, or
            settings of more weights than there are in the file.
    """
    for number, task in enumerate(kept.said.tasks):
        text = kept.tensors.get(f"tasks.{number}.text_features")
        wanted = (len(task.class_names), clip.feature_dim)
        if text is None or text.shape != wanted or not text.is_floating_point():
            held = "nothing" if text is None else f"{[*text.shape]}"
            fault = f"text features of task {number} are {held}, not {[*wanted]}"
            raise refusal(kept.path, fault)
    there = sum(value.numel() for value in kept.tensors.values())
    if _weights(kept, clip) > there:
        fault = f"the settings are of more weights than the {there} numbers that it has"
        raise refusal(kept.path, fault)
    groups = (kept.said.settings.generator, kept.said.settings.finetuner)
    if any(len(getattr(group, "ctx_init", None) or "") > MOST_WORDS for group in groups):
        raise refusal(kept.path, f"ctx_init has more than {MOST_WORDS} characters")


def _weights(kept: Kept, clip: FrozenCLIP) -> int:
    """Weights whose number the settings decide."""
    generator: Any = kept.said.settings.generator
    finetuner: Any = kept.said.settings.finetuner
    prompt, found = getattr(generator, "prompt", None), 0
    if kept.said.generator_kept and hasattr(generator, "generator_hidden"):
        made = clip.text_width * (generator.n_ctx if prompt == "instance_tokens" else 1)
        made = clip.feature_dim if prompt is None else made
        drawn = prompt is None or uses_z(prompt)
        found += drawn * generator.generator_hidden * (generator.latent_dim + made)
    if getattr(finetuner, "class_specific", False):
        classes = max(len(task.class_names) for task in kept.said.tasks)
        found += classes * finetuner.n_ctx * clip.text_width
    if isinstance(finetuner, TCPConfig):
        hidden = max(1, clip.feature_dim // finetuner.reduction)
        found += hidden * finetuner.n_ctx * clip.text_width
    return found
