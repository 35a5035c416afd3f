"""CoOp: context optimisation (arXiv:2109.01134), with synthetic features as SHIP adds them.

Defaults are the settings of the authors' code of SHIP (arXiv:2307.07397, github.com/mrflogs/SHIP,
main_coop_vae.py): one context shared by all classes, "a photo of a" to start from, class name at
the end; plain SGD, cosine to 0, 200 epochs in batches of 256 real pictures. With synthetic
features the loss runs over base and new classes together, without over the base classes.
"""

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs import CoOpConfig
from ship.finetuners.base import classification_loss
from ship.finetuners.prompt_learner import PromptLearner, PromptTrained
from ship.synthesis import Synthesizer
from ship.tasks import Task


class CoOp(PromptTrained):
    """R fused CoOp contexts.

    Class-specific contexts (CSC) of a class that no feature, real or synthetic, belongs to are
    trained only as a rival in the softmax; where the loss leaves the class out, not at all.
    """

    def __init__(
        self,
        config: CoOpConfig,
        task: Task,
        synthesizer: Synthesizer | None,
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        learner = PromptLearner(
            clip,
            task.class_names,
            seeds,
            task.features.dtype,
            n_ctx=config.n_ctx,
            ctx_init=config.ctx_init,
            class_specific=config.class_specific,
            name_position=config.name_position,
        )
        super().__init__(learner, task, synthesizer, clip, seeds, config)

    def loss(
        self,
        features: Float[Tensor, "replica n feature"],
        labels: Int[Tensor, "replica n"],
        weights: Float[Tensor, "replica n"] | None = None,
    ) -> Float[Tensor, " replica"]:
        """Cross-entropy of a batch (CoOp, eq. 2, through the learned prompts).

        Args:
            features: a batch, unit norm.
            labels: of each feature, places among the task's classes.
            weights: of each feature's loss; None: all 1.
        """
        logits = self._scores(features, self.text_features())
        return classification_loss(logits, labels, self._stream.allowed, weights)
