"""DePT: a second head beside learned prompts, for what is special to the base classes.

Source: Zhang et al., "DePT: Decoupled Prompt Tuning" (arXiv:2309.07439), and the authors' code
(github.com/Koorye/DePT, trainers/elp_coop.py, elp_kgcoop.py, configuration in train.py): a linear
layer over features that are scaled and moved channel by channel (FiLM), those of pictures and those
of the learned prompts each by a scale and a bias of their own, from 1 and 0. With v = head_weight,

    loss = (1 - v) prompt cross-entropy + v head cross-entropy (+ weight * L_kg, KgCoOp's distance),

the head's mean being over each picture's feature and, as often, the text feature of its class, the
gradient of which goes on into the prompts. The prompts are CoOp's or KgCoOp's. SGD as there, the
head at head_rate times their learning rate. Defaults are the authors' but for SGD's momentum and
decay and a warm-up epoch, which CoOp lacks here, too.

The head has the seen (base) classes alone, and only features of these go through it. From base to
new that is the real ones: the synthetic ones, of new classes, reach the prompts alone. Where
synthetic features are of seen classes (few_shot), they go through the head with their weight.

What is tested: base classes are told apart by (1 - v) prompt + v head logits, new classes by the
prompts' alone. The authors never let the two kinds compete. Here, in one softmax over all classes,
the base classes together have the probability that the prompts give them, and the head only divides
it: it has seen no new class, and so says nothing of whether a picture's class is one.

Different from the authors: their head takes features that are not normalised; here it is `norm`
times the ones of unit norm. It starts at 0, where theirs is random, so that no class depends on its
place among the others.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ship.clip import FrozenCLIP
from ship.configs import CoOpDePTConfig, KgCoOpDePTConfig
from ship.finetuners.base import classification_loss
from ship.finetuners.kgcoop import knowledge_distance
from ship.finetuners.prompt_learner import PromptTrained, shared_contexts
from ship.synthesis import Synthesizer
from ship.tasks import Task
from ship.training import ReplicaOptimizer


class BaseHead(nn.Module):
    """R fused linear layers over scaled features, of which only the seen classes' logits count.

    weight: (replica, feature, n_cls). bias: (replica, 1, n_cls).
    picture, text: scale and bias of each channel of the two kinds, (replica, 2, 1, feature).
    """

    def __init__(self, task: Task, norm: float) -> None:
        super().__init__()
        n, (n_cls, size) = task.n_replicas, task.text_features.shape
        self._seen = task.seen
        self._norm = norm
        like = task.features
        start = torch.stack([like.new_ones(1, size), like.new_zeros(1, size)]).repeat(n, 1, 1, 1)
        self.picture, self.text = nn.Parameter(start), nn.Parameter(start.clone())
        self.weight = nn.Parameter(like.new_zeros(n, size, n_cls))
        self.bias = nn.Parameter(like.new_zeros(n, 1, n_cls))

    def forward(
        self, features: Float[Tensor, "replica n feature"], channels: Tensor
    ) -> Float[Tensor, "replica n n_cls"]:
        """Logits of features of unit norm, under `picture` or `text`; of unseen classes -inf."""
        scale, bias = channels.unbind(1)
        logits = (scale * (self._norm * features) + bias) @ self.weight + self.bias
        return logits.masked_fill(~self._seen.unsqueeze(1), -torch.inf)

    def loss(
        self,
        features: Float[Tensor, "replica n feature"],
        text: Float[Tensor, "replica n_cls feature"],
        labels: Int[Tensor, "replica n"],
        weights: Float[Tensor, "replica n"] | None,
    ) -> Float[Tensor, " replica"]:
        """Weighted mean cross-entropy of the seen classes' features and of their labels' texts.

        Args:
            features, text: of unit norm.
            labels: of each feature.
            weights: of each feature's loss; None: all 1.
        """
        own = torch.arange(text.shape[1], device=labels.device).expand(len(text), -1)
        of_text = self._losses(self(text, self.text), own).gather(1, labels)
        losses = self._losses(self(features, self.picture), labels) + of_text
        counted = self._seen.gather(1, labels).to(losses.dtype)
        weights = counted if weights is None else counted * weights
        return (losses * weights).sum(1) / (2 * weights.sum(1))

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each row, 0 of unseen labels."""
        losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        return losses.reshape(labels.shape).masked_fill(~self._seen.gather(1, labels), 0.0)


def _sgd(parameters: Sequence[Tensor], lr: float, head_rate: float) -> ReplicaOptimizer:
    """The contexts, which come first, at the learning rate; the head at a multiple of it."""
    factors = [1.0] + [head_rate] * (len(parameters) - 1)
    return ReplicaOptimizer(torch.optim.SGD, parameters, lr, factors=factors)


class CoOpDePT(PromptTrained):
    """R fused CoOp contexts with a head of the base classes beside them.

    head: it.
    """

    def __init__(
        self,
        config: CoOpDePTConfig | KgCoOpDePTConfig,
        task: Task,
        synthesizer: Synthesizer | None,
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        self._share = task.features.new_tensor(config.head_weight)
        learner = shared_contexts(clip, task, seeds, config)
        self.head = BaseHead(task, config.norm)
        beside = {f"head.{name}": value for name, value in self.head.named_parameters()}
        optimizing = partial(_sgd, head_rate=config.head_rate)
        super().__init__(learner, task, synthesizer, clip, seeds, config, beside, optimizing)

    def loss(
        self,
        features: Float[Tensor, "replica n feature"],
        labels: Int[Tensor, "replica n"],
        weights: Float[Tensor, "replica n"] | None = None,
    ) -> Float[Tensor, " replica"]:
        """(1 - v) cross-entropy under the prompts + v that under the head.

        Args:
            features: a batch, unit norm.
            labels: of each feature, places among the task's classes.
            weights: of each feature's loss; None: all 1.
        """
        return self._loss(features, self.text_features(), labels, weights)

    def _loss(
        self, features: Tensor, text: Tensor, labels: Tensor, weights: Tensor | None
    ) -> Tensor:
        logits = self._scores(features, text)
        by_prompt = classification_loss(logits, labels, self._stream.allowed, weights)
        by_head = self.head.loss(features, text, labels, weights)
        return (1 - self._share) * by_prompt + self._share * by_head

    @torch.no_grad()
    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "replica n n_cls"]:
        """The prompts' logits; of seen classes fused ones, whose log-sum-exp is the prompts'."""
        prompt = super().logits(pictures, choice)
        found = self.head(pictures.expand(len(prompt), -1, -1), self.head.picture)
        share, seen = self._share, self._task.seen.unsqueeze(1)
        # where the head has no say, 0 * -inf would be no number
        fused = (1 - share) * prompt + share * found.masked_fill(~seen, 0.0)
        mass = [x.masked_fill(~seen, -torch.inf).logsumexp(2, True) for x in (prompt, fused)]
        return torch.where(seen, fused + mass[0] - mass[1], prompt)


class KgCoOpDePT(CoOpDePT):
    """The same with contexts that are tied to the hand-written prompts, as KgCoOp's."""

    def __init__(
        self,
        config: KgCoOpDePTConfig,
        task: Task,
        synthesizer: Synthesizer | None,
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        super().__init__(config, task, synthesizer, clip, seeds)
        self._weight = config.weight

    def _loss(
        self, features: Tensor, text: Tensor, labels: Tensor, weights: Tensor | None
    ) -> Tensor:
        loss = super()._loss(features, text, labels, weights)
        distance = knowledge_distance(text, self._task.text_features, self._stream.allowed)
        return loss + self._weight * distance
