"""Gaussian discriminant analysis on features, training-free (arXiv:2402.04087).

Classes are Gaussians with means mu_c and a shared covariance, priors uniform; logits = zero-shot +
alpha * (w_c^T x + b_c) with w_c = P mu_c and b_c = -mu_c^T P mu_c / 2 (eq. 3), P the precision.

- Classes with features, real or synthetic: their means and one precision, eq. 4 (`precision: ks`)
  or the pseudoinverse of the mean over classes of their covariances (`pinv`). The authors' code has
  the first for few-shot, the second for base-to-new (github.com/mrflogs/ICLR24, main_few_shots.py
  and main_base2new.py). Where there are fewer views than features have dimensions, the second fits
  noise.
- Classes without features: with `new_classes: neighbours` the authors' Gaussians from the base
  features nearest to their text features, with a precision of their own
  (ship.generators.neighbours); with `zero_shot` their zero-shot logit alone.

Every view of a picture counts. w and b are centred over the classes that share a precision. Among
these it changes nothing; the authors compare no seen class with a new one, and here the zero-shot
logits set the two apart.

alpha is chosen on the selection split (the authors choose it by accuracy on base classes, which is
`selection: base_val`). Of `synthetic`, per_class and weight matter: synthetic features are a set
drawn once (whatever `draw` says) and count `weight` pictures each; ratio has no meaning here.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs import GDAConfig
from ship.finetuners.discriminant import Rows, discriminant, shared_precision
from ship.finetuners.training_set import FixedSet, fixed_set
from ship.generators.neighbours import (
    NEIGHBOURS,
    TEXT_COPIES,
    neighbour_means,
    neighbour_precision,
    seen_views,
)
from ship.synthesis import Synthesizer
from ship.tasks import Task
from ship.training import Part

# The authors' grid, and 0: the discriminant ignored.
ALPHAS = (0.0, 0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0)


class GDA:
    """R discriminants beside the zero-shot classifier.

    weight, bias: centred w and b, (replica, n_cls, feature) and (replica, n_cls).
    """

    epochs = 0

    def __init__(
        self,
        config: GDAConfig,
        task: Task,
        synthesizer: Synthesizer | None,
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        self.config = config
        self._task = task
        self.choices: tuple[Mapping[str, float], ...] = _choices(config.alpha, config.search)
        rows = fixed_set(task, synthesizer)
        fitted = [self._fit(replica, rows) for replica in range(task.n_replicas)]
        self.weight = torch.stack([weight for weight, _ in fitted]).to(task.features)
        self.bias = torch.stack([bias for _, bias in fitted]).to(task.features)

    def _fit(self, replica: int, found: FixedSet) -> tuple[Tensor, Tensor]:
        """One replica's w and b; 0 of a class that has no Gaussian."""
        rows = _rows(found, replica, self._task)
        means, present = rows.means(), rows.mass > 0
        weight, bias = torch.zeros_like(means), torch.zeros_like(rows.mass)
        precision = shared_precision(rows, self.config.precision, self.config.shrinkage)
        weight[present], bias[present] = discriminant(means[present], precision)
        alone = ~present
        if self.config.new_classes == "neighbours" and bool(alone.any()):
            views, text = seen_views(self._task, replica), self._task.text_features.cpu().double()
            precision = neighbour_precision(views, text[alone], NEIGHBOURS)
            near = neighbour_means(views, text[alone], NEIGHBOURS, TEXT_COPIES)
            weight[alone], bias[alone] = discriminant(near, precision)
        return weight, bias

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """Nothing to train."""
        return {}

    @torch.no_grad()
    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "replica n n_cls"]:
        """Zero-shot logits plus alpha times the discriminant."""
        terms = pictures @ self.weight.transpose(1, 2) + self.bias.unsqueeze(1)
        return self._task.zero_shot_logits(pictures) + choice["alpha"] * terms

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing is trained."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Nothing is trained."""

    def learned(self) -> Mapping[str, Part]:
        """The discriminant."""
        return {"weight": self.weight, "bias": self.bias}

    def parts(self) -> Mapping[str, Part]:
        """Nothing is trained."""
        return {}


def _rows(found: FixedSet, replica: int, task: Task) -> Rows:
    """A replica's features, every view a row; a synthetic feature's views are all alike."""
    count, views = found.counts[replica], found.features.shape[2]
    return Rows(
        found.features[replica, :count].flatten(0, 1).cpu().double(),
        found.labels[replica, :count].cpu().repeat_interleave(views),
        found.weights[replica, :count].cpu().double().repeat_interleave(views),
        len(task.class_names),
    )


def _choices(alpha: float, search: bool) -> tuple[Mapping[str, float], ...]:
    """The configured alpha first, so that it wins a tie; then the grid."""
    alphas = (alpha, *ALPHAS) if search else (alpha,)
    return tuple({"alpha": a} for a in dict.fromkeys(alphas))
