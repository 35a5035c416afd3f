"""KgCoOp: CoOp held near the hand-written prompts (arXiv:2303.13283).

loss = cross-entropy + weight * L_kg, where L_kg is the mean over classes of the squared Euclidean
distance between the unit-norm text features of the learned and of the hand-written prompt (the
dataset's template). The squared distance and weight 8 are the paper's (as restated elsewhere); the
authors' code has 1 - cos, half of it, also with weight 8: that is weight 4 here.

The mean is over the classes that the cross-entropy runs over: base classes without synthetic
features (as in the authors' code, which knows no others), all classes with them.
"""

from collections.abc import Mapping, Sequence

from jaxtyping import Bool, Float, Int
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs import KgCoOpConfig, TCPConfig
from ship.finetuners.base import classification_loss
from ship.finetuners.prompt_learner import Optimizing, PromptTrained, plain_sgd, shared_contexts
from ship.synthesis import Synthesizer
from ship.tasks import Task


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


class KgCoOp(PromptTrained):
    """R fused CoOp contexts, tied to the hand-written prompts."""

    def __init__(
        self,
        config: KgCoOpConfig | TCPConfig,
        task: Task,
        synthesizer: Synthesizer | None,
        clip: FrozenCLIP,
        seeds: Sequence[int],
        beside: Mapping[str, Float[Tensor, "replica ..."]] | None = None,
        optimizing: Optimizing = plain_sgd,
    ) -> None:
        """Be ready for the first epoch.

        Args:
            config, task, synthesizer, clip, seeds: as every fine-tuner is built.
            beside, optimizing: as of PromptTrained.
        """
        self._weight = config.weight
        learner = shared_contexts(clip, task, seeds, config)
        super().__init__(learner, task, synthesizer, clip, seeds, config, beside, optimizing)

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
        learned, allowed = self.text_features(), self._stream.allowed
        logits = self._scores(features, learned)
        distance = knowledge_distance(learned, self._task.text_features, allowed)
        return classification_loss(logits, labels, allowed, weights) + self._weight * distance
