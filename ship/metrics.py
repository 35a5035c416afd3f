"""Accuracies of the protocols, in percent, for each replica.

Sources: calibrated stacking and its curve from Chao et al., "An Empirical Study and Analysis of
Generalized Zero-Shot Learning for Object Recognition in the Wild" (arXiv:1605.04253), secs. 3.2 and
4; base and new pictures mixed from DeCoOp (Zhou et al., ICML 2024, arXiv:2406.00345); OpenworldAUC
(Hua et al., ICML 2025, arXiv:2505.05180), which puts telling them apart and both classifications
into one number; expected calibration error from Guo et al. (ICML 2017, arXiv:1706.04599, sec. 2).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ship.replicas import fetched

# Logits that are looked at in one go: what is made of them on the way fits a processor's cache.
AT_ONCE = 2**18

BINS = 15
"""Equally wide bins of confidence, as Guo et al. have them."""


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers of each replica to the same n pictures.

    Each property is of one number a picture, made when it is first asked for, and kept; what it
    takes beside the logits is small. A picture's own kind are the seen classes, or the unseen
    ones, whichever its class is of.

    logits: class scores under each replica.
    labels: of each picture.
    seen: each replica's seen classes.
    competing: the only classes that may be answered; None: all.
    """

    logits: Float[Tensor, "replica n n_cls"]
    labels: Int[Tensor, " n"]
    seen: Bool[Tensor, "replica n_cls"]
    competing: Bool[Tensor, " n_cls"] | None = None

    @cached_property
    def is_seen(self) -> Bool[Tensor, "replica n"]:
        """Whether the picture's class is a seen one."""
        return self.seen[:, self.labels]

    @cached_property
    def right(self) -> Bool[Tensor, "replica n"]:
        """Whether the largest logit of all that compete is that of the picture's class."""
        if self.competing is not None:
            return self._among(self.competing.unsqueeze(0), torch.argmax) == self.labels
        return self._each(lambda logits, rows: logits.argmax(-1)) == self.labels

    @cached_property
    def own_right(self) -> Bool[Tensor, "replica n"]:
        """Whether the largest logit among its own kind is that of the picture's class."""
        seen, unseen = (self._among(own, torch.argmax) for own in (self.seen, ~self.seen))
        return torch.where(self.is_seen, seen, unseen) == self.labels

    @property
    def margin(self) -> Float[Tensor, "replica n"]:
        """Largest logit of a seen class less that of an unseen one (inf: there is none)."""
        return self._seen_largest.double() - self._unseen_largest.double()

    @property
    def likeness(self) -> Float[Tensor, "replica n"]:
        """ln of the odds of the likeliest seen class, one softmax over all classes.

        It is in the order of that class's probability, which rounds to 1 where a softmax is sharp.
        """
        barred = torch.where(self.seen, 0.0, -torch.inf).unsqueeze(1)

        def others(logits: Tensor, rows: slice) -> Tensor:
            likeliest = (logits + barred).argmax(-1, keepdim=True)
            return logits.scatter(-1, likeliest, -torch.inf).logsumexp(-1)

        return self._seen_largest.double() - self._each(others).double()

    @property
    def confidence(self) -> Float[Tensor, "replica n"]:
        """The largest probability, one softmax over the classes of the picture's own kind."""
        largest = torch.where(self.is_seen, self._seen_largest, self._unseen_largest)
        unseen = (~self.seen).to(largest).unsqueeze(1)

        def total(logits: Tensor, rows: slice) -> Tensor:
            # logsumexp of the own kind: exp of -inf takes several times as long as of a number
            own = (unseen - self.is_seen[:, rows].to(largest).unsqueeze(2)).abs_()
            top = largest[:, rows].unsqueeze(2)
            parts = (logits - top).clamp_max_(0).exp_().mul_(own)
            return parts.sum(-1).log_().add_(top.squeeze(2))

        return (largest - self._each(total)).double().exp()

    @property
    def finite(self) -> Bool[Tensor, " replica"]:
        """Whether no logit is NaN or infinite; no value is read on the host."""
        # a comparison with NaN, which is the extreme of what it is among, never holds
        low, high = self.logits.amin((1, 2)), self.logits.amax((1, 2))
        return (low > -torch.inf) & (high < torch.inf)

    @cached_property
    def _seen_largest(self) -> Float[Tensor, "replica n"]:
        return self._among(self.seen, torch.amax)

    @cached_property
    def _unseen_largest(self) -> Float[Tensor, "replica n"]:
        return self._among(~self.seen, torch.amax)

    def _among(self, classes: Bool[Tensor, "_ n_cls"], of: Callable[..., Tensor]) -> Tensor:
        """The largest logit among some classes, or whose it is, (replica, n).

        Args:
            classes: of each replica, or of all.
            of: torch.amax or torch.argmax.
        """
        # -inf is faster added to the logits of the others than numbers chosen among them
        barred = torch.where(classes, 0.0, -torch.inf).unsqueeze(1)
        return self._each(lambda logits, rows: of(logits + barred, -1))

    def _each(self, of: Callable[[Tensor, slice], Tensor]) -> Tensor:
        """What a function makes of each picture's logits, (replica, n).

        Args:
            of: takes the logits of m pictures, (replica, m, n_cls), and which pictures these are;
                gives (replica, m).
        """
        n_replicas, n, n_cls = self.logits.shape
        size = max(1, AT_ONCE // max(1, n_replicas * n_cls))
        if n <= size:
            return of(self.logits, slice(0, n))
        parts = [slice(start, start + size) for start in range(0, n, size)]
        return torch.cat([of(self.logits[:, rows], rows) for rows in parts], dim=1)


def percent(
    right: Bool[Tensor, "replica n"], counted: Bool[Tensor, "replica n"]
) -> Float[Tensor, " replica"]:
    """Percent of the counted pictures that are right, per replica."""
    return 100 * (right & counted).sum(1).double() / counted.sum(1).clamp_min(1)


def harmonic_mean(
    base: Float[Tensor, "*replica"], new: Float[Tensor, "*replica"]
) -> Float[Tensor, "*replica"]:
    """H = 2BN / (B + N); 0 where both are 0."""
    total = base + new
    return torch.where(total > 0, 2 * base * new / total.clamp_min(1e-12), total)


def score(answers: Answers, all_seen: bool) -> dict[str, Float[Tensor, " replica"]]:
    """Base-to-new and joint accuracies of each replica, in percent.

    base, new: pictures of seen (unseen) classes, told apart among those classes alone, as CoOp's
    base-to-new protocol does. joint_*: one softmax over all classes, as in generalised zero-shot.

    Args:
        answers: to the pictures.
        all_seen: whether there is no picture of an unseen class: only base is given.
    """
    counted = answers.is_seen
    base = percent(answers.own_right, counted)
    if all_seen:
        return {"base": base}
    new = percent(answers.own_right, ~counted)
    joint_base, joint_new = (percent(answers.right, kind) for kind in (counted, ~counted))
    return {
        "base": base,
        "new": new,
        "harmonic_mean": harmonic_mean(base, new),
        "joint_base": joint_base,
        "joint_new": joint_new,
        "joint_harmonic_mean": harmonic_mean(joint_base, joint_new),
    }


def score_one_softmax(
    answers: Answers, all_seen: bool, calibration: Float[Tensor, " replica"] | None = None
) -> dict[str, Float[Tensor, " replica"]]:
    """Per-class-averaged S, U and H of every replica, plain and calibrated, and AUSUC; percent.

    A constant is taken off the scores of seen classes; sweeping it gives the seen-unseen curve and
    the area under it (AUSUC). All is decided by the margins of pictures, one number each, which are
    sorted on the CPU.

    Args:
        answers: to the pictures.
        all_seen: whether there is no picture of an unseen class.
        calibration: the constant to take off seen logits; None: the one with the best H on these
            very pictures (selection), reported as "calibration". Of constants with one H, the one
            nearest to 0.

    Without pictures of an unseen class, only "seen" is given.
    """
    labels, seen, is_seen = answers.labels, answers.seen, answers.is_seen
    counts = seen.new_zeros(seen.shape[1], dtype=torch.long)
    counts = counts.index_add(0, labels, torch.ones_like(labels))
    n_seen = ((counts > 0) & seen).sum(1, keepdim=True).clamp_min(1)
    n_unseen = ((counts > 0) & ~seen).sum(1, keepdim=True).clamp_min(1)
    share = 1 / (counts[labels] * torch.where(is_seen, n_seen, n_unseen)).double()
    found = fetched(
        {
            # without unseen classes in the universe every margin is infinite: nothing to trade
            "margin": answers.margin,
            "seen": share * (is_seen & answers.own_right),
            "unseen": share * (~is_seen & answers.own_right),
        }
    )
    margins, order = found["margin"].sort(stable=True)
    rows = list(zip(margins, *(found[n].gather(1, order) for n in ("seen", "unseen")), strict=True))
    if all_seen:
        return {"seen": 100 * torch.stack([_under(0.0, *row)[0] for row in rows])}
    constants = [None] * len(rows) if calibration is None else calibration.tolist()
    each = [_of_replica(*one) for one in zip(constants, rows, strict=True)]
    return {name: torch.stack([one[name] for one in each]) for name in each[0]}


# What decides every picture's prediction under any constant, for one replica, (n,) each: the best
# seen logit less the best unseen logit, ascending; and what the picture adds to S while it is
# called seen, and to U while unseen: the share of its class, and 0 where the class within the group
# is wrong.
_Row = tuple[Tensor, Tensor, Tensor]


def _under(constant: float, margin: Tensor, seen: Tensor, unseen: Tensor) -> tuple[Tensor, Tensor]:
    """S and U under one constant; fractions."""
    called_seen = margin > constant
    return seen[called_seen].sum(), unseen[~called_seen].sum()


def _of_replica(constant: float | None, row: _Row) -> dict[str, Tensor]:
    """Plain and calibrated S, U and H of a replica, the area under its curve, and the constant."""
    margin, seen, unseen = row
    values, counts = margin.unique(return_counts=True)
    # S and U with the lowest margins called unseen, none to all; equal ones change sides together
    ends = F.pad(counts.cumsum(0), (1, 0))
    curve_seen = seen.sum() - F.pad(seen.cumsum(0), (1, 0))[ends]
    curve_unseen = F.pad(unseen.cumsum(0), (1, 0))[ends]
    if constant is None:
        # one for every point of the curve: half-way between neighbouring margins
        middle = (values[1:] + values[:-1]) / 2
        constants = torch.cat([values[:1] - 1, middle, values[-1:] + 1])
        means = harmonic_mean(curve_seen, curve_unseen)
        best = constants[means >= means.max() - 1e-12]
        constant = float(best[best.abs().argmin()])
    plain, calibrated = _under(0.0, *row), _under(constant, *row)
    fractions = {
        "seen": plain[0],
        "unseen": plain[1],
        "harmonic_mean": harmonic_mean(*plain),
        "calibrated_seen": calibrated[0],
        "calibrated_unseen": calibrated[1],
        "calibrated_harmonic_mean": harmonic_mean(*calibrated),
        "ausuc": torch.trapezoid(curve_seen.flip(0), curve_unseen.flip(0)).abs(),
    }
    scaled = {name: 100 * value for name, value in fractions.items()}
    return {**scaled, "calibration": seen.new_tensor(constant)}


def open_world(answers: Answers) -> dict[str, Float[Tensor, " replica"]]:
    """Metrics of a mixture of base and new pictures, of each replica, in percent.

    What harmonic means of two halves leave out: are base and new pictures told apart at all?

    joint_accuracy: of all pictures, one softmax over all classes.
    auroc: P(a base picture looks more like a base class than a new picture does), ties half; what
        it looks like is the largest probability of a base class, one softmax over all classes.
    openworld_auc: P(the same, and both pictures are classified right among their own classes);
        eq. 6 of arXiv:2505.05180, ties half as in its authors' code (roc_auc_score in
        models/GMoP.py of github.com/huacong/OpenworldAUC). Neither auroc nor base * new (as
        fractions) can be less.
    ece_base, ece_new: expected calibration error of the softmax over a picture's own classes.

    Args:
        answers: to pictures of base and of new classes.
    """
    is_base, right = answers.is_seen, answers.own_right
    likeness, confidence = answers.likeness, answers.confidence
    # over all pairs of a base and a new picture: from ranks, not from n x n pairs
    pairs = (is_base.sum(1) * (~is_base).sum(1)).clamp_min(1)
    above = _twice_above(likeness, ~is_base)
    above_right = _twice_above(likeness, ~is_base & right)
    return {
        "joint_accuracy": 100 * answers.right.double().mean(1),
        "auroc": 100 * ((above * is_base).sum(1).double() / 2 / pairs),
        "openworld_auc": 100 * ((above_right * (is_base & right)).sum(1).double() / 2 / pairs),
        "ece_base": 100 * _calibration_error(confidence, right, is_base),
        "ece_new": 100 * _calibration_error(confidence, right, ~is_base),
    }


def _twice_above(
    likeness: Float[Tensor, "replica n"], counted: Bool[Tensor, "replica n"]
) -> Int[Tensor, "replica n"]:
    """Twice the number of counted pictures that each picture is above, an equal one half."""
    ordered = likeness.masked_fill(~counted, torch.inf).sort(-1).values
    values = likeness.contiguous()
    return torch.searchsorted(ordered, values) + torch.searchsorted(ordered, values, right=True)


def _calibration_error(
    confidence: Float[Tensor, "replica n"],
    right: Bool[Tensor, "replica n"],
    counted: Bool[Tensor, "replica n"],
) -> Float[Tensor, " replica"]:
    """Sum over bins of |right answers - confidence| / n, of the counted pictures."""
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1  # (0, 1/15], (1/15, 2/15], ...
    gaps = torch.where(counted, right.double() - confidence, 0.0)
    by_bin = gaps.new_zeros(len(gaps), BINS).scatter_add(1, bins, gaps)
    return by_bin.abs().sum(1) / counted.sum(1).clamp_min(1)
