"""CLIP-Adapter (arXiv:2110.04544): a bottleneck MLP on image features, mixed in by a ratio.

x' = normalise(ratio * A(x) + (1 - ratio) * x), A(x) = ReLU(W_2 ReLU(W_1 x)) (sec. 3.2; a second
ReLU and no biases as in the authors' code); logits = logit_scale * x' T^T against the zero-shot
text features T. A is homogeneous, so that unit-norm features give what the authors' raw ones do.

`synthetic` acts by ratio, draw and weight, as in every fine-tuner that trains step by step.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs import CLIPAdapterConfig
from ship.finetuners.base import classification_loss
from ship.finetuners.stream_trained import StreamTrained
from ship.finetuners.training_set import TrainingStream
from ship.synthesis import Synthesizer
from ship.tasks import Task
from ship.training import ReplicaOptimizer, ReplicaRng

# Tried on the selection split beside the configured ratio; 0: the adapter ignored.
RATIOS = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


class CLIPAdapter(StreamTrained):
    """R fused adapters.

    down, up: the bottleneck's weights, (replica, feature, hidden) and (replica, hidden, feature).
    """

    def __init__(
        self,
        config: CLIPAdapterConfig,
        task: Task,
        synthesizer: Synthesizer | None,
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        self.config = config
        self._task = task
        self.choices = _choices(config.ratio, config.search)
        size = task.features.shape[-1]
        hidden = max(1, size // config.reduction)
        rng = ReplicaRng(seeds, "clip_adapter/weights", clip.device, task.features.dtype)
        self.down = _initial(size, hidden, rng).requires_grad_()
        self.up = _initial(hidden, size, rng).requires_grad_()
        stream = TrainingStream(task, synthesizer, seeds, config.batch_size, "clip_adapter")
        parameters = {"down": self.down, "up": self.up}
        trained = list(parameters.values())
        optimizer = ReplicaOptimizer(torch.optim.AdamW, trained, config.lr, weight_decay=0)
        super().__init__(parameters, optimizer, stream, config.epochs)

    def adapt(
        self, features: Float[Tensor, "replica n feature"], ratio: float
    ) -> Float[Tensor, "replica n feature"]:
        """Unit-norm mixture of the adapted and the given features."""
        adapted = F.relu(F.relu(features @ self.down) @ self.up)
        return F.normalize(ratio * adapted + (1 - ratio) * features, dim=-1)

    def loss(
        self,
        features: Float[Tensor, "replica n feature"],
        labels: Int[Tensor, "replica n"],
        weights: Float[Tensor, "replica n"] | None,
    ) -> Float[Tensor, " replica"]:
        """Weighted mean cross-entropy of a batch at the configured ratio.

        Args:
            features: a batch, unit norm.
            labels: of each feature, places among the task's classes.
            weights: of each feature's loss; None: all 1.
        """
        logits = self._task.zero_shot_logits(self.adapt(features, self.config.ratio))
        return classification_loss(logits, labels, self._stream.allowed, weights)

    @torch.no_grad()
    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "replica n n_cls"]:
        """logit_scale * cosine of adapted features to the zero-shot text features."""
        each = pictures.expand(self._task.n_replicas, -1, -1)
        return self._task.zero_shot_logits(self.adapt(each, choice["ratio"]))


def _initial(n_in: int, n_out: int, rng: ReplicaRng) -> Tensor:
    """Normal weights with the variance of torch's linear layers, 1 / (3 n_in)."""
    std: float = (3 * n_in) ** -0.5
    return std * rng.normal(n_in, n_out)


def _choices(ratio: float, search: bool) -> tuple[Mapping[str, float], ...]:
    """The configured ratio first, so that it wins a tie; then the grid."""
    ratios = (ratio, *RATIOS) if search else (ratio,)
    return tuple({"ratio": r} for r in dict.fromkeys(ratios))
