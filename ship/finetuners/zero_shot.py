"""Zero-shot CLIP: the reference that every fine-tuner is held against."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs import ZeroShotConfig
from ship.finetuners.descriptions import described, described_features
from ship.finetuners.templates import SINGLE, SUBSET, template_features
from ship.synthesis import Synthesizer
from ship.tasks import Task
from ship.training import Part

# Prompts by name; "dataset" is not among them: the task brings those text features with it.
_TEMPLATES = {"single": SINGLE, "ensemble": SUBSET}


class ZeroShot:
    """Cosine to the text features of written prompts; the same for every replica."""

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
        self.text_features: Float[Tensor, "*replica n_cls feature"] = task.text_features
        # what a file has given is kept with the trial; the rest the backbone gives again
        self._from_file = config.descriptions is not None
        if config.descriptions:
            made = described_features(clip, described(config, task.class_names))
            self.text_features = made.to(task.features.dtype)
        elif config.templates != "dataset":
            made = template_features(clip, task.class_names, _TEMPLATES[config.templates])
            self.text_features = made.to(task.features.dtype)
        if self._from_file:
            self.text_features = self.text_features.repeat(task.n_replicas, 1, 1)

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """Nothing to train."""
        return {}

    @torch.no_grad()
    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "replica n n_cls"]:
        """logit_scale * cosine."""
        logits = self._logit_scale * pictures @ self.text_features.mT
        return logits.expand(self._n_replicas, -1, -1)

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing is trained."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Nothing is trained."""

    def learned(self) -> Mapping[str, Part]:
        """The text features of descriptions; else the backbone and the classes' names give them."""
        return {"text_features": self.text_features} if self._from_file else {}

    def parts(self) -> Mapping[str, Part]:
        """Nothing is trained."""
        return {}
