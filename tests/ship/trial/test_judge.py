"""The judge of synthetic features: which classes and pictures it compares, what it recognises."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ship.clip.frozen_clip import FrozenCLIP
from ship.features.feature_set import FeatureSet
from ship.protocols import Exam, base_to_new
from ship.tasks.task import Pictures
from ship.training.replicas import ReplicaRng
from ship.trial.judge import judge
from ship.trial_config import TrialConfig

SEEDS = [0, 1]


class Table:
    """A generator that gives the same feature for a class each time."""

    epochs, finished = 0, True

    def __init__(self, features: Tensor) -> None:
        self.features = features
        self.asked: list[Tensor] = []

    def train_epoch(self) -> dict[str, Tensor]:
        """Nothing to fit."""
        return {}

    def parts(self) -> dict[str, Tensor]:
        """Nothing is fitted."""
        return {}

    def learned(self) -> None:
        """Nothing is kept."""

    def sample(self, class_ids: Tensor, rng: ReplicaRng) -> Tensor:
        """The class's row."""
        self.asked.append(class_ids)
        return self.features[class_ids]


def exams(clip: FrozenCLIP, features: FeatureSet, seeds: Sequence[int] = SEEDS) -> list[Exam]:
    """The exam of selection and that of the test."""
    made = base_to_new(TrialConfig(shots=2), seeds, features, {}, clip)
    return [made.selection, made.finals[0].exams[0]]


def class_means(exam: Exam) -> Tensor:
    """The mean of each class's pictures, a class at a time."""
    labels, n_cls = exam.pictures.labels, len(exam.task.class_names)
    rows = [exam.pictures.features[labels == c].mean(0) for c in range(n_cls)]
    return torch.nn.functional.normalize(torch.stack(rows), dim=-1)


def test_the_class_mean_itself_is_recognised(clip: FrozenCLIP, features: FeatureSet) -> None:
    """It lies at its class's mean, every feature is recognised, and has no diversity."""
    for exam in exams(clip, features):
        made = judge(Table(class_means(exam)), exam, SEEDS)
        assert made["quality/recognised_by_pictures"].tolist() == [100.0, 100.0]
        assert bool((made["quality/cosine_to_mean"] > 0.999).all())
        assert made["flag/diversity_collapse"].tolist() == [1.0, 1.0]
        assert made["flag/mean_gap"].tolist() == [0.0, 0.0]


def test_features_of_the_wrong_class_are_not(clip: FrozenCLIP, features: FeatureSet) -> None:
    """Each class gets the mean of its neighbour: none is recognised, and the gap is flagged."""
    exam = exams(clip, features)[1]
    made = judge(Table(class_means(exam).roll(1, 0)), exam, SEEDS)
    assert made["quality/recognised_by_pictures"].tolist() == [0.0, 0.0]
    assert made["flag/mean_gap"].tolist() == [1.0, 1.0]


def test_text_features_are_recognised_by_text(clip: FrozenCLIP, features: FeatureSet) -> None:
    """The zero-shot classifier takes its own rows for what they are."""
    exam = exams(clip, features)[1]
    made = judge(Table(exam.task.text_features), exam, SEEDS)
    assert made["quality/recognised_by_text"].tolist() == [100.0, 100.0]
    gap = made["quality/text_cosine_to_mean"] - made["quality/cosine_to_mean"]
    assert bool((gap.abs() < 1e-6).all())


def test_only_classes_without_pictures_are_asked_for(
    clip: FrozenCLIP, features: FeatureSet
) -> None:
    """Pseudo-new ones of each seed in selection, new ones in the test."""
    for exam in exams(clip, features):
        generator = Table(exam.task.text_features)
        judge(generator, exam, SEEDS)
        (asked,) = generator.asked
        for replica, ids in enumerate(asked):
            assert torch.equal(ids.unique(), exam.task.unseen_ids[replica])


def test_a_seed_is_judged_alike_beside_others(clip: FrozenCLIP, features: FeatureSet) -> None:
    """Seed 1's metrics are the same beside seed 0 as alone."""
    beside, alone = exams(clip, features), exams(clip, features, [1])
    for both, one in zip(beside, alone, strict=True):
        fused = judge(Table(both.task.text_features), both, SEEDS)
        solo = judge(Table(one.task.text_features), one, [1])
        assert solo.keys() == fused.keys()
        for name, value in solo.items():
            torch.testing.assert_close(fused[name][1:], value)


def test_without_pictures_there_is_nothing_to_judge(clip: FrozenCLIP, features: FeatureSet) -> None:
    """As in base_val, where selection has pictures of seen classes alone."""
    exam = exams(clip, features)[1]
    seen_only = exam.pictures.labels < 4
    pictures = Pictures(exam.pictures.features[seen_only], exam.pictures.labels[seen_only])
    assert judge(Table(exam.task.text_features), Exam(exam.task, pictures), SEEDS) == {}
