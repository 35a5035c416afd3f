"""Zero-shot CLIP: the reference that every fine-tuner is held against."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ship.backbone import FrozenCLIP
from ship.settings import Settings
from ship.synthesis import Synthesizer
from ship.task import Task


class ZeroShotConfig(Settings):
    """CLIP as it is: the cosine to each class's prompt; trains nothing."""

    name: Literal["zero_shot"] = "zero_shot"


class ZeroShot:
    """Cosine to the dataset template's text features; the same for every replica."""

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
        self._task = task

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """Nothing to train."""
        return {}

    @torch.no_grad()
    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "replica n n_cls"]:
        """logit_scale * cosine."""
        return self._task.zero_shot_logits(pictures).expand(self._task.n_replicas, -1, -1)

    def state(self) -> dict[str, Tensor]:
        """Nothing is trained."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Nothing is trained."""
