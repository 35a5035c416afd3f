"""Linear probe: logistic regression on features, from the zero-shot classifier on.

logits = logit_scale * x W^T + b, as CLIP's own linear probe (arXiv:2103.00020, sec. 3.2) but by
default started at W = text features, b = 0 (as in WiSE-FT, arXiv:2109.01903). Classes without
features, real or synthetic, keep their initial weights: the loss runs over the other ones.

`synthetic` acts by ratio, draw and weight, as in every fine-tuner that trains step by step.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs import LinearProbeConfig
from ship.finetuners.base import classification_loss
from ship.finetuners.stream_trained import StreamTrained
from ship.finetuners.training_set import TrainingStream
from ship.synthesis import Synthesizer
from ship.tasks import Task
from ship.training import ReplicaOptimizer


class LinearProbe(StreamTrained):
    """R fused linear classifiers.

    weight, bias: (replica, n_cls, feature) and (replica, n_cls).
    """

    def __init__(
        self,
        config: LinearProbeConfig,
        task: Task,
        synthesizer: Synthesizer | None,
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        self.config = config
        self._l2 = config.l2
        self._task = task
        start = task.text_features.expand(task.n_replicas, -1, -1)
        self._start = start.clone() if config.init == "zero_shot" else torch.zeros_like(start)
        self.weight = self._start.clone().requires_grad_()
        self.bias = start.new_zeros(start.shape[:2]).requires_grad_()
        stream = TrainingStream(task, synthesizer, seeds, config.batch_size, "linear_probe")
        parameters = {"weight": self.weight, "bias": self.bias}
        # no decay: it would draw classes without data away from where they start
        trained = list(parameters.values())
        optimizer = ReplicaOptimizer(torch.optim.AdamW, trained, config.lr, weight_decay=0)
        super().__init__(parameters, optimizer, stream, config.epochs)

    def loss(
        self,
        features: Float[Tensor, "replica n feature"],
        labels: Int[Tensor, "replica n"],
        weights: Float[Tensor, "replica n"] | None,
    ) -> Float[Tensor, " replica"]:
        """Weighted mean cross-entropy of a batch + l2 / 2 * |W - W_0|^2 (b is not penalised).

        Args:
            features: a batch, unit norm.
            labels: of each feature, places among the task's classes.
            weights: of each feature's loss; None: all 1.
        """
        loss = classification_loss(self._scores(features), labels, self._stream.allowed, weights)
        return loss + self._l2 / 2 * (self.weight - self._start).square().sum((1, 2))

    @torch.no_grad()
    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "replica n n_cls"]:
        """logit_scale * x W^T + b."""
        return self._scores(pictures)

    def _scores(self, features: Tensor) -> Tensor:
        cosine_like = features @ self.weight.transpose(1, 2)
        return self._task.logit_scale * cosine_like + self.bias.unsqueeze(1)
