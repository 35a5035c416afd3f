"""Linear probes on image features: logistic regression, ZS-LP, CLAP, and LP++.

The first is CLIP's own (arXiv:2103.00020, sec. 3.2), logits = logit_scale * x W^T + b, but by
default started at W = text features, b = 0 (as in WiSE-FT, arXiv:2109.01903). Classes without
features, real or synthetic, keep their initial weights: the loss runs over the other ones.

ZS-LP and CLAP are probes of cosines that start from the text features: logits = logit_scale * x w^T
/ |w|; the weights w_c start at the text features. Source: Silva-Rodriguez et al., arXiv:2312.12730
(ZS-LP in sec. 3, CLAP in sec. 4) and their code (github.com/jusiro/CLAP, trainers/adapters.py,
constraint "l2"): SGD with momentum 0.9, learning rate 0.1, cosine to 0, 300 epochs in batches of
256; nothing is chosen on validation pictures.

CLAP's loss adds the mean over classes of lambda_c |w_c - t_c|^2. lambda_c is the mean probability
that zero-shot CLIP gives class c for the class's own training pictures: where the text feature does
well it is kept. The multipliers stay as they are at the start, as in the authors' results.

The authors start from text features that are not normalised, which decides what a learning rate and
a penalty mean for a cosine. Here text features have unit norm, and `norm` times them is the start.
Left out is the authors' warm-up epoch. What they do not have: classes without pictures are no part
of loss or penalty; where features of them are synthesized, lambda_c is the mean of the others'.

The first probe's weights are not normalised, so that a class's logits may grow as a whole; it has a
bias for each class, and is trained by AdamW. `synthetic` acts by ratio, draw and weight, as in
every fine-tuner that trains step by step.

LP++: a linear probe and the text features, added with a trained multiplier for each class.

logits_k = x^T (w_k + alpha_k t_k), without CLIP's factor. Source: Huang, Shakeri et al.,
arXiv:2404.02285, and their code (github.com/FereshteShakeri/FewShot-CLIP-Strong-Baseline,
methods/linear_probe_p2.py), whose figures are taken where they say more than the paper:

- w_k starts at the sum of the class's features. alpha starts at `alpha_scale` times the cosine of a
  picture to its own class's text feature, averaged over each class and then over the classes, so
  that it is the same for all of them.
- Each epoch is a step of gradient descent on all features, with momentum 0.9 and the rate
  4 / lambda_max(mean of x x^T) for w; every tenth step alpha takes one without momentum, with the
  rate 1 / (4 max_k mean of (x^T t_k)^2). Both come from bounds of the loss's curvature, with the
  code's factors 4 and 1/4, so that no learning rate is to be chosen.

The code's bias, which starts at random, is left out, as in the paper. Its epoch is the last of the
best on `shots` validation pictures of each class, and it never sets alpha's gradient back to 0:
each of alpha's steps is along the sum of all gradients so far. Here all views count, the views of a
picture sharing its weight; classes without features start at w = 0 and keep it, so that
alpha * x^T t alone speaks for them.

Of `synthetic`, per_class and weight matter: synthetic features are a set drawn once, whatever
`draw` says, and count `weight` pictures each in loss, start and rates; ratio has no meaning here.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ship.clip import FrozenCLIP
from ship.configs.finetuners import CLAPConfig, LinearProbeConfig, LPPlusPlusConfig, ProbeSettings
from ship.methods import Choice, Draw, Features, Finetuner, Labels, Logits, SeedTask, Weights

MOMENTUM = 0.9


class LinearProbe(Finetuner):
    """weight, bias: (n_cls, feature) and (n_cls,).

    AdamW without decay, which would draw classes without data away from where they start.
    """

    stream = "linear_probe"

    def __init__(
        self, config: LinearProbeConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw
    ) -> None:
        super().__init__(config, task, clip, draw)
        self._start = self.text if config.init == "zero_shot" else torch.zeros_like(self.text)
        self.weight = nn.Parameter(self._start.clone())
        self.bias = nn.Parameter(torch.zeros_like(self.text[:, 0]))

    def loss(self, features: Features, labels: Labels, weights: Weights) -> Float[Tensor, ""]:
        """Weighted mean cross-entropy of a batch + l2 / 2 * |W - W_0|^2 (b is not penalised)."""
        distance = (self.weight - self._start).square().sum()
        l2: float = self.config.l2
        return super().loss(features, labels, weights) + l2 / 2 * distance

    def logits(self, pictures: Features, choice: Choice) -> Logits:
        """logit_scale * x W^T + b."""
        return self.logit_scale * (pictures @ self.weight.T) + self.bias


class ZSLP(Finetuner):
    """A probe without penalty; weight: (n_cls, feature)."""

    stream = "zs_lp"  # of both, so that CLAP sees the batches of its rival

    def __init__(self, config: ProbeSettings, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        self._start = config.norm * self.text
        self.weight = nn.Parameter(self._start.clone())

    def optimizer(self) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
        """SGD with the authors' momentum."""
        return torch.optim.SGD, {"lr": self.config.lr, "momentum": MOMENTUM}

    def logits(self, pictures: Features, choice: Choice) -> Logits:
        """logit_scale * cosine to the weights."""
        return self.logit_scale * pictures @ F.normalize(self.weight, dim=-1).T


class CLAP(ZSLP):
    """A probe whose classes are held near their text features as far as those do well.

    multipliers: lambda_c, 0 of a class that the loss does not run over, (n_cls,).
    """

    multipliers: Tensor

    def __init__(self, config: CLAPConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        confidence = zero_shot_confidence(task, self.allowed)
        self.register_buffer("multipliers", confidence, persistent=False)

    def loss(self, features: Features, labels: Labels, weights: Weights) -> Float[Tensor, ""]:
        """Weighted mean cross-entropy + weight * mean over classes of lambda_c |w_c - w0_c|^2."""
        distance = (self.weight - self._start).square().sum(-1)
        n = len(distance) if self.allowed is None else self.allowed.sum()
        penalty: Tensor = (self.multipliers * distance).sum() / n
        weight: float = self.config.weight
        return super().loss(features, labels, weights) + weight * penalty


def zero_shot_confidence(
    task: SeedTask, allowed: Bool[Tensor, " n_cls"] | None
) -> Float[Tensor, " n_cls"]:
    """Mean zero-shot probability of its own class over a class's training pictures, in all views.

    Args:
        task: whose pictures they are.
        allowed: classes that share the probability, and that have a result beside 0; None: all, of
            which those without pictures have the mean of the others'.
    """
    sums, numbers = task.features.new_zeros(2, len(task.class_names))
    for view in task.features.unbind(1):
        logits = task.logit_scale * view @ task.text_features.T
        if allowed is not None:
            logits = logits.masked_fill(~allowed, -torch.inf)
        own = logits.softmax(-1).gather(1, task.labels.unsqueeze(1)).squeeze(1)
        sums = sums.scatter_add(0, task.labels, own)
        numbers = numbers.scatter_add(0, task.labels, torch.ones_like(own))
    found: Tensor = sums / numbers.clamp_min(1)
    if allowed is not None:
        return found
    return torch.where(numbers > 0, found, found.sum() / (numbers > 0).sum())


ALPHA_EVERY = 10


class LPPlusPlus(Finetuner):
    """weight: w, (n_cls, feature). alpha: (n_cls,).

    features, labels, shares: every view of every row, its class, and what it counts as.
    weight_rate, alpha_rate: of the steps. velocity, done: of w, and how many there were.
    """

    feed = "own"
    remembered = ("velocity", "done")
    features: Tensor
    labels: Tensor
    shares: Tensor
    weight_rate: Tensor
    alpha_rate: Tensor
    velocity: Tensor
    done: Tensor

    def __init__(
        self, config: LPPlusPlusConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw
    ) -> None:
        super().__init__(config, task, clip, draw)
        rows, views = task.fixed_rows, task.fixed_rows.features.shape[1]
        features, labels = rows.features.flatten(0, 1), rows.labels.repeat_interleave(views)
        shares = (rows.weights / views).repeat_interleave(views)
        sums = torch.zeros_like(self.text).index_add(0, labels, shares.unsqueeze(1) * features)
        mass = torch.zeros_like(self.text[:, 0]).index_add(0, labels, shares)
        cosine, *rates = self._constants(features, shares, sums, mass)
        self.weight = nn.Parameter(sums)
        self.alpha = nn.Parameter(config.alpha_scale * sums.new_tensor(cosine).expand_as(mass))
        held = {
            "features": features,
            "labels": labels,
            "shares": shares,
            "weight_rate": config.rate * sums.new_tensor(rates[0]),
            "alpha_rate": config.rate * sums.new_tensor(rates[1]),
            "velocity": torch.zeros_like(sums),
            "done": labels.new_zeros(()),
        }
        for name, value in held.items():
            self.register_buffer(name, value, persistent=False)

    def _constants(self, x: Tensor, share: Tensor, sums: Tensor, mass: Tensor) -> list[float]:
        """In double: mean cosine to the own class's text; the rates of w and of alpha."""
        x, share, sums, mass, text = (v.cpu().double() for v in (x, share, sums, mass, self.text))
        share, shown = share / share.sum(), mass > 0
        means = sums[shown] / mass[shown].unsqueeze(1)
        cosine = (means * text[shown]).sum(1).mean()
        if self.allowed is not None:
            text = text[self.allowed.cpu()]
        second = x.T @ (share.unsqueeze(1) * x)
        squares = ((x @ text.T).square() * share.unsqueeze(1)).sum(0)
        return [
            float(cosine),
            4 / float(torch.linalg.eigvalsh(second)[-1]),
            1 / (4 * float(squares.max())),
        ]

    def epoch(self) -> Float[Tensor, ""]:
        """One step on all features: of w, and every tenth time of alpha; the loss before it."""
        slopes_and_loss = torch.func.grad_and_value(self._whole_loss, argnums=(0, 1))
        (by_weight, by_alpha), loss = slopes_and_loss(self.weight, self.alpha)
        self.done.add_(1)
        self.velocity.mul_(MOMENTUM).add_(by_weight)
        self.weight.sub_(self.weight_rate * self.velocity)
        self.alpha.sub_(self.alpha_rate * by_alpha * (self.done % ALPHA_EVERY == 0))
        return torch.as_tensor(loss)

    def _whole_loss(self, weight: Tensor, alpha: Tensor) -> Tensor:
        """Weighted mean cross-entropy of all features."""
        # padding has no weight; its label must be of a class that the loss runs over all the same
        labels = torch.where(self.labels < 0, self.labels[0], self.labels)
        return self.cross_entropy(self._scores(self.features, weight, alpha), labels, self.shares)

    def logits(self, pictures: Features, choice: Choice) -> Logits:
        """x^T (w_k + alpha_k t_k)."""
        return self._scores(pictures, self.weight, self.alpha)

    def _scores(self, features: Tensor, weight: Tensor, alpha: Tensor) -> Tensor:
        return features @ (weight + alpha.unsqueeze(1) * self.text).T
