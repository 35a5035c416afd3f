"""The judge of synthetic features: which classes and pictures it compares, what it recognises."""

import torch
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.protocols import Exam, build_protocol
from ship.quality import judge_exam
from ship.replicas import ReplicaRng
from ship.subsets import FeatureSet
from ship.tasks import Pictures
from ship.trial_config import TrialConfig

SEEDS = [0, 1]


class Table:
    """Gives the same feature for a class each time, and notes what it was asked for."""

    def __init__(self, features: Tensor) -> None:
        self.features = features
        self.asked: list[Tensor] = []

    def sample(self, class_ids: Tensor, rng: ReplicaRng) -> Tensor:
        """Rows of the table."""
        self.asked.append(class_ids)
        return self.features[class_ids]


def exams(clip: FrozenCLIP, features: FeatureSet) -> list[Exam]:
    """The exam of selection and that of the test."""
    made = build_protocol(TrialConfig(shots=2), SEEDS, features, {}, clip)
    return [made.selection, made.finals[0][0]]


def class_means(exam: Exam) -> Tensor:
    """The mean of each class's pictures, a class at a time."""
    labels, n_cls = exam.pictures.labels, len(exam.task.class_names)
    rows = [exam.pictures.features[labels == c].mean(0) for c in range(n_cls)]
    return torch.nn.functional.normalize(torch.stack(rows), dim=-1)


def test_what_a_generator_gives_is_recognised_or_not(
    clip: FrozenCLIP, features: FeatureSet
) -> None:
    """The class mean lies at itself, and has no diversity; its neighbour's mean is flagged.

    Only classes without pictures are asked for: each seed's pseudo-new ones in selection, new ones
    in the test. The zero-shot classifier takes its own rows for what they are.
    """
    for exam in exams(clip, features):
        means = class_means(exam)
        right, wrong, text = (
            Table(rows) for rows in (means, means.roll(1, 0), exam.task.text_features)
        )
        made = judge_exam(right.sample, exam, SEEDS)
        assert made["quality/recognised_by_pictures"].tolist() == [100.0, 100.0]
        assert bool((made["quality/cosine_to_mean"] > 0.999).all())
        assert made["flag/diversity_collapse"].tolist() == [1.0, 1.0]
        assert made["flag/mean_gap"].tolist() == [0.0, 0.0]
        (asked,) = right.asked
        for replica, ids in enumerate(asked):
            assert torch.equal(ids.unique(), (~exam.task.seen[replica]).nonzero()[:, 0])
        made = judge_exam(wrong.sample, exam, SEEDS)
        assert made["quality/recognised_by_pictures"].tolist() == [0.0, 0.0]
        assert made["flag/mean_gap"].tolist() == [1.0, 1.0]
        made = judge_exam(text.sample, exam, SEEDS)
        assert made["quality/recognised_by_text"].tolist() == [100.0, 100.0]
        gap = made["quality/text_cosine_to_mean"] - made["quality/cosine_to_mean"]
        assert bool((gap.abs() < 1e-6).all())


def test_without_pictures_there_is_nothing_to_judge(clip: FrozenCLIP, features: FeatureSet) -> None:
    """As in base_val, where selection has pictures of seen classes alone."""
    exam = exams(clip, features)[1]
    seen_only = exam.pictures.labels < 4
    pictures = Pictures(exam.pictures.features[seen_only], exam.pictures.labels[seen_only])
    sample = Table(exam.task.text_features).sample
    assert judge_exam(sample, Exam(exam.task, pictures), SEEDS) == {}
