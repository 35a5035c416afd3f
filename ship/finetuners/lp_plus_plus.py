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

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs import LPPlusPlusConfig
from ship.finetuners.base import classification_loss
from ship.finetuners.training_set import fixed_set
from ship.synthesis import Synthesizer
from ship.tasks import Task
from ship.training import Counter, Part

MOMENTUM = 0.9
ALPHA_EVERY = 10


class LPPlusPlus:
    """R fused probes.

    weight: w, (replica, n_cls, feature). alpha: (replica, n_cls).
    rates: of w and of alpha, (2, replica).
    """

    choices: tuple[Mapping[str, float], ...] = ({},)

    def __init__(
        self,
        config: LPPlusPlusConfig,
        task: Task,
        synthesizer: Synthesizer | None,
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        self.config = config
        self._task = task
        self._allowed: Bool[Tensor, "replica n_cls"] | None = None if synthesizer else task.seen
        rows = fixed_set(task, synthesizer)
        views = rows.features.shape[2]
        self._features = rows.features.flatten(1, 2)
        # padding has no weight; its label must be of a class that the loss runs over all the same
        labels = torch.where(rows.used, rows.labels, rows.labels[:, :1])
        self._labels = labels.repeat_interleave(views, dim=1)
        self._shares = (rows.weights / views).repeat_interleave(views, dim=1)
        weight = task.features.new_zeros(*task.seen.shape, task.features.shape[-1])
        spread = self._labels.unsqueeze(2).expand_as(self._features)
        weight.scatter_add_(1, spread, self._shares.unsqueeze(2) * self._features)
        mass = weight.new_zeros(task.seen.shape).scatter_add(1, self._labels, self._shares)
        found = [self._constants(r, weight[r], mass[r]) for r in range(task.n_replicas)]
        first, w_rate, alpha_rate = (weight.new_tensor(value) for value in zip(*found, strict=True))
        self.rates = torch.stack([w_rate, alpha_rate]) * config.rate
        alpha = self.config.alpha_scale * first.unsqueeze(1).expand_as(mass)
        self.weight, self.alpha = weight.requires_grad_(), alpha.clone().requires_grad_()
        self._velocity = torch.zeros_like(self.weight, requires_grad=False)
        self._done = Counter()

    def _constants(self, replica: int, sums: Tensor, mass: Tensor) -> tuple[float, float, float]:
        """Of one replica, in double: mean cosine to the own class's text; the rates of w, alpha."""
        x, share = self._features[replica].cpu().double(), self._shares[replica].cpu().double()
        share = share / share.sum()
        text, mass = self._task.text_features.cpu().double(), mass.cpu().double()
        shown = mass > 0
        means = sums.cpu().double()[shown] / mass[shown].unsqueeze(1)
        cosine = float((means * text[shown]).sum(1).mean())
        if self._allowed is not None:
            text = text[self._allowed[replica].cpu()]
        second = x.T @ (share.unsqueeze(1) * x)
        squares = ((x @ text.T).square() * share.unsqueeze(1)).sum(0)
        return cosine, 4 / float(torch.linalg.eigvalsh(second)[-1]), 1 / (4 * float(squares.max()))

    @property
    def epochs(self) -> int:
        """Training epochs."""
        return self.config.epochs

    def loss(self) -> Float[Tensor, " replica"]:
        """Weighted mean cross-entropy of all features."""
        logits = self._scores(self._features)
        return classification_loss(logits, self._labels, self._allowed, self._shares)

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """One step on all features: of w, and every tenth time of alpha."""
        self._done.value += 1
        loss = self.loss()
        # summed over replicas, so that each one's gradient is that of its own loss
        by_weight, by_alpha = torch.autograd.grad(loss.sum(), [self.weight, self.alpha])
        with torch.no_grad():
            self._velocity.mul_(MOMENTUM).add_(by_weight)
            self.weight.sub_(self.rates[0, :, None, None] * self._velocity)
            if self._done.value % ALPHA_EVERY == 0:
                self.alpha.sub_(self.rates[1, :, None] * by_alpha)
        return {"loss": loss.detach()}

    @torch.no_grad()
    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "replica n n_cls"]:
        """x^T (w_k + alpha_k t_k)."""
        return self._scores(pictures)

    def _scores(self, features: Tensor) -> Tensor:
        whole = self.weight + self.alpha.unsqueeze(2) * self._task.text_features
        return features @ whole.transpose(1, 2)

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and multipliers."""
        return {"weight": self.weight.detach().clone(), "alpha": self.alpha.detach().clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put weights and multipliers back."""
        with torch.no_grad():
            self.weight.copy_(state["weight"])
            self.alpha.copy_(state["alpha"])

    def learned(self) -> Mapping[str, Part]:
        """Weights and multipliers."""
        return {"weight": self.weight, "alpha": self.alpha}

    def parts(self) -> Mapping[str, Part]:
        """Weights and multipliers, and what moves them."""
        return {**self.learned(), "velocity": self._velocity, "done": self._done}
