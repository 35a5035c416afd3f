"""Generalized zero-shot scores: one softmax over seen and unseen classes, calibrated stacking.

Source: Chao et al., "An Empirical Study and Analysis of Generalized Zero-Shot Learning for Object
Recognition in the Wild" (arXiv:1605.04253), secs. 3.2 and 4: a constant is taken off the scores of
seen classes; sweeping it gives the seen-unseen curve and the area under it (AUSUC).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ship.metrics.answers import Answers, harmonic_mean
from ship.transfer import fetched


@dataclass(frozen=True)
class _Margins:
    """What decides every picture's prediction under any constant, for one replica.

    margin: best seen logit less best unseen logit, (n,), ascending.
    seen, unseen: what a picture adds to S while it is called seen, and to U while unseen: the
        share of its class, and 0 where the class within the group is wrong; (n,) each.
    """

    margin: Float[Tensor, " n"]
    seen: Float[Tensor, " n"]
    unseen: Float[Tensor, " n"]

    def curve(self) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
        """S and U with the k lowest margins called unseen, k = 0 to n; fractions."""
        zero = self.margin.new_zeros(1)
        seen = self.seen.sum() - torch.cat([zero, self.seen.cumsum(0)])
        unseen = torch.cat([zero, self.unseen.cumsum(0)])
        # pictures of one margin change sides together
        apart = torch.cat([self.margin.diff() > 0, torch.ones_like(zero, dtype=torch.bool)])
        kept = torch.cat([torch.ones_like(zero, dtype=torch.bool), apart])
        return seen[kept], unseen[kept]

    def constants(self) -> Float[Tensor, " m"]:
        """A constant for every point of the curve: half-way between neighbouring margins."""
        values = self.margin.unique()
        middle = (values[1:] + values[:-1]) / 2
        return torch.cat([values[:1] - 1, middle, values[-1:] + 1])

    def at(self, constant: float) -> tuple[Tensor, Tensor]:
        """S and U under one constant."""
        called_seen = self.margin > constant
        return self.seen[called_seen].sum(), self.unseen[~called_seen].sum()


def score_one_softmax(
    answers: Answers,
    all_seen: bool,
    calibration: Float[Tensor, " replica"] | None = None,
) -> dict[str, Float[Tensor, " replica"]]:
    """Per-class-averaged S, U and H of every replica, plain and calibrated, and AUSUC; percent.

    Args:
        answers: to the pictures.
        all_seen: whether there is no picture of an unseen class.
        calibration: the constant to take off seen logits; None: the one with the best H on these
            very pictures (selection), reported as "calibration". Of constants with one H, the one
            nearest to 0.

    Without pictures of an unseen class, only "seen" is given.
    """
    rows = _margins(answers)
    if all_seen:
        return {"seen": 100 * torch.stack([row.at(0.0)[0] for row in rows])}
    constants = [None] * len(rows) if calibration is None else calibration.tolist()
    found = [_scores(*one) for one in zip(rows, constants, strict=True)]
    return {name: torch.stack([one[name] for one in found]) for name in found[0]}


def _scores(margins: _Margins, constant: float | None) -> dict[str, Tensor]:
    plain_seen, plain_unseen = margins.at(0.0)
    curve_seen, curve_unseen = margins.curve()
    if constant is None:
        constants = margins.constants()
        values = harmonic_mean(curve_seen, curve_unseen)
        best = (values >= values.max() - 1e-12).nonzero()[:, 0]
        constant = float(constants[best[constants[best].abs().argmin()]])
    seen, unseen = margins.at(constant)
    area = torch.trapezoid(curve_seen.flip(0), curve_unseen.flip(0)).abs()
    percent = {
        "seen": plain_seen,
        "unseen": plain_unseen,
        "harmonic_mean": harmonic_mean(plain_seen, plain_unseen),
        "calibrated_seen": seen,
        "calibrated_unseen": unseen,
        "calibrated_harmonic_mean": harmonic_mean(seen, unseen),
        "ausuc": area,
    }
    scaled = {name: 100 * value for name, value in percent.items()}
    return {**scaled, "calibration": seen.new_tensor(constant)}


def _margins(answers: Answers) -> list[_Margins]:
    """Each replica's margins, on the CPU: they are one number a picture, and sorted there."""
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
    margins, orders = found["margin"].sort(stable=True)
    return [
        _Margins(margin, right_seen[order], right_unseen[order])
        for margin, order, right_seen, right_unseen in zip(
            margins, orders, found["seen"], found["unseen"], strict=True
        )
    ]
