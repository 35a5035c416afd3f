"""CoOp: context optimisation (arXiv:2109.01134), with synthetic features as SHIP adds them.

Defaults are the settings of the authors' code of SHIP (arXiv:2307.07397, github.com/mrflogs/SHIP,
main_coop_vae.py): one context shared by all classes, "a photo of a" to start from, class name at
the end; plain SGD, cosine to 0, 200 epochs in batches of 256 real pictures. With synthetic
features the loss runs over base and new classes together, without over the base classes.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs import CoOpConfig
from ship.finetuners.base import classification_loss
from ship.finetuners.prompt_learner import PromptLearner, SgdTraining
from ship.synthesis import Synthesizer
from ship.tasks import Task
from ship.training import Part, each_replica


class CoOp:
    """R fused CoOp contexts.

    Class-specific contexts (CSC) of a class that no feature, real or synthetic, belongs to are
    trained only as a rival in the softmax; where the loss leaves the class out, not at all.
    """

    choices: tuple[Mapping[str, float], ...] = ({},)

    def __init__(
        self,
        config: CoOpConfig | Sequence[CoOpConfig],
        task: Task,
        synthesizer: Synthesizer | None,
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        configs = each_replica(config, task.n_replicas)
        self.config = config = configs[0]
        self._task = task
        self.learner = PromptLearner(
            clip,
            task.class_names,
            seeds,
            task.features.dtype,
            n_ctx=config.n_ctx,
            ctx_init=config.ctx_init,
            class_specific=config.class_specific,
            name_position=config.name_position,
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

    def text_features(self) -> Float[Tensor, "replica n_cls feature"]:
        """The classifier that each replica's context makes."""
        return self.learner.text_features()

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
        logits = self._task.logit_scale * features @ self.text_features().transpose(1, 2)
        return classification_loss(logits, labels, self._training.allowed, weights)

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """One pass over the real features."""
        return self._training.epoch(lambda *batch: [self.loss(*batch)])

    @torch.no_grad()
    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "replica n n_cls"]:
        """logit_scale * cosine to the learned prompts."""
        return self._task.logit_scale * pictures @ self.text_features().transpose(1, 2)

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
