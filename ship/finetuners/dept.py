"""DePT: learned prompts with a second head for knowledge that is specific to the base classes.

Source: Zhang et al., "DePT: Decoupled Prompt Tuning" (arXiv:2309.07439), and the authors' code
(github.com/Koorye/DePT, trainers/elp_coop.py, elp_kgcoop.py, configuration in train.py). The head
is a linear layer over features that are scaled and shifted per channel (FiLM). Image features and
prompt features each have their own scale and bias, initialized to 1 and 0. With v = head_weight,

    loss = (1 - v) prompt cross-entropy + v head cross-entropy (+ kg_weight * L_kg of KgCoOp).

The head's cross-entropy is averaged over the image features of a batch and, with equal weight, the
text features of their classes. The latter also pass gradients to the prompts. The prompts are
CoOp's or KgCoOp's. The optimizer is SGD; the head's learning rate is head_lr_scale times that of
the prompts. Defaults are the authors'.

The head classifies the seen (base) classes only, so features of other classes do not train it. If
some classes are unseen, all synthetic features are of unseen classes and train only the prompts. If
all classes are seen (few_shot), synthetic features also train the head, with their loss weight.

At inference, the logits of base classes are (1 - v) prompt + v head, and those of new classes are
the prompts'. The authors never let the two groups compete. Here all classes share one softmax: the
prompts decide the total probability of the base classes, and the head only distributes it among
them. The head is not trained on new classes, so it cannot decide whether an image belongs to one.

Differences from the authors' head: it gets `head_norm` times the unit-norm features instead of
unnormalized ones, and it starts at 0 instead of random values, so that the order of the classes has
no effect on the start.
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
    """A linear layer over scaled features that classifies the seen classes.

    Attributes:
        weight: Weights of the layer, (feature, n_cls).
        bias: Biases of the layer, (1, n_cls).
        image: Scale and bias per channel of image features, (2, 1, feature).
        text: Scale and bias per channel of text features, (2, 1, feature).
        seen: Mask of the seen classes, (n_cls,).
    """

    seen: Tensor

    def __init__(self, task: SeedTask, norm: float) -> None:
        super().__init__()
        (n_cls, size), like = task.text_features.shape, task.features
        self._norm = norm
        start = torch.stack([like.new_ones(1, size), like.new_zeros(1, size)])
        self.image, self.text = nn.Parameter(start), nn.Parameter(start.clone())
        self.weight = nn.Parameter(like.new_zeros(size, n_cls))
        self.bias = nn.Parameter(like.new_zeros(1, n_cls))
        self.register_buffer("seen", task.seen, persistent=False)

    def forward(
        self, features: Float[Tensor, "n feature"], channels: Float[Tensor, "2 1 feature"]
    ) -> Float[Tensor, "n n_cls"]:
        """Return the logits of unit-norm features. Logits of unseen classes are -inf.

        Args:
            features: Image or text features.
            channels: `image` or `text`, according to the features.
        """
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
        """Return the weighted mean cross-entropy of images and of their classes' text features.

        Features of unseen classes are left out of the mean.

        Args:
            features: Image features with unit norm.
            text: Text features of all classes with unit norm.
            labels: Label of each image feature.
            weights: Loss weight of each image feature. None means 1 for all.
        """
        classes = torch.arange(len(text), device=labels.device)
        text_losses = self._losses(self(text, self.text), classes).gather(0, labels)
        losses = self._losses(self(features, self.image), labels) + text_losses
        counted = self.seen.gather(0, labels).to(losses.dtype)
        row_weights = counted if weights is None else counted * weights
        return (losses * row_weights).sum() / (2 * row_weights.sum())

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of each row, 0 for rows of unseen classes."""
        losses = -logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        return losses.masked_fill(~self.seen.gather(0, labels), 0.0)


class DePT(PromptTuned):
    """CoOp's or KgCoOp's contexts with an additional head for the base classes."""

    def __init__(self, config: DePTSettings, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        self.head = BaseHead(task, config.head_norm)
        self._share = task.features.new_tensor(config.head_weight)

    def optimizer(self) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
        """Return SGD, with head_lr_scale times the learning rate for the head."""
        kind, settings = super().optimizer()
        # The contexts are the first parameter, and all others are the head's.
        factors = [1.0] + [self.config.head_lr_scale] * len(list(self.head.parameters()))
        return kind, {**settings, "factors": factors}

    def loss(self, features: Features, labels: Labels, weights: Weights) -> Float[Tensor, ""]:
        """Return (1 - v) * prompt cross-entropy + v * head cross-entropy (+ kg_weight * L_kg)."""
        text, penalty = self.text_features(), None
        if isinstance(self.config, KgCoOpDePTConfig):
            penalty = self.config.kg_weight * self.knowledge_distance(text)
        logits = self.logit_scale * features @ text.T
        prompt_loss = self.cross_entropy(logits, labels, weights)
        head_loss: Tensor = self.head.loss(features, text, labels, weights)
        loss = (1 - self._share) * prompt_loss + self._share * head_loss
        return loss if penalty is None else loss + penalty

    def logits(self, images: Features, choice: Choice) -> Logits:
        """Return the prompts' logits for unseen classes, and fused logits for seen classes.

        The fused logits, (1 - v) prompt + v head, are shifted per image, so that the seen classes
        have the same total probability as under the prompts' logits.
        """
        prompt = super().logits(images, choice)
        head = self.head(images, self.head.image)
        share, seen = self._share, self.head.seen
        # The head's logits of unseen classes are -inf, and share * -inf is NaN if the share is 0.
        fused = (1 - share) * prompt + share * head.masked_fill(~seen, 0.0)
        prompt_total = prompt.masked_fill(~seen, -torch.inf).logsumexp(1, keepdim=True)
        fused_total = fused.masked_fill(~seen, -torch.inf).logsumexp(1, keepdim=True)
        return torch.where(seen, fused + prompt_total - fused_total, prompt)
