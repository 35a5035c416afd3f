"""Metrics of the protocols, in percent, for each seed.

Sources:

- Calibrated stacking and the seen-unseen curve: Chao et al., "An Empirical Study and Analysis of
  Generalized Zero-Shot Learning for Object Recognition in the Wild" (arXiv:1605.04253), secs. 3.2
  and 4.
- Accuracy on a mixture of base and new images: DeCoOp (Zhou et al., ICML 2024, arXiv:2406.00345).
- OpenworldAUC, which combines the detection of new classes and both classification accuracies: Hua
  et al. (ICML 2025, arXiv:2505.05180).
- Expected calibration error: Guo et al. (ICML 2017, arXiv:1706.04599), sec. 2.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ship.configs import METRICS
from ship.registry import PluginError
from ship.seeds import to_cpu

# Number of logits per chunk: intermediate results then fit into a processor's cache.
LOGITS_PER_CHUNK = 2**18

CUSTOM = "custom/"
"""Prefix of metric plugins' names in results."""
BINS = 15
"""Number of confidence bins of equal width, as in Guo et al."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions of each seed for the same n images.

    Properties have one value per seed and image, except `finite`, which has one per seed. They are
    computed in chunks, which takes little memory in addition to the logits. The *group* of an image
    is the set of seen classes if its class is seen, otherwise the set of unseen classes.

    Attributes:
        logits: Class scores of each seed.
        labels: Class of each image.
        seen: Mask of each seed's seen classes.
        competing: Mask of the classes among which `correct` chooses; no other property uses it.
            Defaults to all classes.
    """

    logits: Float[Tensor, "seed n n_cls"]
    labels: Int[Tensor, " n"]
    seen: Bool[Tensor, "seed n_cls"]
    competing: Bool[Tensor, " n_cls"] | None = None

    @cached_property
    def is_seen(self) -> Bool[Tensor, "seed n"]:
        """Whether the image's class is seen."""
        return self.seen[:, self.labels]

    @cached_property
    def correct(self) -> Bool[Tensor, "seed n"]:
        """Whether the image's class has the largest logit of all competing classes."""
        if self.competing is not None:
            return self._reduce_classes(self.competing.unsqueeze(0), torch.argmax) == self.labels
        return self._map_images(lambda logits, rows: logits.argmax(-1)) == self.labels

    @cached_property
    def group_correct(self) -> Bool[Tensor, "seed n"]:
        """Whether the image's class has the largest logit of its group."""
        seen, unseen = (self._reduce_classes(g, torch.argmax) for g in (self.seen, ~self.seen))
        return torch.where(self.is_seen, seen, unseen) == self.labels

    @property
    def margin(self) -> Float[Tensor, "seed n"]:
        """Largest logit of the seen classes minus that of the unseen ones; inf if all are seen."""
        return self._seen_largest.double() - self._unseen_largest.double()

    @property
    def seen_log_odds(self) -> Float[Tensor, "seed n"]:
        """Log-odds of the most probable seen class, with one softmax over all classes.

        They rank images like the probability of that class, but do not round to equal values: the
        probabilities of confident predictions all round to 1.
        """
        offsets = torch.where(self.seen, 0.0, -torch.inf).unsqueeze(1)

        def remaining(logits: Tensor, rows: slice) -> Tensor:
            likeliest = (logits + offsets).argmax(-1, keepdim=True)
            return logits.scatter(-1, likeliest, -torch.inf).logsumexp(-1)

        return self._seen_largest.double() - self._map_images(remaining).double()

    @property
    def confidence(self) -> Float[Tensor, "seed n"]:
        """Largest probability of a class, with the softmax over the image's group only."""
        largest = torch.where(self.is_seen, self._seen_largest, self._unseen_largest)
        unseen = (~self.seen).to(largest).unsqueeze(1)

        def total(logits: Tensor, rows: slice) -> Tensor:
            # logsumexp over the group; multiplying by a mask is several times faster than exp(-inf)
            group = (unseen - self.is_seen[:, rows].to(largest).unsqueeze(2)).abs_()
            top = largest[:, rows].unsqueeze(2)
            parts = (logits - top).clamp_max_(0).exp_().mul_(group)
            return parts.sum(-1).log_().add_(top.squeeze(2))

        return (largest - self._map_images(total)).double().exp()

    @property
    def finite(self) -> Bool[Tensor, " seed"]:
        """Whether all logits are finite. Computed on the device, without synchronization."""
        # NaN propagates through amin and amax, and every comparison with NaN is false
        low, high = self.logits.amin((1, 2)), self.logits.amax((1, 2))
        return (low > -torch.inf) & (high < torch.inf)

    @cached_property
    def _seen_largest(self) -> Float[Tensor, "seed n"]:
        return self._reduce_classes(self.seen, torch.amax)

    @cached_property
    def _unseen_largest(self) -> Float[Tensor, "seed n"]:
        return self._reduce_classes(~self.seen, torch.amax)

    def _reduce_classes(
        self, classes: Bool[Tensor, "_ n_cls"], reduction: Callable[..., Tensor]
    ) -> Tensor:
        """Return the largest logit among some classes, or the class that has it, (seed, n).

        Args:
            classes: Mask of the classes, (seed, n_cls), or (1, n_cls) for all seeds.
            reduction: torch.amax or torch.argmax.
        """
        # adding -inf to the logits of the other classes is faster than selecting columns
        offsets = torch.where(classes, 0.0, -torch.inf).unsqueeze(1)
        return self._map_images(lambda logits, rows: reduction(logits + offsets, -1))

    def _map_images(self, function: Callable[[Tensor, slice], Tensor]) -> Tensor:
        """Apply a function to the logits of all images, in chunks; return (seed, n).

        Args:
            function: Function of the logits of m images, (seed, m, n_cls), and of the slice of
                these images. It returns (seed, m).
        """
        n_seeds, n, n_cls = self.logits.shape
        size = max(1, LOGITS_PER_CHUNK // max(1, n_seeds * n_cls))
        if n <= size:
            return function(self.logits, slice(0, n))
        chunks = [slice(start, start + size) for start in range(0, n, size)]
        return torch.cat([function(self.logits[:, rows], rows) for rows in chunks], dim=1)


def percent(
    correct: Bool[Tensor, "seed n"], counted: Bool[Tensor, "seed n"]
) -> Float[Tensor, " seed"]:
    """Return each seed's percentage of counted images that are correct, 0 if none is counted."""
    return 100 * (correct & counted).sum(1).double() / counted.sum(1).clamp_min(1)


def harmonic_mean(
    base: Float[Tensor, "*seed"], new: Float[Tensor, "*seed"]
) -> Float[Tensor, "*seed"]:
    """Return H = 2BN / (B + N), or 0 if both are 0."""
    total = base + new
    return torch.where(total > 0, 2 * base * new / total.clamp_min(1e-12), total)


def score_base_to_new(
    predictions: Predictions, all_seen: bool
) -> dict[str, Float[Tensor, " seed"]]:
    """Compute base-to-new and joint accuracies of each seed, in percent.

    Args:
        predictions: Predictions for the images.
        all_seen: Whether all images are of seen classes.

    Returns:
        Metrics by name. Only `base` if all images are of seen classes.

        - base, new: accuracy on the images of seen (base) and of unseen (new) classes, classified
          among the classes of their group only, as in CoCoOp's base-to-new protocol.
        - harmonic_mean: H of base and new.
        - joint_base, joint_new, joint_harmonic_mean: the same with one softmax over all classes, as
          in generalized zero-shot learning.
    """
    is_base = predictions.is_seen
    base = percent(predictions.group_correct, is_base)
    if all_seen:
        return {"base": base}
    new = percent(predictions.group_correct, ~is_base)
    joint_base = percent(predictions.correct, is_base)
    joint_new = percent(predictions.correct, ~is_base)
    return {
        "base": base,
        "new": new,
        "harmonic_mean": harmonic_mean(base, new),
        "joint_base": joint_base,
        "joint_new": joint_new,
        "joint_harmonic_mean": harmonic_mean(joint_base, joint_new),
    }


def score_generalized_zero_shot(
    predictions: Predictions, all_seen: bool, constant: Float[Tensor, " seed"] | None = None
) -> dict[str, Float[Tensor, " seed"]]:
    """Compute metrics of generalized zero-shot learning for each seed.

    S and U are the class-averaged accuracies on images of seen and of unseen classes, with one
    softmax over all classes, and H is their harmonic mean. Calibrated stacking subtracts a constant
    from the logits of seen classes. Sweeping the constant gives the seen-unseen curve and the area
    under it (AUSUC). On the CPU, all metrics are computed from each image's margin and whether it
    is classified correctly within its group.

    Args:
        predictions: Predictions for the images.
        all_seen: Whether all images are of seen classes.
        constant: Each seed's constant of calibrated stacking. Defaults to the constant with the
            best H on these images; of several, to the one nearest to 0.

    Returns:
        Metrics by name. Only `seen` if all images are of seen classes.

        - seen, unseen, harmonic_mean: S, U and H without calibrated stacking, in percent.
        - calibrated_seen, calibrated_unseen, calibrated_harmonic_mean: the same with it.
        - ausuc: area under the seen-unseen curve, in percent.
        - calibration: the constant, in units of logits.
    """
    labels, seen, is_seen = predictions.labels, predictions.seen, predictions.is_seen
    counts = seen.new_zeros(seen.shape[1], dtype=torch.long)
    counts = counts.index_add(0, labels, torch.ones_like(labels))
    n_seen = ((counts > 0) & seen).sum(1, keepdim=True).clamp_min(1)
    n_unseen = ((counts > 0) & ~seen).sum(1, keepdim=True).clamp_min(1)
    # an image's contribution to S or U: accuracy is averaged over its class, then over the classes
    weight = 1 / (counts[labels] * torch.where(is_seen, n_seen, n_unseen)).double()
    values = to_cpu(
        {
            # infinite if the task has no unseen classes: every image is then predicted as seen
            "margin": predictions.margin,
            "seen": weight * (is_seen & predictions.group_correct),
            "unseen": weight * (~is_seen & predictions.group_correct),
        }
    )
    margins, order = values["margin"].sort(stable=True)
    seen_weights, unseen_weights = (values[name].gather(1, order) for name in ("seen", "unseen"))
    rows = list(zip(margins, seen_weights, unseen_weights, strict=True))
    if all_seen:
        return {"seen": 100 * torch.stack([_score_with_constant(0.0, *row)[0] for row in rows])}
    constants = [None] * len(rows) if constant is None else constant.tolist()
    scores = [_score_seed(value, row) for value, row in zip(constants, rows, strict=True)]
    return {name: torch.stack([score[name] for score in scores]) for name in scores[0]}


# Values of one seed, (n,) each, sorted by margin. They determine S and U for any constant:
# - the images' margins; an image is predicted as seen if its margin exceeds the constant
# - each image's contribution to S if it is predicted as seen
# - each image's contribution to U if it is predicted as unseen
# An image contributes 0 to the accuracy of the other group. If it is misclassified within its own
# group, it contributes 0 to both.
_Row = tuple[Tensor, Tensor, Tensor]


def _score_with_constant(
    constant: float, margin: Tensor, seen: Tensor, unseen: Tensor
) -> tuple[Tensor, Tensor]:
    """Return S and U for one constant, as fractions."""
    predicted_seen = margin > constant
    return seen[predicted_seen].sum(), unseen[~predicted_seen].sum()


def _score_seed(constant: float | None, row: _Row) -> dict[str, Tensor]:
    """Return the metrics of one seed; see score_generalized_zero_shot.

    Args:
        constant: Constant of calibrated stacking. None uses the one with the best H.
        row: The seed's margins and contributions.
    """
    margin, seen, unseen = row
    values, counts = margin.unique(return_counts=True)
    # point k of the curve: S and U if the images with the k lowest distinct margins are predicted
    # as unseen
    ends = F.pad(counts.cumsum(0), (1, 0))
    curve_seen = seen.sum() - F.pad(seen.cumsum(0), (1, 0))[ends]
    curve_unseen = F.pad(unseen.cumsum(0), (1, 0))[ends]
    if constant is None:
        # one constant per point of the curve: half-way between neighboring margins
        middle = (values[1:] + values[:-1]) / 2
        constants = torch.cat([values[:1] - 1, middle, values[-1:] + 1])
        means = harmonic_mean(curve_seen, curve_unseen)
        best = constants[means >= means.max() - 1e-12]
        constant = float(best[best.abs().argmin()])
    uncalibrated, calibrated = _score_with_constant(0.0, *row), _score_with_constant(constant, *row)
    fractions = {
        "seen": uncalibrated[0],
        "unseen": uncalibrated[1],
        "harmonic_mean": harmonic_mean(*uncalibrated),
        "calibrated_seen": calibrated[0],
        "calibrated_unseen": calibrated[1],
        "calibrated_harmonic_mean": harmonic_mean(*calibrated),
        "ausuc": torch.trapezoid(curve_seen.flip(0), curve_unseen.flip(0)).abs(),
    }
    percentages = {name: 100 * value for name, value in fractions.items()}
    return {**percentages, "calibration": seen.new_tensor(constant)}


def score_open_world(predictions: Predictions) -> dict[str, Float[Tensor, " seed"]]:
    """Compute metrics of a mixture of base and new images, in percent per seed.

    They measure whether base and new images can be distinguished, which the harmonic mean of two
    separate accuracies does not.

    Args:
        predictions: Predictions for images of base and of new classes.

    Returns:
        Metrics by name:

        - joint_accuracy: accuracy on all images, with one softmax over all classes.
        - auroc: probability that a base image has a higher base score than a new image; ties count
          half. The base score is the largest probability of a base class, with one softmax over all
          classes.
        - openworld_auc: probability that, in addition, both images are classified correctly within
          their groups (arXiv:2505.05180, eq. 6). Ties count half, as in the authors' code
          (roc_auc_score in models/GMoP.py of github.com/huacong/OpenworldAUC). As a fraction, it is
          at most auroc and at most base * new.
        - ece_base, ece_new: expected calibration error on base and on new images, with the softmax
          over the image's group only.
    """
    is_base, correct = predictions.is_seen, predictions.group_correct
    seen_log_odds, confidence = predictions.seen_log_odds, predictions.confidence
    # pairs of a base and a new image are counted with ranks, without n x n comparisons
    pairs = (is_base.sum(1) * (~is_base).sum(1)).clamp_min(1)
    ranks = _compute_double_ranks(seen_log_odds, ~is_base)
    ranks_among_correct = _compute_double_ranks(seen_log_odds, ~is_base & correct)
    detected_pairs = (ranks * is_base).sum(1).double() / 2
    correct_pairs = (ranks_among_correct * (is_base & correct)).sum(1).double() / 2
    return {
        "joint_accuracy": 100 * predictions.correct.double().mean(1),
        "auroc": 100 * (detected_pairs / pairs),
        "openworld_auc": 100 * (correct_pairs / pairs),
        "ece_base": 100 * _compute_calibration_error(confidence, correct, is_base),
        "ece_new": 100 * _compute_calibration_error(confidence, correct, ~is_base),
    }


def compute_custom(
    predictions: Predictions, names: Sequence[str]
) -> dict[str, Float[Tensor, " seed"]]:
    """Compute the values of metric plugins, seed by seed.

    Args:
        predictions: Predictions for the test images.
        names: Names of the metrics.

    Returns:
        CUSTOM + metric name -> value per seed. NaN for seeds with a non-finite logit.

    Raises:
        PluginError: A metric does not return a finite number.
    """
    if not names:
        return {}
    labels = predictions.labels.cpu().numpy().copy()
    values: dict[str, list[float]] = {name: [] for name in names}
    for seed_index, is_finite in enumerate(predictions.finite.tolist()):
        logits = predictions.logits[seed_index].cpu().double().numpy().copy()
        seen = predictions.seen[seed_index].cpu().numpy().copy()
        for array in (logits, labels, seen):
            array.setflags(write=False)  # a metric must not change what the next one reads
        for name in names:
            value = METRICS[name](logits, labels, seen) if is_finite else math.nan
            if is_finite and not is_finite_number(value):
                label = METRICS.origins[name].label
                raise PluginError(
                    f"{label}: metric {name} must return a finite number, got {value!r}"
                )
            values[name].append(float(value))
    return {
        f"{CUSTOM}{name}": predictions.logits.new_tensor(numbers, dtype=torch.double)
        for name, numbers in values.items()
    }


def is_finite_number(value: object) -> bool:
    """Return True for a finite Python or numpy number."""
    return isinstance(value, int | float | np.floating | np.integer) and math.isfinite(value)


def _compute_double_ranks(
    seen_log_odds: Float[Tensor, "seed n"], counted: Bool[Tensor, "seed n"]
) -> Int[Tensor, "seed n"]:
    """Return twice each image's rank among the counted images.

    An image's rank is the number of counted images with lower log-odds, plus half the number with
    equal log-odds. Doubled, it is an integer.
    """
    order = seen_log_odds.masked_fill(~counted, torch.inf).sort(-1).values
    values = seen_log_odds.contiguous()
    return torch.searchsorted(order, values) + torch.searchsorted(order, values, right=True)


def _compute_calibration_error(
    confidence: Float[Tensor, "seed n"],
    correct: Bool[Tensor, "seed n"],
    counted: Bool[Tensor, "seed n"],
) -> Float[Tensor, " seed"]:
    """Return the sum over bins of |sum of (correct - confidence)| / n, for the n counted images."""
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1  # (0, 1/15], (1/15, 2/15], ...
    gaps = torch.where(counted, correct.double() - confidence, 0.0)
    by_bin = gaps.new_zeros(len(gaps), BINS).scatter_add(1, bins, gaps)
    return by_bin.abs().sum(1) / counted.sum(1).clamp_min(1)
