"""Linear probes of cosines that start from the text features: ZS-LP, and CLAP with class penalties.

logits = logit_scale * x w^T / |w|; the weights w_c start at the text features. Source: Silva-
Rodriguez et al., arXiv:2312.12730 (ZS-LP in sec. 3, CLAP in sec. 4) and their code
(github.com/jusiro/CLAP, trainers/adapters.py, constraint "l2"): SGD with momentum 0.9, learning
rate 0.1, cosine to 0, 300 epochs in batches of 256; nothing is chosen on validation pictures.

CLAP's loss adds the mean over classes of lambda_c |w_c - t_c|^2. lambda_c is the mean probability
that zero-shot CLIP gives class c for the class's own training pictures: where the text feature does
well it is kept. The multipliers stay as they are at the start, as in the authors' results.

The authors start from text features that are not normalised, which decides what a learning rate and
a penalty mean for a cosine. Here text features have unit norm, and `norm` times them is the start.
Left out is the authors' warm-up epoch. What they do not have: classes without pictures are no part
of loss or penalty; where features of them are synthesized, lambda_c is the mean of the others'.

It is not linear_probe with init: zero_shot, whose weights are not normalised, so that a class's
logits may grow as a whole; which has a bias for each class; and which is trained by AdamW.
`synthetic` acts by ratio, draw and weight, as in every fine-tuner that trains step by step.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs import CLAPConfig, ZSLPConfig
from ship.finetuners.base import classification_loss
from ship.finetuners.stream_trained import StreamTrained
from ship.finetuners.training_set import TrainingStream
from ship.synthesis import Synthesizer
from ship.tasks import Task
from ship.training import ReplicaOptimizer

MOMENTUM = 0.9


class ZSLP(StreamTrained):
    """R fused probes without penalty.

    weight: (replica, n_cls, feature).
    """

    def __init__(
        self,
        config: ZSLPConfig | CLAPConfig,
        task: Task,
        synthesizer: Synthesizer | None,
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        self.config = config
        self._task = task
        self._start = config.norm * task.text_features
        self.weight = self._start.repeat(task.n_replicas, 1, 1).requires_grad_()
        # one stream for both, so that CLAP sees the batches of its rival
        stream = TrainingStream(task, synthesizer, seeds, config.batch_size, "zs_lp")
        optimizer = ReplicaOptimizer(torch.optim.SGD, [self.weight], config.lr, momentum=MOMENTUM)
        super().__init__({"weight": self.weight}, optimizer, stream, config.epochs)

    def loss(
        self,
        features: Float[Tensor, "replica n feature"],
        labels: Int[Tensor, "replica n"],
        weights: Float[Tensor, "replica n"] | None,
    ) -> Float[Tensor, " replica"]:
        """Weighted mean cross-entropy of a batch.

        Args:
            features: a batch, unit norm.
            labels: of each feature, places among the task's classes.
            weights: of each feature's loss; None: all 1.
        """
        return classification_loss(self._scores(features), labels, self._stream.allowed, weights)

    @torch.no_grad()
    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "replica n n_cls"]:
        """logit_scale * cosine to the weights."""
        return self._scores(pictures)

    def _scores(self, features: Tensor) -> Tensor:
        unit = F.normalize(self.weight, dim=-1)
        return self._task.logit_scale * features @ unit.transpose(1, 2)


class CLAP(ZSLP):
    """R fused probes, each class held near its text feature as far as that does well.

    multipliers: lambda_c, 0 of a class that the loss does not run over, (replica, n_cls).
    """

    def __init__(
        self,
        config: CLAPConfig,
        task: Task,
        synthesizer: Synthesizer | None,
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        super().__init__(config, task, synthesizer, clip, seeds)
        self._penalty = config.weight
        self.multipliers = zero_shot_confidence(task, self._stream.allowed)

    def loss(
        self,
        features: Float[Tensor, "replica n feature"],
        labels: Int[Tensor, "replica n"],
        weights: Float[Tensor, "replica n"] | None,
    ) -> Float[Tensor, " replica"]:
        """Weighted mean cross-entropy + weight * mean over classes of lambda_c |w_c - w0_c|^2.

        Args:
            features: a batch, unit norm.
            labels: of each feature, places among the task's classes.
            weights: of each feature's loss; None: all 1.
        """
        distance = (self.weight - self._start).square().sum(-1)
        allowed = self._stream.allowed
        n = distance.shape[1] if allowed is None else allowed.sum(1)
        penalty = (self.multipliers * distance).sum(1) / n
        return super().loss(features, labels, weights) + self._penalty * penalty


@torch.no_grad()
def zero_shot_confidence(
    task: Task, allowed: Bool[Tensor, "replica n_cls"] | None
) -> Float[Tensor, "replica n_cls"]:
    """Mean zero-shot probability of its own class over a class's training pictures, in all views.

    Args:
        task: whose pictures they are.
        allowed: classes that share the probability, and that have a result beside 0; None: all, of
            which those without pictures have the mean of the others'.
    """
    shape = task.seen.shape
    places = torch.arange(task.labels.shape[1], device=task.labels.device)
    counts = torch.tensor(task.counts, device=task.labels.device).unsqueeze(1)
    used = (places < counts).to(task.features.dtype)
    sums, numbers = task.features.new_zeros(2, *shape)
    for view in task.features.unbind(2):
        logits = task.zero_shot_logits(view)
        if allowed is not None:
            logits = logits.masked_fill(~allowed.unsqueeze(1), -float("inf"))
        own = logits.softmax(-1).gather(2, task.labels.unsqueeze(2)).squeeze(2)
        sums = sums.scatter_add(1, task.labels, own * used)
        numbers = numbers.scatter_add(1, task.labels, used)
    found: Tensor = sums / numbers.clamp_min(1)
    if allowed is not None:
        return found
    shown = numbers > 0
    mean = found.sum(1, keepdim=True) / shown.sum(1, keepdim=True)
    return torch.where(shown, found, mean)
