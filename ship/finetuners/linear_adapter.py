"""Regularized linear adapter: one square map of image features, held near the identity.

x' = normalise(W x), logits = logit_scale * x' T^T against the zero-shot text features T; loss =
cross-entropy + weight / shots * |W - I|^2 (squared Frobenius norm). Source: Fahes et al., the RLA
of arXiv:2410.05270 (ProLIP; there it is the rival that needs no weights of the image tower), and
their code (github.com/astra-vision/ProLIP, methods/RegLinearAdapter.py): Adam with epsilon 1e-4,
300 steps on all pictures at once, each in another crop, rate cosine to 0. The penalty falls
with the shots, so that no validation pictures are needed.

Here a step may be smaller than all pictures (`batch_size`), and `synthetic` acts by ratio, draw and
weight, as in every fine-tuner that trains step by step.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs import LinearAdapterConfig
from ship.finetuners.base import classification_loss
from ship.finetuners.stream_trained import StreamTrained
from ship.finetuners.training_set import TrainingStream
from ship.synthesis import Synthesizer
from ship.tasks import Task
from ship.training import ReplicaOptimizer


class LinearAdapter(StreamTrained):
    """R fused maps.

    map: W, to be multiplied from the right, (replica, feature, feature).
    """

    def __init__(
        self,
        config: LinearAdapterConfig,
        task: Task,
        synthesizer: Synthesizer | None,
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        self.config = config
        self._weight = config.weight
        self._task = task
        size = task.features.shape[-1]
        self._identity = torch.eye(size, dtype=task.features.dtype, device=clip.device)
        self.map = self._identity.repeat(task.n_replicas, 1, 1).requires_grad_()
        stream = TrainingStream(task, synthesizer, seeds, config.batch_size, "linear_adapter")
        optimizer = ReplicaOptimizer(torch.optim.Adam, [self.map], config.lr, eps=1e-4)
        super().__init__({"map": self.map}, optimizer, stream, config.epochs)

    def loss(
        self,
        features: Float[Tensor, "replica n feature"],
        labels: Int[Tensor, "replica n"],
        weights: Float[Tensor, "replica n"] | None,
    ) -> Float[Tensor, " replica"]:
        """Weighted mean cross-entropy of a batch + weight / shots * |W - I|^2.

        Args:
            features: a batch, unit norm.
            labels: of each feature, places among the task's classes.
            weights: of each feature's loss; None: all 1.
        """
        loss = classification_loss(self._scores(features), labels, self._stream.allowed, weights)
        distance = (self.map - self._identity).square().sum((1, 2))
        return loss + self._weight / self._task.shots * distance

    @torch.no_grad()
    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "replica n n_cls"]:
        """logit_scale * cosine of mapped features to the zero-shot text features."""
        return self._scores(pictures)

    def _scores(self, features: Tensor) -> Tensor:
        return self._task.zero_shot_logits(F.normalize(features @ self.map, dim=-1))
