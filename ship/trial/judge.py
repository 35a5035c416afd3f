"""Judges the features synthesized for an exam's classes against the exam's real pictures."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ship.generators import FeatureSource, Sample
from ship.protocols import Exam
from ship.quality import flags, measure_quality
from ship.replicas import ReplicaRng
from ship.trial_config import NonFiniteLoss

# Synthetic features a class: as many as there are real pictures, within these bounds. The mean of
# fewer comes short in cosine by chance alone; more than 50 cost time and tell nothing new.
FEWEST, MOST = 16, 50
# ... of which two a class at least, but with very many classes no more than this in all.
MOST_IN_ALL = 4000


def judge(
    generator: FeatureSource | None, exams: Sequence[Exam], seeds: Sequence[int]
) -> dict[str, Tensor]:
    """Quality of features synthesized for the exams' classes, (replica,) each, by name.

    Over several exams it is the mean, of flags the maximum: one is up where any target raised it.

    Args:
        generator: fitted, of as many replicas as there are seeds; None: {}, there are no features.
        exams: real pictures, and the tasks whose classes are synthesized.
        seeds: of each replica.

    Raises:
        NonFiniteLoss: synthetic features are NaN or infinite.
    """
    if generator is None:
        return {}
    found = [judge_exam(generator.sample, exam, seeds) for exam in exams]
    shared = [name for name in found[0] if all(name in one for one in found)]
    stacked = {name: torch.stack([one[name] for one in found]) for name in shared}
    return {n: v.amax(0) if n.startswith("flag/") else v.mean(0) for n, v in stacked.items()}


def judge_exam(sample: Sample, exam: Exam, seeds: Sequence[int]) -> dict[str, Tensor]:
    """quality/NAME and flag/NAME of freshly synthesized features, (replica,) each.

    Beside ship.quality's: recognised_by_pictures and recognised_by_text, the percent of features
    that a classifier over all the exam's classes takes for their own class (class means of the
    exam's pictures; the zero-shot classifier).

    The classes are those that a fine-tuner gets synthetic features of, as far as the exam has
    pictures of them. {} where it has none.

    Args:
        sample: of a fitted generator, of as many replicas as there are seeds.
        exam: real pictures, and the task whose classes are synthesized.
        seeds: of each replica.

    Raises:
        NonFiniteLoss: synthetic features are NaN or infinite.
    """
    task, pictures = exam.task, exam.pictures
    device, dtype = task.features.device, task.features.dtype
    ids = task.synthesized_ids
    rows = [torch.isin(pictures.labels, own) for own in ids]
    if not all(bool(shown.any()) for shown in rows):
        return {}
    # of the exam as a whole, so that no seed's number depends on the seeds beside it
    per_class = round(len(pictures.labels) / len(pictures.labels.unique()))
    per_class = min(max(per_class, FEWEST), MOST, max(2, MOST_IN_ALL // ids.shape[1]))
    labels = ids.repeat_interleave(per_class, dim=1)
    noise = ReplicaRng(seeds, "quality/noise", device, dtype)
    made = sample(task.for_generator(labels), noise)
    if bad := (~made.isfinite().flatten(1).all(1)).nonzero().flatten().tolist():
        raise NonFiniteLoss("synthetic features are not finite", bad)
    real = [pictures.features[shown] for shown in rows]
    classes = [pictures.labels[shown] for shown in rows]
    draws = ReplicaRng(seeds, "quality/draws")
    measured = measure_quality(made, labels, real, classes, task.text_features, draws)
    recognised = {
        "recognised_by_pictures": _recognised(made, labels, *_class_means(exam)),
        "recognised_by_text": _recognised(made, labels, task.text_features, None),
    }
    found = {f"quality/{n}": v for n, v in {**measured, **recognised}.items()}
    return {**found, **{f"flag/{name}": value for name, value in flags(measured).items()}}


def _class_means(exam: Exam) -> tuple[Float[Tensor, "n_cls feature"], Bool[Tensor, " n_cls"]]:
    """Mean real feature of every class of the universe, unit norm, and which classes have one."""
    labels, features = exam.pictures.labels, exam.pictures.features
    sums = features.new_zeros(len(exam.task.class_names), features.shape[1])
    sums.index_add_(0, labels, features)
    return F.normalize(sums, dim=-1), labels.bincount(minlength=len(sums)) > 0


def _recognised(
    made: Float[Tensor, "replica m feature"],
    labels: Int[Tensor, "replica m"],
    classifier: Float[Tensor, "n_cls feature"],
    known: Bool[Tensor, " n_cls"] | None,
) -> Float[Tensor, " replica"]:
    """Percent of synthetic features that are nearest, by cosine, to their own class of all known.

    Features of classes that the classifier does not know are not counted.
    """
    scores = made @ classifier.T
    counted = torch.ones_like(labels, dtype=torch.bool)
    if known is not None:
        scores = scores.masked_fill(~known, -torch.inf)
        counted = known[labels]
    right = (scores.argmax(-1) == labels) & counted
    return (100 * right.sum(1).double() / counted.sum(1).clamp_min(1)).cpu()
