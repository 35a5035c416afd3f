"""LP++: a linear probe and the text features, added with a trained multiplier for each class.

logits_k = x^T (w_k + alpha_k t_k), without CLIP's factor. Source: Huang, Shakeri et al.,
arXiv:2404.02285, and their code (github.com/FereshteShakeri/FewShot-CLIP-Strong-Baseline,
methods/linear_probe_p2.py), whose figures are taken where they say more than the paper:

- w_k starts at the sum of the class's features. alpha starts at `alpha_scale` times the cosine of a
  picture to its own class's text feature, averaged over each class and then over the classes, so
  that it is the same for all of them.
- Each epoch is a step of gradient descent on all features, with momentum 0.9 and the rate
  4 / lambda_max(mean of x x^T) for w; every tenth step alpha takes one without momentum, with the
  rate 1 / (4 max_k mean of (x^T t_k)^2). Both come from bounds of the loss's curvature, so that no
  learning rate is to be chosen.

The code's bias, which starts at random, is left out, as in the paper. Its epoch is chosen on
validation pictures. Here all views count, the views of a picture sharing its weight; classes
without features start at w = 0 and keep it, so that alpha * x^T t alone speaks for them.

Of `synthetic`, per_class and weight matter: synthetic features are a set drawn once, whatever
`draw` says, and count `weight` pictures each in loss, start and rates; ratio has no meaning here.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ship.clip import FrozenCLIP
from ship.configs.finetuners import LPPlusPlusConfig
from ship.methods import Choice, Draw, Features, Finetuner, Logits
from ship.tasks import SeedTask

MOMENTUM = 0.9
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
