"""KgCoOp: CoOp held near the hand-written prompts (arXiv:2303.13283).

loss = cross-entropy + weight * L_kg, where L_kg is the mean over classes of the squared Euclidean
distance between the unit-norm text features of the learned and of the hand-written prompt (the
dataset's template). The squared distance and weight 8 are the paper's (as restated elsewhere); the
authors' code has 1 - cos, half of it, also with weight 8: that is weight 4 here.

The mean is over the classes that the cross-entropy runs over: base classes without synthetic
features (as in the authors' code, which knows no others), all classes with them.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs import KgCoOpConfig
from ship.finetuners.base import classification_loss
from ship.finetuners.prompt_learner import PromptLearner, SgdTraining
from ship.synthesis import Synthesizer
from ship.tasks import Task
from ship.training import Part, each_replica, per_replica


def knowledge_distance(
    learned: Float[Tensor, "replica n_cls feature"],
    written: Float[Tensor, "n_cls feature"],
    allowed: Bool[Tensor, "replica n_cls"] | None,
) -> Float[Tensor, " replica"]:
    """L_kg: squared Euclidean distance of each class's two text features, averaged over classes.

    Args:
        learned, written: unit-norm, so that a class's distance is 2 - 2 cos.
        allowed: classes that are averaged; None: all.
    """
    distance = (learned - written).square().sum(-1)
    if allowed is None:
        return distance.mean(1)
    return (distance * allowed).sum(1) / allowed.sum(1)


class KgCoOp:
    """R fused CoOp contexts, tied to the hand-written prompts."""

    choices: tuple[Mapping[str, float], ...] = ({},)

    def __init__(
        self,
        config: KgCoOpConfig | Sequence[KgCoOpConfig],
        task: Task,
        synthesizer: Synthesizer | None,
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        configs = each_replica(config, task.n_replicas)
        self.config = config = configs[0]
        self._weight = per_replica(configs, "weight", task.features)
        self._task = task
        self.learner = PromptLearner(
            clip,
            task.class_names,
            seeds,
            task.features.dtype,
            n_ctx=config.n_ctx,
            ctx_init=config.ctx_init,
        )
        self._training = SgdTraining(
            {"ctx": self.learner.ctx},
            task,
            synthesizer,
            seeds,
            configs,
            clip.recorder,
        )

    @property
    def epochs(self) -> int:
        """Training epochs."""
        return self.config.epochs

    def loss(
        self,
        features: Float[Tensor, "replica n feature"],
        labels: Int[Tensor, "replica n"],
        weights: Float[Tensor, "replica n"] | None = None,
    ) -> Float[Tensor, " replica"]:
        """Cross-entropy of a batch + weight * L_kg.

        Args:
            features: a batch, unit norm.
            labels: of each feature, places among the task's classes.
            weights: of each feature's loss; None: all 1.
        """
        learned, allowed = self.learner.text_features(), self._training.allowed
        logits = self._task.logit_scale * features @ learned.transpose(1, 2)
        distance = knowledge_distance(learned, self._task.text_features, allowed)
        return classification_loss(logits, labels, allowed, weights) + self._weight * distance

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """One pass over the real features."""
        return self._training.epoch(lambda *batch: [self.loss(*batch)])

    @torch.no_grad()
    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "replica n n_cls"]:
        """logit_scale * cosine to the learned prompts."""
        return self._task.logit_scale * pictures @ self.learner.text_features().transpose(1, 2)

    def state_dict(self) -> dict[str, Tensor]:
        """The contexts."""
        return self._training.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put the contexts back."""
        self._training.load_state_dict(state)

    def learned(self) -> Mapping[str, Part]:
        """The contexts."""
        return {"ctx": self.learner.ctx}

    def parts(self) -> Mapping[str, Part]:
        """The training, and what it trains."""
        return self._training.parts()
