"""Zero-shot CLIP: the reference that every fine-tuner is held against."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs import ZeroShotConfig
from ship.finetuners.templates import SINGLE, SUBSET, template_features
from ship.synthesis import Synthesizer
from ship.tasks import Task
from ship.training import Part

# Prompts by name; "dataset" is not among them: the task brings those text features with it.
_TEMPLATES = {"single": SINGLE, "ensemble": SUBSET}


class ZeroShot:
    """Cosine to the text features of hand-written prompts; the same for every replica."""

    epochs = 0
    choices: tuple[Mapping[str, float], ...] = ({},)

    def __init__(
        self,
        config: ZeroShotConfig,
        task: Task,
        synthesizer: Synthesizer | None,
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        self._n_replicas = task.n_replicas
        self._logit_scale = task.logit_scale
        self.text_features: Float[Tensor, "n_cls feature"] = task.text_features
        if config.templates != "dataset":
            made = template_features(clip, task.class_names, _TEMPLATES[config.templates])
            self.text_features = made.to(task.features.dtype)

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """Nothing to train."""
        return {}

    @torch.no_grad()
    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "replica n n_cls"]:
        """logit_scale * cosine."""
        logits = self._logit_scale * pictures @ self.text_features.T
        return logits.expand(self._n_replicas, -1, -1)

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing is trained."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Nothing is trained."""

    def learned(self) -> Mapping[str, Part]:
        """Nothing: the backbone and the names of the classes give all of it."""
        return {}

    def parts(self) -> Mapping[str, Part]:
        """Nothing is trained."""
        return {}
