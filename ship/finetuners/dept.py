"""DePT: a second head beside learned prompts, for what is special to the base classes.

Source: Zhang et al., "DePT: Decoupled Prompt Tuning" (arXiv:2309.07439), and the authors' code
(github.com/Koorye/DePT, trainers/elp_coop.py, elp_kgcoop.py, configuration in train.py): a linear
layer over features that are scaled and moved channel by channel (FiLM), those of pictures and those
of the learned prompts each by a scale and a bias of their own, from 1 and 0. With v = head_weight,

    loss = (1 - v) prompt cross-entropy + v head cross-entropy (+ weight * L_kg, KgCoOp's distance),

the head's mean being over each picture's feature and, as often, the text feature of its class, the
gradient of which goes on into the prompts. The prompts are CoOp's or KgCoOp's. SGD, the head at
head_rate times their learning rate. Defaults are the authors'.

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

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ship.clip import FrozenCLIP
from ship.configs.finetuners import DePTSettings, KgCoOpDePTConfig
from ship.finetuners.prompts import PromptTuned
from ship.methods import Choice, Draw, Features, Labels, Logits, SeedTask, Weights


class BaseHead(nn.Module):
    """A linear layer over scaled features, of which only the seen classes' logits count.

    weight: (feature, n_cls). bias: (1, n_cls).
    picture, text: scale and bias of each channel of the two kinds, (2, 1, feature).
    """

    seen: Tensor

    def __init__(self, task: SeedTask, norm: float) -> None:
        super().__init__()
        (n_cls, size), like = task.text_features.shape, task.features
        self._norm = norm
        start = torch.stack([like.new_ones(1, size), like.new_zeros(1, size)])
        self.picture, self.text = nn.Parameter(start), nn.Parameter(start.clone())
        self.weight = nn.Parameter(like.new_zeros(size, n_cls))
        self.bias = nn.Parameter(like.new_zeros(1, n_cls))
        self.register_buffer("seen", task.seen, persistent=False)

    def forward(
        self, features: Float[Tensor, "n feature"], channels: Float[Tensor, "2 1 feature"]
    ) -> Float[Tensor, "n n_cls"]:
        """Logits of features of unit norm, under `picture` or `text`; of unseen classes -inf."""
        scale, bias = channels.unbind(0)
        logits = (scale * (self._norm * features) + bias) @ self.weight + self.bias
        return logits.masked_fill(~self.seen, -torch.inf)

    def loss(
        self,
        features: Features,
        text: Float[Tensor, "n_cls feature"],
        labels: Labels,
        weights: Weights,
    ) -> Float[Tensor, ""]:
        """Weighted mean cross-entropy of the seen classes' features and of their labels' texts.

        Args:
            features, text: of unit norm.
            labels: of each feature.
            weights: of each feature's loss; None: all 1.
        """
        own = torch.arange(len(text), device=labels.device)
        of_text = self._losses(self(text, self.text), own).gather(0, labels)
        losses = self._losses(self(features, self.picture), labels) + of_text
        counted = self.seen.gather(0, labels).to(losses.dtype)
        weights = counted if weights is None else counted * weights
        return (losses * weights).sum() / (2 * weights.sum())

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each row, 0 of unseen labels."""
        losses = -logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        return losses.masked_fill(~self.seen.gather(0, labels), 0.0)


class DePT(PromptTuned):
    """CoOp's or KgCoOp's contexts with a head of the base classes beside them."""

    def __init__(self, config: DePTSettings, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        self.head = BaseHead(task, config.norm)
        self._share = task.features.new_tensor(config.head_weight)

    def optimizer(self) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
        """SGD: the contexts, which come first, at the learning rate; the head at a multiple."""
        kind, settings = super().optimizer()
        factors = [1.0] + [self.config.head_rate] * len(list(self.head.parameters()))
        return kind, {**settings, "factors": factors}

    def loss(self, features: Features, labels: Labels, weights: Weights) -> Float[Tensor, ""]:
        """(1 - v) cross-entropy under the prompts + v that under the head (+ weight * L_kg)."""
        text, share, distance = self.text_features(), self._share, None
        if isinstance(self.config, KgCoOpDePTConfig):
            distance = self.config.weight * self.knowledge_distance(text)
        logits = self.logit_scale * features @ text.T
        by_prompt = self.cross_entropy(logits, labels, weights)
        by_head: Tensor = self.head.loss(features, text, labels, weights)
        loss = (1 - share) * by_prompt + share * by_head
        return loss if distance is None else loss + distance

    def logits(self, pictures: Features, choice: Choice) -> Logits:
        """The prompts' logits; of seen classes fused ones, whose log-sum-exp is the prompts'."""
        prompt = super().logits(pictures, choice)
        found = self.head(pictures, self.head.picture)
        share, seen = self._share, self.head.seen
        # where the head has no say, 0 * -inf would be no number
        fused = (1 - share) * prompt + share * found.masked_fill(~seen, 0.0)
        mass = [x.masked_fill(~seen, -torch.inf).logsumexp(1, True) for x in (prompt, fused)]
        return torch.where(seen, fused + mass[0] - mass[1], prompt)
